import numpy as np
import pytest

from tinyllm import ops
from tinyllm.errors import UserError
from tinyllm.rl import AdaptiveKL, FixedKL, drift, kl
from worked import close, slopes, worked


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_the_estimators_equal_the_worked_example(kind):
    inputs, outputs = worked("03_kl")
    close(kl(inputs["logp"], inputs["ref_logp"], kind), outputs[kind])


def policy(logits):
    """log softmax, and the probabilities as constants: what sampling uses, without a gradient."""
    logp = logits - ops.logsumexp(logits)
    return logp, np.exp(logp.numpy())


def exact(inputs):
    """KL(pi||ref) and KL(ref||pi) as functions of the logits, summed over all four outcomes."""
    ref = inputs["tabular_ref_probs"]
    forward = lambda z: (policy(z)[0].exp() * (policy(z)[0] - np.log(ref))).sum()
    reverse = lambda z: (ref * (np.log(ref) - policy(z)[0])).sum()
    return forward, reverse


def test_the_estimators_means_and_variances_over_all_outcomes():
    inputs, outputs = worked("03_kl")
    z, ref = inputs["tabular_logits"], np.log(inputs["tabular_ref_probs"])
    logp = z - np.log(np.exp(z).sum())
    p = np.exp(logp)
    for kind in ("k1", "k2", "k3"):
        values = kl(logp, ref, kind).numpy()
        close((p * values).sum(), outputs[f"E_{kind}"])
        close((p * values ** 2).sum() - (p * values).sum() ** 2, outputs[f"var_{kind}"])
        if kind != "k2":
            close((p * values).sum(), outputs["exact_KL_pi_ref"])


def test_exact_divergences_and_their_gradients():
    inputs, outputs = worked("03_kl")
    for function, name in zip(exact(inputs), ("pi_ref", "ref_pi")):
        value, (grad,) = slopes(function, inputs["tabular_logits"])
        close(value, outputs[f"exact_KL_{name}"])
        close(grad, outputs[f"grad_exact_KL_{name}"])


@pytest.mark.parametrize("kind, direction", [("k1", None), ("k2", "pi_ref"), ("k3", "ref_pi")])
def test_as_a_loss_k1_does_nothing_k2_is_reverse_and_k3_forward_kl(kind, direction):
    inputs, outputs = worked("03_kl")
    ref = np.log(inputs["tabular_ref_probs"])

    def loss(z):
        logp, p = policy(z)
        return (p * kl(logp, ref, kind)).sum()

    _, (grad,) = slopes(loss, inputs["tabular_logits"])
    close(grad, outputs[f"E_grad_{kind}_in_loss"])
    close(grad, 0.0 if direction is None else outputs[f"grad_exact_KL_{direction}"])


def test_k1_in_the_reward_has_the_gradient_of_reverse_kl():
    inputs, outputs = worked("03_kl")
    ref = np.log(inputs["tabular_ref_probs"])

    def loss(z):
        logp, p = policy(z)
        return (p * kl(logp, ref, "k1").numpy() * logp).sum()

    _, (grad,) = slopes(loss, inputs["tabular_logits"])
    close(grad, outputs["E_score_times_k1_in_reward"])
    close(grad, outputs["grad_exact_KL_pi_ref"])


def test_k3_keeps_its_digits_in_single_precision():
    d = np.float32(1e-4)
    assert kl(np.array([d]), np.zeros(1, np.float32), "k3").numpy()[0] == pytest.approx(5e-9, rel=1e-3)


def test_drift_of_an_update_equals_the_worked_example():
    inputs, outputs = worked("06_ppo")
    values = drift(inputs["new_logps"], inputs["old_logps"], inputs["mask"])
    for kind in ("k1", "k2", "k3"):
        close(values[kind], outputs["metrics"][f"approx_kl_{kind}"])


def test_the_adaptive_controller_equals_the_worked_example():
    inputs, outputs = worked("11_controllers")
    control = AdaptiveKL(inputs["init_kl_coef"], inputs["target"], inputs["horizon"])
    trace = [control.update(observed, inputs["n_steps"]) for observed in inputs["observed_kl"]]
    close(trace, outputs["kl_coef_trace"])
    assert FixedKL(0.2).update(20.0, 64) == 0.2


def test_unknown_kinds_and_impossible_controllers_are_refused():
    with pytest.raises(UserError, match='expected "k1", "k2" or "k3"'):
        kl(np.zeros(2), np.zeros(2), "k4")
    with pytest.raises(UserError, match="target=0"):
        AdaptiveKL(0.1, target=0)
