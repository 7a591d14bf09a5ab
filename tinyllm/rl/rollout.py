"""Rollouts: what the policy does when it is asked, with everything learning needs to know of it.

The prompts of a batch are sampled G times each. Each prompt goes through the model once, after which its rows of the cache of
keys and values are repeated G times; then token by token, each token costing one position. The log-probability of each token
is stored as it is drawn: this is the behaviour policy, the `old` of every ratio, and recomputing it with the whole rows must
give it again.

    ids     [p p p | c c c E .]       prompt, completion, end token, padding         (B, L)
    mask     0 0 0   1 1 1 1 0        the actions                                    (B, L)
    logps    . . .   l l l l .        log π_old of each action, 0 elsewhere          (B, L)

The whole distribution is sampled, at the temperature at which it is scored. Filters such as top-k would sample from another
distribution than the one that is scored, so they are refused.
"""

from dataclasses import dataclass

import numpy as np

from ..engine import no_grad
from ..errors import UserError
from ..generate import choose, probabilities
from .rows import END, PAD, Rows
from .tasks import judge

@dataclass
class Rollout(Rows):
    """A batch of sampled completions, group by group; see the module's text for the arrays."""

    logps: np.ndarray           # (B, L)
    truncated: np.ndarray       # (B,) bool
    rewards: np.ndarray = None  # (B,)

    old_logps = property(lambda self: self.logps[:, 1:], doc="log π_old of the targets, (B, L-1)")


def sample(model, tokenizer, prompts, group_size, max_new_tokens, generator, *, temperature=1.0, end_id=END, pad_id=PAD,
           top_k=None, top_p=None, min_p=None):
    """Rollout of `group_size` completions for each of `prompts`, those of one prompt in a row. `temperature` 0 takes the best token.

    Raises UserError for rows that do not fit into the model, for pad equal to end, for dropout that is on, and for any of the
    filters.
    """
    _check(model, tokenizer, pad_id, end_id, group_size, top_k=top_k, top_p=top_p, min_p=min_p)
    encoded = [np.asarray(tokenizer.encode(prompt, disallowed_special=()), np.int64) for prompt in prompts]
    longest = max(map(len, encoded))
    if longest + max_new_tokens > model.config.block_size:
        raise UserError(f"a prompt of {longest} tokens and {max_new_tokens} new ones make {longest + max_new_tokens}; the model knows "
                        f"{model.config.block_size} positions (block_size)")
    tokens, drawn = _draw(model, encoded, group_size, max_new_tokens, generator, temperature, end_id)
    ended = tokens == end_id
    actions = ended.cumsum(axis=1) - ended == 0
    shape = (len(tokens), longest + tokens.shape[1])
    ids, mask, logps = np.full(shape, pad_id), np.zeros(shape, bool), np.zeros(shape, np.float32)
    for i, prompt in enumerate(encoded):
        rows, places = slice(i * group_size, (i + 1) * group_size), slice(len(prompt), len(prompt) + tokens.shape[1])
        ids[rows, :len(prompt)] = prompt
        ids[rows, places] = np.where(actions[rows], tokens[rows], pad_id)
        mask[rows, places] = actions[rows]
        logps[rows, places] = np.where(actions[rows], drawn[rows], 0)
    texts = [tokenizer.decode([t for t in row[keep] if t != end_id]) for row, keep in zip(tokens, actions)]
    return Rollout([p for p in prompts for _ in range(group_size)], texts, ids, mask, logps, ~ended.any(axis=1)).trimmed()


def _draw(model, encoded, group_size, max_new_tokens, generator, temperature, end_id):
    """(tokens, log-probabilities), both (P·G, C); prompts of unequal length are padded on the left, as the cache has it."""
    longest, count = max(map(len, encoded)), len(encoded)
    pad = np.array([longest - len(prompt) for prompt in encoded])
    prompts = np.stack([np.pad(prompt, (n, 0)) for prompt, n in zip(encoded, pad)])                 # (P, T)
    tokens, logps, finished = [], [], np.zeros(count * group_size, bool)
    with no_grad():
        cache = model.make_cache(count, longest + max_new_tokens, pad=pad)
        rows = np.repeat(np.arange(count), group_size)
        logits = model(prompts, cache=cache).numpy()[:, -1][rows]                                   # (P·G, V)
        cache.select(rows)      # the prompt is read once for its whole group
        while True:
            p = probabilities(logits / (temperature or 1.0))
            new = choose(p, generator.rand(len(p), dtype=np.float64)) if temperature else p.argmax(axis=-1)
            tokens.append(new)
            logps.append(np.log(p[np.arange(len(p)), new]))
            finished |= new == end_id
            if finished.all() or len(tokens) == max_new_tokens:
                return np.stack(tokens, axis=1), np.stack(logps, axis=1)
            logits = model(new[:, None], cache=cache).numpy()[:, -1]


def scored(rollout, task):
    """`rollout` with its rewards filled in by `task` (NaN where it cannot judge)."""
    rollout.rewards = np.array([judge(task, prompt, text) for prompt, text in zip(rollout.prompts, rollout.texts)])
    return rollout


def _check(model, tokenizer, pad_id, end_id, group_size, **filters):
    for name, value in filters.items():
        if value is not None:
            raise UserError(f"{name}={value}: a training rollout samples the whole distribution. With a filter the tokens come from another "
                            "distribution than the one they are scored by, and every ratio starts below 1")
    if pad_id == end_id:
        raise UserError(f"padding and end are both token {pad_id}: the end is an action to be learnt, padding is none; give them ids of "
                        "their own")
    if group_size < 1:
        raise UserError(f"group_size is {group_size}; expected 1 or more")
    refuse_dropout(model)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise UserError(f"the tokenizer has {tokenizer.vocab_size} tokens, the model {model.config.vocab_size}")


def refuse_dropout(model):
    """UserError if `model` would drop numbers at random: its log-probabilities would not be the sampler's."""
    for path, module in model.named_modules():
        if module.training and getattr(module, "p", 0) and type(module).__name__ == "Dropout":
            raise UserError(f"dropout is on ({path}, p={module.p}): every ratio would be noise. Build the model with dropout=0, or call "
                            "model.eval()")
