"""Functions that a vectorising compiler can inline: exp, erf and the largest of a row.

A call of the C library stops the compiler from using vectors, so these are written out in arithmetic.

    exp     eˣ = 2ⁿ eʳ with n the whole number nearest to x / ln 2 and |r| = |x - n ln 2| <= ln(2)/2. On so short an interval the
            Taylor series is short too: 8 terms for float32, 14 for float64. 2ⁿ is written straight into the exponent's bits.
    erfc    e^(-z²) t p(t), t = 1 / (1 + 0.4 z), for z >= 0: the form of Abramowitz and Stegun 7.1.25, with a polynomial of
            degree 5 fitted here (error below 3e-8, a quarter of float32's last place at 1). float64 asks the C library.

Adding 1.5 · 2^23 to a float32 leaves the nearest whole number in its low bits: that is how n is rounded and read at once,
without a conversion that would be undefined for NaN. The sum must not be simplified away, so exp allows "contract" alone.

The functions below are what Python runs; `register` tells numba what to compile in their place.
"""

import math
from functools import cache

import numpy as np

ERFC_SLOPE = 0.4
ERFC = (0.231922238, 0.161822638, 0.468276535, -0.370910936, 0.70914921, -0.200259713)      # p's coefficients, lowest first


def exp(x):
    """eˣ: 0 below the smallest normal number, Inf above the largest, NaN of NaN. Within 2 in the last place."""
    return np.exp(x)


def erfc_times(z, e):
    """erfc(z) for z >= 0, given e = exp(-z²)."""
    return math.erfc(z)


def largest(row):
    """The largest number of a row; NaN if one is."""
    return np.max(row)


@cache
def register():
    """Tell numba how to compile the functions above."""
    from llvmlite import ir
    from numba import njit, types
    from numba.core import cgutils
    from numba.extending import intrinsic, overload

    @intrinsic
    def same_bits(typingctx, x, like):
        """The bits of x as a number of the type of `like`."""
        def codegen(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], context.get_value_type(like))
        return like(x, like), codegen

    def constants(number):
        """(1/ln 2, ln 2 in two parts, the rounding constant, terms, lowest and highest argument, bits of the fraction, bias)"""
        if number == types.float32:
            return np.float32, np.int32, 8, -86.6, 88.72283, 23, 127
        return np.float64, np.int64, 14, -707.5, 709.782712893384, 52, 1023

    @overload(exp, jit_options={"fastmath": {"contract"}})
    def compiled_exp(x):
        kind, whole, terms, lowest, highest, fraction, bias = constants(x)
        per_ln2, rounding = kind(1 / math.log(2)), kind(1.5 * 2**fraction)
        shift = 9 if kind is np.float32 else 20             # ln 2 in a part of few bits, whose multiples are exact, and the rest
        high = kind(math.floor(math.log(2) * 2**shift) / 2**shift)
        low = kind(math.log(2) - float(high)) if kind is np.float32 else kind(_LN2_LOW - (float(high) - math.log(2)))
        c = tuple(kind(1 / math.factorial(k)) for k in range(terms))
        lowest, highest, zero, infinite, two = kind(lowest), kind(highest), kind(0), kind(np.inf), kind(2)
        fraction, bias, start = whole(fraction), whole(bias - 1), whole(np.array(rounding).view(whole))
        if terms == 8:
            def series(r):
                return c[0] + r * (c[1] + r * (c[2] + r * (c[3] + r * (c[4] + r * (c[5] + r * (c[6] + r * c[7]))))))
        else:
            def series(r):
                tail = c[7] + r * (c[8] + r * (c[9] + r * (c[10] + r * (c[11] + r * (c[12] + r * c[13])))))
                return c[0] + r * (c[1] + r * (c[2] + r * (c[3] + r * (c[4] + r * (c[5] + r * (c[6] + r * tail))))))
        series = njit(fastmath={"contract"})(series)

        def implementation(x):
            shifted = x * per_ln2 + rounding
            n = shifted - rounding
            r = (x - n * high) - n * low
            half_power = same_bits(whole((same_bits(shifted, bias) - start + bias) << fraction), zero)    # 2ⁿ⁻¹: 2ⁿ might overflow
            y = series(r) * half_power * two
            y = zero if x < lowest else y
            return infinite if x > highest else y
        return implementation

    @overload(erfc_times, jit_options={"fastmath": {"contract", "reassoc"}})
    def compiled_erfc(z, e):
        if z == types.float64:
            return lambda z, e: math.erfc(z)
        slope, one = np.float32(ERFC_SLOPE), np.float32(1)
        c = tuple(np.float32(x) for x in ERFC)

        def implementation(z, e):
            t = one / (one + slope * z)
            return e * t * (c[0] + t * (c[1] + t * (c[2] + t * (c[3] + t * (c[4] + t * c[5])))))
        return implementation

    @intrinsic
    def larger(typingctx, x, y):
        """The larger of two numbers, NaN if one is: LLVM's own function, which it knows how to use on vectors."""
        def codegen(context, builder, signature, arguments):
            kind = arguments[0].type
            name = f"llvm.maximum.f{x.bitwidth}"
            function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 2), name)
            return builder.call(function, arguments)
        return x(x, y), codegen

    @overload(largest)
    def compiled_largest(row):
        def implementation(row):
            best = row[0]
            for i in range(row.size):
                best = larger(best, row[i])
            return best
        return implementation


_LN2_LOW = 2.3190468138462996e-17       # ln 2 less its float64
