"""Sampling: each filter's definition and edge cases, the order of the filters, and the loop around them."""

import numpy as np
import pytest

from tinyllm.decoder import next_logits
from tinyllm.engine import fused
from tinyllm.engine.random import Generator, manual_seed
from tinyllm.errors import UserError, WorkError
from tinyllm.generate import (Sampling, choose, generate, keep_min_p, keep_top_k, keep_top_p, penalize_repeats, probabilities, scale, stream)
from tinyllm.models import GPT, GPTConfig

INF = np.inf


def kept(logits):
    return np.flatnonzero(np.isfinite(logits)).tolist()


@pytest.fixture(scope="module")
def model():
    return GPT(GPTConfig(vocab_size=11, n_layer=2, n_head=2, n_embd=16, block_size=8, init_std=0.3), Generator(0))


class Fixed:
    """A 'model' whose next-token logits are given: `rows[last id]`."""

    training = False
    config = GPTConfig(vocab_size=4, n_layer=1, n_head=1, n_embd=1, block_size=4)

    def __init__(self, rows):
        self.rows, self.lengths = np.asarray(rows, np.float32), []

    def make_cache(self, batch, length):
        return None

    def __call__(self, ids, cache=None):
        from tinyllm import Tensor
        self.lengths.append(ids.shape[1])
        return Tensor(self.rows[ids])


# ---- filters

def test_temperature_divides_the_distances_between_logits():
    logits = np.array([1.0, 2.0, 4.0])
    assert np.allclose(probabilities(scale(logits, 0.5)), probabilities(2 * logits))


def test_a_tiny_temperature_is_greedy_and_does_not_overflow():
    p = probabilities(scale(np.array([1.0, 2.0, 1e4]), 1e-308))
    assert p.tolist() == [0, 0, 1]


def test_top_k_keeps_k_and_of_equals_the_lowest_ids():
    assert kept(keep_top_k(np.array([1.0, 5.0, 5.0, 0.0, 5.0]), 2)) == [1, 2]
    assert kept(keep_top_k(np.array([1.0, 5.0, 5.0, 0.0, 5.0]), 4)) == [0, 1, 2, 4]


@pytest.mark.parametrize("k", [None, 0, 3, 99])
def test_top_k_off_or_beyond_the_vocabulary_keeps_all(k):
    assert kept(keep_top_k(np.arange(3.0), k)) == [0, 1, 2]


def test_top_k_works_row_by_row():
    rows = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    assert [kept(row) for row in keep_top_k(rows, 1)] == [[2], [0]]


def test_top_p_keeps_the_token_that_crosses_the_threshold():
    logits = np.log([0.5, 0.25, 0.125, 0.125])
    assert kept(keep_top_p(logits, 0.5)) == [0]         # 0.5 alone reaches p
    assert kept(keep_top_p(logits, 0.51)) == [0, 1]
    assert kept(keep_top_p(logits, 0.8)) == [0, 1, 2]   # of the two equal ones, the lower id


@pytest.mark.parametrize("p, ids", [(0.0, [1]), (1e-9, [1]), (1.0, [0, 1, 2]), (7.0, [0, 1, 2]), (None, [0, 1, 2])])
def test_top_p_keeps_at_least_one_and_is_off_from_one_up(p, ids):
    assert kept(keep_top_p(np.array([1.0, 2.0, 0.0]), p)) == ids


def test_min_p_is_a_share_of_the_best():
    logits = np.log([0.5, 0.26, 0.24])
    assert kept(keep_min_p(logits, 0.5)) == [0, 1]
    assert kept(keep_min_p(logits, 1.0)) == [0]
    assert kept(keep_min_p(logits, 0.0)) == kept(keep_min_p(logits, None)) == [0, 1, 2]


