"""Optimizers against the published update rules, written as plain loops over single numbers."""

import math

import numpy as np
import pytest

from tinyllm import ops
from tinyllm.engine import Tensor, threads
from tinyllm.engine.state import Watcher
from tinyllm.nn import LayerNorm, Linear, Parameter, Sequential
from tinyllm.optim import SGD, Adam, AdamW, clip_factor, clip_grad_norm, decay_groups, grad_norm
from tinyllm.optim.flat import Flat

STEPS = 100


def sgd(theta, gradients, lr=0.1, momentum=0.0, weight_decay=0.0, nesterov=False):
    """One number's path under SGD in PyTorch's form."""
    b = None
    for g in gradients:
        g = g + weight_decay * theta
        b = g if b is None else momentum * b + g
        theta -= lr * ((g + momentum * b) if nesterov else b)
    return theta


def adam(theta, gradients, lr=0.1, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False):
    """One number's path: algorithm 1 of Kingma and Ba, or algorithm 2 of Loshchilov and Hutter if decoupled."""
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        g = g if decoupled else g + weight_decay * theta
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        theta -= lr * (m_hat / (math.sqrt(v_hat) + eps) + (weight_decay * theta if decoupled else 0.0))
    return theta


CASES = [
    (SGD, sgd, {"lr": 0.1}),
    (SGD, sgd, {"lr": 0.1, "weight_decay": 0.05}),
    (SGD, sgd, {"lr": 0.05, "momentum": 0.9}),
    (SGD, sgd, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}),
    (SGD, sgd, {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    (Adam, adam, {"lr": 0.01}),
    (Adam, adam, {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    (AdamW, lambda *a, **k: adam(*a, decoupled=True, **k), {"lr": 0.01, "weight_decay": 0.0}),
    (AdamW, lambda *a, **k: adam(*a, decoupled=True, **k), {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.1}),
]


def label(value):
    return getattr(value, "__name__", None) or str(value)


@pytest.mark.parametrize("optimizer, rule, settings", CASES, ids=label)
def test_a_hundred_steps_of_the_published_rule(optimizer, rule, settings):
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(3, 4)), rng.normal(size=(STEPS, 3, 4))
    p = Parameter(start.copy())
    moving = optimizer([p], **settings)
    for g in gradients:
        p.grad = g.copy()
        moving.step()
    expected = [[rule(start[i, j], gradients[:, i, j], **settings) for j in range(4)] for i in range(3)]
    np.testing.assert_allclose(p.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("optimizer", [SGD, Adam, AdamW])
def test_a_parameter_without_gradient_neither_moves_nor_decays(optimizer):
    used, unused = Parameter(np.ones(2)), Parameter(np.ones(2))
    moving = optimizer([used, unused], lr=0.1, weight_decay=0.5)
    used.grad = np.ones(2)
    moving.step()
    assert (used.numpy() < 1).all() and (unused.numpy() == 1).all()
    assert moving.state_dict()["state"][1] == {"step": 0}
    moving.zero_grad()
    assert used.grad is None


def test_a_parameter_that_joins_late_starts_its_own_bias_correction():
    """Its first step is lr in size, as every first step of Adam."""
    early, late = Parameter(np.zeros(1)), Parameter(np.zeros(1))
    moving = Adam([early, late], lr=0.1, eps=0.0)
    for step in range(5):
        early.grad, late.grad = np.ones(1), np.ones(1) if step == 4 else None
        moving.step()
    assert late.numpy()[0] == pytest.approx(-0.1, rel=1e-12)


def test_groups_have_settings_of_their_own_and_share_a_rate():
    fast, slow = Parameter(np.zeros(1)), Parameter(np.zeros(1))
    moving = SGD([{"params": [fast], "lr": 1.0}, {"params": [slow]}], lr=0.1)
    fast.grad, slow.grad = np.ones(1), np.ones(1)
    moving.step()
    assert (fast.item(), slow.item(), moving.lr) == (-1.0, -0.1, 1.0)
    moving.lr = 0.5
    moving.step()
    assert (fast.item(), slow.item()) == (-1.5, -0.6)


def test_decay_groups_spare_biases_and_norms():
    model = Sequential(Linear(3, 2), LayerNorm(2))
    decayed, spared = decay_groups(model, 0.1)
    assert [p.name for p in decayed["params"]] == ["0.weight"] and decayed["weight_decay"] == 0.1
    assert [p.name for p in spared["params"]] == ["0.bias", "1.weight", "1.bias"] and spared["weight_decay"] == 0
    assert len(decay_groups(Linear(3, 2, bias=False), 0.1)) == 1


@pytest.mark.parametrize("optimizer, settings", [(SGD, {"momentum": 0.9}), (Adam, {}), (AdamW, {})], ids=label)
def test_a_saved_state_continues_exactly(optimizer, settings):
    def run(p, moving, steps):
        for step in steps:
            p.grad = np.sin(step + np.arange(3.0))
            moving.step()

    whole = Parameter(np.ones(3))
    run(whole, optimizer([whole], lr=0.1, **settings), range(10))
    first = Parameter(np.ones(3))
    moving = optimizer([first], lr=0.1, **settings)
    run(first, moving, range(4))
    saved = moving.state_dict()
    assert all(isinstance(v, (int, np.ndarray)) for v in saved["state"][0].values())
    second = Parameter(first.numpy().copy())
    resumed = optimizer([second], lr=5.0)
    resumed.load_state_dict(saved)
    run(first, moving, [99])                    # what goes on here does not reach the loaded copy
    run(second, resumed, range(4, 10))
    assert np.array_equal(whole.numpy(), second.numpy())


def test_a_state_of_other_parameters_is_refused():
    p = Parameter(np.ones(3), name="fc.weight")
    moving = Adam([p])
    with pytest.raises(ValueError, match="the saved state has 2 parameters in 1 groups, this optimizer 1 in 1"):
        moving.load_state_dict({"state": [{"step": 0}] * 2, "groups": [{}]})
    with pytest.raises(ValueError, match=r"saved m of fc.weight is \(2,\); expected \(3,\)"):
        moving.load_state_dict({"state": [{"step": 1, "m": np.ones(2), "v": np.ones(3)}], "groups": [{}]})


def test_a_step_under_a_live_graph_is_refused():
    p = Parameter(np.ones(2), name="fc.weight")
    loss = ops.sum(p * p)
    p.grad = np.ones(2)
    with pytest.raises(RuntimeError, match="AdamW.step would change fc.weight, which multiply saved for backward"):
        AdamW([p]).step()
    loss.backward()
    AdamW([p]).step()


def test_misuse_is_explained():
    p = Parameter(np.ones(1))
    with pytest.raises(ValueError, match="no parameters were given"):
        AdamW([])
    with pytest.raises(ValueError, match="given twice"):
        AdamW([p, p])
    with pytest.raises(TypeError, match="a group has momentum; known are params, lr"):
        AdamW([{"params": [p], "momentum": 0.9}])
    with pytest.raises(TypeError, match="str given; expected tensors"):
        SGD(["weight"])
    with pytest.raises(ValueError, match="nesterov looks ahead along the momentum, which is 0"):
        SGD([p], nesterov=True)
    with pytest.raises(ValueError, match=r"betas=\(0.9, 1.0\)"):
        Adam([p], betas=(0.9, 1.0))


def test_watchers_see_the_update():
    class Recorder(Watcher):
        seen = None

        def update(self, optimizer, name, parameter, stages):
            self.seen = (type(optimizer).__name__, name, {k: v.copy() for k, v in stages.items()})

    p = Parameter(np.array([1.0, 2.0]), name="w")
    moving = Adam([p], lr=0.1, eps=0.0)
    p.grad = np.array([3.0, -4.0])
    with Recorder() as recorder:
        moving.step()
    kind, name, stages = recorder.seen
    assert (kind, name) == ("Adam", "w")
    np.testing.assert_allclose(stages["gradient"], [3, -4])
    np.testing.assert_allclose(stages["m"], [0.3, -0.4], rtol=1e-12)
    np.testing.assert_allclose(stages["v"], [0.009, 0.016], rtol=1e-12)
    np.testing.assert_allclose(stages["update"], [-0.1, 0.1], rtol=1e-12)


def test_a_quadratic_is_minimised():
    target = np.array([3.0, -1.0])
    for optimizer, settings in ((SGD, {"lr": 0.1, "momentum": 0.5}), (AdamW, {"lr": 0.1, "weight_decay": 0.0})):
        p = Parameter(np.zeros(2))
        moving = optimizer([p], **settings)
        for _ in range(500):
            difference = p - Tensor(target)
            ops.sum(difference * difference).backward()
            moving.step()
            moving.zero_grad()
        np.testing.assert_allclose(p.numpy(), target, atol=1e-3)


def steps(make, flatten, count=1, left_out=()):
    """(optimizer, parameters) after three steps on parameters of odd sizes; those in `left_out` get a gradient only in the last."""
    rng = np.random.default_rng(0)
    parameters = [Parameter(rng.normal(size=size).astype(np.float32)) for size in ((40, 17), (300, 500), 3, (5, 1), 33, (70, 1000))]
    optimizer = make([{"params": parameters[:2] + parameters[3:4] + parameters[5:], "weight_decay": 0.1}, {"params": [parameters[2], parameters[4]]}])
    if flatten:
        optimizer.lie_like(Flat(sorted(parameters, key=lambda p: p.ndim < 2)))
    before = threads.num_threads()
    threads.set_num_threads(count)
    try:
        for number in range(3):
            for i, p in enumerate(parameters):
                gradient = rng.normal(size=p.shape).astype(np.float32)
                p.grad = None
                if i not in left_out or number == 2:
                    p.grad = gradient if p.buffer is None else p.buffer
                    p.grad[...] = gradient
            optimizer.step()
    finally:
        threads.set_num_threads(before)
    return optimizer, parameters


@pytest.mark.parametrize("left_out", [(), (1, 4)])
@pytest.mark.parametrize("make", [AdamW, Adam, SGD, lambda groups: SGD(groups, lr=0.1, momentum=0.9)])
def test_moments_in_one_buffer_change_nothing(make, left_out):
    """Nor does the number of threads that sweep over it, or a parameter with fewer steps among the others."""
    apart, expected = steps(make, False, left_out=left_out)
    for count in (1, 2, 3):
        optimizer, parameters = steps(make, True, count, left_out)
        assert all(np.array_equal(p.numpy(), want.numpy()) for p, want in zip(parameters, expected))
        for own, want in zip(optimizer.state, apart.state):
            assert own["step"] == want["step"]
            for name in optimizer.moments:
                assert np.array_equal(own[name], want[name]) and np.shares_memory(own[name], optimizer.buffers[name])


def test_moments_that_were_saved_apart_go_on_in_one_buffer():
    apart, expected = steps(AdamW, False)
    optimizer, parameters = steps(AdamW, True)
    fresh = AdamW([{"params": group["params"], "weight_decay": group["weight_decay"]} for group in optimizer.groups])
    fresh.lie_like(optimizer.flat)
    fresh.load_state_dict(apart.state_dict())
    for both in (apart, expected), (fresh, parameters):
        for p in both[1]:
            p.grad[...] = 1
        both[0].step()
    assert all(np.array_equal(p.numpy(), want.numpy()) for p, want in zip(parameters, expected))
    assert all(np.shares_memory(state["m"], fresh.buffers["m"]) for state in fresh.state)


def test_moments_move_into_the_buffer_with_what_they_hold():
    optimizer, parameters = steps(AdamW, False)
    before = [state["v"].copy() for state in optimizer.state]
    optimizer.lie_like(Flat(parameters))
    assert all(np.array_equal(state["v"], v) and np.shares_memory(state["v"], optimizer.buffers["v"]) for state, v in zip(optimizer.state, before))


def test_a_parameter_that_left_the_buffer_is_moved_where_it_is():
    optimizer, parameters = steps(AdamW, True)
    parameters[0].data = parameters[0].numpy().copy()
    before = [p.numpy().copy() for p in parameters]
    optimizer.step()
    assert all((p.numpy() != was).any() for p, was in zip(parameters, before))


def test_a_buffer_of_other_parameters_is_refused():
    _, parameters = steps(AdamW, False)
    with pytest.raises(ValueError, match="the 5 parameters of the buffer are not the 6 of this optimizer"):
        AdamW(parameters).lie_like(Flat(parameters[1:]))


@pytest.mark.parametrize("flat", [True, False])
def test_a_scaled_step_is_clipping_and_a_step_to_the_bit(flat):
    results = []
    for once in (True, False):
        rng = np.random.default_rng(0)
        parameters = [Parameter(rng.normal(size=shape).astype(np.float32)) for shape in ((700, 500), (3,))]
        optimizer = AdamW(parameters, lr=0.1)
        if flat:
            optimizer.lie_like(Flat(parameters))
        for _ in range(2):
            for p in parameters:
                p.grad = rng.normal(size=p.shape).astype(np.float32)
                if flat:
                    p.buffer[...] = p.grad
                    p.grad = p.buffer
            if once:
                norm = grad_norm(parameters)
                optimizer.step(clip_factor(norm, 1.0))
            else:
                norm = clip_grad_norm(parameters, 1.0)
                optimizer.step()
        results.append([norm, *(x for p in parameters for x in (p.numpy(), p.grad))])
    assert all(np.array_equal(a, b) for a, b in zip(*results))
