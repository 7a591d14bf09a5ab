"""`tl.load(path)`: a model and its tokenizer from whatever is at `path`.

    a run directory             config.json of a run, as `tinyllm train` leaves it
    a Hugging Face directory    config.json of a model of transformers, safetensors (weights/hf.py says which models)
    *.bin                       llama2.c, with its tokenizer.bin
    *.npz                       llama3.np, with its tokenizer.model.np
"""

import dataclasses
from pathlib import Path

from . import models, tokenizers
from .errors import UserError
from .train.run import RunDirectory

MODELS = {"gpt": (models.GPT, models.GPTConfig), "llama": (models.Llama, models.LlamaConfig),
          "deepseek": (models.DeepSeek, models.DeepSeekConfig)}


def load(path, tokenizer=None):
    """(model in eval mode, tokenizer or None) of what is at `path`.

    `tokenizer` names a tokenizer file; None takes the one beside the weights, False none at all. Raises UserError for a path that holds no model or weights
    that do not fit, CheckpointError for damaged files of a run.
    """
    path = Path(path)
    if path.is_file():
        return _load_file(path, tokenizer)
    from .weights import hf
    if (path / "config.json").is_file():
        record = hf.read_json(path / "config.json")
        if not isinstance(record, dict) or record.get("format") is None:
            return hf.load(path, tokenizer)
    return _load_run(path, tokenizer)


def _load_run(path, tokenizer):
    """A run, with the weights of the best validation loss, or the last ones if none was measured."""
    run = RunDirectory.open(path)
    if "model" not in run.config:
        raise UserError(f"{path} is a run without a model")
    model = build(run.config["model"])
    name = "best" if "best" in run.checkpoints else "last"
    adapters = None
    if "finetune" in run.config:
        from .train.finetune import TuneConfig, prepare
        adapters = prepare(model, TuneConfig(**run.config["finetune"]))
    _, arrays, _ = run.checkpoints.load(name)
    model.load_state_dict(arrays["model"])
    if adapters is not None:
        adapters.remove(merge=True)
    return model.eval(), None if tokenizer is False else tokenizers.load(tokenizer or run.tokenizer_path)


def _load_file(path, tokenizer):
    """A file of weights; a tokenizer beside it is taken if there is just one."""
    from .weights import llama2c, llama3np
    kinds = {".bin": (llama2c, ("tokenizer.bin", "tok*.bin")), ".npz": (llama3np, ("tokenizer.model.np",))}
    if path.suffix == ".safetensors":
        raise UserError(f"{path} says nothing about the model its tensors belong to: give the directory, with its config.json")
    if path.suffix not in kinds:
        raise UserError(f"{path} is not a run directory, nor a Hugging Face directory, a .bin of llama2.c or a .npz of llama3.np")
    format, names = kinds[path.suffix]
    model = format.load(path)
    if tokenizer is None:
        found = next((files for name in names if (files := sorted(set(path.parent.glob(name)) - {path}))), [])
        tokenizer = found[0] if len(found) == 1 else None
    if not tokenizer:
        return model, None
    return model, format.load_tokenizer(Path(tokenizer), model.config.vocab_size)


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
