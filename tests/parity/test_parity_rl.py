"""PyTorch's autograd of the formulas, written as in the papers, gives the same losses and gradients."""

import numpy as np
import pytest

from tinyllm import Tensor
from tinyllm.rl import (dpo_loss, entropy, grpo_loss, kto_loss, orpo_loss, ppo_loss, reward_loss, simpo_loss, token_logps, value_loss)

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)
OLD = RNG.normal(-1.0, 0.3, size=(6, 7))
NEW, REF = OLD + RNG.normal(0, 0.3, size=OLD.shape), OLD + RNG.normal(0, 0.3, size=OLD.shape)
A, MASK = RNG.normal(size=6), np.arange(7) < RNG.integers(1, 8, size=(6, 1))
old, ref, advantages, mask = (torch.tensor(np.asarray(x, float)) for x in (OLD, REF, A[:, None], MASK))


def agree(mine, theirs, *arrays):
    """Value and gradients of both, to 1e-12."""
    own = [Tensor(x.copy(), requires_grad=True) for x in arrays]
    other = [torch.tensor(x, requires_grad=True) for x in arrays]
    loss, expected = mine(*own), theirs(*other)
    loss = loss[0] if isinstance(loss, tuple) else loss
    loss.backward()
    expected.backward()
    np.testing.assert_allclose(loss.item(), expected.item(), rtol=1e-12, atol=1e-12)
    for a, b in zip(own, other):
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-10, atol=1e-12)


def rows(tokens):
    return ((tokens * mask).sum(1) / mask.sum(1)).mean()


def clipped(logps, low=0.2, high=0.2, delta=None):
    r = torch.exp(logps - old)
    first = r if delta is None else r.clamp(max=delta)
    return -torch.min(first * advantages, r.clamp(1 - low, 1 + high) * advantages)


def penalty(logps):
    return torch.exp(ref - logps) - (ref - logps) - 1


def sequence_ratio(logps):
    s = torch.exp(((logps - old) * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True))
    return -torch.min(s * advantages, s.clamp(0.95, 1.05) * advantages).expand_as(mask)


def gate(logps):
    r, tau = torch.exp(logps - old), torch.tensor(np.where(A[:, None] > 0, 1.0, 1.05))
    return -advantages * 4 / tau * torch.sigmoid(tau * (r - 1))


CASES = {
    "grpo": ({"loss_type": "grpo"}, lambda l: rows(clipped(l))),
    "dapo": ({"clip_high": 0.28}, lambda l: (clipped(l, high=0.28) * mask).sum() / mask.sum()),
    "dr_grpo": ({"loss_type": "dr_grpo", "max_completion_length": 9}, lambda l: (clipped(l) * mask).sum() / (6 * 9)),
    "beta": ({"loss_type": "grpo", "beta": 0.1, "ref_logps": REF}, lambda l: rows(clipped(l) + 0.1 * penalty(l))),
    "corrected": ({"loss_type": "grpo", "beta": 0.1, "ref_logps": REF, "kl_correction": True},
                  lambda l: rows(clipped(l) + 0.1 * penalty(l) * torch.exp(l - old))),
    "delta": ({"delta": 1.3}, lambda l: (clipped(l, delta=1.3) * mask).sum() / mask.sum()),
    "gspo": ({"loss_type": "gspo", "clip": 0.05}, lambda l: rows(sequence_ratio(l))),
    "cispo": ({"loss_type": "cispo", "eps_max": 1.1},
              lambda l: (-torch.exp(l - old).clamp(max=1.1).detach() * advantages * l * mask).sum() / mask.sum()),
    "sapo": ({"loss_type": "sapo"}, lambda l: rows(gate(l))),
}


@pytest.mark.parametrize("name", CASES)
def test_grpo_and_its_successors(name):
    options, theirs = CASES[name]
    agree(lambda l: grpo_loss(l, OLD, A, MASK, **options), theirs, NEW)


def test_ppo_with_dual_clip():
    def theirs(l):
        tokens = clipped(l)
        return (torch.where(advantages < 0, torch.min(tokens, -1.2 * advantages), tokens) * mask).sum() / mask.sum()
    agree(lambda l: ppo_loss(l, OLD, A, MASK, dual_clip=1.2), theirs, NEW)


