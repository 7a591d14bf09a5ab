"""The last map and its cross-entropy in one: what the two in turn say, without the logits."""

import platform
import sys
import tracemalloc

import numpy as np
import pytest

from tinyllm.engine import Tensor, no_grad, threads
from tinyllm.engine.state import fused
from tinyllm.fused import cross_entropy, linear, linear_cross_entropy
from tinyllm.fused.linear_cross_entropy import LinearCrossEntropy, add_multiple, block_rows, cross_entropy_in_place
from tinyllm.models import GPT, GPTConfig
from tinyllm.train.shards import Shards

MODULE = sys.modules[LinearCrossEntropy.__module__]       # hidden behind the function of its name


@pytest.fixture
def kernels():
    """The fast path, also where the environment asks for definitions."""
    with fused(True):
        yield


def drawn(N=23, C=8, V=37, dtype=np.float64, seed=0):
    """(x, weight, targets), two of the targets ignored."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, V, N)
    targets[::11] = -100
    return rng.normal(size=(N, C)).astype(dtype), rng.normal(size=(V, C)).astype(dtype), targets


def results(x, weight, targets, block=None, g=1.0):
    """(loss, dx, dweight) of the fused operation."""
    x, weight = Tensor(x, requires_grad=True), Tensor(weight, requires_grad=True)
    loss = LinearCrossEntropy.apply(x, weight, targets, block=block)
    loss.backward(np.asarray(g, x.dtype))
    return loss.numpy(), x.grad, weight.grad


def in_turn(x, weight, targets, g=1.0):
    """The same of `linear` and `cross_entropy`."""
    x, weight = Tensor(x, requires_grad=True), Tensor(weight, requires_grad=True)
    loss = cross_entropy(linear(x, weight), targets)
    loss.backward(np.asarray(g, x.dtype))
    return loss.numpy(), x.grad, weight.grad


def test_a_map_that_knows_nothing_costs_the_log_of_the_vocabulary():
    loss = linear_cross_entropy(np.ones((3, 2)), np.ones((50257, 2)), np.array([0, 7, 50256]))
    assert loss.item() == pytest.approx(10.8249, abs=5e-5)


def test_gradients_by_hand():
    """One vector of 1 and two ids: dlogits = p - [v = t] = (1/2, -1/2), and both gradients follow."""
    loss, dx, dweight = results(np.array([[1.0]]), np.array([[3.0], [3.0]]), np.array([1]))
    assert loss == pytest.approx(np.log(2)) and dx == pytest.approx(0, abs=1e-15) and dweight.ravel() == pytest.approx([0.5, -0.5])


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)])
@pytest.mark.parametrize("block", [1, 5, 23, None])
@pytest.mark.parametrize("g", [1.0, -0.25])
def test_blocks_give_what_linear_and_cross_entropy_give(dtype, tolerance, block, g):
    for got, want in zip(results(*drawn(dtype=dtype), block, g), in_turn(*drawn(dtype=dtype), g)):
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("block", [2, None])
def test_ignored_rows_leave_the_mean_and_get_no_gradient(block):
    x, weight, targets = drawn(5)
    targets[:] = [-100, 3, -100, 4, -100]
    loss, dx, dweight = results(x, weight, targets, block)
    kept, kept_dx, kept_dweight = in_turn(x[targets >= 0], weight, targets[targets >= 0])
    assert loss == pytest.approx(kept, rel=1e-14) and not dx[targets < 0].any()
    np.testing.assert_allclose(dx[targets >= 0], kept_dx, atol=1e-15)
    np.testing.assert_allclose(dweight, kept_dweight, atol=1e-15)
    loss, dx, dweight = results(x, weight, np.full(5, -100), block)
    assert loss == 0 and not dx.any() and not dweight.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("block", [2, None])
@pytest.mark.parametrize("place", ["x", "weight"])
def test_nan_and_inf_come_out_where_the_definition_has_them(dtype, bad, block, place):
    x, weight, targets = drawn(7, dtype=dtype)
    weight = np.abs(weight)
    {"x": x, "weight": weight}[place][3, 2] = bad
    with np.errstate(all="ignore"):
        got = results(x, weight, targets, block)
        with fused(False):
            expected = results(x, weight, targets)
    for a, b in zip(got, expected):
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))


@pytest.mark.parametrize("N, C, V", [(0, 3, 4), (1, 1, 1), (1, 5, 2), (3, 1, 66)])
@pytest.mark.parametrize("block", [1, None])
def test_sizes_zero_and_one(N, C, V, block):
    for got, want in zip(results(*drawn(N, C, V), block), in_turn(*drawn(N, C, V))):
        np.testing.assert_allclose(got, want, atol=1e-14)


def test_strides_do_not_matter():
    x, weight, targets = drawn(12)
    wide, deep = np.repeat(x, 2, axis=0), np.asfortranarray(weight)
    for block in (5, None):
        for got, want in zip(results(wide[::2], deep, targets, block), results(x, weight, targets, block)):
            np.testing.assert_allclose(got, want, atol=1e-14)


@pytest.mark.parametrize("block", [100, None])
def test_threads_give_the_same_bits(monkeypatch, block):
    monkeypatch.setattr(MODULE, "SHARED", 1)
    x, weight, targets = drawn(257, 128, 2000, np.float32)
    before, got = threads.num_threads(), []
    try:
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            got.append(results(x, weight, targets, block))
    finally:
        threads.set_num_threads(before)
    for other in got[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(other, got[0]))


@pytest.mark.parametrize("block", [4, None])
def test_the_loss_is_the_same_without_a_graph(block):
    x, weight, targets = drawn(dtype=np.float32)
    with no_grad():
        bare = LinearCrossEntropy.apply(x, weight, targets, block=block)
    assert bare.numpy() == results(x, weight, targets, block)[0] and bare.node is None


def test_the_logits_are_never_whole(kernels):
    """2,048 rows of 4,096 logits are 32 MB: `linear` and `cross_entropy` hold them twice, the blocks half of the rows, or an eighth."""
    x, weight, targets = drawn(2048, 32, 4096, np.float32)
    results(x[:2], weight, targets[:2])        # compiled
    assert block_rows(32, 4096) == 1024

    def peak(work):
        tracemalloc.start()
        work()
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top / 1e6

    assert peak(lambda: in_turn(x, weight, targets)) > 64 and peak(lambda: results(x, weight, targets)) < 19
    assert peak(lambda: results(x, weight, targets, 256)) < 7


def test_a_matrix_that_is_not_learned_gets_no_gradient(kernels, monkeypatch):
    x, weight, targets = drawn()
    vectors, products = Tensor(x, requires_grad=True), []
    monkeypatch.setattr(MODULE, "BLOCK", 37 * 8)
    multiply = MODULE.product
    monkeypatch.setattr(MODULE, "product", lambda *arguments: products.append(1) or multiply(*arguments))
    linear_cross_entropy(vectors, Tensor(weight), targets).backward()
    np.testing.assert_allclose(vectors.grad, in_turn(x, weight, targets)[1], atol=1e-15)
    assert len(products) == 2 * 3       # three blocks of 8 rows: logits and dx of each


def test_the_walk_lets_go_of_the_gradient_of_the_logits():
    x, weight, targets = drawn(64, 64, 2048)
    vectors = Tensor(x, requires_grad=True)
    loss = linear_cross_entropy(vectors, Tensor(weight, requires_grad=True), targets)
    assert loss.node.attributes is not None
    loss.backward()
    assert loss.node.attributes is None and loss.node.saved is None


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_s_loss_is_the_cross_entropy_of_its_logits(tied):
    model = GPT(GPTConfig(vocab_size=11, n_layer=1, n_head=2, n_embd=16, block_size=8, tied=tied))
    for p in model.parameters():
        p.data = p.data.astype(np.float64)
    rng = np.random.default_rng(0)
    ids, targets = rng.integers(0, 11, (2, 3, 8))
    loss = model.loss(ids, targets)
    loss.backward()
    fast = [p.grad for p in model.parameters()]
    model.zero_grad()
    expected = cross_entropy(model(ids), targets)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-14)
    for p, got in zip(model.parameters(), fast):
        np.testing.assert_allclose(got, p.grad, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("block", [5, None])
def test_a_table_s_gradients_add_up_in_its_buffer(block):
    """Head and embedding of a tied table, and a second batch on top: all in the one place."""
    def gradients(make):
        total = np.zeros((37, 8))
        table = Tensor(drawn()[1], requires_grad=True)
        table.buffer = total
        for seed in (1, 2):
            make(Tensor(drawn(seed=seed)[0]), table, drawn(seed=seed)[2]).backward()
        assert table.grad is total
        return total

    np.testing.assert_allclose(gradients(lambda *inputs: LinearCrossEntropy.apply(*inputs, block=block) * 0.5),
                               gradients(lambda x, table, targets: cross_entropy(linear(x, table), targets) * 0.5), atol=1e-15)


def test_shards_add_up_what_the_whole_batch_gives():
    config = GPTConfig(vocab_size=11, n_layer=1, n_head=2, n_embd=16, block_size=8)
    model = GPT(config)
    ids, targets = np.random.default_rng(0).integers(0, 11, (2, 4, 8))
    model.loss(ids, targets).backward()
    expected = [p.grad.copy() for p in model.parameters()]
    shards = Shards(model, 2)
    shards.begin()
    shards.gradients(ids, targets)
    shards.finish()
    for p, want in zip(model.parameters(), expected):
        np.testing.assert_allclose(p.grad, want, rtol=1e-4, atol=1e-7)


def test_what_does_not_fit_is_explained():
    x, weight = np.zeros((2, 3)), np.zeros((5, 3))
    with pytest.raises(ValueError, match=r"x \(2, 3\), weight \(3, 5\), targets \(2,\); expected x \(..., C\), weight \(V, C\)"):
        linear_cross_entropy(x, weight.T, np.array([0, 1]))
    with pytest.raises(ValueError, match="one target for each vector"):
        linear_cross_entropy(x, weight, np.array([0, 1, 2]))
    with pytest.raises(ValueError, match=r"linear_cross_entropy: target 5 at \[1\]; the logits know ids 0 to 4"):
        linear_cross_entropy(x, weight, np.array([0, 5]))
    with pytest.raises(TypeError, match="linear_cross_entropy: targets of dtype float64"):
        linear_cross_entropy(x, weight, np.array([0.0, 1.0]))


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="looks for the instructions of x86")
def test_kernels_are_vectorised():
    rows, multiple = (kernel.assembly(np.float32) for kernel in (cross_entropy_in_place, add_multiple))
    assert "maxps" in rows and "mulps" in rows and any(f"{name}ps" in multiple for name in ("mul", "fmadd213", "fmadd231"))
