import copy

import numpy as np
import pytest

import tinyllm as tl
from tinyllm import Tensor


def test_python_floats_take_the_default_dtype_and_arrays_keep_theirs():
    assert Tensor([1.0, 2.0]).dtype == np.float32
    assert Tensor(1.5).dtype == np.float32
    assert Tensor(np.array([1.0])).dtype == np.float64
    assert Tensor(np.float16([1])).dtype == np.float16
    assert Tensor([1, 2]).dtype == np.int64
    assert Tensor([np.float64(1.0)]).dtype == np.float64


def test_an_array_is_kept_not_copied():
    array = np.ones(3)
    assert Tensor(array).data is array and Tensor(array).numpy() is array


def test_integers_never_carry_gradient():
    with pytest.raises(TypeError, match="int64 cannot require a gradient"):
        Tensor([1, 2], requires_grad=True)
    x = Tensor([1.0, 2.0], requires_grad=True)
    assert not Tensor(np.array([1, 2])).requires_grad and not (x > 1).requires_grad and (x > 1).dtype == bool


def test_text_is_refused():
    with pytest.raises(TypeError, match="numbers are expected"):
        Tensor(["a"])


def test_a_list_of_tensors_points_to_stack():
    with pytest.raises(TypeError, match="tl.ops.stack"):
        Tensor([Tensor(1.0), Tensor(2.0)])


def test_python_numbers_do_not_promote():
    x = Tensor([1.0, 2.0])
    for y in (x + 1, 2 * x, x / 3.0, x ** 2, 1.0 - x, x * True):
        assert y.dtype == np.float32


def test_float64_stays_float64():
    x = Tensor(np.array([1.0, 2.0]))
    assert (x * 2).dtype == (x + Tensor([1.0, 1.0])).dtype == np.float64


def test_default_dtype_is_a_setter_and_a_context():
    with tl.default_dtype(np.float64):
        assert Tensor(1.0).dtype == np.float64
        with tl.default_dtype(np.float32):
            assert Tensor(1.0).dtype == np.float32
        assert tl.default_dtype() == np.float64
    assert Tensor(1.0).dtype == np.float32
    tl.default_dtype(np.float64)
    assert Tensor(1.0).dtype == np.float64
    tl.default_dtype(np.float32)
    with pytest.raises(TypeError, match="floating point"):
        tl.default_dtype(int)


def test_shape_dtype_ndim_size_len_iteration():
    x = Tensor(np.arange(6.0).reshape(2, 3))
    assert (x.shape, x.ndim, x.size, len(x), x.dtype) == ((2, 3), 2, 6, 2, np.float64)
    assert [row.data.tolist() for row in x] == [[0, 1, 2], [3, 4, 5]]
    assert x.T.shape == x.mT.shape == (3, 2)
    with pytest.raises(TypeError, match="without axes"):
        len(Tensor(1.0))


def test_item_bool_float_and_index():
    assert Tensor(2.5).item() == 2.5 and float(Tensor([2.5])) == 2.5 and int(Tensor(2.0)) == 2
    assert bool(Tensor(1.0)) and not bool(Tensor(0.0))
    assert [10, 20, 30][Tensor(np.array(1))] == 20
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        Tensor([1.0, 2.0]).item()
    with pytest.raises(ValueError, match="ambiguous"):
        bool(Tensor([1.0, 2.0]))


def test_repr_shows_shape_dtype_and_name():
    text = repr(Tensor([1.0, 2.0], requires_grad=True, name="w"))
    assert text == "Tensor([1., 2.], shape=(2,), dtype=float32, name='w', requires_grad=True)"
    assert "from=multiply" in repr(Tensor([1.0], requires_grad=True) * 2)
    assert len(repr(Tensor(np.zeros((1000, 1000))))) < 300


@pytest.mark.parametrize("operation", ["a + b", "a - b", "a * b", "a / b", "a ** b", "a > b", "a <= b", "a == b", "a != b"])
@pytest.mark.parametrize("kinds", [("tensor", "tensor"), ("tensor", "array"), ("array", "tensor"), ("tensor", "number"), ("number", "tensor"),
                                   ("scalar", "tensor")])