def test_value_loss():
    returns = torch.tensor(REF)

    def theirs(v):
        held = old + (v - old).clamp(-0.2, 0.2)
        return 0.5 * (torch.max((v - returns) ** 2, (held - returns) ** 2) * mask).sum() / mask.sum()
    agree(lambda v: value_loss(v, OLD, REF, MASK), theirs, NEW)


def test_token_logps_and_entropy():
    logits, ids = RNG.normal(size=(2, 3, 5)), RNG.integers(0, 5, size=(2, 3))
    agree(lambda z: token_logps(z, ids, 0.7).sum(), lambda z: torch.log_softmax(z / 0.7, -1).gather(-1, torch.tensor(ids)[..., None]).sum(), logits)
    agree(lambda z: entropy(z, 0.7).sum(), lambda z: torch.distributions.Categorical(logits=z / 0.7).entropy().sum(), logits)


PC, PR, RC, RR = (RNG.normal(-6, 1, size=5) for _ in range(4))
NC, NR = RNG.integers(2, 6, size=5), RNG.integers(2, 6, size=5)
rc, rr, nc, nr = (torch.tensor(np.asarray(x, float)) for x in (RC, RR, NC, NR))
logsigmoid = torch.nn.functional.logsigmoid
PAIRS = {
    "sigmoid": ({}, lambda won, lost: -logsigmoid(0.1 * (won - lost))),
    "cdpo": ({"label_smoothing": 0.2}, lambda won, lost: -0.8 * logsigmoid(0.1 * (won - lost)) - 0.2 * logsigmoid(-0.1 * (won - lost))),
    "robust": ({"kind": "robust", "label_smoothing": 0.2},
               lambda won, lost: (-0.8 * logsigmoid(0.1 * (won - lost)) + 0.2 * logsigmoid(-0.1 * (won - lost))) / 0.6),
    "hinge": ({"kind": "hinge"}, lambda won, lost: torch.relu(1 - 0.1 * (won - lost))),
    "ipo": ({"kind": "ipo"}, lambda won, lost: (won - lost - 5) ** 2),
    "ipo_avg": ({"kind": "ipo_avg", "chosen_lengths": NC, "rejected_lengths": NR}, lambda won, lost: (won / nc - lost / nr - 5) ** 2),
    "apo_zero": ({"kind": "apo_zero"}, lambda won, lost: 1 - torch.sigmoid(0.1 * won) + torch.sigmoid(0.1 * lost)),
    "apo_down": ({"kind": "apo_down"}, lambda won, lost: torch.sigmoid(0.1 * won) + 1 - torch.sigmoid(0.1 * (won - lost))),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_dpo_family(name):
    options, losses = PAIRS[name]
    agree(lambda c, r: dpo_loss(c, r, RC, RR, **options), lambda c, r: losses(c - rc, r - rr).mean(), PC, PR)


def test_simpo_orpo_kto_and_reward_model():
    agree(lambda c, r: simpo_loss(c, r, NC, NR, beta=2.0, gamma=0.5), lambda c, r: -logsigmoid(2 * (c / nc - r / nr) - 0.5).mean(), PC, PR)
    odds = lambda x: x - torch.log1p(-torch.exp(x))
    agree(lambda c, r: orpo_loss(c, r, NC, NR, 1.0, weight=0.3), lambda c, r: 1 - 0.3 * logsigmoid(odds(c / nc) - odds(r / nr)).mean(), PC, PR)
    good = np.array([1, 0, 1, 1, 0], bool)
    agree(lambda x: kto_loss(x, RC, good, [-1.0], [-1.5]),
          lambda x: (1 - torch.sigmoid(0.1 * torch.tensor(np.where(good, 1.0, -1.0)) * (x - rc - 0.5))).mean(), PC)
    agree(lambda c, r: reward_loss(c, r, margin=0.3, center=0.01), lambda c, r: -logsigmoid(c - r - 0.3).mean() + 0.01 * ((c + r) ** 2).mean(), PC, PR)
