"""What `tinyllm bench fused` races is the same work: values and gradients, or what an update leaves, beside PyTorch's in float32."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tinyllm.bench import _operations, _torch_operations  # noqa: E402


@pytest.mark.parametrize("name", [name for name in _operations.CONFIGS if name != "dropout"])      # which draws its own numbers
def test_both_contenders_compute_the_same(name):
    (ours, leaves), (theirs, others) = _operations.own(name), _torch_operations.theirs(name)
    if name in _operations.UPDATES:
        ours(), theirs()
        pairs = [(p.data, q.detach()) for p, q in zip(leaves, others)]
    else:
        y, z = ours(*leaves), theirs(*others)
        g = np.asarray(np.random.default_rng(1).standard_normal(y.shape), np.float32)
        y.backward(g)
        z.backward(torch.from_numpy(g))
        pairs = [(y.numpy(), z.detach())]
    for own, other in pairs + [(p.grad, q.grad) for p, q in zip(leaves, others)]:
        assert np.abs(own - other.numpy()).max() <= 1e-5 * np.abs(other.numpy()).max()
