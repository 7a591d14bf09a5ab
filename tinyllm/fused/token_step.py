"""A list of operations on vectors, done by one compiled loop and, where it is worth it, by several threads.

Drawing text multiplies matrices by single vectors: some ten operations a layer, of a microsecond each for a small model, so a call of
Python for each would take longer than the work. Here a model's token is a table, a row for each operation (models/decoding.py makes
it), and `run` goes through the table:

    row             y = row of a table: of the token, or of its position
    rms_norm        y = rms_norm(x) · w             layer_norm      y = layer_norm(x) · w + b
    linear          y = W x + b, or y += W x + b    linear_int8     the same, W in int8
    rotate          rotary positions, in place      remember        a vector for each head into the cache
    attend          attention to what the cache holds
    gate            y = silu(y) · x                 gelu_tanh, gelu_erf     in place
    absorb          y = [Aᵀ x, the rest of x] for each head, A its part of a matrix
    expand          y = A x for each head
    route           y = the experts that work on the token, and their gates, of x, the logits of a router

A linear operation may have, in place of its matrix's address, one of a list of addresses, and be told which by what `route` has written:
then only the experts that were chosen are read, and what is added is multiplied by the gate.

x and y are parts of one array, `work`. Every operation is cut into pieces of whole rows or heads, and the pieces of all operations
are numbered. A thread takes the next number from a counter, waits until all that the piece needs is done, and does it. So nobody waits
for a thread that does not come, as on a busy machine: the others take its pieces. Each number of a result is computed in one piece by
the same instructions, whatever the number of threads. Who has to wait looks for some microseconds, then naps.

`shared` is the address of the counters that all threads see (`counters`): the next piece, how many are done, the token and its
position.
"""

from functools import cache

import numpy as np

from . import eight_rows, memory
from .choosing import PENALTY, SETTINGS_SIZE, TEMPERATURE, WORKED, choose
from .gelu import gelu_erf, gelu_tanh
from .kernels import kernel
from .memory import array_at, bytes_at, draw_bits, fetch_add, nap, peek, put
from .token_kernels import add_up, attend, int8_add_up, int8_matrix_times, layer_norm, matrix_times, rms_norm, rotate, route
from .vector_math import exp

# operations
(ROW, RMS_NORM, LAYER_NORM, LINEAR, LINEAR_INT8, ROTATE, REMEMBER, ATTEND, GATE, GELU_TANH, GELU_ERF, ABSORB, EXPAND, ROUTE) = range(14)

# columns of the table; the last row has FIRST alone, the number of all pieces
(OP, FIRST, NEEDS, UNITS, CHUNK,    # its first piece; pieces that must be done before; rows or heads, and how many of them make a piece
 X, Y, SIZE,                        # where x and y begin in `work`; numbers in x (of a head, where there are heads)
 WEIGHT, BIAS, SCALES, GROUP,       # addresses, 0 for no bias and, but for int8, no scales; columns of int8 to a scale
 ADD, INDEX,                        # add to y; the row of a table is the token's (0) or the position's (1)
 PAIRS,                             # rotate: 1 for (2i, 2i + 1), 0 for (i, i + D/2)
 SLOTS, STEP, VALUES, VALUE_SIZE, VALUE_STEP, SHARING, SCRATCH,     # attend: see there; absorb, expand: of a head's y, not of a value
 HEIGHT,                            # absorb, expand: rows from one head's part of the matrix to the next
 CHOICE, CHOSEN,                    # where in `work` the expert is whose matrix is meant, or 0; how many are chosen, so far on is its gate
 GROUPS, KEPT, SIGMOID, NORMALISE) = range(COLUMNS := 29)       # route: see there

# a request to `write`: the last token, its position, how many are wanted; where in `work` the logits are, and how many; addresses of
# the settings, of a byte for each token that was seen, and that ends a text, of room, of the generator (Generator.source), of the ids
(GIVEN, START, COUNT, LOGITS, VOCABULARY, SETTINGS, SEEN, ENDS, ROOM, FUNCTION, STATE, IDS) = range(12)

NEXT, DONE, TOKEN, POSITION = 0, 64, 128, 192       # bytes from `shared`, a cache line apart
LOOKS = 20_000                                      # how often a waiting thread looks before it naps: some 20 microseconds
NAPS = 100                                          # how many naps a helper takes after a token before it leaves


