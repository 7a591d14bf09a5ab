"""Random numbers that are the same everywhere, and the same as PyTorch's on a CPU.

Every draw in tinyllm (initial weights, dropout, shuffles, samples) comes from a `Generator`: 32-bit words of
the Mersenne Twister MT19937 (Matsumoto and Nishimura 1998), turned into numbers by these rules:

    float32 in [0, 1)   the low 24 bits of one word, times 2⁻²⁴
    float64 in [0, 1)   the low 53 bits of two words (the first is the upper half), times 2⁻⁵³
    uniform             u · (high − low) + low, rounded once
    integers            low + word mod (high − low); two words from a range of 2²⁸ up
    permutation         Fisher-Yates from the front: place i swaps with i + word mod (n − i)
    normal              Box-Muller: √(−2 ln(1 − u)) · (cos 2πv, sin 2πv) is a pair of independent normals

PyTorch makes normals in two ways, and both are here. Fewer than 16: a pair at a time from float64 uniforms,
the pair's second number kept for the next small call. 16 or more: in blocks of 16, the first 8 uniforms give
the radius and the last 8 the angle; where the count is no multiple of 16, the last 16 numbers are drawn again.

For the same seed and calls the numbers equal those of PyTorch 2.13 on a processor with fused multiply-add,
bit for bit; normals drawn in blocks agree to a few units in the last place, as logarithm and sine do.

    >>> Generator(123).rand(3)
    array([0.29611194, 0.5165623 , 0.25167072], dtype=float32)

A generator serves one thread. Left out: PyTorch's `bernoulli_`, whose stream is another generator's, and
integers beyond int64. A dropout mask is `rand(*shape) >= p`.
"""

import ctypes
import math
import operator
import secrets

import numpy as np

from tinyllm.errors import UserError

CHUNK = 1 << 16  # numbers made at a time: a multiple of 16 whose temporaries stay in the cache
STATE_WORDS = 624


