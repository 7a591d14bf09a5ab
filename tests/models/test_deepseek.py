"""DeepSeek's training: multi-token prediction, the balance of its experts, what is kept from forward to loss."""

import numpy as np
import pytest
from families import text, toy

from tinyllm import ops
from tinyllm.engine.state import no_grad
from tinyllm.models import DeepSeek, DeepSeekConfig
from tinyllm.nn import functional as F

IDS = text(2, 8)


def cross_entropy(logits, targets):
    logits = logits - logits.max(axis=-1, keepdims=True)
    logp = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(logp, targets[..., None], axis=-1).mean()


def test_further_tokens_by_hand():
    """Module 1 sees position i and token i + 1 and predicts i + 2; module 2 goes on from there with token i + 2 to i + 3."""
    model, ids = toy("deepseek-mtp", mtp_weight=0.5), text(2, 9)
    model.loss(ids[:, :-1], ids[:, 1:])
    found = model.auxiliary_losses()["mtp"].item()
    table = model.wte.weight.numpy()
    with no_grad():
        model.loss(ids[:, :-1], ids[:, 1:])
        stream, *_ = model.last
        losses = []
        for k, module in enumerate(model.mtp, start=1):
            length = 8 - k
            rows = table[ids[:, k:k + length]]
            joined = ops.concatenate([module.norm_stream(stream[:, :length]), F.rms_norm(rows, module.norm_token.weight, 1e-6)], axis=-1)
            rotation = model.rotary.at(np.arange(length), np.float64)
            stream = module.block(module.proj(joined), None, rotation)
            logits = module.norm(stream).numpy() @ table.T
            losses.append(cross_entropy(logits, ids[:, k + 1:k + 1 + length]))
    assert found == pytest.approx(0.5 / 2 * sum(losses), rel=1e-10)


def test_the_language_models_loss_does_not_know_the_further_tokens():
    with_them, without = toy("deepseek-mtp"), toy("deepseek-mtp", mtp_depth=0)
    assert set(without.auxiliary_losses()) == set()
    without.load_state_dict(with_them.state_dict(), strict=False)
    loss = with_them.loss(IDS[:, :-1], IDS[:, 1:])
    assert loss.item() == without.loss(IDS[:, :-1], IDS[:, 1:]).item()
    loss.backward()
    assert all(p.grad is None for p in with_them.mtp.parameters())


def test_ignored_targets_count_for_nothing():
    model = toy("deepseek-mtp")
    targets = IDS[:, 1:].copy()
    targets[1] = -100
    model.loss(IDS[:, :-1], targets)
    both = model.auxiliary_losses()["mtp"].item()
    model.loss(IDS[:1, :-1], IDS[:1, 1:])
    assert both == pytest.approx(model.auxiliary_losses()["mtp"].item(), rel=1e-10)


def test_a_text_too_short_for_further_tokens():
    model = toy("deepseek-mtp")
    model.loss(IDS[:, :2], IDS[:, 1:3])     # room for module 1, none for module 2
    assert np.isfinite(model.auxiliary_losses()["mtp"].item())
    model.loss(IDS[:, :1], IDS[:, 1:2])
    assert model.auxiliary_losses()["mtp"] == 0


def test_balance_is_the_sum_over_layers_times_alpha():
    model = toy("deepseek-v3", n_layer=3, balance_alpha=0.25)
    model.loss(IDS[:, :-1], IDS[:, 1:])
    each = [block.mlp.balance_loss().item() for block in list(model.blocks)[1:]]
    assert model.auxiliary_losses()["balance"].item() == pytest.approx(0.25 * sum(each), rel=1e-12)


def test_auxiliary_losses_are_of_the_last_loss_and_are_given_once():
    model = toy("deepseek-v3")
    assert model.auxiliary_losses() == {}
    model.loss(IDS[:, :-1], IDS[:, 1:])
    assert list(model.auxiliary_losses()) == ["balance"] and model.auxiliary_losses() == {}
    model(IDS)
    assert model.auxiliary_losses() == {}
    model.eval().loss(IDS[:, :-1], IDS[:, 1:])
    assert model.auxiliary_losses() == {}


def test_parameters_can_change_after_a_forward_whose_graph_is_gone():
    model = toy("deepseek-v3")
    model(IDS)
    for p in model.parameters():
        p.copy_(p.numpy() * 1.0)
    model.loss(IDS[:, :-1], IDS[:, 1:]).backward()      # without the auxiliary terms
    for p in model.parameters():
        p.copy_(p.numpy() * 1.0)


def test_after_a_step_the_biases_move_by_gamma():
    model = toy("deepseek-v3", bias_update_rate=0.125)
    before = model.blocks[1].mlp.router_bias.numpy().copy()
    model.after_step()
    assert np.array_equal(model.blocks[1].mlp.router_bias.numpy(), before)      # nothing was counted: all loads are alike
    model.loss(IDS[:, :-1], IDS[:, 1:])
    load = model.blocks[1].mlp.load.copy()
    model.after_step()
    np.testing.assert_allclose(model.blocks[1].mlp.router_bias.numpy() - before, -0.125 * np.sign(load - load.mean()), atol=1e-12)


def test_the_first_blocks_are_dense():
    model = DeepSeek(DeepSeekConfig(vocab_size=11, n_layer=3, n_head=2, n_embd=8, block_size=8, first_k_dense=2))
    assert [type(block.mlp).__name__ for block in model.blocks] == ["SwiGLU", "SwiGLU", "MoE"]


def test_the_experts_of_a_small_model_are_together_as_large_as_a_dense_block():
    config = DeepSeekConfig(n_embd=128, n_head=4)
    assert (config.kv_lora_rank, config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim) == (64, 32, 16, 32)
    assert 0 <= 9 * config.moe_ffn_dim - config.ffn_dim < 9
