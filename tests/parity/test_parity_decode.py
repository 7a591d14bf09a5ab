"""What `tinyllm bench decode` races in PyTorch is the same work: the logits of a text, token by token."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tinyllm.bench import _torch_decode, decode  # noqa: E402

pytestmark = pytest.mark.usefixtures("kernels")

@pytest.mark.parametrize("preset, make", [("stories260k", _torch_decode.llama), ("gpt-12m", _torch_decode.gpt)])
def test_both_contenders_compute_the_same_logits(preset, make):
    model, ids = decode.build(preset), np.random.default_rng(0).integers(0, 512, 12)
    ours, theirs, config = model.step(model.make_cache(1, len(ids))), make(model, len(ids)), model.config
    keys, values = torch.zeros(2, config.n_layer, getattr(config, "n_kv_head", config.n_head), len(ids), config.n_embd // config.n_head)
    for at, token in enumerate(ids):
        own, other = ours(token), theirs(torch.tensor(token), at, keys, values).numpy()
        assert np.abs(own - other).max() <= 1e-5 * np.abs(other).max()
