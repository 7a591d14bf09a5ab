"""Matrix multiplication from the triple loop to the speed of a BLAS, in four steps.

c_ij = Σ_k a_ik b_kj is three loops around one multiply-add, and the order of the loops is free. A core that
starts two vector multiply-adds each cycle spends nearly all of its time waiting unless four things are arranged:

    1. naive        for i, j, k: one number at a time; walking down a column of b touches a new cache line each step
    2. blocked      k and j are cut into blocks so that the piece of b in use stays in the cache, and the inner loop
                    runs along rows of b and c, where the compiler uses vectors (if b is stored by rows)
    3. packed       each block of b is copied once into the order in which it is read: every layout costs the same
    4. micro-kernel a tile of c lives in registers for the whole depth of a block. Each step of k loads one line of a
                    packed panel (2 vectors) and `rows` numbers of a, and does 2 · rows vector multiply-adds; before,
                    every one of them loaded and stored its piece of c

GFLOP/s on one core of a Zen 5 EPYC, float32, 512³, and the share of the peak (the same micro-kernel on operands that
never leave the first-level cache); anyone's own figures come from `tinyllm bench matmul --ladder`:

                    b by rows        b transposed
    naive             1.5   0.6%       4.3   1.8%
    blocked            32    13%       1.4   0.6%
    packed             39    16%        39    16%
    micro-kernel      195    82%       190    81%
    NumPy's BLAS      110    46%       110    46%       OpenBLAS 0.3.31, which uses 256-bit vectors on this CPU
    peak              240              240

Kept to 256-bit vectors, as on an older CPU, the kernel reaches 82 to 91% of its peak there and that BLAS 91 to 94%.

The scheme is that of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008), in the
five-loop form of Van Zee and van de Geijn's BLIS (2015), with one change. A tile takes single numbers of a and
spreads each over a vector, which works at any stride; so a is read where it lies, without a copy, unless a step
of k would leap to another page of memory (`PAGE`). All four layouts (a or b transposed) and views with any strides
go through the same code, because `pack` and the micro-kernel take strides in bytes. What the CPU cannot foresee, the
next rows to pack and the tile of c to add to, is asked for before it is needed (`prefetch`).

The sums run over k in order, block after block, on one thread: a result depends neither on the number of threads
nor on where the batch was cut. Nothing assumes finite numbers; NaN and Inf come out as IEEE arithmetic has them.
"""

from functools import cache

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from .gemm_vectors import CACHE_LINE, SIDE, TILE, Code, copy_few, prefetch, transpose_square

BLOCK_DEPTH = 1536      # bytes of k in a block: a panel of b (this × tile width) is no larger than the first-level cache
BLOCK_ROWS = 144        # rows of a in a block, which stays in the second-level cache; a multiple of every tile's rows
BLOCK_COLUMNS = 512     # columns of b packed at once
PAGE = 4096             # bytes


# Step 1: the definition ------------------------------------------------------------------------------------------

@njit(nogil=True, cache=True, error_model="numpy")
def naive(a, b, c):
    """c = a @ b as it is written on paper."""
    for i in range(c.shape[0]):
        for j in range(c.shape[1]):
            total = c.dtype.type(0)
            for k in range(a.shape[1]):
                total += a[i, k] * b[k, j]
            c[i, j] = total


# Step 2: blocks that stay in the cache, and an inner loop along rows ---------------------------------------------

@njit(nogil=True, cache=True, error_model="numpy")
def blocked(a, b, c):
    """c = a @ b over blocks of k and j; the inner loop adds a multiple of a row of b to a row of c."""
    depth_block = BLOCK_DEPTH // a.itemsize
    c[:] = 0
    for j0 in range(0, c.shape[1], BLOCK_COLUMNS):
        for k0 in range(0, a.shape[1], depth_block):
            for i in range(c.shape[0]):
                row = c[i, j0:j0 + BLOCK_COLUMNS]
                for k in range(k0, min(k0 + depth_block, a.shape[1])):
                    factor, line = a[i, k], b[k, j0:j0 + BLOCK_COLUMNS]
                    for j in range(row.size):
                        row[j] += factor * line[j]


# Step 3: blocks of b copied into reading order -------------------------------------------------------------------

