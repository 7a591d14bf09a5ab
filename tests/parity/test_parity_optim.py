"""Optimizers, clipping and schedules beside PyTorch's, in float64 over 100 steps."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tinyllm import optim  # noqa: E402
from tinyllm.nn import Parameter  # noqa: E402

CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.1}),
    ("AdamW", {}),
]


@pytest.mark.parametrize("name, settings", CASES)
def test_a_hundred_clipped_steps(name, settings):
    rng = np.random.default_rng(0)
    starts = [rng.normal(size=(3, 4)), rng.normal(size=5)]
    ours = [Parameter(x.copy()) for x in starts]
    theirs = [torch.nn.Parameter(torch.tensor(x)) for x in starts]
    one, two = getattr(optim, name)(ours, **settings), getattr(torch.optim, name)(theirs, **settings)
    for step in range(100):
        for p, q in zip(ours, theirs):
            p.grad = 10 ** rng.uniform(-2, 1) * rng.normal(size=p.shape)
            q.grad = torch.tensor(p.grad)
        if step % 7 == 3:       # took no part in this step's loss
            ours[1].grad = theirs[1].grad = None
        norm = optim.clip_grad_norm(ours, 1.0)
        assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs, 1.0).item(), rel=1e-12)
        one.step()
        two.step()
    for p, q in zip(ours, theirs):
        np.testing.assert_allclose(p.numpy(), q.detach().numpy(), rtol=1e-12, atol=1e-13)


def test_cosine():
    """PyTorch's CosineAnnealingLR is ours without warm-up."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.3)
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=0.01)
    schedule = optim.warmup_cosine(0.3, warmup=0, total=50, floor=0.01)
    for step in range(50):
        assert schedule(step) == pytest.approx(annealing.get_last_lr()[0], rel=1e-10)
        optimizer.step()
        annealing.step()
