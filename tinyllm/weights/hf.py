"""Hugging Face directories: models of transformers in, models of this program out.

    config.json                     what kind of model it is (hf_config.py)
    model.safetensors               its tensors (names.py); or several files, which
    model.safetensors.index.json    says where each tensor is
    tokenizer.json …                text to ids (tinyllm.tokenizers); tokenizer_config.json is written for transformers

    model, tokenizer = load("gpt2/")
    save(model, "mine/", tokenizer)     and transformers.AutoModelForCausalLM.from_pretrained("mine/") goes on with it

Tensors may be float32, float16, bfloat16 or float64 (they become the default dtype), with or without the prefix `model.` or
`transformer.`. Files are mapped and only safetensors are read: nothing in a directory is ever executed.
"""

import re
from pathlib import Path

import numpy as np

from .. import tokenizers
from ..atomic import write_json
from ..errors import UserError, WorkError
from ..models import DeepSeekConfig, GPT
from ..tokenizers import huggingface
from ..untrusted import inside, read_json
from . import hf_config, safetensors
from .fill import WeightsError, check, filled, taken
from .names import pieces

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
HEAD = "lm_head.weight"
FLOATS = ("F64", "F32", "F16", "BF16")

# Buffers that older files carry along, and what Hugging Face's DeepSeek-V3 has for further tokens (skipped by transformers, too).
IGNORED = re.compile(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)|.*rotary_emb\.inv_freq|(model\.)?rope\.freqs")
LAYER = re.compile(r"model\.layers\.(\d+)\.")


def load(path, tokenizer=None):
    """(model in eval mode, tokenizer or None) of a directory; `tokenizer` names another tokenizer file, False asks for none.

    Raises WeightsError for what is not a model here, or does not fit together, SafetensorsError for damaged files.
    """
    path = Path(path)
    model_class, config = hf_config.read(read_json(inside(path, "config.json", WeightsError), WeightsError), path / "config.json")
    tensors = Tensors(path, "transformer." if model_class is GPT else "model.")
    tensors.leave_out(lambda name: IGNORED.fullmatch(name) is not None)
    if type(config) is DeepSeekConfig:
        tensors.leave_out(lambda name: (layer := LAYER.match(name)) is not None and int(layer[1]) >= config.n_layer)
    experts = getattr(config, "n_routed_experts", 0) * max(0, config.n_layer - getattr(config, "first_k_dense", 0))
    if max(config.n_layer, experts) > len(tensors.shapes):
        raise WeightsError(f"{path / 'config.json'} says {config.n_layer} layers{f' and {experts} experts in all' if experts else ''}; "
                           f"the files have {len(tensors.shapes)} tensors")
    copied = config.tied and HEAD in tensors.shapes
    if copied:
        tensors.leave_out(lambda name: name == HEAD)
    wanted = list(pieces(config))
    check(tensors.shapes, wanted, path)
    if copied and not np.array_equal(tensors[HEAD], tensors[wanted[0].theirs]):
        raise WeightsError(f"{path}: config.json says tie_word_embeddings, but {HEAD} is not {wanted[0].theirs}")
    return filled(model_class, config, tensors, wanted), _tokenizer(path, tokenizer)


def _tokenizer(path, named):
    """The tokenizer `named`, or the one in the directory, or None."""
    if named is not None:
        return tokenizers.load(named) if named else None
    found = any((path / name).exists() for name in ("tokenizer.json", "encoder.json", "vocab.json", "tokenizer.model", "tokenizer.bin"))
    return tokenizers.load(path) if found or list(path.glob("*.tiktoken")) else None


