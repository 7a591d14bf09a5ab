"""What compiled loops that share work need beside arrays: arrays at addresses, counters for several threads, and a nap.

    array_at(address, n, like)      n numbers of the kind of the array `like`, which begin at an address
    bytes_at(address, n)            n whole numbers of 8 bits
    product_at(address, like)       the compiled matrix product that begins there, for arrays of the kind of `like`; not in Python
    peek, put, fetch_add            read, write and raise an int64 at an address; never half done, and what a thread wrote before
                                    is there for who sees the new value
    draw_bits(function, state)      32 random bits, by NumPy's C function at an address
    nap()                           sleep for some 20 microseconds, leaving the processor to others

An address (`array.ctypes.data`) is a plain number, so a table of them can hand a compiled function any number of arrays; NumPy's
own are unpacked one by one at each call. Whoever makes the table keeps the arrays alive.

The functions below are what Python runs; `register` tells numba what to compile in their place.
"""

import ctypes
import sys
import time
from functools import cache

import numpy as np

NAP = 20e-6


def array_at(address, n, like):
    """`n` numbers of the dtype of `like` at `address`, as an array over that memory."""
    return _seen(address, n, like.dtype)


def bytes_at(address, n):
    """`n` int8 at `address`, as an array over that memory."""
    return _seen(address, n, np.dtype(np.int8))


def _seen(address, n, dtype):
    return np.frombuffer((ctypes.c_char * (n * dtype.itemsize)).from_address(address), dtype)


def product_at(address, like):
    """The product `p(a, b, c, add)` of ops/gemm_kernels.py that begins at `address`: machine code, which only compiled code can call."""
    raise TypeError("product_at: Python cannot call machine code by its address; call ops.gemm.matmul")


def peek(address):
    """The int64 at `address`."""
    return ctypes.c_int64.from_address(address).value


def put(address, value):
    """Write the int64 at `address`."""
    ctypes.c_int64.from_address(address).value = value


def fetch_add(address, amount):
    """Add `amount` to the int64 at `address`; returns what it was."""
    before = peek(address)
    put(address, before + amount)
    return before


def draw_bits(function, state):
    """32 bits of the generator whose C function and state are at these addresses, as an int64."""
    return ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p)(function)(state)


def nap():
    """Sleep for a moment."""
    time.sleep(NAP)


@cache
def register():
    """Tell numba how to compile the functions above."""
    from llvmlite import ir
    from numba import carray, types
    from numba.core import cgutils
    from numba.extending import intrinsic, overload

    from .kernels import product_type

    whole, word = types.int64, ir.IntType(64)

    def pointer(builder, address):
        return builder.inttoptr(address, word.as_pointer())

    @intrinsic
    def as_pointer(typingctx, address, number):
        kind = types.CPointer(number.dtype)

        def codegen(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(kind))
        return kind(whole, number), codegen

    @intrinsic
    def as_product(typingctx, address, like):
        def codegen(context, builder, signature, arguments):
            made = cgutils.create_struct_proxy(signature.return_type)(context, builder)     # all null but the address to be called
            made.jit_addr = builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))
            return made._getvalue()
        return product_type(like.dtype)(whole, like), codegen

    @intrinsic
    def atomic_load(typingctx, address):
        def codegen(context, builder, signature, arguments):
            return builder.load_atomic(pointer(builder, arguments[0]), "acquire", 8)
        return whole(whole), codegen

    @intrinsic
    def atomic_store(typingctx, address, value):
        def codegen(context, builder, signature, arguments):
            builder.store_atomic(arguments[1], pointer(builder, arguments[0]), "release", 8)
            return context.get_dummy_value()
        return types.void(whole, whole), codegen

    @intrinsic
    def atomic_add(typingctx, address, amount):
        def codegen(context, builder, signature, arguments):
            return builder.atomic_rmw("add", pointer(builder, arguments[0]), arguments[1], "seq_cst")
        return whole(whole, whole), codegen

    @intrinsic
    def call_for_bits(typingctx, function, state):
        def codegen(context, builder, signature, arguments):
            kind = ir.FunctionType(ir.IntType(32), [word])
            function = builder.inttoptr(arguments[0], kind.as_pointer())
            return builder.zext(builder.call(function, [arguments[1]]), word)
        return whole(whole, whole), codegen

    @intrinsic
    def system_sleep(typingctx):
        name, duration = ("Sleep", 1) if sys.platform == "win32" else ("usleep", int(NAP * 1e6))

        def codegen(context, builder, signature, arguments):
            signature = ir.FunctionType(ir.IntType(32), [ir.IntType(32)])
            builder.call(cgutils.get_or_insert_function(builder.module, signature, name), [ir.Constant(ir.IntType(32), duration)])
            return context.get_dummy_value()
        return types.void(), codegen

    overload(array_at, inline="always")(lambda address, n, like: lambda address, n, like: carray(as_pointer(address, like.dtype), n))
    overload(bytes_at, inline="always")(lambda address, n: lambda address, n: carray(as_pointer(address, np.int8), n))
    overload(product_at)(lambda address, like: lambda address, like: as_product(address, like))
    overload(peek)(lambda address: lambda address: atomic_load(address))
    overload(put)(lambda address, value: lambda address, value: atomic_store(address, value))
    overload(fetch_add)(lambda address, amount: lambda address, amount: atomic_add(address, amount))
    overload(draw_bits)(lambda function, state: lambda function, state: call_for_bits(function, state))
    overload(nap)(lambda: lambda: system_sleep())
