"""Drawing text from a model: which token comes next, and the next, and the next.

A model turns the ids so far into logits (B, V) for the next one. What happens to them, in this order:

    repetition penalty r   l ← l·r if l < 0 else l/r   for each distinct token already there, prompt included
    temperature τ          l ← l/τ                     τ = 0: take the best token, nothing below happens
    top-k                  keep the k best
    top-p                  keep the fewest best tokens whose probabilities sum to at least p
    min-p                  drop p_i < min_p · max p
    draw                   u uniform in [0, 1): the first token at which the cumulative probability exceeds u

This is the order of Hugging Face's `generate`, so each filter sees probabilities renormalised over what the one
before it kept. Where two tokens tie, the lower id counts as the better one, in every filter and at τ = 0, so
top-k keeps exactly k, and `top_k=1` is the same as `temperature=0`. Filters are pure functions on arrays; a
dropped token has the logit -inf. References: temperature and top-k, Fan et al. 2018; top-p, Holtzman et al. 2020
(1904.09751); min-p, Nguyen et al. 2024 (2407.01082); repetition penalty, Keskar et al. 2019 (1909.05858).

A model sees at most its `block_size` last tokens. A cache of keys and values serves until the window is full; from
there the window slides and is computed afresh for each token, for positions change and cached values would not.
"""

import math
import threading
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .decoder import Decoder
from .engine import STATE
from .engine.random import Generator, default_generator
from .errors import UserError, WorkError
from .fused import choosing

NO_TOKEN = ("no token can be drawn: the model's logits for the next token have a NaN or +Inf, or are all -Inf; the weights are "
            "probably damaged")
AHEAD = 32          # tokens that are drawn in one compiled call, between which Ctrl-C is heard
NONE_SEEN = np.empty(0, bool)


# ---- filters: logits (..., V) in, logits (..., V) out


def penalize_repeats(logits, seen, penalty):
    """Make the tokens of `seen` (a boolean array of logits' shape) less likely; penalty 1 changes nothing.

    >>> penalize_repeats(np.array([2.0, -2.0, 2.0]), np.array([True, True, False]), 2.0)
    array([ 1., -4.,  2.])
    """
    if penalty == 1:
        return logits
    return np.where(seen, np.where(logits < 0, logits * penalty, logits / penalty), logits)


