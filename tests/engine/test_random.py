"""Random streams: the Mersenne Twister's published words, numbers PyTorch prints for a seed, and exact state.

STUDY: the figures PyTorch printed in the notebooks of github.com/roodriigoooo/llm_deepdive, to the digits shown.
TORCH: printed by torch 2.13.0+cpu for seed 7. tests/parity/test_parity_random.py compares with torch itself.
"""

import copy
import json
import math
from fractions import Fraction

import numpy as np
import pytest

from tinyllm.engine import random as streams
from tinyllm.engine.random import Generator, default_generator, manual_seed
from tinyllm.errors import UserError

SENTENCE = np.array([[.35, .15, .89], [.97, .8, .3], [.65, .34, .24], [.2, .87, .34], [.86, .13, .05], [.1, .2, .3]],
                    np.float32)  # six words, three features each


def close(actual, printed, places=4):
    np.testing.assert_allclose(actual, printed, rtol=0, atol=0.51 * 10.0**-places)


# -- the words ----------------------------------------------------------------------------------------------

def test_words_are_the_published_mt19937_outputs():
    """Seed 5489: the reference implementation's first five outputs, and the 10,000th that C++11 prescribes."""
    words = Generator(5489)._words(10_000)
    assert words[:5].tolist() == [3499211612, 581869302, 3890346734, 3586334585, 545404204]
    assert words[-1] == 4123659995


def test_a_float32_is_24_bits_of_a_word_and_a_float64_53_bits_of_two():
    words = [int(word) for word in Generator(5489)._words(6)]
    assert Generator(5489).rand(6).tolist() == [word % 2**24 / 2**24 for word in words]
    pairs = [upper * 2**32 + lower for upper, lower in zip(words[::2], words[1::2])]
    assert Generator(5489).rand(3, dtype=np.float64).tolist() == [pair % 2**53 / 2**53 for pair in pairs]


# -- numbers PyTorch prints -----------------------------------------------------------------------------------

TORCH_SEED_7 = [
    ("rand f64", lambda g: g.rand(4, dtype=np.float64), [0.27938043, 0.27369371, 0.86209296, 0.65668843], 8),
    ("randn f32, under 16", lambda g: g.randn(3), [-0.1467951, 0.7861413, 0.94682163], 7),
    ("randn f32, 17", lambda g: g.randn(17),
     [-0.8201345, -0.32456663, 1.9263681, -0.33001173, 0.19844505, 0.78207266, 1.0391077, -0.7245107, -0.8489086,
      -0.21534152, -1.8157287, -0.34524196, -2.061478, 0.6741007, -1.3233458, -1.359769, -0.8667016], 6),
    ("randn f64, 17", lambda g: g.randn(17, dtype=np.float64),
     [0.06626754, -0.29104147, 0.45801695, 1.69327498, 1.45745494, 1.93221486, -1.44181399, 0.72776035, -1.31314966,
      -2.42925191, -0.15213162, -2.69091711, 1.74210503, -0.52396102, -0.28387899, 0.4525755, -1.66772913], 8),
    ("normal f32", lambda g: g.normal(5, 0.3, 3), [4.9559617, 5.235842, 5.2840466], 6),
]


@pytest.mark.parametrize("name, draw, printed, places", TORCH_SEED_7)
def test_numbers_torch_prints(name, draw, printed, places):
    close(draw(Generator(7)), printed, places)


TORCH_SEED_7_EXACT = [
    ("randn f64", lambda g: g.randn(5, dtype=np.float64),
     [-0.1467950974849952, 0.7861412987235358, 0.9468216090039564, -1.1143440212610307, 1.6907901257942333]),
    ("uniform f32", lambda g: g.uniform(-0.1, 0.3, 3), [0.11396902054548264, -0.02047872543334961, 0.16368468105793]),
    ("uniform f64", lambda g: g.uniform(-0.1, 0.3, 3, dtype=np.float64),
     [0.011752171962561599, 0.009477485460706259, 0.2448371845670502]),
    ("normal f64", lambda g: g.normal(5, 0.3, 3, dtype=np.float64),
     [4.955961470754501, 5.235842389617061, 5.284046482701187]),
    ("randint, one word", lambda g: g.randint(0, 2**28 - 1, 3), [59306160, 171107527, 128500261]),
    ("randint, two words", lambda g: g.randint(0, 2**28, 3), [171107524, 27798006, 174903507]),
    ("randint, wide", lambda g: g.randint(-(2**62), 2**62 + 1, 3),
     [-3204046499487750972, 551904368352831989, 3475536756154880211]),
    ("randperm", lambda g: g.randperm(10), [5, 0, 3, 4, 1, 7, 9, 6, 8, 2]),
]


