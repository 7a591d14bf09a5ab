"""The worked numbers of `vectors.json`: inputs and outputs, computed with plain loops in float64, gradients by central differences
(those of ipo by hand: differences are too coarse for it).

Every test of the losses holds values and gradients to them within 1e-9.
"""

import json
from pathlib import Path

import numpy as np

from tinyllm import Tensor

WORKED = json.loads((Path(__file__).parent / "vectors.json").read_text())


def worked(name):
    """(inputs, outputs) of one example; lists of numbers as float64 arrays."""
    def arrays(value):
        if isinstance(value, dict):
            return {key: arrays(item) for key, item in value.items()}
        return np.array(value, np.float64) if isinstance(value, list) else value
    return arrays(WORKED[name]["inputs"]), arrays(WORKED[name]["outputs"])


def close(actual, expected, tolerance=1e-9):
    """Assert that two arrays are equal within 1e-9, absolute below 1 and relative above."""
    actual = actual.numpy() if isinstance(actual, Tensor) else actual
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def slopes(function, *values):
    """(value, gradient of each) of a function of float64 tensors that returns a loss, or (loss, info)."""
    leaves = [Tensor(np.array(value, np.float64), requires_grad=True) for value in values]
    result = function(*leaves)
    loss = result[0] if isinstance(result, tuple) else result
    loss.backward()
    return loss.item(), [leaf.grad for leaf in leaves]
