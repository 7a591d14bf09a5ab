"""Rotations of pairs, eight at a time: left to itself the compiler asks of every head anew whether its arrays overlap."""

from numba import types
from numba.extending import intrinsic

from ..ops.gemm_vectors import Code
from .kernels import kernel

PAIRS = 8       # turned at once


@intrinsic
def turn_pairs(typingctx, x, y, at, apart, cos, sin, angle_at, interleaved):
    """Turn 8 pairs of x into y. Offsets are in bytes: of the first pair, from there to the partners, and of the first angle.

    Interleaved pairs lie in one piece of memory: two vectors are sorted into the pairs' first and second numbers, and back.
    """
    def codegen(context, builder, signature, arguments):
        code = Code(context, builder, x.dtype)
        x_data, y_data, at, apart, cos_data, sin_data, angle_at, interleaved = arguments
        kind, length = code.vector(PAIRS), PAIRS * code.size
        source, target = code.move(code.data(x, x_data), at), code.move(code.data(y, y_data), at)
        c, s = (code.load(kind, code.data(table, data), angle_at) for table, data in ((cos, cos_data), (sin, sin_data)))

        def turn(a, b):
            minus = builder.fsub(builder.fmul(a, c), builder.fmul(b, s))
            return minus, code.multiply_add(a, s, builder.fmul(b, c))

        with builder.if_else(interleaved) as (side_by_side, halves):
            with side_by_side:
                low, high = code.load(kind, source, 0), code.load(kind, source, length)
                a, b = turn(code.shuffle(low, high, [*range(0, 2 * PAIRS, 2)]), code.shuffle(low, high, [*range(1, 2 * PAIRS, 2)]))
                order = [i // 2 + PAIRS * (i % 2) for i in range(2 * PAIRS)]
                code.store(code.shuffle(a, b, order[:PAIRS]), target, 0)
                code.store(code.shuffle(a, b, order[PAIRS:]), target, length)
            with halves:
                a, b = turn(code.load(kind, source, 0), code.load(kind, source, apart))
                code.store(a, target, 0)
                code.store(b, target, apart)
        return context.get_dummy_value()
    at = types.intp
    return types.void(x, y, at, at, cos, sin, at, types.boolean), codegen


@kernel("in2 in2 in2 int int int int out2")
def turn_rows(x, cos, sin, heads, start, step, interleaved, y):
    """Turn `heads` heads of each row of x, which begin at `start` and then every `step` numbers; row n takes row n of the
    tables, which repeat."""
    half, line, size, width = cos.shape[1], 0, x.itemsize, x.shape[1]
    whole = half // PAIRS * PAIRS
    for n in range(x.shape[0]):
        for h in range(heads):
            at = start + h * step
            first = (n * width + at) * size
            for i in range(0, whole, PAIRS):
                turn_pairs(x, y, first + i * size * (2 if interleaved else 1), half * size, cos, sin, (line * half + i) * size, interleaved)
            for i in range(whole, half):
                j, k = (at + 2 * i, at + 2 * i + 1) if interleaved else (at + i, at + half + i)
                a, b = x[n, j], x[n, k]
                y[n, j], y[n, k] = a * cos[line, i] - b * sin[line, i], a * sin[line, i] + b * cos[line, i]
        line = line + 1 if line + 1 < cos.shape[0] else 0