@njit(nogil=True, cache=True, error_model="numpy")
def packed(a, b, c):
    """c = a @ b as `blocked`, from a copy of each block of b that lies in reading order whatever the layout of b."""
    depth_block = BLOCK_DEPTH // a.itemsize
    panels, start = aligned(BLOCK_COLUMNS * depth_block, c)
    c[:] = 0
    for j0 in range(0, c.shape[1], BLOCK_COLUMNS):
        for k0 in range(0, a.shape[1], depth_block):
            block = b[k0:k0 + depth_block, j0:j0 + BLOCK_COLUMNS]
            depth, columns = block.shape
            pack(block.T, columns, panels, start)
            panel = panels[start:start + depth * columns].reshape(depth, columns)
            for i in range(c.shape[0]):
                row = c[i, j0:j0 + BLOCK_COLUMNS]
                for k in range(depth):
                    factor, line = a[i, k0 + k], panel[k]
                    for j in range(row.size):
                        row[j] += factor * line[j]


@njit(nogil=True, cache=True, error_model="numpy")
def aligned(size, like):
    """An array of `size` numbers, and the index in it from which vectors are aligned to a cache line."""
    room = 64 // like.itemsize
    buffer = np.empty(size + room, like.dtype)
    return buffer, -buffer.ctypes.data % 64 // like.itemsize


@njit(nogil=True, cache=True, error_model="numpy")
def pack(x, width, panels, start):
    """Copy x (lanes, depth) into panels of `width` lanes, each (depth, width), the last one filled up with zeros.

    x is a block of b transposed (its lanes are columns of b) or of a (its lanes are rows). One of its strides is
    usually a single number: then SIDE lanes, or squares of SIDE × SIDE to transpose, move at a time. The next ones lie
    a stride further on, where no CPU foresees them, and are asked for meanwhile.
    """
    size = x.itemsize
    lane_stride, step = x.strides
    lanes, depth = x.shape
    swept = 0                               # steps of k of which the lanes of whole SIDEs are done
    if lane_stride == size:
        swept = depth
        for k0 in range(0, depth, SIDE):
            for first in range(0, lanes, width):
                for k in range(k0, min(k0 + SIDE, depth)):
                    for ahead in range(0, width * size, CACHE_LINE):
                        prefetch(x, first * size + (k + SIDE) * step + ahead)
                    line = start + first * depth + k * width
                    for lane in range(0, min(width, lanes - first) - SIDE + 1, SIDE):
                        copy_few(x, (first + lane) * size + k * step, panels, (line + lane) * size)
    elif step == size:
        swept = depth // SIDE * SIDE
        for first in range(0, lanes, width):
            for lane in range(first, min(first + width, lanes) - SIDE + 1, SIDE):
                for k in range(0, swept, SIDE):
                    for ahead in range(SIDE, 2 * SIDE):
                        prefetch(x, (lane + ahead) * lane_stride + k * size)
                    line = start + first * depth + k * width
                    transpose_square(x, lane * lane_stride + k * size, lane_stride,
                                     panels, (line + lane - first) * size, width * size)
    for first in range(0, lanes, width):
        here = min(width, lanes - first)
        whole = here // SIDE * SIDE
        for k in range(0 if whole < width else swept, depth):
            line = start + first * depth + k * width
            for lane in range(whole if k < swept else 0, here):
                panels[line + lane] = x[first + lane, k]
            for lane in range(here, width):
                panels[line + lane] = 0


# Step 4: a tile of c in registers --------------------------------------------------------------------------------