class Generator:
    """A stream of random numbers: MT19937 with PyTorch's CPU rules.

    `seed` is a whole number from −2⁶³ to 2⁶⁴ − 1, of which the lowest 32 bits count, as in PyTorch; None
    draws one from the operating system, to be read at `.seed`. Every method returns a new array; `dtype`
    is float32 (also for None) or float64, for `randint` and `randperm` an integer type (None is int64).

    >>> generator = Generator(0)
    >>> generator.randint(0, 10, (5,))
    array([4, 9, 3, 0, 3])
    >>> saved = generator.get_state()
    >>> first = generator.randn(2, 3)
    >>> generator.set_state(saved)
    >>> bool((generator.randn(2, 3) == first).all())
    True
    """

    def __init__(self, seed=None):
        self._bits = np.random.MT19937(0)
        self.manual_seed(secrets.randbits(32) if seed is None else seed)

    def __repr__(self):
        return f"Generator(seed={self.seed})"

    @property
    def seed(self):
        """The number this generator was seeded with last."""
        return self._seed

    def manual_seed(self, seed):
        """Start the stream of `seed` from its beginning; returns the generator."""
        self._seed = _valid_seed(seed)
        np.random.RandomState(self._bits).seed(self._seed % 2**32)  # the reference initialisation, init_genrand
        self._spare_normal = None
        return self

    # -- draws ------------------------------------------------------------------------------------------

    def rand(self, *shape, dtype=None):
        """Uniform numbers in [0, 1).

        >>> Generator(0).rand(2, 2)
        array([[0.4962566 , 0.7682218 ],
               [0.08847743, 0.13203049]], dtype=float32)
        """
        return self.uniform(0.0, 1.0, _unpacked(shape), dtype=dtype)

    def random(self):
        """One number in [0, 1) as a Python float: what `rand(1, dtype=np.float64)` draws, in a tenth of the time.

        >>> Generator(0).random() == Generator(0).rand(1, dtype=np.float64)[0]
        np.True_
        """
        upper, lower = self._words(2).tolist()
        return ((upper << 32 | lower) & (2**53 - 1)) * 2.0**-53

    def source(self):
        """(address of a C function, address of its argument): what draws 32-bit words from this stream for compiled code."""
        bits = self._bits.ctypes
        return ctypes.cast(bits.next_uint32, ctypes.c_void_p).value, bits.state_address

    def randn(self, *shape, dtype=None):
        """Standard normal numbers.

        >>> Generator(123).randn(3)
        array([-0.11146712,  0.12036294, -0.3696345 ], dtype=float32)
        """
        return self.normal(0.0, 1.0, _unpacked(shape), dtype=dtype)

    def uniform(self, low, high, shape, *, dtype=None):
        """Uniform numbers in [low, high), as PyTorch's `uniform_`.

        >>> Generator(0).uniform(-1, 1, 2)
        array([-0.00748682,  0.5364436 ], dtype=float32)
        """
        out = np.empty(_shape("uniform", shape), _float_dtype("uniform", dtype))
        low, high = out.dtype.type(low), out.dtype.type(high)
        with np.errstate(over="ignore"):
            width = high - low
        if not (low <= high and np.isfinite(width)):
            raise UserError(f"uniform: low={low}, high={high}; expected finite numbers with low <= high whose "
                            f"difference {out.dtype.name} can hold")
        for part in _chunks(out):
            part[:] = self._unit(part.size, out.dtype)
            if low != 0 or high != 1:
                part[:] = _multiply_add(part, width, low)
                part[part == high] = low  # rounding can reach `high`, which the interval leaves out
        return out

    def normal(self, mean, std, shape, *, dtype=None):
        """Normal numbers of the given mean and standard deviation, as PyTorch's `normal_`.

        >>> Generator(123).normal(10.0, 0.5, (2,))
        array([ 9.944266, 10.060182], dtype=float32)
        """
        out = np.empty(_shape("normal", shape), _float_dtype("normal", dtype))
        if not (math.isfinite(mean) and 0 <= std < math.inf):
            raise UserError(f"normal: mean={mean}, std={std}; expected a finite mean and a finite std >= 0")
        if out.size < 16:
            draws = np.array([self._next_normal() for _ in range(out.size)], np.float64)
            out.reshape(-1)[:] = _multiply_add(draws, np.float64(std), np.float64(mean))
            return out
        mean, std = out.dtype.type(mean), out.dtype.type(std)
        rest = out.size % 16
        for part in _chunks(out.reshape(-1)[: out.size - rest]):
            self._fill_blocks(part, mean, std)
        if rest:
            self._unit(rest, out.dtype)  # drawn and dropped: the last 16 places start over
            self._fill_blocks(out.reshape(-1)[-16:], mean, std)
        return out

    def randint(self, low, high, shape, *, dtype=None):
        """Whole numbers from low up to, not including, high.

        >>> Generator(0).randint(-3, 3, 4)
        array([-1,  0,  2, -3])
        """
        low, high = operator.index(low), operator.index(high)
        dtype = _integer_dtype("randint", dtype, low, high - 1)
        if low >= high:
            raise UserError(f"randint: low={low}, high={high}; the range is empty: expected low < high")
        out = np.empty(_shape("randint", shape), dtype)
        span, offset = np.uint64(high - low), np.uint64(low % 2**64)  # sums modulo 2⁶⁴ are int64's
        words = self._long_words if high - low >= 2**28 else self._words
        for part in _chunks(out):
            part[:] = (words(part.size) % span + offset).view(np.int64)
        return out

    def randperm(self, n, *, dtype=None):
        """The numbers 0 … n − 1 in random order.

        >>> Generator(0).randperm(6)
        array([2, 5, 3, 0, 1, 4])
        """
        (n,) = _shape("randperm", n)
        if n >= (2**32 - 1) // 20:
            raise UserError(f"randperm: n={n}; expected fewer than {(2**32 - 1) // 20}: shuffle blocks of rows, "
                            f"then the rows inside each block")
        dtype = _integer_dtype("randperm", dtype, 0, n - 1)
        steps = np.arange(max(n - 1, 0), dtype=np.uint64)
        order = list(range(n))
        for i, j in enumerate((steps + self._words(steps.size) % (np.uint64(n) - steps)).tolist()):
            order[i], order[j] = order[j], order[i]
        return np.array(order, dtype)

    # -- state ------------------------------------------------------------------------------------------

    def get_state(self):
        """Everything the next draw depends on, as plain numbers that JSON holds exactly."""
        state = self._bits.state["state"]
        return {
            "algorithm": "mt19937",
            "seed": self._seed,
            "words": state["key"].tolist(),
            "position": int(state["pos"]),
            "spare_normal": self._spare_normal,
        }

    def set_state(self, state):
        """Continue from what `get_state` returned; UserError names the entry that does not fit."""
        seed, words, position, spare = _valid_state(state)
        self._bits.state = {"bit_generator": "MT19937", "state": {"key": np.array(words, np.uint32), "pos": position}}
        self._seed, self._spare_normal = seed, spare

    # -- from words to numbers --------------------------------------------------------------------------

    def _words(self, count):
        """`count` 32-bit words, as uint64."""
        return self._bits.random_raw(count)

    def _long_words(self, count):
        """`count` 64-bit words, each of two 32-bit words, upper half first."""
        upper, lower = self._words(2 * count).reshape(count, 2).T
        return (upper << np.uint64(32)) | lower

    def _unit(self, count, dtype):
        """`count` uniform numbers in [0, 1)."""
        if dtype == np.float32:
            return (self._words(count) & np.uint64(2**24 - 1)).astype(np.float32) * np.float32(2**-24)
        return (self._long_words(count) & np.uint64(2**53 - 1)) * 2.0**-53

    def _next_normal(self):
        """One standard normal float. The `math` functions are the C library's, which PyTorch calls here too."""
        if self._spare_normal is not None:
            value, self._spare_normal = self._spare_normal, None
            return value
        u, v = self._unit(2, np.float64).tolist()
        radius, angle = math.sqrt(-2 * math.log1p(-v)), 2 * math.pi * u
        self._spare_normal = radius * math.sin(angle)
        return radius * math.cos(angle)

    def _fill_blocks(self, out, mean, std):
        """Fill `out`, whose size is a multiple of 16, with normals, in place."""
        one, two_pi = out.dtype.type(1), out.dtype.type(2 * math.pi)
        blocks = self._unit(out.size, out.dtype).reshape(-1, 2, 8)
        radius = np.sqrt(-2 * np.log(one - blocks[:, 0]))
        angle = two_pi * blocks[:, 1]
        pairs = out.reshape(-1, 2, 8)
        np.multiply(radius, np.cos(angle), out=pairs[:, 0])
        np.multiply(radius, np.sin(angle), out=pairs[:, 1])
        if mean != 0:
            out[:] = _multiply_add(out, std, mean)
        elif std != 1:
            out *= std


