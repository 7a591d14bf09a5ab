"""The gated feed-forward layer of Llama and DeepSeek."""

from . import functional as F
from .linear import Linear
from .module import Module


class SwiGLU(Module):
    """down(silu(gate(x)) · up(x)): C -> F -> C (Shazeer 2020); three maps where a plain MLP has two.

    >>> SwiGLU(8, 24)
    SwiGLU(
      (gate): Linear(8, 24, bias=False)
      (up): Linear(8, 24, bias=False)
      (down): Linear(24, 8, bias=False)
    )
    """

    def __init__(self, n_embd, ffn_dim, bias=False, *, std=None, proj_std=None, generator=None):
        self.gate = Linear(n_embd, ffn_dim, bias, std=std, generator=generator)
        self.up = Linear(n_embd, ffn_dim, bias, std=std, generator=generator)
        self.down = Linear(ffn_dim, n_embd, bias, std=proj_std, generator=generator)

    def forward(self, x):                                           # (..., C)
        hidden = F.swiglu(self.gate(x), self.up(x))                 # (..., F)
        return self.down(hidden)                                    # (..., C)


def swiglu_width(n_embd, multiple_of, multiplier=None):
    """Meta's rule for F: two thirds of 4C, so that three maps cost what a plain MLP's two do, then rounded up.

    >>> swiglu_width(4096, 256), swiglu_width(8192, 4096, 1.3)      # Llama 7B, Llama 2 70B
    (11008, 28672)
    """
    width = int(2 * 4 * n_embd / 3)
    if multiplier is not None:
        width = int(multiplier * width)
    return -(-width // multiple_of) * multiple_of
