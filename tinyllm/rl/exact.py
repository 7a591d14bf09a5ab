"""The exactness lab: sum over every completion there is, and see what the estimators estimate.

With a vocabulary of V tokens and completions of C of them there are at most Vᶜ; for 10⁴ of them everything that training can
only sample is a finite sum:

    J = Σ_y π(y) r(y)                      expected reward          ∇J = Σ_y π(y) r(y) ∇log π(y)
    KL(π‖ref) = Σ_y π(y) log π(y)/ref(y)   H = -Σ_y π(y) log π(y)
    π* = ref · e^(r/β) / Z                 the policy that maximises J - β KL(π‖ref)      (2305.18290, Eq. 4)

An estimator draws G completions and weighs the slope of each token's log-probability, ∇log π(y_t | y_<t), by a number c_it.
Summing over all groups as well gives its mean (is it ∇J?), its direction (cosine) and its spread:

    reinforce   c = r_i / G                        rloo       c = (r_i - mean of the others) / G
    dr_grpo     c = (r_i - mean) / G               grpo       c = (r_i - mean) / (std + 1e-4) / (G n_i)
    ppo         the clipped ratio's slope, with rloo's advantage, on samples of an older policy
"""

import itertools
from dataclasses import dataclass

import numpy as np

from .. import ops
from ..engine import Tensor, no_grad
from ..errors import UserError
from ..nn import Module, Parameter
from .advantages import group_advantages, rloo
from .logps import completion_mask, token_logps

LARGEST = 10_000        # completions, and groups of them
ESTIMATORS = ("reinforce", "rloo", "dr_grpo", "grpo", "ppo")


class Tabular(Module):
    """A policy with logits of its own for every prefix: every distribution over completions is one of these.

    `length` tokens out of `vocab_size`; the logits are zero (all completions alike) or drawn from `generator`.
    """

    def __init__(self, vocab_size, length, generator=None, spread=1.0):
        self.vocab_size, self.length = vocab_size, length
        rows = sum(vocab_size ** t for t in range(length))
        drawn = np.zeros((rows, vocab_size)) if generator is None else generator.normal(0, spread, (rows, vocab_size), dtype=np.float64)
        self.logits = Parameter(drawn)

    def forward(self, ids):
        """Logits (B, T, V) for ids (B, T), whose first column is the prompt."""
        places = np.zeros(ids.shape, int)
        for t in range(1, ids.shape[1]):
            places[:, t] = places[:, t - 1] * self.vocab_size + ids[:, t] + 1      # heap order of the tree of prefixes
        return self.logits[places]


@dataclass
class Exact:
    """Everything there is to know about one prompt; see `enumerate`. Arrays run over the N completions."""

    policy: object
    completions: np.ndarray         # (N, C)
    mask: np.ndarray                # (N, C)
    logps: np.ndarray               # (N, C), of single tokens, 0 where the mask is
    rewards: np.ndarray             # (N,)
    ref_probabilities: np.ndarray   # (N,)
    scores: np.ndarray              # (N, C, parameters): slopes of the tokens' log-probabilities; None where there are too many

    @property
    def probabilities(self):
        """π(y), (N,); they sum to 1."""
        return np.exp(self.logps.sum(axis=1))

    @property
    def expected_reward(self):
        """J = Σ π r."""
        return float(self.probabilities @ self.rewards)

    @property
    def entropy(self):
        """H = -Σ π log π, in nats of whole completions."""
        return float(-self.probabilities @ self.logps.sum(axis=1))

    @property
    def kl(self):
        """KL(π‖ref), in nats of whole completions."""
        return float(self.probabilities @ (self.logps.sum(axis=1) - np.log(self.ref_probabilities)))

    @property
    def gradient(self):
        """∇J by all parameters, flat, in the order of `parameters()`."""
        return np.einsum("n,ncp->p", self.probabilities * self.rewards, self._scores())

    def objective_gradient(self, beta):
        """∇(J - β KL(π‖ref)), flat: 0 where the policy is π*."""
        excess = self.rewards - beta * (self.logps.sum(axis=1) - np.log(self.ref_probabilities))
        return np.einsum("n,ncp->p", self.probabilities * excess, self._scores())

    def optimal(self, beta):
        """π* = ref · e^(r/β) / Z as probabilities (N,)."""
        if not beta > 0:
            raise UserError(f"beta is {beta}; expected a number above 0: without a price on KL the best policy is the best completion")
        weights = np.log(self.ref_probabilities) + self.rewards / beta
        weights = np.exp(weights - weights.max())
        return weights / weights.sum()

    def kl_to_optimal(self, beta):
        """KL(π‖π*): how far training has still to go."""
        return float(self.probabilities @ (self.logps.sum(axis=1) - np.log(self.optimal(beta))))

    def _scores(self):
        if self.scores is None:
            raise UserError(f"{self.completions.size} tokens and a slope for each are too many; gradients are computed up to {LARGEST} tokens")
        return self.scores

    # ---- estimators

    def estimate(self, name, group_size=2, old=None, clip=0.2):
        """Row of the table for one estimator: mean, cosine to ∇J, bias and spread relative to |∇J|, over all groups there are.

        `old` is the Exact of the policy that the samples come from (None: this one).
        """
        if name not in ESTIMATORS:
            raise UserError(f"estimator {name!r}; there are {', '.join(ESTIMATORS)}")
        source = self if old is None else old
        count = len(self.completions)
        if count ** group_size > 200_000:
            raise UserError(f"{count} completions in groups of {group_size} make {count ** group_size:,} groups; at most 200,000 are summed "
                            "over: use a smaller group, vocabulary or length")
        groups = np.array(list(itertools.product(range(count), repeat=group_size)))                 # (M, G)
        weights = source.probabilities[groups].prod(axis=1)                                         # (M,)
        c = self._coefficients(name, groups, source, clip)                                          # (M, G, C)
        scores = self._scores().reshape(count * self.mask.shape[1], -1)                             # (N·C, parameters)
        tokens = groups[:, :, None] * self.mask.shape[1] + np.arange(self.mask.shape[1])            # (M, G, C)
        total = np.bincount(tokens.ravel(), (weights[:, None, None] * c).ravel(), len(scores))
        mean, exact = total @ scores, self.gradient
        gram = scores @ scores.T
        flat_c, flat_tokens = c.reshape(len(groups), -1), tokens.reshape(len(groups), -1)
        square = sum(w * (k @ gram[np.ix_(t, t)] @ k) for w, k, t in zip(weights, flat_c, flat_tokens))
        size = np.linalg.norm(exact)
        return {"estimator": name, "mean": mean, "cosine": float(mean @ exact / (np.linalg.norm(mean) * size)),
                "length": float(np.linalg.norm(mean) / size), "bias": float(np.linalg.norm(mean - exact) / size),
                "spread": float(np.sqrt(max(square - mean @ mean, 0.0)) / size)}

    def _coefficients(self, name, groups, source, clip):
        rewards, mask = self.rewards[groups], self.mask[groups]                                     # (M, G), (M, G, C)
        size = groups.shape[1]
        if name == "reinforce":
            return rewards[..., None] * mask / size
        if size < 2:
            raise UserError(f"{name} measures a completion against the others of its group; group_size is {size}")
        if name == "dr_grpo":
            return group_advantages(rewards.ravel(), size, scale="none").reshape(rewards.shape)[..., None] * mask / size
        if name == "grpo":
            advantages = group_advantages(rewards.ravel(), size).reshape(rewards.shape)
            return advantages[..., None] * mask / (size * mask.sum(axis=-1, keepdims=True))
        advantages = rloo(rewards.ravel(), size).reshape(rewards.shape)[..., None]
        if name == "rloo":
            return advantages * mask / size
        ratio = np.exp(self.logps - source.logps)[groups]
        clipped = ((advantages > 0) & (ratio > 1 + clip)) | ((advantages < 0) & (ratio < 1 - clip))
        return np.where(clipped, 0, advantages * ratio) * mask / size

    def table(self, group_size=2, old=None):
        """The rows of all estimators as text.

        `mean` is the length of the mean over that of ∇J; bias and spread are relative to |∇J| too.
        """
        lines = [f"{'estimator':<10} {'cosine':>8} {'mean':>8} {'bias':>8} {'spread':>8}"]
        for name in ESTIMATORS:
            row = self.estimate(name, group_size, old)
            lines.append(f"{name:<10} {row['cosine']:8.4f} {row['length']:8.4f} {row['bias']:8.4f} {row['spread']:8.3f}")
        return "\n".join(lines)


