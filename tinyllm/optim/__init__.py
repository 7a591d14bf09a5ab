"""Floor 3: what moves the parameters: optimizers, clipping, learning-rate schedules."""

from .adam import Adam, AdamW, decay_groups
from .clip import clip_factor, clip_grad_norm, grad_norm
from .optimizer import Optimizer
from .schedule import constant, linear, warmup_cosine, warmup_stable_decay
from .sgd import SGD
