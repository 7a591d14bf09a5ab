import math

import numpy as np
import pytest

from tinyllm import gradcheck
from tinyllm.rl.functions import k3, log_one_minus_exp, log_sigmoid


@pytest.mark.parametrize("name", ["log_sigmoid", "k3", "log_one_minus_exp"])
def test_gradcheck(name):
    assert gradcheck(name).ok


def test_log_sigmoid_far_out():
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_array_equal(log_sigmoid(np.array([-1e4, 0.0, 1e4])).numpy(), [-1e4, -math.log(2), 0.0])


def test_k3_is_never_negative_and_half_the_square_near_zero():
    d = np.array([-3.0, -1e-9, 0.0, 1e-9, 3.0])
    assert (k3(d).numpy() >= 0).all()
    assert k3(np.array([1e-5])).item() == pytest.approx(0.5e-10, rel=1e-5)


def test_log_one_minus_exp_at_both_ends():
    assert log_one_minus_exp(np.array([-1e-12])).item() == pytest.approx(math.log(1e-12), rel=1e-9)
    assert log_one_minus_exp(np.array([-50.0])).item() == pytest.approx(-math.exp(-50), rel=1e-9)
