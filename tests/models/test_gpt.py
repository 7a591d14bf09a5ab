"""GPT: published sizes, the initial loss, a twin written as loops, the cache, and what it says to bad input."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from tinyllm.engine.random import Generator, manual_seed
from tinyllm.engine.state import default_dtype, fused, no_grad
from tinyllm.errors import UserError
from tinyllm.models import GPT, GPTConfig
from tinyllm.optim import AdamW

TINY = dict(vocab_size=11, n_layer=2, n_head=2, n_embd=8, block_size=6)


@pytest.mark.parametrize("name, count", [("gpt2", 124_439_808), ("gpt2-medium", 354_823_168), ("gpt2-large", 774_030_080),
                                         ("gpt2-xl", 1_557_611_200)])
def test_published_sizes(name, count):
    assert GPTConfig.preset(name).num_params() == count


@pytest.mark.parametrize("changes, count", [
    (dict(qkv_bias=False, tied=False), 163_009_536), (dict(qkv_bias=False), 124_412_160), (dict(tied=False), 163_037_184),
    (dict(qkv_bias=False, tied=False, block_size=256), 162_419_712), (dict(qkv_bias=False, block_size=256), 123_822_336)])
def test_sizes_of_the_variants(changes, count):
    """The study's counts: with and without query-key-value biases, tied and not, 1024 and 256 positions."""
    assert GPTConfig.preset("gpt2", **changes).num_params() == count


@pytest.mark.parametrize("changes", [{}, {"tied": False}, {"bias": False}, {"qkv_bias": False}, {"bias": False, "qkv_bias": True},
                                     {"norm_first": False}, {"norm_first": False, "tied": False, "bias": False}])
def test_the_closed_form_counts_what_is_there(changes):
    config = GPTConfig(**TINY, **changes)
    model = GPT(config, Generator(0))
    assert model.num_params() == config.num_params() == sum(p.size for p in model.parameters())


@pytest.mark.parametrize("n_embd, vocab_size", [(128, 65), (128, 1024), (384, 5000)])
def test_initial_loss_is_a_guess(n_embd, vocab_size):
    model = GPT(GPTConfig(vocab_size, n_layer=4, n_head=4, n_embd=n_embd, block_size=64), Generator(0))
    ids = Generator(1).randint(0, vocab_size, (8, 65))
    loss = model.loss(ids[:, :-1], ids[:, 1:]).item()
    assert math.log(vocab_size) - 0.02 <= loss <= math.log(vocab_size) + 0.25


def layer_norm(x, state, name, eps):
    mean = sum(x) / len(x)
    variance = sum((v - mean) ** 2 for v in x) / len(x)
    return [(v - mean) / math.sqrt(variance + eps) * w + b for v, w, b in zip(x, state[name + ".weight"], state[name + ".bias"])]


def linear(x, state, name):
    bias = state.get(name + ".bias", [0] * len(state[name + ".weight"]))
    return [sum(w * v for w, v in zip(row, x)) + b for row, b in zip(state[name + ".weight"], bias)]