@pytest.mark.parametrize("name, draw, printed", TORCH_SEED_7_EXACT)
def test_numbers_torch_prints_in_full(name, draw, printed):
    assert draw(Generator(7)).tolist() == printed


def test_the_second_normal_of_a_pair_waits_behind_other_draws():
    generator = Generator(7)  # TORCH: randn(3), rand(2), randn(2)
    close(generator.randn(3), [-0.1467951, 0.7861413, 0.94682163], 7)
    close(generator.rand(2), [0.36531615, 0.85126835], 7)
    close(generator.randn(2), [-1.114344, 0.4457424], 6)


# -- STUDY: embedding, attention, layer norm, gradients ---------------------------------------------------------

def linear(generator, out, inputs, bias=False):
    """A fresh linear layer's (weight, bias): U(−1/√inputs, 1/√inputs), the weight first."""
    bound = 1 / math.sqrt(inputs)
    return generator.uniform(-bound, bound, (out, inputs)), generator.uniform(-bound, bound, out) if bias else 0


def softmax(scores):
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def causal(scores):
    return np.where(np.tri(len(scores), dtype=bool), scores, -np.inf)


def test_embedding_row():
    close(Generator(123).randn(6, 3)[0], [0.3374, -0.1778, -0.1690])


def test_attention_with_random_matrices():
    generator = Generator(123)
    query_weight, key_weight, value_weight = (generator.randn(3, 2) for _ in range(3))
    close(query_weight, [[-.1115, .1204], [-.3696, -.2404], [-1.1969, .2093]])
    close(key_weight, [[-.9724, -.7550], [.3239, -.1085], [.2103, -.3908]])
    close(value_weight, [[.2350, .6653], [.3528, .9728], [-.0386, -.8861]])
    scores = (SENTENCE @ query_weight) @ (SENTENCE @ key_weight).T
    close(scores[2, 2], 0.19979, 5)
    weights = softmax(scores / math.sqrt(2))
    close(weights[2], [.1547, .1828, .1755, .1425, .1949, .1497])
    context = weights @ SENTENCE @ value_weight
    close(context[[0, 2, 5]], [[.2695, .5081], [.2618, .4683], [.2615, .4663]])
    masked = softmax(causal(scores) / math.sqrt(2))
    close(masked[1], [.4301, .5699, 0, 0, 0, 0])
    close(masked[4], [.1927, .2039, .2033, .1883, .2118, 0])


def test_attention_from_linear_layers():
    generator = Generator(123)
    query, key, value = (SENTENCE @ linear(generator, 2, 3)[0].T for _ in range(3))
    close((softmax(query @ key.T / math.sqrt(2)) @ value)[0], [-.4850, -.1109])


def test_two_causal_heads_side_by_side():
    generator, heads = Generator(123), []
    for _ in range(2):
        query, key, value = (SENTENCE @ linear(generator, 2, 3)[0].T for _ in range(3))
        heads.append(softmax(causal(query @ key.T) / math.sqrt(2)) @ value)
    close(np.concatenate(heads, axis=1)[0], [-.4127, .2307, .4378, .0873])


def test_multi_head_attention_with_one_projection():
    generator = Generator(123)
    query, key, value = (SENTENCE @ linear(generator, 2, 3)[0].T for _ in range(3))
    weight, bias = linear(generator, 2, 2, bias=True)
    heads = [softmax(causal(query[:, [h]] @ key[:, [h]].T)) @ value[:, [h]] for h in range(2)]  # head size 1
    close(np.concatenate(heads, axis=1) @ weight.T + bias,
          [[.3145, .5066], [.2842, .3614], [.2712, .3817], [.2544, .3887], [.2535, .3958], [.2488, .4286]])


def test_layer_norm_example():
    rows = Generator(123).randn(2, 5)
    close(rows.mean(1), [-.3596, -.2606])
    close(rows.var(1), [.2015, .2673])


def gelu_and_slope(x):
    """The tanh form of GELU and its derivative."""
    tanh = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2) * (1 - tanh**2)
    return 0.5 * x * (1 + tanh), 0.5 * (1 + tanh) + 0.5 * x * slope


def mean_gradient_sizes(layers, residual):
    """Mean |∂L/∂W| of each layer, for the input (1, 0, −1) and L the squared distance of the output from 0."""
    x, trail, sizes = np.array([1.0, 0.0, -1.0]), [], []
    for weight, bias in layers:
        y, slope = gelu_and_slope(weight @ x + bias)
        skips = residual and y.size == x.size
        trail.append((weight, x, slope, skips))
        x = y + x if skips else y
    grad = 2 * x
    for weight, x, slope, skips in reversed(trail):
        through = grad * slope
        sizes.append(np.abs(np.outer(through, x)).mean())
        grad = weight.T @ through + (grad if skips else 0)
    return sizes[::-1]


