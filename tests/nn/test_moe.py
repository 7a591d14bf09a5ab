"""Experts: who is chosen, what comes out, what keeps the load even. And latent attention's two ways."""

import numpy as np
import pytest

from tinyllm.engine import Tensor
from tinyllm.engine.random import Generator
from tinyllm.engine.state import default_dtype, no_grad
from tinyllm.fused.gates import SCORES, best
from tinyllm.nn import LatentAttention, MoE, RotaryPositions
from tinyllm.nn.moe import limit_groups

X = np.random.default_rng(0).normal(size=(2, 5, 8))


def mixture(**options):
    with default_dtype(np.float64):
        return MoE(8, 6, **{**dict(n_routed_experts=8, num_experts_per_tok=3), **options}, std=0.5, proj_std=0.5, generator=Generator(0))


def swiglu(expert, x):
    gate, up = expert.gate.weight.numpy() @ x, expert.up.weight.numpy() @ x
    return expert.down.weight.numpy() @ (gate / (1 + np.exp(-gate)) * up)


@pytest.mark.parametrize("options", [
    dict(scoring_func="softmax"), dict(scoring_func="softmax", routed_scaling_factor=16.0, n_group=4, topk_group=2, n_shared_experts=2),
    dict(scoring_func="sigmoid", norm_topk_prob=True, routed_scaling_factor=2.5, n_group=2, topk_group=1, n_shared_experts=1),
    dict(scoring_func="sigmoid", norm_topk_prob=False)])
