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
from .untrusted import checked_fields, inside, read_json, shown

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
        record = read_json(inside(path, "config.json", hf.WeightsError), hf.WeightsError)
        if not isinstance(record, dict) or record.get("format") is None:
            return hf.load(path, tokenizer)
    return _load_run(path, tokenizer)


def _load_run(path, tokenizer):
    """A run, with the weights of the best validation loss, or the last ones if none was measured."""
    run = RunDirectory.open(path)
    if "model" not in run.config:
        raise UserError(f"{path} is a run without a model")
    with run.understood():
        arrays = run.checkpoints.load("best" if "best" in run.checkpoints else "last")[1]["model"]
        check_room(run.config["model"], arrays, path)
        model = build(run.config["model"])
        adapters = None
        if "finetune" in run.config:
            from .train.finetune import TuneConfig, prepare
            adapters = prepare(model, run.settings("finetune", TuneConfig), arrays=arrays)
        model.load_state_dict(arrays)
        if adapters is not None:
            adapters.remove(merge=True)
        if tokenizer is False:
            return model.eval(), None
        found = tokenizers.load(tokenizer or run.tokenizer_path)
        if not tokenizer and run.config.get("tokenizer", found.fingerprint()) != found.fingerprint():
            raise UserError(f"{run.tokenizer_path} is not the tokenizer that the model was trained with: its fingerprint differs")
        return model.eval(), found


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
    model, config = _configured(description)
    return model(config)


def _configured(description):
    """(model class, configuration) of what `describe` returned, its types and signs checked."""
    fields = dict(description) if isinstance(description, dict) else {}
    kind = fields.pop("type", None)
    if not isinstance(kind, str) or kind not in MODELS:
        raise UserError(f"a model of type {shown(kind)}; known here are {', '.join(MODELS)}")
    model, config = MODELS[kind]
    checked_fields(config, fields, f"a {kind} model", UserError)
    ends = fields.get("eos_token_id")
    for name, value in [*fields.items(), *(("eos_token_id", end) for end in (ends if isinstance(ends, list) else ()))]:
        if type(value) in (int, float) and not 0 <= value < 1 << 40 or name == "eos_token_id" and not isinstance(value, (int, list, type(None))):
            raise UserError(f"a {kind} model: {name} is {shown(value)}; expected a number, 0 or above")
    try:
        return model, config(**fields)
    except ArithmeticError as error:
        raise UserError(f"a {kind} model: its sizes do not go together: {error}") from None


def check_room(description, arrays, path):
    """UserError if a model of this description is far larger than the arrays that are to fill it."""
    config = _configured(description)[1]
    numbers = sum(array.size for array in arrays.values())
    modules = max(config.n_layer, getattr(config, "mtp_depth", 0), getattr(config, "n_routed_experts", 0) * (config.n_layer - getattr(config, "first_k_dense", 0)))
    if modules > len(arrays) or config.num_params() > 2 * numbers:      # twice: fine-tuning may have put a small head in place of a large one
        raise UserError(f"{path}: config.json says {config.n_layer:,} layers and {config.num_params():,} parameters; the checkpoint has "
                        f"{len(arrays):,} arrays of {numbers:,} numbers")


def describe(model):
    """The type and settings of a model, as JSON can hold them."""
    return describe_config(next(kind for kind, (cls, _) in MODELS.items() if type(model) is cls), model.config)


def describe_config(kind, config):
    """The same of a configuration; what `build` takes."""
    return {"type": kind, **dataclasses.asdict(config)}
