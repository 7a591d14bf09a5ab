"""One buffer for all parameters, one for all gradients: each parameter's arrays are views of them.

What is done to all of a model's numbers at once (adding up the gradients of shards, writing a checkpoint, sending them to
another machine) is then done to one array.

    flat = Flat(model.parameters())     p.data is now a view of flat.data, with the same numbers
    loss.backward()                     p.grad is a view of flat.grad, or None where the loss did not touch p

Every parameter starts at a cache line. Its view is made from the buffer's raw memory, not from the array, so that
a graph that locks one parameter locks no other.
"""

import numpy as np

LINE = 64       # bytes


class Flat:
    """Moves `parameters` (of one dtype) into a buffer, and their gradients, when they come, into another.

    `data`: the buffer of another `Flat` of equal parameters, to share it (their values are then ignored).
    """

    def __init__(self, parameters, data=None):
        self.parameters = list(parameters)
        dtypes = {p.dtype for p in self.parameters}
        if len(dtypes) != 1:
            raise ValueError(f"Flat: parameters of {', '.join(sorted(d.name for d in dtypes)) or 'no'} dtype; expected one dtype for all")
        self.dtype = dtypes.pop()
        line, self.starts, size = LINE // self.dtype.itemsize, [], 0
        for p in self.parameters:
            self.starts.append(size)
            size += -(-p.size // line) * line
        self.size = size
        self.data, self.grad = self.zeros() if data is None else data, self.zeros()
        self.views = [self.view(self.data, i) for i in range(len(self.parameters))]
        for i, (p, view) in enumerate(zip(self.parameters, self.views)):
            if data is None:
                view[...] = p.data
            p.data, p.buffer, p.grad = view, self.view(self.grad, i), None

    def zeros(self):
        """A buffer like these, of zeros."""
        line = LINE // self.dtype.itemsize
        room = np.zeros(self.size + line, self.dtype)
        start = -room.ctypes.data % LINE // self.dtype.itemsize
        return room[start:start + self.size]

    def view(self, buffer, i):
        """What belongs to parameter `i` in `buffer`, in the parameter's shape."""
        p = self.parameters[i]
        return np.frombuffer(buffer.data, self.dtype, p.size, self.starts[i] * self.dtype.itemsize).reshape(p.shape)