def _multiply_add(x, scale, shift):
    """x · scale + shift rounded once, as a processor's fused multiply-add does."""
    if x.dtype == np.float32:  # the product of 24 by 24 bits is exact in float64's 53; the sum, rounded there and
        # again to float32, is off by a unit in the last place once in 2²⁹ draws or never (low = −high)
        return (x * np.float64(scale) + np.float64(shift)).astype(np.float32)
    product = x * scale
    x_top, scale_top = _top_bits(x), _top_bits(scale)  # Dekker 1971: products of halves are exact
    x_low, scale_low = x - x_top, scale - scale_top
    error = ((x_top * scale_top - product) + x_top * scale_low + x_low * scale_top) + x_low * scale_low
    total = product + shift
    shifted = total - product  # Knuth's two-sum: what the addition lost
    return total + (error + ((product - (total - shifted)) + (shift - shifted)))


def _top_bits(x):
    """The upper 26 of each float64's 53 significant bits."""
    return (np.asarray(x).view(np.int64) & np.int64(-(2**27))).view(np.float64)


def _chunks(out):
    """Flat views of consecutive pieces of a contiguous array."""
    flat = out.reshape(-1)
    return (flat[i : i + CHUNK] for i in range(0, flat.size, CHUNK))


def _unpacked(shape):
    """rand(2, 3) and rand((2, 3)) mean the same."""
    return shape[0] if len(shape) == 1 else shape


