"""Attention to a single query works on rows of a few numbers each, eight rows at a time here: their dot products, and their sum.

A compiler makes one loop for each row, and for heads of 8 to 128 numbers most of its time goes to adding up the parts of a vector
register at the end of each. For eight rows this can be done at once: with eight registers of eight parts, adding halves of pairs of
registers three times leaves one register with the eight sums.

    a0 a1 a2 a3    first level: pairs      a0+a1  a2+a3       b0+b1  b2+b3      and so on: after log₂ 8 levels each register's parts
    b0 b1 b2 b3    of parts are added      interleaved with those of b          are summed, in the order of the registers

A row of int8 in groups that have a scale each has the same trouble within: `int8_dot` keeps the sixteen parts of its sum apart from group
to group, multiplies them by each group's scale, and adds them up at the end.

The functions below are what Python runs; `register` tells numba what to compile in their place, in LLVM's own vectors.
"""

from functools import cache

ROWS = 8        # at a time; a row has a multiple of so many numbers
LANES = 16      # parts of a sum that `int8_dot` keeps
CHAINS = 4      # sums that are kept apart, for one has to wait for its last addition


def eight_dots(query, rows, step, out):
    """out[i] = query · row i, for i < 8; row i begins at i · step in `rows`."""
    for i in range(ROWS):
        out[i] = query @ rows[i * step:i * step + query.size]


def add_eights(shares, rows, step, y):
    """y += Σ shares[i] · row i, eight rows at a time, so without the last few; row i begins at i · step in `rows`."""
    for i in range(shares.size // ROWS * ROWS):
        y += shares[i] * rows[i * step:i * step + y.size]


def int8_dot(x, q, scales, group):
    """Σ_g scales[g] · Σ over the numbers j of group g of x[j] · q[j]; groups are of a multiple of LANES numbers."""
    return scales @ (x * q).reshape(-1, group).sum(axis=1)


@cache
def register():
    """Tell numba how to compile the functions above."""
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic, overload

    from ..ops.gemm_vectors import Code

    def count(context, builder, kind, array):
        size = context.make_array(kind)(context, builder, array).nitems
        return builder.udiv(size, ir.Constant(size.type, ROWS))

    def dots_code(context, builder, signature, arguments):
        query, rows, _, out = signature.args
        code = Code(context, builder, query.dtype)
        eight, width = code.vector(ROWS), ROWS * code.size
        x, r, y = (code.data(kind, arguments[i]) for kind, i in ((query, 0), (rows, 1), (out, 3)))
        sums = [cgutils.alloca_once_value(builder, ir.Constant(eight, [0.0] * ROWS)) for _ in range(ROWS)]
        with cgutils.for_range(builder, count(context, builder, query, arguments[0])) as loop:
            at = code.times(loop.index, width)
            part = code.load(eight, x, at)
            for i, total in enumerate(sums):
                row = code.load(eight, code.move(r, code.times(arguments[2], i * code.size)), at)
                builder.store(code.multiply_add(part, row, builder.load(total)), total)
        level = [builder.load(total) for total in sums]
        while len(level) > 1:
            even, odd = ([lane + n for lane in range(0, ROWS * 2, 2)] for n in (0, 1))
            level = [builder.fadd(code.shuffle(a, b, even), code.shuffle(a, b, odd)) for a, b in zip(level[::2], level[1::2])]
        code.store(level[0], y, 0)
        return context.get_dummy_value()

    def add_code(context, builder, signature, arguments):
        shares, rows, _, out = signature.args
        code = Code(context, builder, shares.dtype)
        eight, width = code.vector(ROWS), ROWS * code.size
        x, r, y = (code.data(kind, arguments[i]) for kind, i in ((shares, 0), (rows, 1), (out, 3)))
        block, zero = code.times(arguments[2], ROWS * code.size), ir.Constant(eight, [0.0] * ROWS)
        with cgutils.for_range(builder, count(context, builder, out, arguments[3])) as loop:
            at = code.times(loop.index, width)
            totals = [cgutils.alloca_once_value(builder, zero) for _ in range(CHAINS)]
            for total in totals:
                builder.store(zero, total)
            with cgutils.for_range(builder, count(context, builder, shares, arguments[0])) as inner:
                some, rest = code.move(x, code.times(inner.index, width)), code.move(r, builder.add(builder.mul(inner.index, block), at))
                for i in range(ROWS):
                    share = code.spread(code.load(code.number, some, i * code.size), ROWS)
                    row = code.load(eight, rest, code.times(arguments[2], i * code.size))
                    total = totals[i % CHAINS]
                    builder.store(code.multiply_add(share, row, builder.load(total)), total)
            y_now = code.load(eight, y, at)
            for total in totals:
                y_now = builder.fadd(y_now, builder.load(total))
            code.store(y_now, y, at)
        return context.get_dummy_value()

    def int8_code(context, builder, signature, arguments):
        kind, small, factors, _ = signature.args
        code = Code(context, builder, kind.dtype)
        parts, bytes = code.vector(LANES), ir.VectorType(ir.IntType(8), LANES)
        x, q, scales = (code.data(array, arguments[i]) for i, array in enumerate((kind, small, factors)))
        zero, group = ir.Constant(parts, [0.0] * LANES), arguments[3]
        total, part = (cgutils.alloca_once_value(builder, zero) for _ in range(2))
        builder.store(zero, total)
        groups = context.make_array(factors)(context, builder, arguments[2]).nitems
        with cgutils.for_range(builder, groups) as outer:
            builder.store(zero, part)
            start = builder.mul(outer.index, group)
            with cgutils.for_range(builder, builder.udiv(group, code.integer(LANES))) as inner:
                at = builder.add(start, code.times(inner.index, LANES))
                some = code.load(parts, x, code.times(at, code.size))
                weights = builder.sitofp(code.load(bytes, q, at, align=1), parts)
                builder.store(code.multiply_add(some, weights, builder.load(part)), part)
            scale = code.spread(code.load(code.number, scales, code.times(outer.index, code.size)), LANES)
            builder.store(code.multiply_add(builder.load(part), scale, builder.load(total)), total)
        result, lanes = builder.load(total), LANES
        while lanes > 1:
            lanes //= 2
            result = builder.fadd(*(code.shuffle(result, result, list(half)) for half in (range(lanes), range(lanes, 2 * lanes))))
        return builder.extract_element(result, ir.Constant(ir.IntType(32), 0))

    @intrinsic
    def grouped(typingctx, x, q, scales, group):
        return x.dtype(x, q, scales, types.intp), int8_code

    @intrinsic
    def dots(typingctx, query, rows, step, out):
        return types.void(query, rows, types.intp, out), dots_code

    @intrinsic
    def add(typingctx, shares, rows, step, out):
        return types.void(shares, rows, types.intp, out), add_code

    overload(eight_dots)(lambda query, rows, step, out: lambda query, rows, step, out: dots(query, rows, step, out))
    overload(add_eights)(lambda shares, rows, step, y: lambda shares, rows, step, y: add(shares, rows, step, y))
    overload(int8_dot)(lambda x, q, scales, group: lambda x, q, scales, group: grouped(x, q, scales, group))
