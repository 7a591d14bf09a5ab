import numpy as np
import pytest

import tinyllm as tl
from tinyllm import Tensor
from tinyllm.engine import AnomalyError


def line_of(marker):
    """`file:line` of this file's line that ends with the marker comment."""
    lines = open(__file__, encoding="utf-8").read().splitlines()
    return f"test_anomaly.py:{next(i for i, text in enumerate(lines, 1) if text.endswith('# ' + marker))}"


def test_the_first_forward_op_that_yields_nan_is_named_with_its_line():
    x = Tensor(np.array([1.0, -1.0]), requires_grad=True, name="x")
    with tl.anomaly(), np.errstate(all="ignore"):
        with pytest.raises(AnomalyError) as caught:
            h = x * 2
            h.log().exp().sum()       # forward goes wrong
    message = str(caught.value)
    assert "forward of log" in message and "NaN at [1]" in message and line_of("forward goes wrong") in message


def test_backward_names_the_rule_and_the_line_that_called_the_op():
    x = Tensor(np.array([4.0, 0.0]), requires_grad=True, name="x")
    with tl.anomaly(), np.errstate(all="ignore"):
        y = x.sqrt().sum()        # backward goes wrong
        with pytest.raises(AnomalyError) as caught:
            y.backward()
    message = str(caught.value)
    assert "backward of sqrt: dL/da of x has Inf at [1]" in message and line_of("backward goes wrong") in message


def test_a_mask_of_minus_infinity_is_nobody_s_fault():
    scores = Tensor(np.zeros((2, 2)), requires_grad=True)
    with tl.anomaly():
        masked = tl.ops.masked_fill(scores, np.triu(np.ones((2, 2), bool), 1), -np.inf)
        (masked - masked.logsumexp(axis=-1, keepdims=True)).exp().sum().backward()
    assert np.isfinite(scores.grad).all()


def test_outside_nothing_is_checked():
    with np.errstate(all="ignore"):
        assert np.isnan(Tensor([-1.0]).log().item())


def test_where_keeps_a_nan_on_the_side_not_chosen_out_of_the_gradient():
    x = Tensor(np.array([4.0, -1.0]), requires_grad=True)
    with np.errstate(all="ignore"):
        y = tl.ops.where(x.data > 0, x.sqrt(), 0.0)
    assert y.data.tolist() == [2, 0]