def test_operators_take_tensors_arrays_and_numbers_on_either_side(operation, kinds):
    make = {"tensor": lambda: Tensor(np.array([[1.5, 2.0], [3.0, 0.5]])), "array": lambda: np.array([2.0, 3.0]),
            "number": lambda: 2.0, "scalar": lambda: np.float64(2.0)}
    a, b = (make[k]() for k in kinds)
    result = eval(operation)
    expected = eval(operation, {"a": getattr(a, "data", a) if kinds[0] == "tensor" else a,
                                "b": b.data if kinds[1] == "tensor" else b})
    assert type(result) is Tensor
    np.testing.assert_array_equal(result.data, expected)


def test_matmul_operator_and_unary_ones():
    x, w = np.arange(6.0).reshape(2, 3), np.arange(3.0)
    for y in (Tensor(x) @ w, x @ Tensor(w), Tensor(x) @ Tensor(w)):
        assert type(y) is Tensor
        np.testing.assert_array_equal(y.data, [5, 14])
    np.testing.assert_array_equal((-Tensor(w)).data, -w)
    np.testing.assert_array_equal(abs(Tensor(-w)).data, w)


@pytest.mark.parametrize("method, arguments", [
    ("sum", (0,)), ("mean", (-1,)), ("var", ()), ("max", (1, True)), ("min", ()), ("reshape", (3, 2)), ("reshape", ((3, 2),)),
    ("transpose", ()), ("transpose", (1, 0)), ("swapaxes", (0, 1)), ("cumsum", (1,)), ("squeeze", ())])
def test_methods_mean_what_they_mean_in_numpy(method, arguments):
    x = np.random.default_rng(0).normal(size=(2, 3))
    got = getattr(Tensor(x), method)(*arguments)
    if method in ("max",):
        expected = x.max(axis=1, keepdims=True)
    else:
        expected = getattr(x, method)(*arguments)
    np.testing.assert_allclose(got.data, expected, rtol=1e-15)


def test_elementwise_methods():
    x = np.array([0.5, 1.5])
    for name in ("exp", "log", "sqrt", "tanh", "sin", "cos", "abs"):
        np.testing.assert_array_equal(getattr(Tensor(x), name)().data, getattr(np, name)(x))
    np.testing.assert_array_equal(Tensor(x).clip(0.0, 1.0).data, [0.5, 1.0])
    assert Tensor(x).argmax() == 1


def test_indexing_is_numpys():
    x = np.arange(24.0).reshape(2, 3, 4)
    t = Tensor(x)
    for index in (0, -1, (slice(None), 1), (..., 2), None, (0, [0, 2]), x > 11, (slice(None), np.array([True, False, True]))):
        np.testing.assert_array_equal(t[index].data, x[index])
    np.testing.assert_array_equal(t[:, Tensor(np.array([2, 0]))].data, x[:, [2, 0]])
    with pytest.raises(IndexError, match="getitem"):
        t[5]


def test_numpy_calls_explain_what_to_call_instead():
    x = Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(TypeError, match=r"tl.ops.sin\(tensor\) or tensor.sin\(\)"):
        np.sin(x)
    with pytest.raises(TypeError, match="tl.ops.concatenate"):
        np.concatenate([x, x])
    with pytest.raises(TypeError, match=r"tinyllm has no median.*numpy\(\)"):
        np.median(x)
    with pytest.raises(TypeError, match="leave the graph"):
        np.asarray(x)
    array = np.ones(2)
    with pytest.raises(TypeError, match="cannot write"):
        array += x
    np.testing.assert_array_equal(np.asarray(x.detach()), [1, 2])


def test_comparison_with_none_is_python_s():
    assert (Tensor(1.0) == None) is False and Tensor(1.0) != None    # noqa: E711


def test_tensors_are_themselves_in_sets():
    x, y = Tensor([1.0]), Tensor([1.0])
    assert len({x, y}) == 2


def test_deepcopy_copies_leaves_only():
    x = Tensor([1.0], requires_grad=True, name="x")
    x.grad = np.array([3.0], dtype=np.float32)
    twin = copy.deepcopy(x)
    twin.data[0] = 5
    assert x.item() == 1 and twin.requires_grad and twin.name == "x" and twin.grad.tolist() == [3]
    with pytest.raises(RuntimeError, match="detach"):
        copy.deepcopy(x * 2)


def test_detach_shares_memory_and_leaves_the_graph():
    x = Tensor([1.0], requires_grad=True)
    assert x.detach().data is x.data and not x.detach().requires_grad


def test_copy_says_what_does_not_fit():
    with pytest.raises(ValueError, match=r"load: values of shape \(3,\) do not fit w \(2,\)"):
        Tensor([1.0, 2.0], name="w").copy_(np.zeros(3), by="load")
