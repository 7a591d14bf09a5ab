"""Pre-norm and post-norm at initialisation, as in Xiong et al. 2020 (theorem 1): which gradients depend on the depth."""

import numpy as np
import pytest

from tinyllm.engine.random import Generator
from tinyllm.models import GPT, GPTConfig


def last_gradient(n_layer, norm_first, seed):
    """Norm of the gradient of the last MLP's second matrix, with Xavier-sized weights and no biases, as the theorem has them."""
    generator = Generator(seed)
    model = GPT(GPTConfig(50, n_layer, n_head=2, n_embd=32, block_size=16, bias=False, tied=False, norm_first=norm_first, init_std=None),
                generator)
    for name, p in model.named_parameters():
        if name.startswith("blocks.") and p.ndim == 2:
            p.copy_(generator.normal(0, np.sqrt(2 / sum(p.shape)), p.shape))
    ids = generator.randint(0, 50, (8, 17))
    model.loss(ids[:, :-1], ids[:, 1:]).backward()
    return np.linalg.norm(model.blocks[-1].mlp.proj.weight.grad)


@pytest.mark.parametrize("norm_first, slope", [(True, -0.5), (False, 0.0)])
def test_the_gradient_near_the_output_falls_with_the_root_of_the_depth_under_pre_norm_only(norm_first, slope):
    """The slope of log norm over log depth from 16 to 128 layers: -1/2 for O(d √(ln d / L)), 0 for O(d √(ln d))."""
    norms = [np.mean([last_gradient(n_layer, norm_first, seed) for seed in range(4)]) for n_layer in (16, 128)]
    assert np.log(norms[1] / norms[0]) / np.log(8) == pytest.approx(slope, abs=0.1)