def test_the_penalty_lowers_positive_and_negative_logits_once():
    logits, seen = np.array([[3.0, -3.0, 3.0, 0.0]]), np.array([[True, True, False, True]])
    assert penalize_repeats(logits, seen, 1.5).tolist() == [[2.0, -4.5, 3.0, 0.0]]
    assert penalize_repeats(logits, seen, 1.0) is logits


def test_filters_apply_in_hugging_faces_order():
    # top-p sees probabilities renormalised over the k best: 0.4/0.7 = 0.571 ≥ 0.5, without them 0.4 < 0.5
    logits = np.log([[0.4, 0.3, 0.2, 0.1]])
    assert kept(Sampling(top_k=2, top_p=0.5).filter(logits)[0]) == [0]
    assert kept(Sampling(top_p=0.5).filter(logits)[0]) == [0, 1]
    # min-p comes after the temperature: at τ = 0.5 the ratio 0.75 becomes 0.5625
    assert kept(Sampling(min_p=0.7).filter(logits)[0]) == [0, 1]
    assert kept(Sampling(min_p=0.7, temperature=0.5).filter(logits)[0]) == [0]


def test_temperature_zero_takes_the_lowest_id_of_equals():
    logits = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    assert Sampling(temperature=0).draw(logits, Generator(0)).tolist() == [1, 0]


def test_top_k_one_is_greedy():
    logits = np.random.default_rng(0).normal(size=(50, 9)).round(1)
    greedy = Sampling(temperature=0).draw(logits, Generator(0))
    assert (Sampling(top_k=1).draw(logits, Generator(1)) == greedy).all()


def test_choose_inverts_the_cumulative_sum_and_never_takes_an_impossible_token():
    p = np.array([[0.0, 0.5, 0.0, 0.5, 0.0]])
    for u, expected in ((0.0, 1), (0.4999, 1), (0.5, 3), (1 - 2**-53, 3), (1.0, 3)):
        assert choose(p, np.array([u])).tolist() == [expected]


def test_draws_have_the_models_frequencies():
    p = np.array([0.1, 0.2, 0.3, 0.4])
    n = 40_000
    drawn = Sampling().draw(np.tile(np.log(p), (n, 1)), Generator(0))
    frequencies = np.bincount(drawn, minlength=4) / n
    assert np.abs(frequencies - p).max() < 4 * np.sqrt(0.25 / n)      # four standard deviations


@pytest.mark.parametrize("row", [[-INF, -INF], [np.nan, 0.0], [INF, 0.0]])
@pytest.mark.parametrize("settings", [{}, {"temperature": 0}, {"top_k": 1}, {"top_p": 0.5}, {"min_p": 0.5}])
def test_logits_that_leave_no_choice_are_an_error(row, settings):
    with pytest.raises(WorkError, match="no token can be drawn"):
        Sampling(**settings).draw(np.array([row]), Generator(0))


@pytest.mark.parametrize("settings", [
    {"temperature": -0.1}, {"temperature": np.nan}, {"temperature": INF}, {"temperature": "hot"}, {"top_k": -1}, {"top_k": 1.5},
    {"top_p": -0.1}, {"top_p": np.nan}, {"min_p": 1.1}, {"min_p": -0.1}, {"repetition_penalty": 0}, {"repetition_penalty": -1}])
