"""tinyllm: language models from first principles in NumPy.

    import tinyllm as tl
    x = tl.Tensor([1.0, 2.0], requires_grad=True)      an array that remembers how it was made
    tl.F, tl.nn, tl.optim, tl.models                   functions, layers, optimizers, models
    tl.tokenizers, tl.text, tl.train, tl.rl            what a language model is made from, and for
    tl.load("runs/tales")                              a trained model and its tokenizer
    tl.gradcheck("matmul")                             any rule against finite differences
    tl.trace()                                         every step, forward and backward, to be looked at
"""

from . import models, nn, ops, optim, rl, text, tokenizers, train, weights
from .engine import Generator, Primitive, Tensor, anomaly, default_dtype, fused, manual_seed, no_grad, primitives, recompute
from .engine.gradcheck import GradcheckError, gradcheck
from .engine.threads import num_threads, set_num_threads
from .load import load
from .nn import functional as F
from .ops import matmul_backend
from .stepper import trace
