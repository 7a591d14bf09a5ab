"""The training recipe of GPT-3, at the places the paper names."""

import pytest

from tinyllm.engine.random import Generator
from tinyllm.errors import UserError
from tinyllm.models import GPT, GPTConfig
from tinyllm.models.gpt3 import GPT3Training
from tinyllm.optim import clip_grad_norm


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


def test_scaled_down_the_curves_keep_their_shape():
    whole = GPT3Training.preset("gpt3-125m")
    small = whole.scaled(total_tokens=3e5, batch_tokens=5000)
    for share in (0.0, 0.001, 0.01, 0.3, 0.9, 1.0):
        assert small.lr_at(share * 3e5) == pytest.approx(whole.lr_at(share * 300e9))
        assert small.batch_at(share * 3e5) == pytest.approx(whole.batch_at(share * 300e9) / 100, abs=0.5)


def test_a_small_gpt3_learns_by_the_recipe():
    """Repeating digits; the loss must fall below ln 10, which guessing has, as the batch grows from 1 row to 8."""
    model = GPT(GPTConfig(vocab_size=10, n_layer=2, n_head=2, n_embd=16, block_size=8, band_width=2), Generator(0))
    recipe = GPT3Training(batch_tokens=0.5e6, lr=2e-2, ramp_tokens=12e9).scaled(total_tokens=12800, batch_tokens=64)
    optimizer, seen, losses, rows = recipe.optimizer(model), 0, [], []
    assert optimizer.groups[0]["betas"] == (0.9, 0.95) and {group["weight_decay"] for group in optimizer.groups} == {0.0, 0.1}
    while seen < recipe.total_tokens:
        rows.append(max(1, recipe.batch_at(seen) // 8))
        ids = (Generator(seen).randint(0, 10, (rows[-1], 1)) + range(9)) % 10
        loss = model.loss(ids[:, :-1], ids[:, 1:])
        loss.backward()
        clip_grad_norm(model.parameters(), recipe.clip)
        optimizer.lr = recipe.lr_at(seen)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        seen += 8 * rows[-1]
    assert rows[0] == 1 and rows[-1] == 8 and losses[0] > 2.2 and losses[-1] < 0.5