def test_settings_that_make_no_sense_are_refused_by_name(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        Sampling(**settings)


# ---- the loop

def test_the_prompt_comes_first_and_shapes_are_as_documented(model):
    assert generate(model, [1, 2, 3], 5, seed=0).shape == (8,)
    out = generate(model, np.array([[1, 2], [3, 4], [5, 6]]), 4, seed=0)
    assert out.shape == (3, 6) and out[:, :2].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert generate(model, [1, 2], 0).tolist() == [1, 2]
    assert generate(model, [[1, 2]], 0).shape == (1, 2)


def test_the_cache_changes_nothing_also_past_the_window(model):
    for prompt in ([1], [1, 2, 3], list(range(8)), list(range(10))):
        with_cache = generate(model, prompt, 20, seed=3)
        assert (with_cache == generate(model, prompt, 20, seed=3, use_cache=False)).all()


def test_each_token_is_the_models_best_at_temperature_zero(model):
    out = generate(model, [4, 2], 12, temperature=0)
    for length in range(2, 14):
        window = out[None, max(0, length - 8):length]
        assert out[length] == next_logits(model, window)[0].argmax()


def test_the_same_seed_draws_the_same_and_a_generator_goes_on(model):
    first = generate(model, [1], 20, seed=5)
    assert (first == generate(model, [1], 20, seed=5)).all()
    assert (first != generate(model, [1], 20, seed=6)).any()
    generator = Generator(5)
    assert (generate(model, [1], 20, seed=generator) == first).all()
    assert (generate(model, [1], 20, seed=generator) != first).any()
    manual_seed(5)
    assert (generate(model, [1], 20) == first).all()


def test_stream_yields_what_generate_returns(model):
    assert list(stream(model, [1, 2], 6, seed=1)) == generate(model, [1, 2], 6, seed=1)[2:].tolist()
    rows = list(model.stream([[1, 2], [3, 4]], 6, seed=1))
    assert (np.array(rows).T == model.generate([[1, 2], [3, 4]], 6, seed=1)[:, 2:]).all()


@pytest.mark.parametrize("settings", [{"temperature": 0}, {}, {"top_k": 3, "top_p": 0.8}, {"min_p": 0.2}, {"repetition_penalty": 1.5}])
@pytest.mark.parametrize("stop", [(), 4, [2, 99]])
@pytest.mark.usefixtures("kernels")
def test_tokens_drawn_several_at_a_time_are_those_drawn_one_by_one(model, settings, stop):
    for seed in range(5):
        ahead, one_by_one, slowly = Generator(seed), Generator(seed), Generator(seed)
        together = generate(model, [1, 2], 30, stop=stop, seed=ahead, **settings)[2:].tolist()
        assert together == list(stream(model, [1, 2], 30, stop=stop, seed=one_by_one, **settings))
        with fused(False):
            assert together == list(stream(model, [1, 2], 30, stop=stop, seed=slowly, **settings))
        assert ahead.random() == one_by_one.random() == slowly.random()


@pytest.mark.usefixtures("kernels")
def test_a_model_that_breaks_after_its_prompt():
    broken = GPT(GPTConfig(vocab_size=5, n_layer=1, n_head=1, n_embd=8, block_size=40), Generator(0))
    broken.wpe.weight.data[7:] = np.nan
    with pytest.raises(WorkError, match="no token can be drawn"):
        generate(broken, [1, 2], 30, stop=())


CYCLE = [[0, 9, 0, 0], [0, 0, 9, 0], [0, 0, 0, 9], [9, 0, 0, 0]]     # 0 → 1 → 2 → 3 → 0


def test_the_stop_token_ends_the_row_and_is_not_returned():
    assert generate(Fixed(CYCLE), [0], 9, temperature=0, stop=3).tolist() == [0, 1, 2]
    assert generate(Fixed(CYCLE), [0], 9, temperature=0, stop=[3, 2]).tolist() == [0, 1]
    assert generate(Fixed(CYCLE), [3], 3, temperature=0, stop=3).tolist() == [3, 0, 1, 2]


def test_rows_that_stopped_are_padded_with_the_token_that_stopped_them():
    out = generate(Fixed(CYCLE), [[2], [0]], 9, temperature=0, stop=3)
    assert out.tolist() == [[2, 3, 3], [0, 1, 2]]


def test_the_configs_end_token_stops_unless_told_otherwise():
    fixed = Fixed(CYCLE)
    fixed.config = GPTConfig(vocab_size=4, n_layer=1, n_head=1, n_embd=1, block_size=4, eos_token_id=2)
    assert generate(fixed, [0], 5, temperature=0).tolist() == [0, 1]
    assert generate(fixed, [0], 5, temperature=0, stop=()).tolist() == [0, 1, 2, 3, 0, 1]


def test_the_penalty_counts_the_prompt_and_what_was_drawn():
    rows = [[0.0, 1.0, 0.9, 0.8]] * 4
    assert generate(Fixed(rows), [1], 3, temperature=0, repetition_penalty=2.0).tolist() == [1, 2, 3, 1]


def test_the_window_slides_past_the_block_size():
    fixed = Fixed(CYCLE)
    generate(fixed, [0], 6, temperature=0)
    assert fixed.lengths == [1, 2, 3, 4, 4, 4]


def test_dropout_is_off_while_drawing_and_the_mode_is_restored():
    model = GPT(GPTConfig(vocab_size=5, n_layer=1, n_head=1, n_embd=8, block_size=4, dropout=0.5), Generator(0))
    assert (generate(model, [1], 10, temperature=0) == generate(model, [1], 10, temperature=0)).all()
    assert model.training


@pytest.mark.parametrize("ids, message", [([], "at least one token"), ([[]], "at least one token"), ([[[1]]], "shape"),
                                          ([1.5], "whole numbers"), ([99], "outside the model's vocabulary"), ([-1], "outside")])
def test_prompts_that_cannot_be_continued(model, ids, message):
    with pytest.raises(UserError, match=message):
        stream(model, ids, 3)       # before the first token is asked for


@pytest.mark.parametrize("count", [-1, 1.5, None])
def test_a_length_that_is_none(model, count):
    with pytest.raises(UserError, match="max_new_tokens"):
        generate(model, [1], count)


# ---- the compiled draw

@pytest.mark.parametrize("V", [5, 17, 512])
@pytest.mark.parametrize("kind", ["even", "rounded", "holes"])
@pytest.mark.usefixtures("kernels")
def test_the_compiled_draw_is_the_filters_and_the_choice(V, kind):
    rng = np.random.default_rng(V)
    for seed in range(60):
        logits = rng.normal(size=(2, V)) * rng.choice([0.1, 1, 5])
        if kind == "rounded":
            logits = logits.round(int(rng.integers(0, 2)))
        if kind == "holes":
            logits[:, rng.integers(1, V, V // 2)] = -INF
        sampling = Sampling(temperature=rng.choice([0, 0.3, 1, 2]), top_k=int(rng.integers(0, V + 2)), top_p=rng.choice([0, 0.1, 0.5, 0.9, 1]),
                            min_p=rng.choice([0, 0.05, 0.5, 1]), repetition_penalty=rng.choice([1, 1.3]))
        seen = rng.random((2, V)) < 0.3 if sampling.repetition_penalty != 1 else None
        drawn = sampling.draw(logits.astype(np.float32), Generator(seed), seen)
        with fused(False):
            assert (drawn == sampling.draw(logits.astype(np.float32), Generator(seed), seen)).all(), (sampling, seed)


@pytest.mark.usefixtures("kernels")
def test_a_draw_leaves_the_logits_alone_and_uses_one_number_a_row():
    logits, generator, other = np.random.default_rng(0).normal(size=(3, 9)), Generator(0), Generator(0)
    before = logits.copy()
    Sampling(top_k=3, repetition_penalty=2.0).draw(logits, generator, np.ones((3, 9), bool))
    assert (logits == before).all()
    other.rand(3, dtype=np.float64)
    assert generator.random() == other.random()


@pytest.mark.usefixtures("kernels")
def test_all_is_drawn_in_its_turn_however_large_the_vocabulary():
    p = np.random.default_rng(0).random(1000)
    u = (np.cumsum(p) - p / 2) / p.sum()                    # the middle of each token's share

    class Given:
        random = iter(u).__next__

    drawn = [Sampling().draw(np.log(p)[None], Given)[0] for _ in u]
    assert drawn == list(range(1000))
