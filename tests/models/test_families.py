"""What holds for every model: the closed form of its size, the cache, gradients, what a later token may not change."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from families import TOYS, text, toy

import tinyllm as tl
from tinyllm.engine.state import fused, no_grad
from tinyllm.nn import Module

every = pytest.mark.parametrize("name", TOYS)
CUTS = [tuple(range(1, 12)), (6,), (1, 7), (3, 4, 5, 9), (11,)]


class WithAuxiliaries(Module):
    """A model whose loss has the auxiliary terms in it, enlarged so that a wrong one shows."""

    def __init__(self, model):
        self.model = model

    def loss(self, ids, targets):
        loss = self.model.loss(ids, targets)
        for name, term in self.model.auxiliary_losses().items():
            loss = loss + term * (1000 if name == "balance" else 1)
        return loss


@every
def test_the_closed_form_counts_what_is_there(name):
    model = toy(name)
    assert model.num_params() == model.config.num_params() == sum(p.size for p in model.parameters())


@every
def test_gradients_are_those_of_finite_differences(name):
    model = WithAuxiliaries(toy(name))
    ids = text(2, 8)
    assert tl.gradcheck(model, [ids[:, :-1], ids[:, 1:]]).ok


@every
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-10), (np.float32, 1e-5)])
def test_cached_logits_equal_those_of_the_whole(name, dtype, tolerance):
    model = toy(name, dtype).eval()
    ids = text(2, 12)
    with no_grad():
        whole = model(ids).numpy()
        for cuts in CUTS:
            cache = model.make_cache(2, 12)
            parts = [model(part, cache=cache).numpy() for part in np.split(ids, cuts, axis=1)]
            assert cache.length == 12
            np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=0, atol=tolerance * np.abs(whole).max())


@every
def test_a_cropped_cache_goes_on_as_if_nothing_had_been(name):
    model = toy(name).eval()
    ids = text(1, 12)
    with no_grad():
        whole, cache = model(ids).numpy(), model.make_cache(1, 12)
        model(ids[:, :3], cache=cache)
        model(text(1, 1, seed=9), cache=cache)
        cache.crop(3)
        np.testing.assert_allclose(model(ids[:, 3:], cache=cache).numpy(), whole[:, 3:], rtol=1e-10, atol=1e-12)
        cache.reset()
        np.testing.assert_allclose(model(ids, cache=cache).numpy(), whole, rtol=1e-10, atol=1e-12)


@every
def test_padded_rows_have_the_logits_they_have_alone(name):
    model = toy(name).eval()
    ids, pad = text(3, 10), [0, 2, 5]
    with no_grad():
        cache = model.make_cache(3, 10, pad=pad)
        parts = [model(part, cache=cache).numpy() for part in np.split(ids, (6, 7, 8), axis=1)]
        together = np.concatenate(parts, axis=1)
        for row, empty in enumerate(pad):
            alone = model(ids[row:row + 1, empty:]).numpy()[0]
            np.testing.assert_allclose(together[row, empty:], alone, rtol=1e-10, atol=1e-12)


@every
def test_a_later_token_has_no_influence_and_an_earlier_one_has(name):
    model = toy(name).eval()
    ids = text(1, 8)
    other = ids.copy()
    other[0, 4] = (other[0, 4] + 1) % 11
    same = (model(ids).numpy() == model(other).numpy()).all(axis=-1)[0]
    assert same[:4].all() and not same[4:6].any()


@every
def test_definitions_and_fast_paths_agree(name):
    model = toy(name)
    ids = text(2, 9)
    found = []
    for kernels in (True, False):
        model.zero_grad()
        with fused(kernels):
            WithAuxiliaries(model).loss(ids[:, :-1], ids[:, 1:]).backward()
        found.append({name: p.grad for name, p in model.named_parameters()})
    for key, g in found[0].items():
        assert (g is None) == (found[1][key] is None)
        if g is not None:
            np.testing.assert_allclose(g, found[1][key], rtol=1e-9, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("name", ["gpt2", "llama", "llama3", "deepseek-v2", "deepseek-v3"])      # those with windows take less
def test_a_cache_takes_the_memory_it_says(name):
    model = toy(name, np.float32)
    assert model.make_cache(3, 10).nbytes == 3 * 10 * model.kv_bytes_per_token(np.float32)


@every
def test_a_configuration_survives_json(name):
    config = toy(name).config
    assert type(config)(**json.loads(json.dumps(asdict(config)))) == config


@every
def test_attention_weights_can_be_read(name):
    model = toy(name).eval()
    weights = model.attention_weights(text(2, 6))
    assert len(weights) == model.config.n_layer
    for w in weights:
        assert w.shape == (2, 4, 6, 6) and np.allclose(w.sum(axis=-1), 1) and not np.triu(w, 1).any()


@every
def test_past_the_window_is_refused(name):
    model = toy(name)
    with no_grad(), pytest.raises(ValueError, match=r"1 positions after 12 in the cache; the model knows 12 \(block_size\)"):
        cache = model.make_cache(1, 13)
        model(text(1, 12), cache=cache)
        model([[0]], cache=cache)
