"""The block that every transformer here is a stack of: attention, then a feed-forward layer, each added to the stream."""

from .dropout import Dropout
from .module import Module


class Block(Module):
    """x (B, T, C) -> (B, T, C), of two norms, an attention layer and a feed-forward layer.

        pre-norm                         x = x + attn(norm1(x));  x = x + mlp(norm2(x))
        post-norm (norm_first=False)     x = norm1(x + attn(x));  x = norm2(x + mlp(x))

    `dropout` acts on both branches. The attention is called as `attn(x, cache, rotation)`.
    """

    def __init__(self, norm1, attn, norm2, mlp, *, dropout=0.0, norm_first=True, generator=None):
        self.norm_first = norm_first
        self.norm1, self.attn, self.norm2, self.mlp = norm1, attn, norm2, mlp
        self.dropout = Dropout(dropout, generator)

    def forward(self, x, cache=None, rotation=None):                            # (B, T, C)
        if self.norm_first:
            x, h = self.norm2.after(x, self.dropout(self.attn(self.norm1(x), cache, rotation)))     # (B, T, C), twice
            return x + self.dropout(self.mlp(h))                                # (B, T, C)
        x = self.norm1(x + self.dropout(self.attn(x, cache, rotation)))         # (B, T, C)
        return self.norm2(x + self.dropout(self.mlp(x)))                        # (B, T, C)