def _shape(name, shape):
    """A tuple of sizes from a number or a sequence of them."""
    try:
        sizes = tuple(map(operator.index, shape if isinstance(shape, (tuple, list)) else (shape,)))
    except TypeError:
        raise TypeError(f"{name}: shape {shape!r}; expected a whole number or a tuple of them") from None
    if any(size < 0 for size in sizes):
        raise UserError(f"{name}: shape {shape!r}; a size cannot be negative")
    return sizes


def _float_dtype(name, dtype):
    dtype = np.dtype(np.float32 if dtype is None else dtype)
    if dtype not in (np.float32, np.float64):
        raise UserError(f"{name}: dtype {dtype}; expected float32 or float64: draw one of these, then use .astype")
    return dtype


def _integer_dtype(name, dtype, smallest, largest):
    dtype = np.dtype(np.int64 if dtype is None else dtype)
    if dtype.kind not in "iu":
        raise UserError(f"{name}: dtype {dtype}; expected an integer type: draw int64, then use .astype")
    limits = np.iinfo(dtype)
    if smallest < limits.min or largest > min(limits.max, 2**63 - 1):
        raise UserError(f"{name}: numbers from {smallest} to {largest} do not fit into {dtype}")
    return dtype


def _valid_seed(seed):
    try:
        seed = operator.index(seed)
    except TypeError:
        raise TypeError(f"seed {seed!r} of type {type(seed).__name__}; expected a whole number or None") from None
    if not -(2**63) <= seed < 2**64:
        raise UserError(f"seed {seed}; expected a whole number from -2**63 to 2**64 - 1 (the lowest 32 bits count)")
    return seed


def _valid_state(state):
    """(seed, words, position, spare normal) of a saved state, or UserError that says which entry is wrong."""
    expected = {"algorithm", "seed", "words", "position", "spare_normal"}
    if not isinstance(state, dict) or set(state) != expected:
        found = sorted(map(str, state)) if isinstance(state, dict) else type(state).__name__
        raise UserError(f"generator state: {found}; expected a dict with the entries {sorted(expected)}, as "
                        f"get_state() returns it")
    words, position, spare = state["words"], state["position"], state["spare_normal"]
    if state["algorithm"] != "mt19937":
        raise UserError(f"generator state: algorithm {state['algorithm']!r}; expected 'mt19937'")
    if not isinstance(words, list) or len(words) != STATE_WORDS or not all(
            isinstance(word, int) and 0 <= word < 2**32 for word in words):
        raise UserError(f"generator state: words is not a list of {STATE_WORDS} whole numbers below 2**32")
    if words[0] < 2**31 and not any(words[1:]):  # only the first word's top bit is part of the state
        raise UserError("generator state: words are all zero, from which MT19937 never leaves")
    if not isinstance(position, int) or not 0 <= position <= STATE_WORDS:
        raise UserError(f"generator state: position {position!r}; expected a whole number from 0 to {STATE_WORDS}")
    if spare is not None and not (isinstance(spare, float) and math.isfinite(spare)):
        raise UserError(f"generator state: spare_normal {spare!r}; expected a finite float or None")
    return _valid_seed(state["seed"]), words, position, spare


_default = Generator()


def default_generator():
    """The generator used wherever none is passed; seeded by the operating system until `manual_seed` is called."""
    return _default


def manual_seed(seed):
    """Seed the default generator and return it.

    >>> manual_seed(0).rand(2)
    array([0.4962566, 0.7682218], dtype=float32)
    """
    return _default.manual_seed(seed)