def test_gradient_sizes_without_and_with_residuals():
    """Both networks are made from one stream, seeded 0 once."""
    generator, widths = Generator(0), [3, 3, 3, 3, 3, 1]
    plain, residual = ([linear(generator, out, inputs, bias=True) for inputs, out in zip(widths, widths[1:])]
                       for _ in range(2))
    for sizes, printed in [
        (mean_gradient_sizes(plain, False), [2.174e-3, 1.820e-3, 2.399e-3, 1.913e-2, 2.638e-1]),
        (mean_gradient_sizes(residual, True), [2.480e-1, 3.982e-1, 3.304e-1, 3.638e-1, 2.195]),
    ]:
        np.testing.assert_allclose(sizes, printed, rtol=3e-4)  # half a unit of the fourth digit


# -- what a stream promises -----------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uniform_numbers_do_not_depend_on_how_calls_are_cut(dtype):
    sizes = [1, streams.CHUNK + 1, 7, 2 * streams.CHUNK]
    whole, cut = Generator(1), Generator(1)
    parts = np.concatenate([cut.rand(size, dtype=dtype) for size in sizes])
    assert np.array_equal(whole.rand(sum(sizes), dtype=dtype), parts)


@pytest.mark.parametrize("size", [17, 31, streams.CHUNK + 5])
def test_a_ragged_block_is_drawn_again(size):
    """The last 16 of `size` normals are what randn(16) gives after `size` words."""
    later = Generator(3)
    later.rand(size)
    normals = Generator(3).randn(size)
    assert np.array_equal(normals[-16:], later.randn(16))
    kept = min(size // 16 * 16, size - 16)
    assert np.array_equal(normals[:kept], Generator(3).randn(size // 16 * 16)[:kept])


def test_moments_of_a_million():
    """Means and variances within five standard errors of the distribution's."""
    n = 10**6
    uniform, normal = Generator(0).rand(n, dtype=np.float64), Generator(0).randn(n, dtype=np.float64)
    assert abs(uniform.mean() - 1 / 2) < 5 * math.sqrt(1 / 12 / n)
    assert abs(uniform.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / n)
    assert abs(normal.mean()) < 5 / math.sqrt(n)
    assert abs(normal.var() - 1) < 5 * math.sqrt(2 / n)


def test_uniform_excludes_its_upper_end():
    """Eight float32 numbers lie between 1 and 1 + 2⁻²⁰; rounding alone would reach the end in one draw of 16."""
    draws = Generator(0).uniform(1, 1 + 2**-20, 10_000)
    assert set(((draws - 1) * 2**23).tolist()) == set(range(8))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_multiply_add_rounds_once(dtype):
    x = Generator(4).rand(500, dtype=dtype)
    for scale, shift in [(0.4, -0.1), (1e-3, 7.0), (-3.7, 3.1), (1e300 if dtype is np.float64 else 1e30, 5.0)]:
        scale, shift = dtype(scale), dtype(shift)
        exact = [Fraction(float(value)) * Fraction(float(scale)) + Fraction(float(shift)) for value in x]
        assert np.array_equal(streams._multiply_add(x, scale, shift), np.array([float(v) for v in exact], dtype))


def test_randperm_is_a_permutation():
    assert sorted(Generator(9).randperm(1000).tolist()) == list(range(1000))
    assert Generator(9).randperm(1).tolist() == [0]
    assert Generator(9).randperm(0).shape == (0,)


def test_shapes_and_dtypes():
    generator = Generator(0)
    assert generator.rand().shape == () and isinstance(generator.rand(), np.ndarray)
    assert generator.randn(2, 3).shape == generator.randn((2, 3)).shape == (2, 3)
    assert generator.normal(0, 1, [2, 3]).shape == (2, 3)
    assert generator.uniform(0, 1, 4).shape == (4,) and generator.randint(0, 5, ()).shape == ()
    assert generator.randn(0, 5).shape == (0, 5)
    assert generator.rand(2, dtype=None).dtype == np.float32
    assert generator.randn(20, dtype="float64").dtype == np.float64
    assert generator.randint(0, 5, 2).dtype == generator.randperm(5).dtype == np.int64
    assert generator.randint(0, 256, 2, dtype=np.uint8).dtype == np.uint8
    assert generator.randperm(5, dtype=np.int32).dtype == np.int32


def test_empty_draws_leave_the_stream_alone():
    generator = Generator(6)
    generator.rand(0), generator.randn(0), generator.randint(0, 5, 0), generator.randperm(1)
    assert np.array_equal(generator.rand(3), Generator(6).rand(3))


# -- seeds and state ------------------------------------------------------------------------------------------

def test_seeds_count_modulo_2_32():
    for seed, same in [(-1, 2**32 - 1), (2**32 + 7, 7), (2**64 - 5, -5), (np.int64(11), 11)]:
        assert np.array_equal(Generator(seed).rand(4), Generator(same).rand(4))


def test_seed_none_is_drawn_and_remembered():
    generator = Generator()
    assert np.array_equal(generator.rand(4), Generator(generator.seed).rand(4))
    assert Generator().seed != Generator().seed or Generator().seed != Generator().seed  # 2⁻⁶⁴ to fail by chance
    assert Generator(123).seed == 123 and repr(Generator(123)) == "Generator(seed=123)"


def test_manual_seed_resets_the_default_generator_in_place():
    held = default_generator()
    assert manual_seed(0) is held and held.seed == 0
    held.randn(3)  # leaves a spare normal, which seeding drops
    close(manual_seed(0).randn(2), Generator(0).randn(2), 9)


@pytest.mark.parametrize("words_used", [0, 5, 623, 624, 625])
def test_state_goes_through_json_exactly(words_used):
    generator = Generator(42)
    generator.rand(words_used)
    generator.randn(3)  # one spare normal
    state = json.loads(json.dumps(generator.get_state()))
    draws = [lambda g: g.randn(2, dtype=np.float64), lambda g: g.rand(700), lambda g: g.randn(33)]
    expected = [draw(generator) for draw in draws]
    other = Generator(1)
    other.set_state(state)
    assert other.seed == 42 and other.get_state() == state
    for draw, numbers in zip(draws, expected):
        assert np.array_equal(draw(other), numbers)


def test_a_copy_continues_on_its_own():
    generator = Generator(8)
    generator.randn(1)
    twin = copy.deepcopy(generator)
    expected = generator.randn(5)
    assert np.array_equal(twin.randn(5), expected)


@pytest.mark.parametrize("change, told", [
    ({"algorithm": "philox"}, "'philox'"), ({"words": [1, 2]}, "624"), ({"words": [2**32] + [1] * 623}, "2\\*\\*32"),
    ({"words": [0] * 624}, "zero"), ({"position": 625}, "625"), ({"position": 1.5}, "1.5"),
    ({"spare_normal": math.nan}, "nan"), ({"seed": 2**64}, "2\\*\\*64"), ({"extra": 1}, "extra"),
])
def test_a_state_that_does_not_fit_changes_nothing(change, told):
    generator = Generator(5)
    before = generator.get_state()
    with pytest.raises(UserError, match=told):
        generator.set_state({**before, **change})
    assert generator.get_state() == before


def test_only_the_top_bit_of_the_first_word_counts():
    generator = Generator(5)
    state = {**generator.get_state(), "words": [2**31 - 1] + [0] * 623}
    with pytest.raises(UserError, match="zero"):
        generator.set_state(state)
    generator.set_state({**state, "words": [2**31] + [0] * 623})
    assert generator._words(2000).any()


@pytest.mark.parametrize("state", [None, [1, 2], {"seed": 1}])
def test_a_state_of_another_shape_is_refused(state):
    with pytest.raises(UserError, match="get_state"):
        Generator(5).set_state(state)


@pytest.mark.parametrize("call, told", [
    (lambda g: g.manual_seed(2**64), "2\\*\\*64 - 1"), (lambda g: g.manual_seed(-(2**63) - 1), "2\\*\\*63"),
    (lambda g: g.rand(-1), "negative"), (lambda g: g.randperm(-1), "negative"),
    (lambda g: g.randperm(2**31), "fewer than"),
    (lambda g: g.rand(2, dtype=np.int64), "float32 or float64"), (lambda g: g.randn(2, dtype=np.float16), "float16"),
    (lambda g: g.uniform(2, 1, 3), "low <= high"), (lambda g: g.uniform(math.nan, 1, 3), "finite"),
    (lambda g: g.uniform(-3e38, 3e38, 3), "float32"), (lambda g: g.normal(0, -1, 3), "std=-1"),
    (lambda g: g.normal(math.inf, 1, 3), "finite"), (lambda g: g.randint(5, 5, 3), "low < high"),
    (lambda g: g.randint(0, 300, 3, dtype=np.uint8), "uint8"), (lambda g: g.randint(0, 2**63 + 1, 3), "int64"),
    (lambda g: g.randint(0, 5, 3, dtype=np.float32), "integer"), (lambda g: g.randperm(200, dtype=np.int8), "int8"),
])
def test_words_that_cannot_be_carried_out(call, told):
    with pytest.raises(UserError, match=told):
        call(Generator(0))


@pytest.mark.parametrize("call", [lambda: Generator(1.5), lambda: Generator("1"), lambda: Generator(0).rand(2.5)])
def test_values_of_the_wrong_type(call):
    with pytest.raises(TypeError, match="whole number"):
        call()
