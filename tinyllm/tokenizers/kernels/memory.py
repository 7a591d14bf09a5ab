"""Loads and stores at an address: the few words of machine language the kernels are written in.

A kernel that hands arrays to its helpers passes each array as seven fields and counts references to it;
one that hands on a plain address passes one integer. The kernels here take addresses, so they read like
the C they compile to: `load32(symbols + 4 * i)` is `symbols[i]`. All integers are int64, because numba
makes a float of an int64 and a uint64 together; bytes and 32-bit words are widened on the way in, the
byte without sign, the word with it. Nothing checks bounds: a caller knows the sizes.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}
INT64 = types.int64


def address(array):
    """The address of a NumPy array's first element; the caller keeps the array alive."""
    return array.__array_interface__["data"][0]


def _pointer(builder, value, bits):
    return builder.inttoptr(value, ir.IntType(bits).as_pointer())


@intrinsic
def load8(typing, at):
    """The byte at an address, 0 to 255."""
    def code(context, builder, signature, args):
        load = builder.load(_pointer(builder, args[0], 8), align=1)
        return builder.zext(load, ir.IntType(64))
    return INT64(INT64), code


@intrinsic
def load32(typing, at):
    """The signed 32-bit word at an address."""
    def code(context, builder, signature, args):
        load = builder.load(_pointer(builder, args[0], 32), align=1)
        return builder.sext(load, ir.IntType(64))
    return INT64(INT64), code


@intrinsic
def load64(typing, at):
    """The 64-bit word at an address."""
    def code(context, builder, signature, args):
        return builder.load(_pointer(builder, args[0], 64), align=1)
    return INT64(INT64), code


@intrinsic
def store8(typing, at, value):
    """Write the low byte of `value`."""
    def code(context, builder, signature, args):
        builder.store(builder.trunc(args[1], ir.IntType(8)), _pointer(builder, args[0], 8), align=1)
        return context.get_dummy_value()
    return types.void(INT64, INT64), code


@intrinsic
def store32(typing, at, value):
    """Write the low 32 bits of `value`."""
    def code(context, builder, signature, args):
        builder.store(builder.trunc(args[1], ir.IntType(32)), _pointer(builder, args[0], 32), align=1)
        return context.get_dummy_value()
    return types.void(INT64, INT64), code


@intrinsic
def store64(typing, at, value):
    """Write 64 bits."""
    def code(context, builder, signature, args):
        builder.store(args[1], _pointer(builder, args[0], 64), align=1)
        return context.get_dummy_value()
    return types.void(INT64, INT64), code


@intrinsic
def prefetch(typing, at):
    """Ask for the cache line at an address; nothing waits for it."""
    def code(context, builder, signature, args):
        i8p, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [i8p, i32, i32, i32])
        function = builder.module.globals.get("llvm.prefetch.p0")
        if function is None:
            function = ir.Function(builder.module, kind, "llvm.prefetch.p0")
        # read, keep close, data
        builder.call(function, [_pointer(builder, args[0], 8), i32(0), i32(3), i32(1)])
        return context.get_dummy_value()
    return types.void(INT64), code


@intrinsic
def trailing_zeros(typing, value):
    """How many zero bits stand below the lowest set bit."""
    def code(context, builder, signature, args):
        return builder.cttz(args[0], ir.IntType(1)(0))
    return INT64(INT64), code


@njit(**OPTIONS)
def shift_right(value, bits):
    """`value >> bits` with zeros coming in from the left."""
    return np.int64(np.uint64(value) >> np.uint64(bits))


@njit(**OPTIONS)
def copy(source, target, length):
    """Copy eight bytes or more, eight at a time; the last eight may overlap the ones before."""
    done = 0
    while done + 8 < length:
        store64(target + done, load64(source + done))
        done += 8
    store64(target + length - 8, load64(source + length - 8))