class Tensors:
    """The tensors of a directory by their full names, whichever file they are in; `.shapes` is name -> shape."""

    def __init__(self, path, prefix):
        self.path, self._places = path, {}
        if (path / WEIGHTS).is_file():
            file = safetensors.SafetensorsFile(inside(path, WEIGHTS, WeightsError))
            self._places = {name: (file, name) for name in file}
        elif (path / INDEX).is_file():
            self._sharded(inside(path, INDEX, WeightsError))
        else:
            other = sorted(p.name for p in path.glob("*.bin")) + sorted(p.name for p in path.glob("*.pt*"))
            hint = (f"; {other[0]} is a pickle, which can run code as it is read: convert it to safetensors with transformers" if other
                    else "")
            raise WeightsError(f"{path} has neither {WEIGHTS} nor {INDEX}{hint}")
        self._complete(prefix)
        for name, (file, own) in self._places.items():
            if file.dtype(own) not in FLOATS and not IGNORED.fullmatch(name):
                raise WeightsError(f"{file.path}: tensor {own!r} of dtype {file.dtype(own)}; expected {', '.join(FLOATS)}")
        self.shapes = {name: file.shape(own) for name, (file, own) in self._places.items()}

    def _sharded(self, index):
        record = read_json(index, WeightsError)
        places = record.get("weight_map") if isinstance(record, dict) else None
        if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
            raise WeightsError(f"{index}: expected a weight_map from tensors to files of the same directory")
        files = {}
        for name in sorted(set(places.values())):
            if not inside(self.path, name, WeightsError).is_file():
                raise WeightsError(f"{index} names {name}, which is not there: is the download complete?")
            files[name] = safetensors.SafetensorsFile(self.path / name)
        for name, file in places.items():
            if name not in files[file]:
                raise WeightsError(f"{index} says that {name!r} is in {file}, which has no such tensor")
        for file in files.values():
            for name in file:
                if files.get(places.get(name)) is not file:
                    raise WeightsError(f"{file.path} has a tensor {name!r} that {index.name} does not place there")
        self._places = {name: (files[file], name) for name, file in places.items()}

    def _complete(self, prefix):
        """Give every name its prefix; two that become one are refused."""
        complete = {}
        for name, place in self._places.items():
            full = name if name.startswith((prefix, "lm_head.")) else prefix + name
            if full in complete:
                raise WeightsError(f"{self.path}: {full!r} is there twice, with and without its prefix")
            complete[full] = place
        self._places = complete

    def leave_out(self, unwanted):
        """Forget about the tensors whose names `unwanted` is true for."""
        self.shapes = {name: shape for name, shape in self.shapes.items() if not unwanted(name)}

    def __getitem__(self, name):
        file, own = self._places[name]
        file.forget()       # the pages of the tensor before, which has been copied
        return file[own]


def save(model, path, tokenizer=None):
    """Write a model, and its tokenizer, as a directory that transformers loads unchanged.

    The modules of multi-token prediction, which only training uses, are left out. Raises UserError for a model that
    transformers has no name for, WorkError if something cannot be written.
    """
    path = Path(path)
    if hasattr(model, "labels"):
        raise UserError("this model is a classifier, whose head is not one of a language model: a directory of transformers is written for those")
    dtype = model.wte.weight.dtype
    record = hf_config.write(model.config, dtype, getattr(tokenizer, "bos_id", None))
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkError(f"cannot make {path}: {error.strerror}") from error
    safetensors.save(path / WEIGHTS, taken(model, pieces(model.config)), {"format": "pt"})
    write_json(path / "config.json", record)
    if tokenizer is not None:
        huggingface.save(tokenizer, path / "tokenizer.json")
        write_json(path / "tokenizer_config.json", {
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": model.config.block_size, "clean_up_tokenization_spaces": False,
            "bos_token": _spelled(tokenizer, tokenizer.bos_id), "eos_token": _spelled(tokenizer, tokenizer.eos_id)})


def _spelled(tokenizer, token):
    """The name of a special token, None for none; Llama's tokenizer has two without listing them."""
    names = {1: "<s>", 2: "</s>"} if tokenizer.kind == "llama" else {i: name for name, i in tokenizer.special_tokens.items()}
    return names.get(token)