def scale(logits, temperature):
    """logits / temperature, shifted so that the best is 0: no temperature above 0 can overflow.

    >>> scale(np.array([1.0, 3.0]), 0.5)
    array([-4.,  0.])
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return (logits - logits.max(axis=-1, keepdims=True)) / temperature


def keep_top_k(logits, k):
    """Keep the k best, of equals those of the lowest ids; `k` None, 0 or at least V keeps all.

    >>> keep_top_k(np.array([1.0, 3.0, 3.0, 3.0]), 2)
    array([-inf,   3.,   3., -inf])
    """
    if not k or k >= logits.shape[-1]:
        return logits
    kth = np.partition(logits, -k, axis=-1)[..., -k, None]
    better, equal = logits > kth, logits == kth
    room = k - better.sum(axis=-1, keepdims=True)
    return np.where(better | (equal & (equal.cumsum(axis=-1) <= room)), logits, -np.inf)


def keep_top_p(logits, p):
    """Keep the shortest run of best tokens with total probability ≥ p, at least one; None or p ≥ 1 keeps all.

    >>> keep_top_p(np.log([0.5, 0.3, 0.2]), 0.6).round(2)
    array([-0.69, -1.2 ,  -inf])
    """
    if p is None or p >= 1:
        return logits
    order = np.argsort(-logits, axis=-1, kind="stable")
    ranked = np.take_along_axis(probabilities(logits), order, axis=-1)
    before = ranked.cumsum(axis=-1)[..., :-1]       # total of all better tokens, from the second token on
    keep = np.ones(logits.shape, bool)
    np.put_along_axis(keep, order[..., 1:], before < p, axis=-1)
    return np.where(keep, logits, -np.inf)


def keep_min_p(logits, min_p):
    """Drop tokens less likely than `min_p` times the likeliest; None or 0 keeps all.

    >>> keep_min_p(np.log([0.5, 0.3, 0.2]), 0.5).round(2)
    array([-0.69, -1.2 ,  -inf])
    """
    if not min_p:
        return logits
    p = probabilities(logits)
    return np.where(p < min_p * p.max(axis=-1, keepdims=True), -np.inf, logits)


def probabilities(logits):
    """Softmax over the last axis, in float64; a row of nothing but -inf (or with a NaN) is a WorkError."""
    logits = np.asarray(logits, np.float64)
    best = logits.max(axis=-1, keepdims=True)
    if not np.isfinite(best).all():
        raise WorkError(NO_TOKEN)
    weights = np.exp(logits - best)
    return weights / weights.sum(axis=-1, keepdims=True)


class _Room(threading.local):
    """Arrays that the compiled draw works in, one set for each thread: the system gives large ones too slowly to ask for each token."""

    rows = np.empty((choosing.WORKED + 1, 0))

    def of(self, size):
        if self.rows.shape[1] != size:
            self.rows = np.empty((choosing.WORKED + 1, size))
        return self.rows


_room = _Room()


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn: the settings of the filters, checked when they are made (UserError)."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self):
        _check("temperature", self.temperature, lambda t: 0 <= t < math.inf, "0 (always the best token) or above")
        _check("top_k", self.top_k, lambda k: k >= 0 and k == int(k), "a whole number, or 0 or None for all tokens")
        _check("top_p", self.top_p, lambda p: p >= 0, "a probability; 1 or None keeps all tokens")
        _check("min_p", self.min_p, lambda p: 0 <= p <= 1, "between 0 (off) and 1")
        _check("repetition_penalty", self.repetition_penalty, lambda r: 0 < r < math.inf, "above 0; 1 is off")

    def filter(self, logits, seen=None):
        """Logits (B, V) after every filter but the draw; `seen` (B, V) marks the tokens already there."""
        logits = np.asarray(logits, np.float64)
        if seen is not None:
            logits = penalize_repeats(logits, seen, self.repetition_penalty)
        if self.temperature == 0:
            return keep_top_k(logits, 1)
        logits = keep_top_k(scale(logits, self.temperature), self.top_k)
        return keep_min_p(keep_top_p(logits, self.top_p), self.min_p)

    def draw(self, logits, generator, seen=None):
        """One id for each row of `logits` (B, V), as an int64 array (B,); uses B float64 numbers of `generator`."""
        u = [generator.random() if self.temperature else 0.0 for _ in range(len(logits))]
        if STATE.fused:
            return self._compiled_draw(np.array(logits, np.float64, order="C"), seen, u)
        p = probabilities(self.filter(logits, seen))
        return choose(p, np.array(u)) if self.temperature else p.argmax(axis=-1)

    def _compiled_draw(self, logits, seen, u):
        """The same in one compiled call for each row; writes over `logits`."""
        chosen, room = np.empty(len(logits)), _room.of(logits.shape[1])
        for i, row in enumerate(logits):
            choosing.choose(row, NONE_SEEN if seen is None else seen[i], self.settings, u[i], room[:choosing.WORKED], chosen[i:i + 1])
        ids = chosen.astype(np.int64)
        if min(ids.tolist(), default=0) < 0:
            raise WorkError(NO_TOKEN)
        return ids

    @cached_property
    def settings(self):
        """The filters as `choosing.choose` reads them."""
        return np.array([self.temperature, self.top_k or math.inf, 1 if self.top_p is None else self.top_p, self.min_p or 0,
                         self.repetition_penalty], np.float64)


def choose(p, u):
    """The id at which the cumulative sum of each row of `p` (B, V) passes `u` (B,).

    >>> choose(np.array([[0.25, 0.0, 0.75]] * 3), np.array([0.0, 0.25, 0.999]))
    array([0, 2, 2])
    """
    cumulative = p.cumsum(axis=-1)
    ids = [np.searchsorted(row, x * row[-1], side="right") for row, x in zip(cumulative, u)]
    last = p.shape[-1] - 1 - (p[:, ::-1] > 0).argmax(axis=-1)      # rounding must not step past the last possible id
    return np.minimum(ids, last)


def _check(name, value, good, expected):
    if value is None and name in ("top_k", "top_p", "min_p"):
        return
    try:
        ok = good(value)
    except (TypeError, ValueError, OverflowError):
        ok = False
    if not ok:
        raise UserError(f"{name} is {value!r}; expected {expected}")


# ---- the loop


def generate(model, ids, max_new_tokens, *, temperature=1.0, top_k=None, top_p=None, min_p=None,
             repetition_penalty=1.0, stop=None, seed=None, use_cache=True):
    """Continue `ids` (T,) or (B, T) by up to `max_new_tokens`; returns prompt and continuation, int64 (T + n,) or (B, T + n).

    `ids` may also be a list of B prompts of unequal length; the result is then a list of B arrays (T_b + n,).

    `stop`: an id or several that end a row and are not part of the result; None takes the end tokens of the model's
    config, `()` never stops. In a batch, n is the longest row's; a row that ended is padded with the token that
    ended it. `seed`: a whole number, a `Generator`, or None for the default generator. Raises UserError for ids
    outside the vocabulary, an empty prompt, or settings that make no sense.
    """
    prompts, form = prompts_of(model, ids)
    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty)
    drawn = _pieces(model, prompts, max_new_tokens, sampling, stop, seed, use_cache, ahead=True)
    continuation = np.concatenate([np.empty((0, len(prompts)), np.int64), *drawn]).T
    rows = [np.concatenate(pair) for pair in zip(prompts, continuation)]
    return rows[0] if form == "one" else np.stack(rows) if form == "many" else rows


def stream(model, ids, max_new_tokens, *, temperature=1.0, top_k=None, top_p=None, min_p=None,
           repetition_penalty=1.0, stop=None, seed=None, use_cache=True):
    """As `generate`, but yields the new ids as they are drawn: whole numbers for `ids` (T,), arrays (B,) for several prompts."""
    prompts, form = prompts_of(model, ids)
    pieces = _pieces(model, prompts, max_new_tokens, Sampling(temperature, top_k, top_p, min_p, repetition_penalty), stop, seed, use_cache)
    return (int(row[0]) if form == "one" else row for piece in pieces for row in piece)


def prompts_of(model, ids):
    """(list of int64 arrays, "one", "many" or "unequal") of what was given as `ids`; UserError for what cannot be continued."""
    unequal = isinstance(ids, (list, tuple)) and len({np.size(row) for row in ids}) > 1
    given = [np.asarray(row) for row in ids] if unequal else [np.asarray(ids)]
    for array in given:
        if array.ndim not in ((1,) if unequal else (1, 2)) or array.size == 0:
            raise UserError(f"generate: ids of shape {array.shape}; expected (T,) or (B, T) with at least one token, or a list of such (T,): "
                            "start from a line break or an end-of-text token if there is no prompt")
        if array.dtype.kind not in "iu":
            raise UserError(f"generate: ids of dtype {array.dtype}; expected whole numbers, as tokenizer.encode returns them")
        vocab_size = model.config.vocab_size
        if array.min() < 0 or array.max() >= vocab_size:
            wrong = array[(array < 0) | (array >= vocab_size)][0]
            raise UserError(f"generate: id {wrong} is outside the model's vocabulary of {vocab_size}: "
                            "was the prompt encoded with another tokenizer?")
    form = "unequal" if unequal else "one" if given[0].ndim == 1 else "many"
    return [row.astype(np.int64) for row in (given if form != "many" else given[0])], form


def stop_ids(model, stop):
    """The ids that end a row, as an array: those of the model's config where `stop` is None."""
    if stop is None:
        stop = getattr(model.config, "eos_token_id", None)
    return np.atleast_1d(np.array(() if stop is None else stop, np.int64))


