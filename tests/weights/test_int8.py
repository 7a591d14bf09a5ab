"""int8 weights: at most half a step off, the kernel is the product with the matrix written out, the model hardly changes."""

import numpy as np
import pytest

from tinyllm.engine import Tensor, fused, no_grad
from tinyllm.engine.random import Generator
from tinyllm.models import DeepSeek, DeepSeekConfig, GPT, GPTConfig, Llama, LlamaConfig
from tinyllm.fused.token_step import compiled
from tinyllm.nn import Parameter
from tinyllm.weights.int8 import Int8Linear, dequantize, multiply, perplexity, quantize, quantized, weight_bytes


def normal(*shape, seed=0):
    return Generator(seed).normal(0.0, 1.0, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(3, 64), (5, 172), (2, 7), (4, 288)])
def test_each_number_is_at_most_half_a_step_off(shape):
    weight = normal(*shape)
    q, scales = quantize(weight)
    step = np.repeat(scales, shape[1] // scales.shape[1], axis=1)
    assert q.dtype == np.int8 and q.min() >= -127
    assert (np.abs(dequantize(q, scales) - weight) <= 0.5001 * step).all()


def test_the_largest_of_a_group_is_kept_and_zeros_stay():
    weight = np.zeros((1, 128), np.float32)
    weight[0, 3] = -5.0
    q, scales = quantize(weight)
    assert q[0, 3] == -127 and scales[0, 1] == 0
    np.testing.assert_allclose(dequantize(q, scales), weight, rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 4, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_few_rows_and_many_are_the_product_with_the_matrix(rows, dtype):
    layer = Int8Linear(normal(10, 96), Parameter(normal(10, seed=2)))
    x = normal(rows, 1, 96, seed=1).astype(dtype)
    with no_grad():
        y = layer(Tensor(x)).numpy()
        with fused(False):
            definition = layer(Tensor(x)).numpy()
    assert y.dtype == dtype and y.shape == (rows, 1, 10)
    np.testing.assert_allclose(y, definition, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(y, x @ layer.matrix().numpy().T + layer.bias.numpy(), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("columns", [12, 48, 96, 128])       # in groups of 4, 16, 32 and 64
def test_the_kernel_is_its_own_python(columns):
    x, (q, scales) = normal(2, columns), quantize(normal(3, columns, seed=1))
    fast, plain = np.empty((2, 3), np.float32), np.empty((2, 3), np.float32)
    compiled(multiply, np.dtype(np.float32))(x, q, scales, fast)
    multiply.python(x, q, scales, plain)
    np.testing.assert_allclose(fast, plain, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(fast, x @ dequantize(q, scales).T, rtol=1e-5, atol=1e-5)


MODELS = {"gpt": (GPT, GPTConfig(50, 2, 2, 32, 16)), "llama": (Llama, LlamaConfig(50, 2, 4, 32, 16, n_kv_head=2, tied=False)),
          "deepseek": (DeepSeek, DeepSeekConfig(50, 2, 2, 32, 16))}


@pytest.mark.parametrize("name", MODELS)
def test_a_quantized_copy_of_every_family(name):
    cls, config = MODELS[name]
    model = cls(config, Generator(0)).eval()
    before = {key: array.copy() for key, array in model.state_dict().items()}
    light = quantized(model)
    assert all(np.array_equal(model.state_dict()[key], array) for key, array in before.items())
    ids = Generator(1).randint(0, 50, (2, 12))
    with no_grad():
        whole, small = model(ids).numpy(), light(ids).numpy()
        cache = light.make_cache(2, 12)
        steps = np.concatenate([light(ids[:, i:i + 1], cache=cache).numpy() for i in range(12)], axis=1)
    assert 0 < np.abs(whole - small).max() < 0.05 * np.abs(whole).max()
    np.testing.assert_allclose(steps, small, atol=1e-5)
    assert light.head.quantized.dtype == np.int8 and weight_bytes(light) < weight_bytes(model)
    assert perplexity(light, ids[0]) == pytest.approx(perplexity(model, ids[0]), rel=0.01)


def test_perplexity_is_the_exponential_of_the_mean_loss():
    model = GPT(GPTConfig(50, 1, 2, 8, 4), Generator(0)).eval()
    ids = Generator(1).randint(0, 50, (9,))
    first, second = (model.loss(ids[None, a:a + 4], ids[None, a + 1:a + 5]).item() for a in (0, 4))
    assert perplexity(model, ids) == pytest.approx(np.exp((first + second) / 2))
