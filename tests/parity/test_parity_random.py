"""Every draw of Generator beside PyTorch's CPU generator, over many seeds, sizes and mixed sequences of calls."""

import random

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tinyllm.engine.random import Generator  # noqa: E402

SIZES = [0, 1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 100, 623, 624, 625, 1000]
SPANS = [1, 2, 10, 50257, 2**28 - 1, 2**28, 2**28 + 1, 2**32 - 1, 2**32, 2**32 + 5, 2**40 + 3, 2**62]
FLOATS = [(np.float32, torch.float32), (np.float64, torch.float64)]

# PyTorch's uniform and small normals round once where its build uses fused multiply-add.
fused = pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
                           reason="this processor's PyTorch rounds twice")


def ulps(actual, expected):
    """Largest difference in units in the last place of `expected`."""
    return float((np.abs(actual - expected) / np.spacing(np.abs(expected))).max(initial=0))


def same_normals(actual, expected, mean):
    """Whether standard normals 5 units apart at most explain the difference, once scaled and moved to `mean`."""
    centre = expected.dtype.type(mean)
    rounding = np.spacing(np.maximum(np.abs(expected), abs(centre))) if mean else 0
    return bool((np.abs(actual - expected) <= 5 * np.finfo(centre).eps * np.abs(expected - centre) + rounding).all())


def one_call(choose):
    """A random draw as (ours, torch's, bit-equal?, mean), the first two functions of a generator."""
    (ours, theirs), size = choose.choice(FLOATS), choose.choice(SIZES)
    kind = choose.choice(["rand", "randn", "randn", "uniform", "normal", "randint", "randperm"])
    if kind == "rand":
        return lambda g: g.rand(size, dtype=ours), lambda t: torch.rand(size, dtype=theirs, generator=t), True, 0
    if kind == "randn":
        return lambda g: g.randn(size, dtype=ours), lambda t: torch.randn(size, dtype=theirs, generator=t), size < 16, 0
    if kind == "uniform":
        low = choose.uniform(-3, 3)
        high = low + choose.choice([0, 1e-6, 0.1, 1, 50])
        return (lambda g: g.uniform(low, high, size, dtype=ours),
                lambda t: torch.empty(size, dtype=theirs).uniform_(low, high, generator=t), True, 0)
    if kind == "normal":
        mean, std = choose.choice([0, 1.5, -0.3, 100]), choose.choice([0, 0.02, 1, 3.7])
        return (lambda g: g.normal(mean, std, size, dtype=ours),
                lambda t: torch.empty(size, dtype=theirs).normal_(mean, std, generator=t), size < 16, mean)
    if kind == "randint":
        low = choose.choice([0, -5, choose.randrange(-(2**62), 2**62)])
        high = low + choose.choice(SPANS)
        return lambda g: g.randint(low, high, size), lambda t: torch.randint(low, high, (size,), generator=t), True, 0
    return lambda g: g.randperm(size), lambda t: torch.randperm(size, generator=t), True, 0


@fused
@pytest.mark.parametrize("block", range(10))
def test_mixed_calls(block):
    """Sequences of up to 12 draws: bit-equal, but for normals in blocks of 16."""
    choose = random.Random(block)
    for _ in range(200):
        seed = choose.choice([choose.randrange(100), choose.randrange(2**32), choose.randrange(-(2**63), 2**64)])
        generator, peer = Generator(seed), torch.Generator().manual_seed(seed)
        for _ in range(choose.randrange(1, 13)):
            ours, theirs, bit_equal, mean = one_call(choose)
            actual, expected = ours(generator), theirs(peer).numpy()
            assert actual.dtype == expected.dtype and actual.shape == expected.shape
            if bit_equal:
                assert np.array_equal(actual, expected)
            else:
                assert same_normals(actual, expected, mean)


@pytest.mark.parametrize("ours, theirs, bound", [(*FLOATS[0], 5), (*FLOATS[1], 3)], ids=["float32", "float64"])
def test_a_million_normals(ours, theirs, bound):
    actual = Generator(77).randn(10**6 + 3, dtype=ours)
    expected = torch.randn(10**6 + 3, dtype=theirs, generator=torch.Generator().manual_seed(77)).numpy()
    assert ulps(actual, expected) <= bound


def test_large_draws_cross_chunks():
    generator, peer = Generator(2), torch.Generator().manual_seed(2)
    assert np.array_equal(generator.rand(300, 700), torch.rand(300, 700, generator=peer).numpy())
    size = 200_000
    assert np.array_equal(generator.randint(0, 50257, size), torch.randint(0, 50257, (size,), generator=peer).numpy())
    assert np.array_equal(generator.randperm(size), torch.randperm(size, generator=peer).numpy())
    assert np.array_equal(generator.rand(5), torch.rand(5, generator=peer).numpy())


@fused
@pytest.mark.parametrize("inputs, outputs", [(3, 2), (64, 128), (768, 50)])
def test_linear_and_embedding_layers(inputs, outputs):
    """nn.Linear draws U(±1/√inputs), weight then bias; nn.Embedding draws N(0, 1)."""
    torch.manual_seed(123)
    layer, table = torch.nn.Linear(inputs, outputs), torch.nn.Embedding(outputs, inputs)
    generator, bound = Generator(123), 1 / inputs**0.5
    assert np.array_equal(generator.uniform(-bound, bound, (outputs, inputs)), layer.weight.detach().numpy())
    assert np.array_equal(generator.uniform(-bound, bound, outputs), layer.bias.detach().numpy())
    assert ulps(generator.randn(outputs, inputs), table.weight.detach().numpy()) <= 5


def test_our_state_in_torch():
    """A stream taken over in the middle: torch's state holds the same words, position and spare normal."""
    generator, peer = Generator(31), torch.Generator().manual_seed(31)
    generator.rand(1000), torch.rand(1000, generator=peer)
    generator.randn(3), torch.randn(3, generator=peer)
    raw = peer.get_state().numpy().tobytes()  # seed u64, left i32, seeded i32, next u64, 624 words as u64, normals
    state = generator.get_state()
    assert np.frombuffer(raw, np.uint64, 624, offset=24).tolist() == state["words"]
    assert np.frombuffer(raw, np.uint64, 1, offset=16)[0] == state["position"]
    assert np.frombuffer(raw, np.float64, 2, offset=24 + 8 * 624)[1] == state["spare_normal"]