def gelu(x):
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def twin(state, config, ids):
    """Logits of one text, by loops over single numbers; the formulas of the paper in their order."""
    C, H = config.n_embd, config.n_head
    D, eps = C // H, config.norm_eps
    stream = [[a + b for a, b in zip(state["wte.weight"][t], state["wpe.weight"][i])] for i, t in enumerate(ids)]

    def attention(xs, name):
        packed = [linear(x, state, name + ".qkv") for x in xs]
        mixed = []
        for i in range(len(xs)):
            row = []
            for h in range(H):
                q = packed[i][h * D:(h + 1) * D]
                scores = [sum(a * b for a, b in zip(q, packed[j][C + h * D:C + (h + 1) * D])) / math.sqrt(D) for j in range(i + 1)]
                powers = [math.exp(s - max(scores)) for s in scores]
                row += [sum(p * packed[j][2 * C + h * D + d] for j, p in enumerate(powers)) / sum(powers) for d in range(D)]
            mixed.append(linear(row, state, name + ".proj"))
        return mixed

    def mlp(x, name):
        return linear([gelu(v) for v in linear(x, state, name + ".fc")], state, name + ".proj")

    def added(xs, ys):
        return [[a + b for a, b in zip(x, y)] for x, y in zip(xs, ys)]

    def normed(xs, name):
        return [layer_norm(x, state, name, eps) for x in xs]

    for layer in range(config.n_layer):
        name = f"blocks.{layer}."
        if config.norm_first:
            stream = added(stream, attention(normed(stream, name + "norm1"), name + "attn"))
            stream = added(stream, [mlp(x, name + "mlp") for x in normed(stream, name + "norm2")])
        else:
            stream = normed(added(stream, attention(stream, name + "attn")), name + "norm1")
            stream = normed(added(stream, [mlp(x, name + "mlp") for x in stream]), name + "norm2")
    if config.norm_first:
        stream = normed(stream, "norm")
    head = "wte.weight" if config.tied else "head.weight"
    return [[sum(w * v for w, v in zip(row, x)) for row in state[head]] for x in stream]


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("changes", [{}, {"tied": False, "qkv_bias": False}, {"norm_first": False}, {"init_std": None}])
def test_equal_to_its_twin_in_loops(kernels, changes):
    config = GPTConfig(**TINY, **changes)
    with default_dtype(np.float64):
        model = GPT(config, Generator(3))
    for i, p in enumerate(model.parameters()):      # also biases and norms away from 0 and 1
        p.copy_(p.numpy() + Generator(100 + i).normal(0, 0.1, p.shape, dtype=np.float64))
    ids = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
    with fused(kernels):
        logits = model(ids).numpy()
    expected = [twin(model.state_dict(), config, row) for row in ids.tolist()]
    np.testing.assert_allclose(logits, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("changes", [{}, {"norm_first": False, "activation": "gelu"}])
def test_definitions_and_fast_paths_have_the_same_gradients(changes):
    with default_dtype(np.float64):
        model = GPT(GPTConfig(**TINY, **changes, dropout=0.2), Generator(3))
    ids = Generator(0).randint(0, 11, (3, 7))
    gradients = []
    for kernels in (True, False):
        model.zero_grad()
        manual_seed(0)
        for module in model.modules():
            if hasattr(module, "generator"):
                module.generator = None
        with fused(kernels):
            model.loss(ids[:, :-1], ids[:, 1:]).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, g in gradients[0].items():
        np.testing.assert_allclose(g, gradients[1][name], rtol=1e-9, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("changes", [{}, {"norm_first": False}])
@pytest.mark.parametrize("cuts", [(1, 2, 3, 4, 5), (3,), (2, 5), ()])
def test_cached_logits_equal_those_of_the_whole(cuts, changes):
    model = GPT(GPTConfig(**TINY, **changes), Generator(0)).eval()
    ids = Generator(1).randint(0, 11, (2, 6))
    with no_grad():
        whole, cache = model(ids).numpy(), model.make_cache(2, 6)
        parts = [model(part, cache=cache).numpy() for part in np.split(ids, cuts, axis=1)]
    assert cache.length == 6
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=1e-4, atol=1e-6)


def test_a_later_token_has_no_influence():
    model = GPT(GPTConfig(**TINY), Generator(0))
    ids = Generator(1).randint(0, 11, (1, 6))
    other = ids.copy()
    other[0, 4:] = (other[0, 4:] + 1) % 11
    same = model(ids).numpy() == model(other).numpy()
    assert same[:, :4].all() and not same[:, 4:].all()


def test_ignored_targets_do_not_count():
    model = GPT(GPTConfig(**TINY), Generator(0))
    ids = Generator(1).randint(0, 11, (2, 6))
    targets = ids.copy()
    targets[1] = -100
    assert model.loss(ids, targets).item() == pytest.approx(model.loss(ids[:1], targets[:1]).item(), rel=1e-6)


def test_one_batch_is_learned_by_heart():
    model = GPT(GPTConfig(vocab_size=11, n_layer=2, n_head=2, n_embd=32, block_size=6), Generator(0))
    optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    ids = Generator(1).randint(0, 11, (4, 7))
    ids[:, 0] = np.arange(4)        # the first token tells the rows apart
    for _ in range(200):
        loss = model.loss(ids[:, :-1], ids[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.01


def test_dropout_acts_in_training_only():
    model = GPT(GPTConfig(**TINY, dropout=0.5), Generator(0))
    ids = np.zeros((1, 6), int)
    assert not np.array_equal(model(ids).numpy(), model(ids).numpy())
    model.eval()
    assert np.array_equal(model(ids).numpy(), model(ids).numpy())


def test_a_configuration_survives_json():
    config = GPTConfig(**TINY, dropout=0.1, qkv_bias=False, eos_token_id=3)
    assert GPTConfig(**json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize("changes, message", [
    (dict(n_embd=10, n_head=4), "n_embd=10 is not a multiple of n_head=4; .*try n_embd=12"), (dict(n_layer=0), "n_layer=0; expected"),
    (dict(dropout=1.0), "dropout=1.0"), (dict(activation="relu"), "activation='relu'; known are gelu_tanh, gelu"),
    (dict(vocab_size=2.5), "vocab_size=2.5; expected a whole number")])
def test_configurations_that_cannot_be(changes, message):
    with pytest.raises(UserError, match=message):
        GPTConfig(**{**TINY, **changes})


def test_bad_input_is_explained():
    model = GPT(GPTConfig(**TINY), Generator(0))
    with pytest.raises(UserError, match="'gpt5'; known are gpt2, gpt2-medium, gpt2-large, gpt2-xl"):
        GPTConfig.preset("gpt5")
    with pytest.raises(IndexError, match=r"id 11 at \[0, 2\]; the table wte.weight has the rows 0 to 10"):
        model([[0, 1, 11]])
    with pytest.raises(ValueError, match=r"7 positions; the model knows 6 \(block_size\)"):
        model(np.zeros((1, 7), int))
    with pytest.raises(ValueError, match=r"shape \(3,\) and dtype int64; expected whole numbers \(B, T\)"):
        model(np.array([0, 1, 2]))
    with pytest.raises(RuntimeError, match=r"work under tl.no_grad\(\)"):
        model([[0]], cache=model.make_cache(1, 6))
    with no_grad(), pytest.raises(ValueError, match="1 positions after 6 in the cache"):
        cache = model.make_cache(1, 6)
        model(np.zeros((1, 6), int), cache=cache)
        model([[0]], cache=cache)


@pytest.mark.slow
@pytest.mark.parametrize("block_size, greedy", [
    (256, [24106, 40901, 46947, 45439, 41121, 10983, 37408, 33219, 13597, 384, 41274, 27228, 32767, 972, 16051, 1462, 6565, 26531, 19694,
           30470]),
    (1024, [37979, 6846, 45119, 14112, 47814, 48163, 16921, 25819, 17294, 32870, 3550, 36531, 18368, 24974, 45382, 9093, 41074, 38147,
            36781, 35790])])
def test_the_untrained_gpt_of_the_study(block_size, greedy):
    """163 M random parameters of seed 123: the loss and probabilities that a PyTorch notebook prints, and its 20 greedy ids."""
    manual_seed(123)
    model = GPT(GPTConfig.preset("gpt2", block_size=block_size, dropout=0.0, qkv_bias=False, tied=False, norm_eps=1e-6, init_std=None)).eval()
    ids = np.array([[32, 582, 1297, 502], [1752, 326, 477, 262]])
    targets = np.array([[582, 1297, 502, 1752], [326, 477, 262, 2089]])
    with no_grad():
        if block_size == 256:
            logits = model(ids).numpy().astype(np.float64)
            assert logits.argmax(-1).tolist() == [[12434, 22182, 22418, 24106], [9099, 30130, 40937, 34965]]
            p = np.take_along_axis(np.exp(logits), targets[..., None], -1)[..., 0] / np.exp(logits).sum(-1)
            np.testing.assert_allclose(p.ravel(), [7.7823e-6, 1.6688e-5, 1.7775e-5, 1.2489e-5, 1.1684e-5, 1.5996e-5, 8.7344e-6, 2.2723e-5],
                                       rtol=1e-4)
            assert model.loss(ids, targets).item() == pytest.approx(11.216713, abs=2e-6)
        cache, text = model.make_cache(1, 24), ids[:1]
        for _ in greedy:
            logits = model(text[:, cache.length:], cache=cache)
            text = np.concatenate([text, logits.numpy()[:, -1:].argmax(-1)], axis=1)
    assert text[0, 4:].tolist() == greedy