@intrinsic
def micro_kernel(typingctx, depth, a, a_at, a_row, a_step, panel, panel_at, c, c_at, c_row, rows, columns, fresh):
    """c[:rows, :columns] = (fresh) or += (not fresh) a[:rows, :depth] @ panel, for one tile of c.

    Offsets `_at` and strides are in bytes: a_row from row to row of a, a_step from k to k + 1. Of a whole tile every
    row is stored at once; at an edge the rows beyond `rows` repeat the last one, and only what belongs to c is stored.
    """
    def codegen(context, builder, signature, args):
        depth, a_data, a_at, a_row, a_step, panel_data, panel_at, c_data, c_at, c_row, rows, columns, fresh = args
        code = Code(context, builder, c.dtype)
        lanes = TILE.vector_bytes // code.size
        target = code.move(code.data(c, c_data), c_at)
        for i in range(TILE.rows):                      # the tile of c arrives while its sums are computed
            for at in range(0, TILE.vectors * TILE.vector_bytes, CACHE_LINE):
                code.prefetch(code.move(code.move(target, code.times(c_row, i)), at))
        sums = _products(code, depth, _row_addresses(code, code.move(code.data(a, a_data), a_at), a_row, rows), a_step,
                         code.move(code.data(panel, panel_data), panel_at), lanes)
        whole = builder.and_(builder.icmp_signed("==", rows, code.integer(TILE.rows)),
                             builder.icmp_signed("==", columns, code.integer(TILE.vectors * lanes)))
        with builder.if_else(whole) as (inside, edge):
            with inside:
                _store_tile(code, sums, target, c_row, fresh)
            with edge:
                _store_edge(code, sums, target, c_row, rows, columns, fresh)
        return context.get_dummy_value()
    at = types.intp
    return types.void(at, a, at, at, at, panel, at, c, at, at, at, at, types.boolean), codegen


def _row_addresses(code, start, a_row, rows):
    last = code.builder.sub(rows, code.integer(1))
    addresses = []
    for i in range(TILE.rows):
        beyond = code.builder.icmp_signed("<", last, code.integer(i))
        addresses.append(code.move(start, code.times(a_row, code.builder.select(beyond, last, code.integer(i)))))
    return addresses


def _products(code, depth, a_rows, a_step, panel, lanes):
    """The loop over k: `sums[row][vector]` live in registers (LLVM's phi nodes) from the first step to the last."""
    builder, kind = code.builder, code.vector(lanes)
    before, loop, after = builder.block, builder.append_basic_block("k"), builder.append_basic_block("sums")
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(ir.IntType(types.intp.bitwidth))
    sums = [[builder.phi(kind) for _ in range(TILE.vectors)] for _ in a_rows]
    line = code.move(panel, code.times(k, TILE.vectors * TILE.vector_bytes))
    b = [code.load(kind, line, j * TILE.vector_bytes, align=TILE.vector_bytes) for j in range(TILE.vectors)]
    offset = code.times(k, a_step)
    grown = []
    for address, row in zip(a_rows, sums):
        factor = code.spread(code.load(code.number, address, offset), lanes)
        grown.append([code.multiply_add(factor, b[j], row[j]) for j in range(TILE.vectors)])
    following = builder.add(k, code.integer(1))
    k.add_incoming(code.integer(0), before)
    k.add_incoming(following, loop)
    for row, grown_row in zip(sums, grown):
        for total, grown_total in zip(row, grown_row):
            total.add_incoming(ir.Constant(kind, [0.0] * lanes), before)
            total.add_incoming(grown_total, loop)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
    builder.position_at_end(after)
    return grown


def _store_tile(code, sums, target, c_row, fresh):
    with code.builder.if_else(fresh) as (overwrite, add):
        for branch, adding in ((overwrite, False), (add, True)):
            with branch:
                for i, row in enumerate(sums):
                    address = code.move(target, code.times(c_row, i))
                    for j, total in enumerate(row):
                        _put(code, total, address, j * TILE.vector_bytes, adding)


def _put(code, value, address, offset, adding):
    if adding:
        value = code.builder.fadd(code.load(value.type, address, offset), value)
    code.store(value, address, offset)


def _store_edge(code, sums, target, c_row, rows, columns, fresh):
    """Spill the tile to the stack; copy from there whole vectors, then the columns left over, of the rows that exist."""
    builder, kind = code.builder, sums[0][0].type
    width = TILE.vectors * TILE.vector_bytes
    spill = builder.bitcast(cgutils.alloca_once(builder, kind, size=TILE.rows * TILE.vectors), ir.IntType(8).as_pointer())
    for i, row in enumerate(sums):
        for j, total in enumerate(row):
            code.store(total, spill, i * width + j * TILE.vector_bytes)

    def copy(value_type, source, address, offset):
        value = code.load(value_type, source, offset)
        with builder.if_else(fresh) as (overwrite, add):
            with overwrite:
                _put(code, value, address, offset, False)
            with add:
                _put(code, value, address, offset, True)

    vectors = builder.sdiv(columns, code.integer(kind.count))
    with cgutils.for_range(builder, rows) as i:
        source, address = code.move(spill, code.times(i.index, width)), code.move(target, code.times(i.index, c_row))
        with cgutils.for_range(builder, vectors) as j:
            copy(kind, source, address, code.times(j.index, TILE.vector_bytes))
        with cgutils.for_range(builder, columns, start=code.times(vectors, kind.count)) as j:
            copy(code.number, source, address, code.times(j.index, code.size))


