"""Floor 5: training. `loop.py` is the loop; the rest is what a run needs around it."""

from .checkpoint import CheckpointError, Checkpoints
from .loop import TrainConfig, Trainer, evaluate
from .metrics import read_metrics
from .run import RunDirectory
