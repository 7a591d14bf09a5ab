import gc
import threading
import tracemalloc

import numpy as np
import pytest

import tinyllm as tl
from tinyllm import Tensor
from tinyllm.engine import Deferred, Primitive, Watcher, primitives, unbroadcast


def leaf(*values, name=None):
    return Tensor(np.array(values), requires_grad=True, name=name)


def test_micrograd_s_worked_example():
    """The published example of micrograd's README: g = 24.7041, dg/da = 138.8338, dg/db = 645.5773."""
    a, b = Tensor(np.array(-4.0), requires_grad=True), Tensor(np.array(2.0), requires_grad=True)
    c = a + b
    d = a * b + b ** 3
    c = c + c + 1
    c = c + 1 + c + (-a)
    d = d + d * 2 + (b + a).relu()
    d = d + 3 * d + (b - a).relu()
    e = c - d
    f = e ** 2
    g = f / 2.0
    g = g + 10.0 / f
    g.backward()
    assert f"{g.item():.4f} {a.grad:.4f} {b.grad:.4f}" == "24.7041 138.8338 645.5773"


def test_leaves_accumulate_over_calls_and_uses():
    x = leaf(3.0)
    (x * x + x).backward()
    assert x.grad.tolist() == [7]
    (2 * x).backward()
    assert x.grad.tolist() == [9]


def test_only_a_scalar_has_an_obvious_gradient():
    x = leaf(1.0, 2.0, name="x")
    with pytest.raises(ValueError, match=r"only a scalar.*loss.mean\(\)"):
        (x * 2).backward()
    (x * 2).backward(np.array([1.0, 10.0]))
    assert x.grad.tolist() == [2, 20]
    with pytest.raises(ValueError, match=r"grad has shape \(3,\)"):
        (x * 2).backward(np.ones(3))


def test_backward_takes_a_tensor_or_a_list_as_gradient():
    x = leaf(1.0, 2.0)
    (x * 2).backward(Tensor([1.0, 0.0]))
    (x * 2).backward([0.0, 1.0])
    assert x.grad.tolist() == [2, 2]


def test_without_gradient_backward_says_why():
    with pytest.raises(RuntimeError, match="requires_grad=True, or it was computed under no_grad"):
        Tensor(1.0).backward()


def test_backward_on_a_leaf_gives_one():
    x = Tensor(3.0, requires_grad=True)
    x.backward()
    assert x.grad == 1


def test_a_freed_graph_says_what_to_do():
    x = leaf(2.0)
    y = x * x
    y.backward()
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()
    with pytest.raises(RuntimeError, match="freed"):
        (y * 2).backward()


