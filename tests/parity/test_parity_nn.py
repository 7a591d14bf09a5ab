"""Functions, layers and GPT beside PyTorch and transformers: values and gradients, with the same weights."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as TF  # noqa: E402

from tinyllm import nn  # noqa: E402
from tinyllm.engine import Tensor  # noqa: E402
from tinyllm.engine.random import Generator, manual_seed  # noqa: E402
from tinyllm.engine.state import default_dtype  # noqa: E402
from tinyllm.models import GPT, GPTConfig  # noqa: E402
from tinyllm.nn import functional as F  # noqa: E402

RNG = np.random.default_rng(0)
X, W, B = RNG.normal(size=(2, 3, 8)), RNG.normal(size=8), RNG.normal(size=8)
HEADS = RNG.normal(size=(2, 4, 5, 8))
LABELS = np.array([[1, -100, 4], [7, 0, -100]])

FUNCTIONS = {       # name: (ours, PyTorch's, float inputs)
    "softmax": (lambda x: F.softmax(x, axis=1), lambda x: TF.softmax(x, dim=1), [X]),
    "log_softmax": (F.log_softmax, lambda x: TF.log_softmax(x, dim=-1), [X]),
    "cross_entropy": (lambda x: F.cross_entropy(x, LABELS),
                      lambda x: TF.cross_entropy(x.flatten(0, 1), torch.tensor(LABELS).flatten()), [X]),
    "cross_entropy_sum": (lambda x: F.cross_entropy(x, LABELS, reduction="sum"),
                          lambda x: TF.cross_entropy(x.flatten(0, 1), torch.tensor(LABELS).flatten(), reduction="sum"), [X]),
    "layer_norm": (F.layer_norm, lambda x, w, b: TF.layer_norm(x, (8,), w, b), [X, W, B]),
    "layer_norm_bare": (F.layer_norm, lambda x: TF.layer_norm(x, (8,)), [X]),
    "rms_norm": (F.rms_norm, lambda x, w: TF.rms_norm(x, (8,), w, eps=1e-5), [X, W]),
    "gelu": (F.gelu, TF.gelu, [X]),
    "gelu_tanh": (lambda x: F.gelu(x, approximate="tanh"), lambda x: TF.gelu(x, approximate="tanh"), [X]),
    "silu": (F.silu, TF.silu, [X]),
    "swiglu": (F.swiglu, lambda a, b: TF.silu(a) * b, [X, X[::-1].copy()]),
    "relu": (F.relu, TF.relu, [X]),
    "sigmoid": (F.sigmoid, torch.sigmoid, [X]),
    "tanh": (F.tanh, torch.tanh, [X]),
    "linear": (F.linear, TF.linear, [X, RNG.normal(size=(5, 8)), RNG.normal(size=5)]),
    "embedding": (lambda w: F.embedding(np.array([[3, 1], [3, 0]]), w), lambda w: TF.embedding(torch.tensor([[3, 1], [3, 0]]), w),
                  [RNG.normal(size=(5, 8))]),
    "attention": (F.attention, lambda q, k, v: TF.scaled_dot_product_attention(q, k, v, is_causal=True), [HEADS, HEADS[::-1].copy(), HEADS + 1]),
    "attention_full": (lambda q, k, v: F.attention(q, k, v, causal=False), TF.scaled_dot_product_attention, [HEADS[:, :, :2], HEADS, -HEADS]),
    "attention_grouped": (F.attention, lambda q, k, v: TF.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True),
                          [HEADS, HEADS[:, :2].copy(), HEADS[:, 2:].copy()]),
    "mse_loss": (F.mse_loss, TF.mse_loss, [X, X[::-1].copy()]),
}


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-10), (np.float32, 2e-5)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name, dtype, tolerance):
    ours, theirs, inputs = FUNCTIONS[name]
    mine = [Tensor(x.astype(dtype), requires_grad=True) for x in inputs]
    other = [torch.tensor(x.astype(dtype), requires_grad=True) for x in inputs]
    y, z = ours(*mine), theirs(*other)
    g = np.random.default_rng(1).normal(size=y.shape).astype(dtype)
    y.backward(g)
    z.backward(torch.tensor(g.reshape(z.shape)))
    np.testing.assert_allclose(y.numpy(), z.detach().numpy().reshape(y.shape), rtol=tolerance, atol=tolerance)
    for a, b in zip(mine, other):
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=tolerance, atol=tolerance * max(1, b.grad.abs().max().item()))


def test_default_initialisation_draws_pytorchs_numbers():
    """Layers made in the same order after the same seed; normals of 16 and more agree to a few units in the last place."""
    manual_seed(123)
    ours = [nn.Embedding(10, 4), nn.Linear(4, 6), nn.Linear(6, 3, bias=False), nn.LayerNorm(3)]
    torch.manual_seed(123)
    theirs = [torch.nn.Embedding(10, 4), torch.nn.Linear(4, 6), torch.nn.Linear(6, 3, bias=False), torch.nn.LayerNorm(3)]
    for a, b in zip(ours, theirs):
        state = b.state_dict()
        assert list(a.state_dict()) == list(state)
        for key, value in a.state_dict().items():
            np.testing.assert_allclose(value, state[key].numpy(), rtol=1e-6)


def test_state_of_a_pytorch_model_loads_by_its_names():
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.GELU(), torch.nn.Linear(6, 3))
    ours = nn.Sequential(nn.Linear(4, 6), nn.Module(), nn.Linear(6, 3))
    ours[1].forward = F.gelu
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_allclose(ours(Tensor(x)).numpy(), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-5, atol=1e-6)


def hugging_face_names(model):
    """Our state under transformers' names; its Conv1D keeps matrices (in, out)."""
    names = {"wte": "wte", "wpe": "wpe", "norm": "ln_f"}
    inside = {"norm1": "ln_1", "norm2": "ln_2", "attn.qkv": "attn.c_attn", "attn.proj": "attn.c_proj", "mlp.fc": "mlp.c_fc",
              "mlp.proj": "mlp.c_proj"}
    names.update({f"blocks.{i}.{ours}": f"h.{i}.{theirs}" for i in range(len(model.blocks)) for ours, theirs in inside.items()})
    for key, value in model.state_dict().items():
        path, part = key.rsplit(".", 1)
        yield key, f"transformer.{names[path]}.{part}", "c_" in names[path] and part == "weight"


