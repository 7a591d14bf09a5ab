import numpy as np
import pytest

import tinyllm as tl
from tinyllm import Tensor
from tinyllm.engine import guards


@pytest.fixture(autouse=True)
def nothing_stays_locked():
    yield
    assert guards.counts == {}


def test_what_backward_will_read_is_read_only_until_it_has():
    x, c = Tensor(np.ones(3), requires_grad=True), np.full(3, 2.0)
    y = x * c
    with pytest.raises(ValueError, match="read-only"):
        c[0] = 5
    with pytest.raises(ValueError, match="read-only"):
        c += 1
    x.data[0] = 5               # x is not read: only c is, for dL/dx
    y.sum().backward()
    c[0] = 5
    assert x.grad.tolist() == [2, 2, 2]


def test_results_a_rule_reads_are_locked_too():
    y = Tensor(np.ones(3), requires_grad=True).exp()
    with pytest.raises(ValueError, match="read-only"):
        y.data[0] = 0
    y.sum().backward()
    y.data[0] = 0


def test_the_last_of_several_graphs_unlocks():
    x = Tensor(np.ones(3), requires_grad=True)
    one, two = (x * x).sum(), x.log().sum()
    one.backward()
    with pytest.raises(ValueError, match="read-only"):
        x.data[0] = 2
    two.backward()
    x.data[0] = 2


def test_a_graph_that_is_dropped_unlocks():
    x = Tensor(np.ones(3), requires_grad=True)
    y = x * x
    del y
    x.data[0] = 2


def test_retained_graphs_stay_locked():
    x = Tensor(np.ones(3), requires_grad=True)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    with pytest.raises(ValueError, match="read-only"):
        x.data[0] = 2
    del y


def test_an_array_that_was_read_only_stays_so():
    c = np.broadcast_to(np.array(2.0), (3,))
    x = Tensor(np.ones(3), requires_grad=True)
    (x * c).sum().backward()
    assert not c.flags.writeable and x.grad.tolist() == [2, 2, 2]


def test_variadic_inputs_are_locked():
    a, b = Tensor(np.ones((2, 2)), requires_grad=True), Tensor(np.ones((2, 2)))
    y = tl.ops.einsum("ij,jk->ik", a, b)
    with pytest.raises(ValueError, match="read-only"):
        b.data[0, 0] = 2
    y.sum().backward()


def test_tinyllm_s_own_operations_name_the_op_and_the_tensor():
    w = Tensor(np.ones((2, 2)), requires_grad=True, name="fc.weight")
    y = Tensor(np.ones((1, 2)), requires_grad=True) @ w
    with pytest.raises(RuntimeError, match="copy_ would change fc.weight, which matmul saved for backward: call backward"):
        w.copy_(np.zeros((2, 2)))
    y.sum().backward()
    w.copy_(np.zeros((2, 2)))
    assert not w.data.any()


def test_under_no_grad_nothing_is_locked():
    x = Tensor(np.ones(3), requires_grad=True)
    with tl.no_grad():
        y = x * x
    x.data[0] = 3
    assert y.data.tolist() == [1, 1, 1]


def test_index_arrays_are_copied():
    x, index = Tensor(np.arange(3.0), requires_grad=True), np.array([0, 0])
    y = x[index]
    index[:] = 2
    y.sum().backward()
    assert x.grad.tolist() == [2, 0, 0]


def test_a_foreign_read_only_array_is_named():
    with pytest.raises(ValueError, match="read-only: give it a copy"):
        Tensor(np.broadcast_to(1.0, (3,)), name="w").copy_(0.0)


def test_a_view_is_unlocked_together_with_what_it_views():
    """NumPy refuses to make a view writable while its base is not, and a graph may let go of the view first."""
    x = Tensor(np.ones((2, 2)), requires_grad=True)
    flat = x.reshape(4)
    square, other = x * x, flat * flat
    other.sum().backward()
    assert not flat.data.flags.writeable and not x.data.flags.writeable
    again = x.reshape(4) * flat                 # held once more, while it waits
    square.sum().backward()
    assert not x.data.flags.writeable           # what a view shows is held with it
    del again
    assert x.data.flags.writeable and flat.data.flags.writeable and not guards.followers
    assert x.grad.tolist() == [[4, 4], [4, 4]]


def test_the_memory_behind_a_view_is_locked_with_it():
    x = Tensor(np.ones((2, 2)), requires_grad=True)
    h = x.reshape(4)
    y = h * h
    with pytest.raises(ValueError, match="read-only"):
        x.data[0, 0] = 5
    with pytest.raises(RuntimeError, match="multiply"):
        x.copy_(np.zeros((2, 2)))
    y.sum().backward()
    x.data[0, 0] = 5
    assert x.grad.tolist() == [[2, 2], [2, 2]]


def test_parts_of_one_buffer_are_locked_and_unlocked_together():
    flat = np.ones(4)
    a, b = (Tensor(part, requires_grad=True) for part in (flat[:2], flat[2:]))
    one, two = (a * a).sum(), (b * b).sum()
    with pytest.raises(ValueError, match="read-only"):
        flat += 1
    one.backward()
    with pytest.raises(ValueError, match="read-only"):
        flat += 1
    two.backward()
    flat += 1
    a.data += 1
    b.data += 1
    assert flat.tolist() == [3, 3, 3, 3]
