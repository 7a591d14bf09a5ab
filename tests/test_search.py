"""Beam search against trying every text; best-of-n against the model's own probabilities."""

import itertools

import numpy as np
import pytest

from tinyllm.decoder import next_logits
from tinyllm.engine.random import Generator
from tinyllm.errors import UserError
from tinyllm.generate import generate
from tinyllm.models import GPT, GPTConfig, Llama, LlamaConfig
from tinyllm.search import beam_search, best_of


@pytest.fixture(scope="module", params=["gpt", "llama"])
def model(request):
    sizes = dict(vocab_size=4, n_layer=2, n_head=2, n_embd=16, block_size=6, init_std=0.5)
    return GPT(GPTConfig(**sizes), Generator(4)) if request.param == "gpt" else Llama(LlamaConfig(**sizes, window=3), Generator(4))


def logp(model, ids, start):
    """Σ log p of ids[start:], token by token, each from the last tokens of the window."""
    total = 0.0
    for end in range(start, len(ids)):
        logits = next_logits(model, np.array([ids[max(0, end - 6):end]]))[0].astype(np.float64)
        total += logits[ids[end]] - np.log(np.exp(logits).sum())
    return total


def every_text(model, prompt, room, stop):
    """(score at length penalty 1, ids without the end) of all continuations: ended by `stop`, or of full length."""
    for count in range(1, room + 1):
        for new in itertools.product(range(4), repeat=count):
            if stop not in new[:-1] and (new[-1] == stop or count == room):
                total = logp(model, [*prompt, *new], len(prompt))
                yield total / count, [*prompt, *(new[:-1] if new[-1] == stop else new)]


@pytest.mark.parametrize("stop", [3, 0])
def test_wide_beams_find_the_best_text_of_all(model, stop):
    found = beam_search(model, [1, 2], 4, beams=300, stop=stop)
    wanted = sorted(every_text(model, [1, 2], 4, stop), key=lambda pair: -pair[0])
    assert len(found) == len(wanted)
    for candidate, (score, ids) in zip(found, wanted):
        assert candidate.score == pytest.approx(score, abs=1e-5)
    assert found[0].ids.tolist() == wanted[0][1]


def test_one_beam_is_greedy(model):
    found = beam_search(model, [1, 2], 9, beams=1, stop=())
    assert found[0].ids.tolist() == generate(model, [1, 2], 9, temperature=0, stop=()).tolist()
    assert found[0].logp == pytest.approx(logp(model, found[0].ids.tolist(), 2), abs=1e-4)


def test_beams_do_not_need_the_cache_and_go_past_the_window(model):
    one, other = (beam_search(model, [1, 2], 9, beams=3, stop=3, use_cache=use) for use in (True, False))
    assert [c.ids.tolist() for c in one] == [c.ids.tolist() for c in other]
    assert [c.score for c in one] == sorted((c.score for c in one), reverse=True) and len(one) == 3


def test_the_length_penalty_decides_between_short_and_long(model):
    by_total = beam_search(model, [1], 4, beams=300, length_penalty=0.0, stop=3)
    assert [c.logp for c in by_total] == sorted((c.logp for c in by_total), reverse=True)
    assert all(c.score == c.logp for c in by_total)


def test_nothing_to_add(model):
    found = beam_search(model, [1, 2], 0)
    assert [c.ids.tolist() for c in found] == [[1, 2]]


def test_best_of_n_scores_with_the_models_own_probabilities(model):
    found = best_of(model, [1, 2], 7, 12, temperature=2.0, top_k=3, stop=3, seed=1)
    assert len(found) == 12 and [c.score for c in found] == sorted((c.score for c in found), reverse=True)
    for c in found:
        assert 3 not in c.ids[2:]
        new = c.ids.tolist() if len(c.ids) == 9 else [*c.ids.tolist(), 3]
        assert c.logp == pytest.approx(logp(model, new, 2), abs=1e-4)
        assert c.score == pytest.approx(c.logp / (len(new) - 2))


def test_best_of_draws_what_generate_draws(model):
    rows = generate(model, [[1, 2]] * 5, 4, seed=3, stop=())
    found = best_of(model, [1, 2], 4, 5, seed=3, stop=())
    assert sorted(c.ids.tolist() for c in found) == sorted(rows.tolist())


@pytest.mark.parametrize("call, message", [
    (lambda m: beam_search(m, [1], 3, beams=0), "beams is 0"), (lambda m: best_of(m, [1], 3, 1.5), "n is 1.5"),
    (lambda m: beam_search(m, [[1], [2]], 3), "ids for 2 texts"), (lambda m: best_of(m, [], 3, 2), "at least one token"),
    (lambda m: beam_search(m, [1], -1), "max_new_tokens is -1")])
def test_mistakes(model, call, message):
    with pytest.raises(UserError, match=message):
        call(model)