@njit(nogil=True, cache=True, error_model="numpy")
def ceiling(a, panel, start, c, times):
    """The same tile `times` times over, c += a @ panel: what the micro-kernel does when nothing has to be fetched."""
    size = c.itemsize
    depth = a.size // TILE.rows
    for _ in range(times):
        micro_kernel(depth, a, 0, size, TILE.rows * size, panel, start * size,
                     c, 0, c.strides[0], c.shape[0], c.shape[1], False)


def multiply(a, b, c, add):
    """c = a @ b (c += a @ b if `add`), slice by slice: a (1 or G, 1 or H, M, K), b (1 or G, 1 or H, K, N), c (G, H, M, N).

    Rows of c are contiguous. Five loops as in the papers: blocks of columns, blocks of k, blocks of rows, panels of a block, tiles of a panel.
    """
    rows, depth, columns, size = c.shape[2], a.shape[3], c.shape[3], c.itemsize
    width = TILE.vectors * TILE.vector_bytes // size
    depth_block = min(depth, BLOCK_DEPTH // size)
    panels, start = aligned((min(columns, BLOCK_COLUMNS) + width) * depth_block, c)
    leaps = abs(a.strides[3]) >= PAGE and columns > width      # a step of k in a touches another page: pack a too
    a_panels, a_start = aligned((min(rows, BLOCK_ROWS) + TILE.rows) * depth_block if leaps else 0, c)
    for g in range(c.shape[0]):
        for h in range(c.shape[1]):
            left = a[g if a.shape[0] > 1 else 0, h if a.shape[1] > 1 else 0]
            right = b[g if b.shape[0] > 1 else 0, h if b.shape[1] > 1 else 0].T
            result = c[g, h]
            c_row, (a_row, a_step) = result.strides[0], left.strides
            for j0 in range(0, columns, BLOCK_COLUMNS):
                j1 = min(j0 + BLOCK_COLUMNS, columns)
                for k0 in range(0, depth, depth_block):
                    k1 = min(k0 + depth_block, depth)
                    pack(right[j0:j1, k0:k1], width, panels, start)
                    for i0 in range(0, rows, BLOCK_ROWS):
                        i1 = min(i0 + BLOCK_ROWS, rows)
                        if leaps:
                            pack(left[i0:i1, k0:k1], TILE.rows, a_panels, a_start)
                        for j in range(j0, j1, width):
                            panel_at = (start + (j - j0) * (k1 - k0)) * size
                            for i in range(i0, i1, TILE.rows):
                                c_at, high, wide = i * c_row + j * size, min(TILE.rows, i1 - i), min(width, j1 - j)
                                if leaps:
                                    a_at = (a_start + (i - i0) * (k1 - k0)) * size
                                    micro_kernel(k1 - k0, a_panels, a_at, size, TILE.rows * size,
                                                 panels, panel_at, result, c_at, c_row, high, wide, k0 == 0 and not add)
                                else:
                                    micro_kernel(k1 - k0, left, i * a_row + k0 * a_step, a_row, a_step,
                                                 panels, panel_at, result, c_at, c_row, high, wide, k0 == 0 and not add)


@cache
def kernel(name):
    """`multiply` compiled for "float32" or "float64": one version takes every layout, read-only operands too."""
    number = getattr(types, name)
    operand = types.Array(number, 4, "A", readonly=True)
    compiled = njit(types.void(operand, operand, types.Array(number, 4, "A"), types.boolean), nogil=True, cache=True, error_model="numpy")
    return compiled(multiply)
