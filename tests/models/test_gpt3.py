"""The training recipe of GPT-3, at the places the paper names."""

import pytest

from tinyllm.errors import UserError
from tinyllm.models.gpt3 import GPT3Training
from tinyllm.models.gpt import GPTConfig


@pytest.mark.parametrize("name, batch, lr", [("gpt3-125m", 0.5e6, 6e-4), ("gpt3-1.3b", 1e6, 2e-4), ("gpt3-175b", 3.2e6, 0.6e-4)])
def test_rate_and_batch_of_the_table(name, batch, lr):
    recipe = GPT3Training.preset(name)
    assert recipe.lr_at(375e6) == lr and recipe.batch_at(12e9) == batch
    assert recipe.lr_at(375e6 / 2) == pytest.approx(lr / 2)
    assert recipe.lr_at((375e6 + 260e9) / 2) == pytest.approx(0.55 * lr)        # the cosine's middle
    assert recipe.lr_at(260e9) == recipe.lr_at(300e9) == pytest.approx(lr / 10)
    assert recipe.batch_at(0) == 32_000
    assert recipe.batch_at(recipe.ramp_tokens / 2) == (32_000 + batch) / 2 and 4e9 <= recipe.ramp_tokens <= 12e9
    assert (recipe.betas, recipe.eps, recipe.clip, recipe.weight_decay) == ((0.9, 0.95), 1e-8, 1.0, 0.1)


def test_every_size_has_a_recipe():
    sizes = [name for name in GPTConfig.presets if name.startswith("gpt3")]
    assert len(sizes) == 8 and all(GPT3Training.preset(name) for name in sizes)
    with pytest.raises(UserError, match="no recipe for 'gpt2'; known are gpt3-125m"):
        GPT3Training.preset("gpt2")
