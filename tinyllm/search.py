"""Looking for a likely text instead of drawing one: beam search, and the best of several draws.

A text's score is Σ log p over its new tokens, the end token included, divided by their number to the power
`length_penalty`: with 0 the text of highest probability wins, which is often a short one; with 1, the text whose tokens
are likeliest on average.

    beam search     keep the `beams` best unfinished texts; continue each by every token; keep the best of all that
    best of n       draw n texts as `generate` does, return them by score under the model itself (temperature 1, no filter)
"""

from typing import NamedTuple

import numpy as np

from .decoder import Decoder
from .errors import UserError
from .generate import Sampling, check_room, generator_of, probabilities, prompts_of, stop_ids


class Candidate(NamedTuple):
    """A text that was found: `ids` with the prompt and without the end token, its score, and Σ log p of its new tokens."""

    ids: np.ndarray
    score: float
    logp: float


def beam_search(model, ids, max_new_tokens, *, beams=4, length_penalty=1.0, stop=None, use_cache=True):
    """The likeliest continuations of `ids` (T,) that `beams` beams find, as a list of at most `beams` Candidates, the best first.

    `stop` is as in `generate`. With one beam this is greedy decoding; with as many beams as there are texts, an
    exhaustive search. Of equal scores the lower beam and the lower id win.
    """
    prompt, stop = _single(model, ids, beams, "beams"), stop_ids(model, stop)
    room = check_room(max_new_tokens)
    decoder = Decoder(model, [prompt], room, use_cache)
    sums, finished = np.zeros(1), []
    for count in range(1, room + 1):
        with np.errstate(divide="ignore"):
            totals = sums[:, None] + np.log(probabilities(decoder.logits()))                # (beams, V)
        ending = np.isin(np.arange(totals.shape[1]), stop)
        order = np.argsort(-totals, axis=None, kind="stable")[:beams * (1 + ending.sum())]  # enough for `beams` that go on
        beam, token = np.unravel_index(order[np.isfinite(totals.ravel()[order])], totals.shape)
        ends = ending[token] & (np.arange(len(token)) < beams)      # an ending counts if it is among the best so far
        finished += [_candidate(decoder.rows()[b], totals[b, t], count, length_penalty) for b, t in zip(beam[ends], token[ends])]
        finished = sorted(finished, key=lambda c: -c.score)[:beams]
        on = np.flatnonzero(~ending[token])[:beams]
        if not len(on):
            return finished
        sums = totals[beam[on], token[on]]
        decoder.select(beam[on])
        decoder.append(token[on])
        if len(finished) == beams and finished[-1].score >= sums[0] / _size(room if sums[0] < 0 else count, length_penalty):
            return finished                                         # no text that goes on can do better than the worst found
    rows = [_candidate(row, total, room, length_penalty) for row, total in zip(decoder.rows(), sums)] if room else [Candidate(prompt, 0.0, 0.0)]
    return sorted(finished + rows, key=lambda c: -c.score)[:beams]


def best_of(model, ids, max_new_tokens, n, *, temperature=1.0, top_k=None, top_p=None, min_p=None, repetition_penalty=1.0,
            length_penalty=1.0, stop=None, seed=None, use_cache=True):
    """`n` continuations of `ids` (T,) drawn as `generate` does, as Candidates, the best first."""
    prompt, stop = _single(model, ids, n, "n"), stop_ids(model, stop)
    sampling, generator = Sampling(temperature, top_k, top_p, min_p, repetition_penalty), generator_of(seed)
    room = check_room(max_new_tokens)
    decoder = Decoder(model, [prompt] * n, room, use_cache)
    totals, counts, going = np.zeros(n), np.zeros(n, int), np.ones(n, bool)
    ends = np.full(n, len(prompt) + room)                           # where each text ends
    for _ in range(room):
        logits = decoder.logits()
        seen = None
        if repetition_penalty != 1:
            seen = np.zeros(logits.shape, bool)
            np.put_along_axis(seen, decoder.slots[:, :decoder.length], True, axis=1)
        new = sampling.draw(logits, generator, seen)
        totals += np.where(going, np.log(probabilities(logits)[np.arange(n), new]), 0.0)
        counts += going
        stopped = going & np.isin(new, stop)
        ends[stopped] = decoder.length
        going &= ~stopped
        if not going.any():
            break
        decoder.append(new)
    found = [_candidate(row[:end], total, count, length_penalty) for row, end, total, count in zip(decoder.rows(), ends, totals, counts)]
    return sorted(found, key=lambda c: -c.score)


def _single(model, ids, count, name):
    prompts, form = prompts_of(model, ids)
    if form != "one":
        raise UserError(f"ids for {len(prompts)} texts; expected one prompt (T,)")
    if not isinstance(count, (int, np.integer)) or count < 1:
        raise UserError(f"{name} is {count!r}; expected a whole number above 0")
    return prompts[0]


def _size(count, length_penalty):
    return max(count, 1) ** length_penalty


def _candidate(ids, logp, count, length_penalty):
    return Candidate(ids, float(logp) / _size(count, length_penalty), float(logp))