def check_room(max_new_tokens):
    """UserError unless it is a number of tokens."""
    if not isinstance(max_new_tokens, (int, np.integer)) or max_new_tokens < 0:
        raise UserError(f"max_new_tokens is {max_new_tokens!r}; expected a whole number, 0 or above")
    return int(max_new_tokens)


def generator_of(seed):
    """A generator for `seed`: a whole number, a `Generator`, or None for the default one."""
    return default_generator() if seed is None else seed if isinstance(seed, Generator) else Generator(seed)


def _pieces(model, prompts, max_new_tokens, sampling, stop, seed, use_cache, ahead=False):
    """Check the rest of the request now, draw later: returns an iterator of new ids (n, B), one row at a time but for `ahead`."""
    return _draw_pieces(model, prompts, check_room(max_new_tokens), sampling, stop_ids(model, stop), generator_of(seed), use_cache, ahead)


def _draw_pieces(model, prompts, left, sampling, stop, generator, use_cache, ahead):
    decoder = Decoder(model, prompts, left, use_cache)
    seen = None
    if sampling.repetition_penalty != 1:
        seen = np.zeros((len(prompts), model.config.vocab_size), bool)
        np.put_along_axis(seen, decoder.slots[:, :decoder.length], True, axis=1)       # an empty slot repeats the prompt's first id
    ended, last, ends = [False] * len(prompts), None, set(stop.tolist())
    while left:
        if ahead and (step := decoder.step()) is not None:      # one row, and nobody waits for each token
            ids = _write(step, decoder, min(left, AHEAD), sampling, generator, seen, ends)
            if ids[-1] in ends:
                yield ids[:-1, None]
                return
            yield ids[:, None]
            left -= len(ids)
            continue
        new = sampling.draw(decoder.logits(), generator, seen)
        if ends:
            new = np.where(ended, last, new) if any(ended) else new     # a row that ended repeats the token that ended it
            ended = [was or id in ends for was, id in zip(ended, new.tolist())]
            if all(ended):
                return
            last = new
        decoder.append(new)
        if seen is not None:
            seen[np.arange(len(new)), new] = True
        left -= 1
        yield new[None]


def _write(step, decoder, count, sampling, generator, seen, ends):
    """Up to `count` ids that follow the decoder's row, drawn by the compiled step and appended; WorkError if one cannot be drawn."""
    V = decoder.model.config.vocab_size
    flags = np.zeros(V, bool)
    flags[[id for id in ends if 0 <= id < V]] = True
    ids = step.write(decoder.slots[0, decoder.length - 1], count, sampling.settings, flags if seen is None else seen[0], flags,
                     generator.source(), _room.of(V))
    if ids[-1] < 0:
        raise WorkError(NO_TOKEN)
    decoder.append(ids)
    return ids
