"""A block of a model that keeps its input alone until backward: memory for one more forward pass."""

from .. import ops
from ..engine import default_generator
from ..engine.recompute import recompute
from .dropout import Dropout
from .moe import MoE


def recomputed(block, x, *context):
    """`block(x, *context)`, whose graph backward makes again (`tinyllm.recompute`): x (B, T, C) -> (B, T, C).

    What the mixtures of experts inside leave for `balance_loss` is part of what is computed again, so that it has its gradient.
    """
    mixtures = [module for module in block.modules() if isinstance(module, MoE) and module.training]
    drawing = [module for module in block.modules() if isinstance(module, Dropout) and module.training and module.p]
    generators = dict.fromkeys(module.generator or default_generator() for module in drawing)
    chosen = []

    def run(x):
        before = [mixture.routing for mixture in mixtures]
        y = block(x, *context)
        logits, chosen[:] = zip(*[mixture.routing for mixture in mixtures]) if mixtures else ((), ())
        for mixture, routing in zip(mixtures, before):
            mixture.routing = routing
        return ops.concatenate([y, *logits], axis=-1) if mixtures else y        # (B, T, C + E)

    y = recompute(run, x, generators=generators)
    end = x.shape[-1]
    for mixture, choice in zip(mixtures, chosen):
        start, end = end, end + len(mixture.load)
        mixture.routing = y[..., start:end], choice
    return y[..., :x.shape[-1]] if mixtures else y