def test_gpt_equals_transformers_gpt2():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=31, n_positions=12, n_embd=16, n_layer=3, n_head=4, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
                                     attn_implementation="eager")
    theirs = transformers.GPT2LMHeadModel(config).double()
    with default_dtype(np.float64):
        ours = GPT(GPTConfig(vocab_size=31, block_size=12, n_embd=16, n_layer=3, n_head=4), Generator(0))
    for i, p in enumerate(ours.parameters()):
        p.copy_(p.numpy() + Generator(i).normal(0, 0.1, p.shape, dtype=np.float64))
    table = list(hugging_face_names(ours))
    state = ours.state_dict()
    missing, unexpected = theirs.load_state_dict(
        {there: torch.tensor(state[here].T.copy() if turned else state[here]) for here, there, turned in table}, strict=False)
    assert missing == ["lm_head.weight"] and not unexpected
    ids = Generator(5).randint(0, 31, (3, 12))
    logits = theirs(torch.tensor(ids[:, :-1])).logits
    loss = TF.cross_entropy(logits.flatten(0, 1), torch.tensor(ids[:, 1:]).flatten())
    loss.backward()
    np.testing.assert_allclose(ours(ids[:, :-1]).numpy(), logits.detach().numpy(), rtol=1e-9, atol=1e-11)
    mine = ours.loss(ids[:, :-1], ids[:, 1:])
    assert mine.item() == pytest.approx(loss.item(), rel=1e-12)
    mine.backward()
    gradients, parameters = dict(theirs.named_parameters()), dict(ours.named_parameters())
    for here, there, turned in table:
        g = gradients[there].grad.numpy()
        np.testing.assert_allclose(parameters[here].grad, g.T if turned else g, rtol=1e-8, atol=1e-12, err_msg=here)