def enumerate(policy, reward, *, length, vocab_size=None, prompt=(0,), end_id=None, reference=None):
    """Exact of a policy on one prompt, by summing over all its completions of at most `length` tokens.

    `policy(ids (B, T))` gives logits (B, T, V); `reward(ids)` a number for a completion, a tuple of ids up to and with its end;
    `end_id` ends a completion (None: all have `length` tokens); `reference` is another policy (None: this one). UserError for
    more than 10,000 completions.

    >>> lab = enumerate(Tabular(2, 2), lambda y: float(y == (1, 1)), length=2)
    >>> lab.expected_reward, round(lab.entropy, 4)
    (0.25, 1.3863)
    """
    V = vocab_size or getattr(policy, "vocab_size", None) or policy.config.vocab_size
    if V ** length > LARGEST:
        raise UserError(f"{V} tokens and length {length} make {V ** length:,} completions; at most {LARGEST:,} are summed over")
    every = np.array(list(itertools.product(range(V), repeat=length)))
    if end_id is None:
        mask = np.ones(every.shape, bool)
    else:
        mask, _ = completion_mask(every, end_id)
        every, kept = np.unique(np.where(mask, every, end_id), axis=0, return_index=True)      # what follows the end is one completion
        mask = mask[kept]
    ids = np.concatenate([np.broadcast_to(np.asarray(prompt), (len(every), len(prompt))), every], axis=1)
    rewards = np.array([float(reward(tuple(row[keep].tolist()))) for row, keep in zip(every, mask)])
    graph = _logps(policy, ids, mask, len(prompt))
    with no_grad():
        ref = graph.numpy() if reference is None else _logps(reference, ids, mask, len(prompt)).numpy()
    scores = _token_scores(policy, graph) if every.size <= LARGEST else None
    return Exact(policy, every, mask, graph.numpy().astype(np.float64), rewards, np.exp(ref.sum(axis=1, dtype=np.float64)), scores)


def _logps(policy, ids, mask, prompt_length):
    logps = token_logps(policy(ids[:, :-1])[:, prompt_length - 1:], ids[:, prompt_length:])
    return ops.where(mask, logps, 0.0)


def _token_scores(policy, logps):
    """∇ of every token's log-probability, (N, C, parameters), one backward walk for each token."""
    parameters = list(policy.parameters())
    kept = [(p, p.grad, p.buffer) for p in parameters]
    scores = np.empty((*logps.shape, sum(p.size for p in parameters)))
    for place in np.ndindex(logps.shape):
        for p in parameters:
            p.grad = p.buffer = None
        seed = np.zeros(logps.shape, logps.dtype)
        seed[place] = 1
        logps.backward(seed, retain_graph=True)
        scores[place] = np.concatenate([np.zeros(p.size) if p.grad is None else p.grad.ravel() for p in parameters])
    for p, grad, buffer in kept:
        p.grad, p.buffer = grad, buffer
    return scores