def test_retain_graph_keeps_it():
    x = leaf(2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [8]


def test_the_gradient_belongs_to_the_leaf_alone():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    g = np.ones(2)
    (x + y).backward(g)
    x.grad[0] = 99
    assert g.tolist() == [1, 1] and y.grad.tolist() == [1, 1]
    z = leaf(1.0, 2.0)
    z.sum().backward()
    z.grad += 1         # a broadcast view would refuse
    assert z.grad.tolist() == [2, 2]


def test_gradients_take_the_dtype_and_shape_of_their_input():
    x = Tensor(np.ones((3, 1), np.float32), requires_grad=True)
    y = Tensor(np.ones((2, 1, 4)), requires_grad=True)
    (x * y).sum().backward()
    assert x.grad.dtype == np.float32 and x.grad.shape == (3, 1) and (x.grad == 8).all()
    assert y.grad.dtype == np.float64 and y.grad.shape == (2, 1, 4) and (y.grad == 3).all()


@pytest.mark.parametrize("shape", [(), (4,), (3, 1), (1, 4), (2, 1, 1), (2, 3, 4), (1, 1, 1)])
def test_unbroadcast_is_the_transpose_of_broadcasting(shape):
    """<broadcast(x), g> = <x, unbroadcast(g)> for every x and g."""
    rng = np.random.default_rng(0)
    x, g = rng.normal(size=shape), rng.normal(size=(2, 3, 4))
    assert np.sum(np.broadcast_to(x, g.shape) * g) == pytest.approx(np.sum(x * unbroadcast(g, shape)), rel=1e-12)


def test_a_chain_of_100_000_adds_without_recursion_in_linear_memory():
    def peak(n):
        x = leaf(1.0)
        gc.collect()
        tracemalloc.start()
        y = x
        for _ in range(n):
            y = y + 1.0
        y.backward()
        bytes_ = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert x.grad.tolist() == [1] and y.item() == n + 1
        return bytes_

    small, large = peak(10_000), peak(100_000)
    assert large < 12 * small


def test_a_long_graph_is_dropped_without_recursion():
    y = leaf(1.0)
    for _ in range(100_000):
        y = y * 1.0
    del y


def test_memory_is_let_go_while_the_graph_is_walked():
    """A chain of n tanh saves n results; the walk frees them one by one, so its peak stays near that of the forward."""
    x = Tensor(np.zeros(100_000), requires_grad=True)
    tracemalloc.start()
    y = x
    for _ in range(50):
        y = (y * 0.5).tanh()
    forward = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    y = y.sum()
    y.backward()
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < forward + 6 * x.data.nbytes
    assert after < 0.2 * forward


def test_a_graph_has_no_cycle_that_waits_for_the_collector():
    gc.collect()
    gc.disable()
    try:
        tracemalloc.start()
        for i in range(20):
            x = Tensor(np.zeros(100_000), requires_grad=True)
            h = (x * 2).exp().retain_grad()
            h.sum().backward()
            if i == 2:
                base = tracemalloc.get_traced_memory()[0]
        assert tracemalloc.get_traced_memory()[0] <= base + 10_000
    finally:
        tracemalloc.stop()
        gc.enable()


def test_only_what_rules_read_is_kept():
    x = Tensor(np.ones(1000), requires_grad=True)
    kept = lambda y: [a.shape for a in y.node.saved if isinstance(a, np.ndarray)]
    assert kept(x + 1.0) == [] and kept(x.sum()) == [] and kept(x.reshape(10, 100)) == []
    assert (x.exp().node.saved[0] is x.exp().node.saved[0]) is False and len(kept(x.exp())) == 1
    c = np.ones(1000)
    y = x * c
    assert len(y.node.saved) == 1 and y.node.saved[0] is c
    assert kept(tl.ops.concatenate([x, x])) == []
    assert y.sum().node.saved[0].shape == (1000,) and not isinstance(y.sum().node.saved[0], np.ndarray)


def test_the_order_of_the_walk_is_the_reverse_of_creation():
    order = []

    class Listener(tl.engine.Watcher):
        def rule(self, node, position, g, gradient):
            order.append((node.index, position))

    x = leaf(1.0, 2.0)
    a, b = x.exp(), x.sin()
    y = (b * a + a).sum()
    with Listener():
        y.backward()
    indices = [i for i, _ in order]
    assert indices == sorted(indices, reverse=True) and len(indices) == 7      # sum 1, add 2, multiply 2, exp 1, sin 1


def test_retain_grad_on_something_computed():
    x = leaf(1.0, 2.0)
    h = (x * 3).retain_grad()
    (h * h).sum().backward()
    assert h.grad.tolist() == [6, 12] and x.grad.tolist() == [18, 36]
    with pytest.raises(RuntimeError, match="requires no gradient"):
        Tensor(1.0).retain_grad()


def test_no_grad_as_context_and_decorator():
    x = leaf(1.0)

    @tl.no_grad()
    def double(v, depth):
        return v * 2 if depth == 0 else double(v, depth - 1)

    assert not double(x, 3).requires_grad and (x * 2).requires_grad
    block = tl.no_grad()
    with block:
        with block:
            assert not (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad


def test_the_graph_state_is_per_thread():
    seen = {}

    def work():
        seen["grad"] = (leaf(1.0) * 2).requires_grad
        seen["dtype"] = Tensor(1.0).dtype
        seen["index"] = (leaf(1.0) * 2).node.index

    with tl.no_grad(), tl.default_dtype(np.float64):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert seen == {"grad": True, "dtype": np.float32, "index": 1}


def test_a_parameter_the_loss_did_not_touch_has_no_gradient_also_with_a_buffer():
    flat = np.full(4, 7.0)
    used, unused = leaf(1.0, 2.0), leaf(3.0, 4.0)
    used.buffer, unused.buffer = flat[:2], flat[2:]
    (used * 5).sum().backward()
    assert unused.grad is None and used.grad is used.buffer and flat.tolist() == [5, 5, 7, 7]
    (used * 5).sum().backward()
    assert flat.tolist() == [10, 10, 7, 7]


def test_a_gradient_of_the_right_size_and_the_wrong_shape_is_refused():
    class Sideways(tl.Primitive):
        """Its rule forgets to transpose."""
        def forward(a): return a.T + 0
        def grad_a(g): return g

    try:
        with pytest.raises(ValueError, match=r"sideways.grad_a returned shape \(3, 2\) for an input of shape \(2, 3\)"):
            Sideways.apply(Tensor(np.ones((2, 3)), requires_grad=True)).sum().backward()
    finally:
        del tl.primitives["sideways"]


def test_an_error_in_a_rule_leaves_no_gradient_behind():
    class Broken(tl.Primitive):
        """Its rule returns a shape nobody can use."""
        def forward(a): return a + 0
        def grad_a(g): return np.ones((7, 7))

    try:
        x = leaf(1.0, 2.0)
        y = Broken.apply(x * 2)
        with pytest.raises(ValueError, match=r"broken.grad_a returned shape \(7, 7\) for an input of shape \(2,\)"):
            y.sum().backward()
        assert x.grad is None
    finally:
        del tl.primitives["broken"]


def test_sums_in_place_change_nothing_that_anybody_else_sees():
    """`c = h + k` sends one and the same array to h and to k; h then receives two gradients more, k none."""
    totals = []

    class Keeper(tl.engine.Watcher):
        def accumulate(self, node, position, target, gradient, total):
            totals.append((total, total.copy()))

    for watch in (False, True):
        x, z = leaf(1.0, 2.0), leaf(5.0, 6.0)
        h, k = x.exp(), z.exp()
        a, b = h * 3.0, h * 4.0
        c = h + k
        y = (a + b) + c
        g = np.array([1.0, 10.0])
        if watch:
            with Keeper():
                y.backward(g)
        else:
            y.backward(g)
        np.testing.assert_array_equal(x.grad, 8 * g * np.exp([1.0, 2.0]))
        np.testing.assert_array_equal(z.grad, g * np.exp([5.0, 6.0]))
        assert g.tolist() == [1, 10]
    assert all((now == then).all() for now, then in totals) and len(totals) == 10      # two for each sum, one for each other


def test_a_broken_walk_can_be_told_from_a_finished_one():
    """After the refusal to walk a freed graph, the rest of the graph still works."""
    x = leaf(2.0)
    gone, kept = x * x, x * 3.0
    gone.backward()
    with pytest.raises(RuntimeError, match="freed"):
        (gone + kept).backward()
    kept.backward()
    assert x.grad.tolist() == [7]


class Doubled(Primitive):
    """y = 2 a"""

    def forward(a): return 2 * a

    def grad_a(g, a):
        def fill(out, add):
            out[...] = out + 2 * g if add else 2 * g
        return Deferred(a.shape, g.dtype, fill)


primitives.pop("doubled")       # no operation of the package: the registry's tests need not know it


def test_a_deferred_gradient_is_written_into_the_leafs_buffer_and_then_added_to_it():
    x, place = leaf(1.0, 2.0), np.full(2, 99.0)
    x.buffer = place
    (Doubled.apply(x) * [1.0, 10.0]).sum().backward()
    assert x.grad is place and place.tolist() == [2, 20]
    (Doubled.apply(x) + Doubled.apply(x)).sum().backward()
    assert x.grad is place and place.tolist() == [6, 24]


def test_a_deferred_gradient_becomes_an_array_everywhere_else():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    Doubled.apply(Doubled.apply(x)).sum().backward()        # no buffer, and a node below
    assert x.grad.tolist() == [4, 4]
    y.buffer, y.grad = np.zeros(2), np.ones(2)              # a gradient that is not in the buffer
    Doubled.apply(y).sum().backward()
    assert y.grad.tolist() == [3, 3] and not y.buffer.any()
    z = Tensor(np.ones(2, np.float32), requires_grad=True)
    z.buffer = np.zeros(2, np.float32)
    (Doubled.apply(z) * np.ones(2)).sum().backward()        # a cotangent of another dtype
    assert z.grad.dtype == np.float32 and z.grad.tolist() == [2, 2]


def test_a_watcher_sees_a_deferred_gradient_as_an_array():
    class Notes(Watcher):
        def rule(self, node, position, g, gradient):
            seen.append(gradient.tolist())

    seen, x = [], leaf(1.0, 2.0)
    x.buffer = np.zeros(2)
    with Notes():
        Doubled.apply(x).backward(np.ones(2))
    assert seen == [[2, 2]] and x.grad.tolist() == [2, 2]
