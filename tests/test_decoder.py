"""Rows of unequal length: together they are what each is alone, with the cache and without, past the window too."""

import numpy as np
import pytest

from tinyllm.decoder import Decoder
from tinyllm.engine.random import Generator
from tinyllm.errors import UserError
from tinyllm.generate import generate, stream
from tinyllm.models import GPT, DeepSeek, DeepSeekConfig, GPTConfig, Llama, LlamaConfig

SIZES = dict(vocab_size=11, n_layer=2, n_head=2, n_embd=16, block_size=10, init_std=0.4)
MODELS = {
    "gpt": lambda: GPT(GPTConfig(**SIZES, band_width=3), Generator(0)),
    "llama": lambda: Llama(LlamaConfig(**SIZES, n_kv_head=1, window=4), Generator(0)),
    "deepseek": lambda: DeepSeek(DeepSeekConfig(**SIZES), Generator(0)),
}
PROMPTS = [[1, 2, 3, 4, 5], [7], [4, 4, 9]]


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return MODELS[request.param]()


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("room", [4, 16])       # within the window of 10, and well past it
def test_unequal_prompts_go_on_as_each_does_alone(model, room, use_cache):
    together = generate(model, PROMPTS, room, temperature=0, stop=(), use_cache=use_cache)
    for prompt, row in zip(PROMPTS, together):
        assert row.tolist() == generate(model, prompt, room, temperature=0, stop=()).tolist()


def test_unequal_rows_draw_the_same_with_the_cache_and_without(model):
    one, other = (generate(model, PROMPTS, 12, seed=5, repetition_penalty=1.3, use_cache=use) for use in (True, False))
    assert [row.tolist() for row in one] == [row.tolist() for row in other]
    drawn = np.array(list(stream(model, PROMPTS, 12, seed=5, repetition_penalty=1.3))).T
    assert [row[len(prompt):].tolist() for row, prompt in zip(one, PROMPTS)] == drawn.tolist()


def test_a_prompt_longer_than_the_window_beside_a_short_one(model):
    prompts = [list(range(11)) + [3, 1], [5, 6]]
    together = generate(model, prompts, 5, temperature=0, stop=())
    for prompt, row in zip(prompts, together):
        assert row.tolist() == generate(model, prompt, 5, temperature=0, stop=()).tolist()


def test_rows_chosen_anew_keep_their_own_past(model):
    decoder = Decoder(model, [np.array(p) for p in PROMPTS], 4)
    logits = decoder.logits()
    decoder.select([2, 0, 2])
    decoder.append([1, 2, 3])
    after = decoder.logits()
    for row, (prompt, new) in enumerate([(2, 1), (0, 2), (2, 3)]):
        alone = Decoder(model, [np.array(PROMPTS[prompt])], 4)
        np.testing.assert_allclose(alone.logits()[0], logits[prompt], rtol=1e-4, atol=1e-5)
        alone.append([new])
        np.testing.assert_allclose(after[row], alone.logits()[0], rtol=1e-4, atol=1e-5)
    assert [row.tolist() for row in decoder.rows()] == [[4, 4, 9, 1], [1, 2, 3, 4, 5, 2], [4, 4, 9, 3]]


@pytest.mark.parametrize("prompts, message", [([[1, 2], []], "at least one token"), ([[1, 2], [3.5]], "whole numbers"), ([[1, 2], [11]], "id 11")])
def test_one_bad_prompt_of_several(model, prompts, message):
    with pytest.raises(UserError, match=message):
        stream(model, prompts, 3)