def test_each_token_by_hand(options):
    moe = mixture(**options)
    bias = np.zeros(8)
    if options["scoring_func"] == "sigmoid":
        bias = np.random.default_rng(1).normal(0, 0.3, 8) - 0.6       # most of s + b is below 0: hidden groups are at -∞, not at 0
        moe.router_bias.copy_(bias)
    y = moe(Tensor(X)).numpy()
    groups, kept = options.get("n_group", 1), options.get("topk_group", 1)
    for b in range(2):
        for t in range(5):
            x = X[b, t]
            logits = moe.router.weight.numpy() @ x
            s = np.exp(logits) / np.exp(logits).sum() if options["scoring_func"] == "softmax" else 1 / (1 + np.exp(-logits))
            top = 1 if options["scoring_func"] == "softmax" else 2
            worth = [sum(sorted((s + bias)[g * 8 // groups:(g + 1) * 8 // groups])[-top:]) for g in range(groups)]
            allowed = sorted(range(groups), key=lambda g: -worth[g])[:kept]
            experts = sorted((i for i in range(8) if i * groups // 8 in allowed), key=lambda i: -(s + bias)[i])[:3]
            gates = s[experts] / s[experts].sum() if options.get("norm_topk_prob") else s[experts]
            wanted = sum(g * options.get("routed_scaling_factor", 1.0) * swiglu(moe.experts[i], x) for g, i in zip(gates, experts))
            if moe.shared is not None:
                wanted = wanted + swiglu(moe.shared, x)
            np.testing.assert_allclose(y[b, t], wanted, rtol=1e-10, atol=1e-12)


def test_hidden_groups_are_out_even_where_all_scores_are_negative():
    scores = np.array([[-0.1, -0.9, -0.3, -0.4]])
    assert limit_groups(scores, 2, 1, top=2).tolist() == [[-np.inf, -np.inf, -0.3, -0.4]]     # -0.7 beats -1.0
    assert limit_groups(scores, 2, 1, top=1).tolist() == [[-0.1, -0.9, -np.inf, -np.inf]]
    assert best(limit_groups(scores, 2, 1, top=2), 2).tolist() == [[2, 3]]


def test_an_expert_nobody_chose_has_no_gradient():
    moe = mixture(scoring_func="sigmoid", num_experts_per_tok=1)
    moe.router_bias.copy_(np.where(np.arange(8) == 5, 10.0, 0.0))
    moe(Tensor(X)).sum().backward()
    for i, expert in enumerate(moe.experts):
        assert all((p.grad is not None) == (i == 5) for p in expert.parameters())
    assert moe.router_bias.grad is None


def test_the_bias_moves_the_choice_but_not_the_gate():
    moe = mixture(scoring_func="sigmoid", num_experts_per_tok=8)        # all are chosen, so only gates could differ
    before = moe(Tensor(X)).numpy()
    moe.router_bias.copy_(np.random.default_rng(0).normal(size=8))
    np.testing.assert_allclose(moe(Tensor(X)).numpy(), before, rtol=1e-10, atol=1e-12)


def test_the_bias_falls_for_the_busy_and_rises_for_the_idle():
    moe = mixture(scoring_func="sigmoid", num_experts_per_tok=1)
    moe.load[:] = [8, 0, 4, 4, 4, 4, 7, 1]          # mean 4
    moe.update_bias(0.001)
    np.testing.assert_allclose(moe.router_bias.numpy(), np.array([-1, 1, 0, 0, 0, 0, -1, 1]) * 0.001)
    assert not moe.load.any()


def test_the_bias_rule_evens_out_the_load():
    moe, rng = mixture(scoring_func="sigmoid", num_experts_per_tok=2), np.random.default_rng(0)

    def unevenness(steps, rate):
        total = np.zeros(8)
        for _ in range(steps):
            moe(Tensor(rng.normal(size=(4, 16, 8)) + 1.0))
            total += moe.load
            moe.update_bias(rate)
        return total.max() / total.mean()

    before = unevenness(20, 0.0)
    unevenness(300, 0.01)
    after = unevenness(20, 0.0)
    assert before > 2 and after < 1.3


def test_loads_are_counted_in_training_steps_only():
    moe = mixture()
    with no_grad():
        moe(Tensor(X))
    moe.eval()(Tensor(X))
    assert not moe.load.any()
    moe.train()(Tensor(X))
    assert moe.load.sum() == 2 * 5 * 3


@pytest.mark.parametrize("scoring_func", ["softmax", "sigmoid"])
def test_balance_loss_by_hand(scoring_func):
    moe = mixture(scoring_func=scoring_func)
    moe(Tensor(X))
    logits, chosen = moe.routing
    s, total = SCORES[scoring_func](logits).numpy(), 0.0
    for b in range(2):
        share = s[b] / s[b].sum(axis=-1, keepdims=True)
        total += sum(8 / (3 * 5) * (chosen[b] == i).sum() * share[:, i].mean() for i in range(8))
    assert moe.balance_loss().item() == pytest.approx(total / 2, rel=1e-12)


def test_balance_loss_is_one_where_all_are_used_alike_and_more_where_not():
    moe = mixture()
    even, chosen = np.full((1, 8, 8), 1 / 8), (np.arange(8)[:, None] + np.arange(3)) % 8
    moe.routing = Tensor(np.log(even)), chosen[None]
    assert moe.balance_loss().item() == pytest.approx(1)
    greedy = np.full((1, 8, 8), 0.01)
    greedy[..., :3] = (1 - 0.05) / 3
    moe.routing = Tensor(np.log(greedy)), np.tile(np.arange(3), (1, 8, 1))
    assert moe.balance_loss().item() == pytest.approx(8 / 3 * 0.95)


def test_balance_of_nothing_is_refused():
    with pytest.raises(ValueError, match="call the model in training mode first"):
        mixture().balance_loss()


def latent(**options):
    with default_dtype(np.float64):
        return LatentAttention(8, 2, kv_lora_rank=6, qk_nope_head_dim=4, qk_rope_head_dim=2, v_head_dim=3, generator=Generator(0), **options)


def test_latent_attention_by_hand():
    attn, rotation = latent(score_factor=1.5), RotaryPositions(2, interleaved=True).at(np.arange(5), np.float64)
    attn.kv_norm.weight.copy_(Generator(1).normal(1, 0.3, (6,), dtype=np.float64))
    x = X[0]
    query = (x @ attn.q.weight.numpy().T).reshape(5, 2, 6)
    down = x @ attn.kv_down.weight.numpy().T
    c = down[:, :6] / np.sqrt((down[:, :6] ** 2).mean(-1, keepdims=True) + 1e-6) * attn.kv_norm.weight.numpy()
    shared = rotation.turn(Tensor(down[:, 6:])).numpy()
    up = attn.kv_up.weight.numpy().reshape(2, 7, 6)
    heads = []
    for h in range(2):
        key, value = c @ up[h, :4].T, c @ up[h, 4:].T
        turned = rotation.turn(Tensor(query[:, h, 4:].copy())).numpy()
        scores = 1.5 * (query[:, h, :4] @ key.T + turned @ shared.T) / np.sqrt(6)
        w = np.exp(scores) * np.tri(5)
        heads.append(w / w.sum(-1, keepdims=True) @ value)
    wanted = np.concatenate(heads, axis=-1) @ attn.proj.weight.numpy().T
    for absorb in (False, True):
        attn.absorb = absorb
        np.testing.assert_allclose(attn(Tensor(X), None, rotation).numpy()[0], wanted, rtol=1e-10, atol=1e-12)


def test_the_absorbed_way_has_the_same_gradients():
    attn, rotation = latent(q_lora_rank=5, bias=True), RotaryPositions(2).at(np.arange(5), np.float64)
    found = []
    for attn.absorb in (False, True):
        attn.zero_grad()
        (attn(Tensor(X), None, rotation) * X).sum().backward()
        found.append({name: p.grad for name, p in attn.named_parameters()})
    for name, g in found[0].items():
        np.testing.assert_allclose(g, found[1][name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_prompts_expand_and_single_steps_absorb():
    """With DeepSeek's sizes: 128 + 64 numbers a key, 128 a value, a latent of 512."""
    attn = latent()
    attn.d_c, attn.d_n, attn.d_r, attn.d_v = 512, 128, 64, 128
    assert not attn.absorbs(1000, 1000) and attn.absorbs(1, 1000)
