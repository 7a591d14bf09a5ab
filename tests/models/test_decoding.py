"""The compiled step of a token beside the layers it stands for."""

import numpy as np
import pytest

from tinyllm.engine import no_grad
from tinyllm.engine.random import manual_seed
from tinyllm.engine.state import fused
from tinyllm.models import Llama, LlamaConfig
from tinyllm.models.decoding import matrix_times, step_for

SIZES = dict(vocab_size=23, n_layer=2, n_head=4, n_kv_head=2, n_embd=24, ffn_dim=40, block_size=12)


def model_of(dtype=np.float64, **changes):
    manual_seed(0)
    model = Llama(LlamaConfig(**{**SIZES, **changes}))
    for p in model.parameters():
        p.data = (20 * p.data if p.ndim > 1 else p.data + 0.1).astype(dtype)
    return model.eval()


def logits_one_by_one(model, ids, **cache):
    cache = model.make_cache(1, 12)
    with no_grad():
        first = model(ids[:, :3], cache=cache).numpy()
        rest = [model(ids[:, i:i + 1], cache=cache).numpy() for i in range(3, ids.shape[1])]
    return np.concatenate([first, *rest], axis=1), cache


@pytest.mark.parametrize("changes", [{}, {"n_kv_head": 4}, {"n_kv_head": 1, "tied": False}, {"rope_interleaved": True},
                                     {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, {"head_dim": 10}])
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 2e-4)])
def test_logits_are_those_of_the_whole_text(changes, dtype, tolerance):
    model = model_of(dtype, **changes)
    ids = np.random.default_rng(0).integers(0, 23, (1, 12))
    stepped, cache = logits_one_by_one(model, ids)
    assert cache.step is not None and cache.length == 12
    with no_grad(), fused(False):
        whole = model(ids).numpy()
    np.testing.assert_allclose(stepped, whole, rtol=tolerance, atol=tolerance * np.abs(whole).max())


@pytest.mark.parametrize("changes", [{"qk_norm": True}, {"bias": True}, {"window": 4}])
def test_where_it_does_not_apply_the_layers_serve(changes):
    model = model_of(**changes)
    ids = np.random.default_rng(0).integers(0, 23, (1, 12))
    stepped, cache = logits_one_by_one(model, ids)
    assert step_for(model, cache) is None
    with no_grad():
        np.testing.assert_allclose(stepped, model(ids).numpy(), rtol=1e-10, atol=1e-10)


def test_rows_with_padding_and_definitions_are_left_to_the_layers():
    model = model_of()
    assert step_for(model, model.make_cache(2, 12)) is None
    assert step_for(model, model.make_cache(1, 12, pad=np.array([2]))) is None
    with fused(False):
        assert step_for(model, model.make_cache(1, 12)) is None


def test_the_matrix_vector_product_is_vectorised():
    assert any(instruction in matrix_times.assembly(np.float32) for instruction in ("fmadd231ps", "fmadd213ps", "mulps", "fmla"))
