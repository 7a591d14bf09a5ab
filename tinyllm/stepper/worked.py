"""Traces of what there is to step through: the worked example, the decks, a toy of every model, a script of yours."""

import importlib.util
import inspect
import os
import sys

import numpy as np

from .. import models
from ..engine import Generator, Tensor, default_dtype
from ..errors import UserError, WorkError
from ..optim import SGD, AdamW
from .example import DECKS, LEAVES, network
from .trace import record

_SIZE = dict(vocab_size=11, n_layer=2, n_head=2, n_embd=8, block_size=6)
TOYS = {    # name: (class, configuration class, fields of a model small enough to check in a second)
    "gpt": ("GPT", "GPTConfig", _SIZE),
    "llama": ("Llama", "LlamaConfig", dict(_SIZE, n_kv_head=1, ffn_dim=12)),
    "deepseek": ("DeepSeek", "DeepSeekConfig", dict(_SIZE, q_lora_rank=4, kv_lora_rank=4, qk_nope_head_dim=4, qk_rope_head_dim=2,
                                                    v_head_dim=4, ffn_dim=12, n_routed_experts=4, moe_ffn_dim=6)),
}


def leaves_of(function):
    """The leaves of one of example.py's functions, in double precision."""
    return {name: Tensor(np.array(numbers, np.float64), requires_grad=learned, name=name) for name, (numbers, learned) in LEAVES[function].items()}


def trace_example(function=network, title="two layers, softmax and cross-entropy", **options):
    """The Trace of the worked example, with one step of SGD behind it."""
    leaves = leaves_of(function)
    optimizer = SGD([leaf for leaf in leaves.values() if leaf.requires_grad], lr=0.1)
    return record(lambda: function(**leaves), title, optimizer=optimizer, **options)


def trace_deck(name, **options):
    """The Trace that an exercise deck asks about."""
    if name not in DECKS:
        raise UserError(f"there is no deck called {name!r}; there are {', '.join(DECKS)}")
    function, title = DECKS[name]
    leaves = leaves_of(function)
    return record(lambda: function(**leaves), f"deck {name}: {title}", **options)


def trace_toy(name, dtype=np.float64, seed=0, **options):
    """The Trace of the loss of a toy model on one row of ids, with one step of AdamW behind it."""
    if name not in TOYS:
        raise UserError(f"there is no toy called {name!r}; there are {', '.join(TOYS)}")
    model_class, config_class, fields = TOYS[name]
    with default_dtype(np.float64):     # the same weights in every precision
        model = getattr(models, model_class)(getattr(models, config_class)(**fields), generator=Generator(seed))
    with default_dtype(dtype):
        for parameter in model.parameters():
            parameter.data = parameter.data.astype(dtype)
        rng = np.random.default_rng(seed)
        ids, targets = (rng.integers(0, fields["vocab_size"], size=(1, 5)) for _ in range(2))
        return record(lambda: model.loss(ids, targets), f"a toy {model_class}", names={"ids": ids, "targets": targets},
                      optimizer=AdamW(model.parameters(), lr=1e-3), **options)


def script_function(place, command):
    """(name, function) of `path.py:function`; UserErrors in the name of `command`."""
    path, _, name = place.rpartition(":")
    if not path or not name:
        raise UserError(f"{command} {place}: name a function in it, as in script.py:function")
    if not os.path.isfile(path):
        raise UserError(f"{command} {place}: there is no file {path}")
    found = getattr(load_script(path), name, None)
    if not callable(found):
        raise UserError(f"{command} {place}: {path} has no function {name}")
    return name, found


def trace_script(place, **options):
    """The Trace of `path.py:function`, a function without parameters (or with defaults) that returns a scalar Tensor."""
    name, found = script_function(place, "step")
    bare = [p.name for p in inspect.signature(found).parameters.values() if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if bare:
        raise UserError(f"step {place}: {name} is called without arguments; give {', '.join(bare)} a default")
    return record(found, place, **options)


def load_script(path):
    """The module in a file; WorkError in one line if it does not run."""
    spec = importlib.util.spec_from_file_location(os.path.splitext(os.path.basename(path))[0], path)
    if spec is None:
        raise UserError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    folder = os.path.dirname(os.path.abspath(path))
    sys.path.insert(0, folder)      # so that the script finds its neighbours
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise WorkError(f"{path} does not run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
    return module