@kernel("ids1 int out1 out1")
def times_head(step, head, x, y):
    """`absorb` or `expand` for one head, whose x and y begin here."""
    absorbs, size, made, width = step[OP] == ABSORB, step[SIZE], step[VALUE_SIZE], x.itemsize
    columns, begin = made if absorbs else size, head * step[HEIGHT]
    if step[SCALES]:
        groups = columns // step[GROUP]
        q = bytes_at(step[WEIGHT] + begin * columns, size * made)
        scales = array_at(step[SCALES] + begin * groups * width, size * made // step[GROUP], x)
        if absorbs:
            int8_add_up(x[:size], q, scales, step[GROUP], y[:made])
        else:
            int8_matrix_times(x[:size], q, scales, step[GROUP], y[:made])
    else:
        rows = array_at(step[WEIGHT] + begin * columns * width, size * made, x)
        if absorbs:
            add_up(x[:size], rows, columns, y[:made])
        else:
            matrix_times(rows, x[:size], y[:made])
    for i in range(step[STEP] - size if absorbs else 0):
        y[made + i] = x[size + i]


@kernel("out1 in1 ids1 number int int int int")
def perform(work, numbers, step, number, first, last, token, position):
    """Units `first` to `last` of one operation, a row of the table."""
    op, size, count, width = step[OP], step[SIZE], last - first, work.itemsize
    x, y = work[step[X]:], work[step[Y]:]
    if op == LINEAR or op == LINEAR_INT8:
        x, y = x[:size], y[first:last]
        result = np.empty(count, work.dtype) if step[ADD] else y
        weight, scales, gate = step[WEIGHT], step[SCALES], work.dtype.type(1)
        if step[CHOICE]:
            expert, gate = int(work[step[CHOICE]]), work[step[CHOICE] + step[CHOSEN]]
            weight, scales = peek(weight + 8 * expert), peek(scales + 8 * expert) if scales else 0
        if op == LINEAR:
            matrix_times(array_at(weight + first * size * width, count * size, work), x, result)
        else:
            groups = size // step[GROUP]
            int8_matrix_times(x, bytes_at(weight + first * size, count * size), array_at(scales + first * groups * width, count * groups, work),
                              step[GROUP], result)
        if step[BIAS]:
            bias = array_at(step[BIAS] + first * width, count, work)
            for i in range(count):
                result[i] += bias[i]
        if step[ADD]:
            for i in range(count):
                y[i] += gate * result[i]
    elif op == RMS_NORM or op == LAYER_NORM:
        weight = array_at(step[WEIGHT], size, work)
        for unit in range(first, last):
            if op == RMS_NORM:
                rms_norm(x[unit * size:(unit + 1) * size], weight, number, y[unit * size:(unit + 1) * size])
            else:
                layer_norm(x[unit * size:(unit + 1) * size], weight, number, y[unit * size:(unit + 1) * size])
        if step[BIAS]:
            bias = array_at(step[BIAS], size, work)
            for i in range(size):
                y[i] += bias[i]
    elif op == ROTATE:
        half = size // 2
        cos, sin = array_at(step[WEIGHT] + position * half * width, half, work), array_at(step[BIAS] + position * half * width, half, work)
        for unit in range(first, last):
            rotate(x[unit * step[STEP]:unit * step[STEP] + size], cos, sin, step[PAIRS])
    elif op == REMEMBER:
        for unit in range(first, last):
            slot = array_at(step[WEIGHT] + (unit * step[SLOTS] + position % step[SLOTS]) * step[STEP] * width, size, work)
            for i in range(size):
                slot[i] = x[unit * size + i]
    elif op == ATTEND:
        seen, slots = min(position + 1, step[SLOTS]), step[SLOTS]
        for unit in range(first, last):
            shared = unit // step[SHARING] * slots
            keys = array_at(step[WEIGHT] + shared * step[STEP] * width, seen * step[STEP], work)
            values = array_at(step[VALUES] + shared * step[VALUE_STEP] * width, seen * step[VALUE_STEP], work)
            room = work[step[SCRATCH] + unit * slots:]
            attend(x[unit * size:(unit + 1) * size], keys, step[STEP], values, step[VALUE_STEP], number, room[:seen],
                   y[unit * step[VALUE_SIZE]:(unit + 1) * step[VALUE_SIZE]])
    elif op == ROW:
        row = array_at(step[WEIGHT] + (position if step[INDEX] else token) * size * width, size, work)
        for i in range(size):
            y[i] = row[i] + (y[i] if step[ADD] else work.dtype.type(0))
    elif op == GATE:
        for i in range(size):
            y[i] = y[i] / (work.dtype.type(1) + exp(-y[i])) * x[i]
    elif op == GELU_TANH:
        gelu_tanh(y[:size], y[:size])
    elif op == GELU_ERF:
        gelu_erf(y[:size], y[:size])
    elif op == ABSORB or op == EXPAND:
        for unit in range(first, last):
            times_head(step, unit, x[unit * step[STEP]:], y[unit * step[VALUE_STEP]:])
    elif op == ROUTE:
        bias = array_at(step[BIAS], size if step[BIAS] else 0, work)
        route(x[:size], bias, step[GROUPS], step[KEPT], step[SIGMOID], step[NORMALISE], number, work[step[SCRATCH]:], y[:2 * step[CHOSEN]])


@kernel("int int")
def wait_for(address, count):
    """Until the number at `address` has grown to `count`."""
    looks = 0
    while peek(address) < count:
        looks += 1
        if looks > LOOKS:
            nap()


@kernel("out1 in1 ids2 int int int")
def run(work, numbers, program, shared, token, position):
    """A token; or with `token` -1 help with those that other threads compute, and leave when there are none for a while."""
    helper = token < 0
    if not helper:
        put(shared + TOKEN, token)
        put(shared + POSITION, position)
        put(shared + DONE, 0)
        put(shared + NEXT, 0)       # from here on pieces are taken; all of the token before are done
    last = program.shape[0] - 1
    total = program[last, FIRST]
    op, naps = 0, 0
    while True:
        piece = fetch_add(shared + NEXT, 1)
        if piece >= total:
            if not helper:
                wait_for(shared + DONE, total)
                return
            looks = 0
            while peek(shared + NEXT) >= total:
                looks += 1
                if looks > LOOKS:
                    nap()
                    naps += 1
                if naps > NAPS:
                    return
            naps = 0
            continue
        if piece < program[op, FIRST]:
            op = 0
        while piece >= program[op + 1, FIRST]:
            op += 1
        step = program[op]
        first = (piece - step[FIRST]) * step[CHUNK]
        wait_for(shared + DONE, step[NEEDS])
        perform(work, numbers, step, numbers[op], first, min(step[UNITS], first + step[CHUNK]), peek(shared + TOKEN), peek(shared + POSITION))
        fetch_add(shared + DONE, 1)


@kernel("out1 in1 ids2 int ids1")
def write(work, numbers, program, shared, request):
    """Several tokens, each drawn as generate.py says; `request` has what is wanted, in the order named above.

    At IDS there is room for COUNT + 1 whole numbers: how many were drawn, and the ids. The last may be one that ends a text, or -1
    where there was none to draw.
    """
    V, number = request[VOCABULARY], np.empty(0)
    settings, logits = array_at(request[SETTINGS], SETTINGS_SIZE, number), array_at(request[ROOM] + 8 * V * WORKED, V, number)
    room, chosen = array_at(request[ROOM], V * WORKED, number).reshape(WORKED, V), np.empty(1)
    seen, ends = bytes_at(request[SEEN], V if settings[PENALTY] != 1 else 0), bytes_at(request[ENDS], V)
    token = request[GIVEN]
    for i in range(request[COUNT]):
        run(work, numbers, program, shared, token, request[START] + i)
        for n in range(V):
            logits[n] = work[request[LOGITS] + n]
        u = 0.0
        if settings[TEMPERATURE] > 0:
            upper = draw_bits(request[FUNCTION], request[STATE])
            u = ((upper << 32 | draw_bits(request[FUNCTION], request[STATE])) & (2**53 - 1)) * 2.0**-53
        choose(logits, seen, settings, u, room, chosen)
        token = int(chosen[0])
        put(request[IDS], i + 1)
        put(request[IDS] + 8 * (i + 1), token)
        if token < 0 or ends[token]:
            return
        if seen.size:
            seen[token] = 1


def counters():
    """(address, array to keep alive) of what the threads that compute tokens share."""
    cells = np.zeros(40, np.int64)
    address = cells.ctypes.data + -cells.ctypes.data % 64
    cells[(address - cells.ctypes.data + NEXT) // 8] = np.iinfo(np.int64).max // 2      # nothing to do yet
    return address, cells


@cache
def compiled(kernel, dtype):
    """`run` or `write` for a precision."""
    memory.register()
    eight_rows.register()
    return kernel.compiled(dtype)
