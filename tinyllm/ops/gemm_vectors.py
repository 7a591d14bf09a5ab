"""Vector instructions inside numba functions, and how wide the vectors of this CPU are.

numba compiles Python by way of LLVM, whose own language has vectors of any length and operations on them; LLVM
turns those into whatever the CPU has. An `@intrinsic` is a function that writes that language directly: it receives
the types of its arguments, returns their signature, and emits the instructions when a kernel that calls it is
compiled. `Code` keeps this short: it computes with addresses in bytes, so that strides are NumPy's.
"""

from collections import namedtuple

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

Tile = namedtuple("Tile", "vector_bytes rows vectors")      # a tile of c: rows × (vectors · vector_bytes) bytes
CACHE_LINE = 64         # bytes


def tile_for(features):
    """The tile for a CPU's features: as many accumulators as its registers hold beside the operands.

    >>> tile_for({"avx2", "fma", "avx512f"})
    Tile(vector_bytes=64, rows=8, vectors=2)
    """
    if "avx512f" in features:
        return Tile(64, 8, 2)       # 32 registers: 16 accumulators keep two multiply-add units of latency 4 busy
    if "avx2" in features:
        return Tile(32, 6, 2)       # 16 registers: 12 accumulators, 2 of b, 1 of a
    if "neon" in features:
        return Tile(16, 8, 2)
    return Tile(16, 6, 2)           # any other CPU: LLVM lowers the same code to what it has


def host_features():
    """Names of the vector features numba compiles for: the host's, or what NUMBA_CPU_FEATURES says."""
    if config.CPU_FEATURES is not None:
        return {word[1:] for word in config.CPU_FEATURES.split(",") if word.startswith("+")}
    return {name for name, present in llvmlite.binding.get_host_cpu_features().items() if present}


TILE = tile_for(host_features())
SIDE = 8 if TILE.vector_bytes == 64 else 4      # numbers that `copy_few` moves at once and the side of a `transpose_square`


class Code:
    """Writes LLVM instructions on addresses in bytes, for arrays of one kind of number."""

    def __init__(self, context, builder, number):
        self.context, self.builder = context, builder
        self.number = context.get_value_type(number)
        self.size = number.bitwidth // 8

    def integer(self, n):
        return ir.Constant(ir.IntType(types.intp.bitwidth), n) if isinstance(n, int) else n

    def times(self, x, n):
        return self.builder.mul(self.integer(x), self.integer(n))

    def vector(self, lanes):
        return ir.VectorType(self.number, lanes)

    def data(self, kind, array):
        start = self.context.make_array(kind)(self.context, self.builder, array).data
        return self.builder.bitcast(start, ir.IntType(8).as_pointer())

    def move(self, address, offset):
        return self.builder.gep(address, [self.integer(offset)])

    def load(self, kind, address, offset, align=None):
        place = self.builder.bitcast(self.move(address, offset), kind.as_pointer())
        return self.builder.load(place, align=align or self.size)

    def store(self, value, address, offset, align=None):
        place = self.builder.bitcast(self.move(address, offset), value.type.as_pointer())
        self.builder.store(value, place, align=align or self.size)

    def prefetch(self, address):
        """Ask for the cache line at an address, which may lie beyond the array: nothing is read before it is loaded."""
        i32, kind = ir.IntType(32), address.type
        signature = ir.FunctionType(ir.VoidType(), [kind, i32, i32, i32])
        function = self.builder.module.declare_intrinsic("llvm.prefetch", [kind], signature)
        self.builder.call(function, [address, i32(0), i32(3), i32(1)])      # to be read, into the first-level cache, data

    def shuffle(self, x, y, lanes):
        return self.builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes))

    def spread(self, number, lanes):
        """A vector whose lanes all hold one number."""
        empty = ir.Constant(self.vector(lanes), ir.Undefined)
        first = self.builder.insert_element(empty, number, ir.Constant(ir.IntType(32), 0))
        return self.shuffle(first, empty, [0] * lanes)

    def multiply_add(self, x, y, z):
        """x · y + z, fused into one instruction where the CPU has it (llvm.fmuladd; llvm.fma would call libm elsewhere)."""
        kind = x.type
        name = f"llvm.fmuladd.v{kind.count}f{self.size * 8}"
        signature = ir.FunctionType(kind, [kind] * 3)
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, signature, name), [x, y, z])


@intrinsic
def copy_few(typingctx, x, x_at, out, out_at):
    """Copy SIDE numbers; x_at and out_at are offsets in bytes."""
    def codegen(context, builder, signature, args):
        code = Code(context, builder, x.dtype)
        few = code.load(code.vector(SIDE), code.data(x, args[0]), args[1])
        code.store(few, code.data(out, args[2]), args[3])
        return context.get_dummy_value()
    return types.void(x, types.intp, out, types.intp), codegen


@intrinsic
def prefetch(typingctx, x, at):
    """Ask for the cache line `at` bytes from the start of x, so that it is there when it is needed."""
    def codegen(context, builder, signature, args):
        code = Code(context, builder, x.dtype)
        code.prefetch(code.move(code.data(x, args[0]), args[1]))
        return context.get_dummy_value()
    return types.void(x, types.intp), codegen


@intrinsic
def transpose_square(typingctx, x, x_at, x_row, out, out_at, out_row):
    """Copy a square of SIDE × SIDE numbers transposed; rows are x_row and out_row bytes apart.

    Interleaving vector i with vector i + SIDE / 2 moves the lowest bit of (row, lane) to the other end; done as often
    as the row has bits, row and lane have changed places.
    """
    def codegen(context, builder, signature, args):
        code = Code(context, builder, x.dtype)
        source, target = code.move(code.data(x, args[0]), args[1]), code.move(code.data(out, args[3]), args[4])
        rows = [code.load(code.vector(SIDE), source, code.times(args[2], i)) for i in range(SIDE)]
        half = SIDE // 2
        for _ in range(SIDE.bit_length() - 1):
            rows = [code.shuffle(rows[i // 2], rows[i // 2 + half], [i % 2 * half + j // 2 + j % 2 * SIDE for j in range(SIDE)])
                    for i in range(SIDE)]
        for i, row in enumerate(rows):
            code.store(row, target, code.times(args[5], i))
        return context.get_dummy_value()
    return types.void(x, types.intp, types.intp, out, types.intp, types.intp), codegen
