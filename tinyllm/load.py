"""`tl.load(path)`: a model and its tokenizer from whatever is at `path`.

Today that is a run directory, as `tinyllm train` leaves it.
"""

import dataclasses

from . import models, tokenizers
from .errors import UserError
from .train.run import RunDirectory

MODELS = {"gpt": (models.GPT, models.GPTConfig), "llama": (models.Llama, models.LlamaConfig),
          "deepseek": (models.DeepSeek, models.DeepSeekConfig)}


def load(path, tokenizer=None):
    """(model in eval mode, tokenizer) of a run directory; `tokenizer` names another tokenizer file.

    The weights are those with the best validation loss, or the last ones if none was measured. Raises UserError
    for a path that holds no model, CheckpointError for damaged files.
    """
    run = RunDirectory.open(path)
    model = build(run.config["model"])
    name = "best" if "best" in run.checkpoints else "last"
    _, arrays, _ = run.checkpoints.load(name)
    model.load_state_dict(arrays["model"])
    return model.eval(), tokenizers.load(tokenizer or run.tokenizer_path)


def build(description):
    """A model with fresh weights from what `describe` returned."""
    fields = dict(description) if isinstance(description, dict) else {}
    kind = fields.pop("type", None)
    if kind not in MODELS:
        raise UserError(f"a model of type {kind!r}; known here are {', '.join(MODELS)}")
    model, config = MODELS[kind]
    unknown = fields.keys() - {field.name for field in dataclasses.fields(config)}
    if unknown:
        raise UserError(f"a {kind} model has no setting {sorted(unknown)[0]!r}; was it saved by a newer version?")
    return model(config(**fields))


def describe(model):
    """The type and settings of a model, as JSON can hold them."""
    return describe_config(next(kind for kind, (cls, _) in MODELS.items() if type(model) is cls), model.config)


def describe_config(kind, config):
    """The same of a configuration; what `build` takes."""
    return {"type": kind, **dataclasses.asdict(config)}
