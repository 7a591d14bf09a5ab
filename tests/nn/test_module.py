"""The tree of modules: names, state, switches, and the report of a state that does not fit."""

import copy

import numpy as np
import pytest

from tinyllm import ops
from tinyllm.engine import Tensor
from tinyllm.engine.state import fused
from tinyllm.nn import Dropout, LayerNorm, Linear, Module, ModuleList, Parameter, Sequential
from tinyllm.nn import functional as F


class MLP(Module):
    def __init__(self, size=3):
        self.fc = Linear(size, 2 * size)
        self.proj = Linear(2 * size, size)
        self.dropout = Dropout(0.5)

    def forward(self, x):
        return self.dropout(self.proj(F.relu(self.fc(x))))


class Net(Module):
    def __init__(self):
        self.blocks = ModuleList([MLP(), MLP()])
        self.norm = LayerNorm(3)
        self.scale = Parameter([2.0])
        self.add_buffer("seen", np.zeros(2))

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return self.norm(x) * self.scale


NAMES = ["scale", *[f"blocks.{i}.{layer}.{part}" for i in (0, 1) for layer in ("fc", "proj") for part in ("weight", "bias")],
         "norm.weight", "norm.bias"]


def test_names_are_attribute_paths_and_the_tensors_know_theirs():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert [p.name for p in net.parameters()] == NAMES
    assert dict(net.named_modules())["blocks.1.fc"] is net.blocks[1].fc
    assert [name for name, _ in net.named_buffers()] == ["seen"]
    net.blocks[1].fc.scale = Parameter([1.0])           # attached late, still under its whole path
    assert net.blocks[1].fc.scale.name == "blocks.1.fc.scale"


def test_a_shape_error_names_the_parameter():
    with fused(True), pytest.raises(ValueError, match=r"x \(2, 4\), blocks.0.fc.weight \(6, 3\)"):      # a definition names its own
        Net().blocks[0].fc(Tensor(np.zeros((2, 4), np.float32)))


def test_a_shared_parameter_counts_once():
    net = Sequential(Linear(3, 3, bias=False), Linear(3, 3, bias=False))
    net[1].weight = net[0].weight
    assert [name for name, _ in net.named_parameters()] == ["0.weight"] and net.num_params() == 9


def test_train_and_eval_reach_every_module():
    net = Net()
    x = np.ones((1, 3), np.float32)
    assert all(m.training for m in net.modules())
    assert net.eval() is net and not any(m.training for m in net.modules())
    assert np.array_equal(net(x).numpy(), net(x).numpy())
    assert net.train().blocks[0].dropout.training


def test_gradients_reach_every_parameter_and_can_be_forgotten():
    net = Net().eval()
    net(np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)).backward(np.random.default_rng(1).normal(size=(4, 3)))
    assert all(p.grad is not None and p.grad.shape == p.shape for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_requires_grad_freezes():
    net = Net().requires_grad_(False)
    assert not net(np.ones((1, 3), np.float32)).requires_grad
    assert net.requires_grad_()(np.ones((1, 3), np.float32)).requires_grad


def test_state_goes_from_one_model_to_another():
    one, two = Net().eval(), Net().eval()
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    one.seen[:] = 5
    assert not np.array_equal(one(x).numpy(), two(x).numpy())
    weight = two.blocks[0].fc.weight.data
    assert two.load_state_dict(one.state_dict()) == ([], [])
    assert np.array_equal(one(x).numpy(), two(x).numpy()) and two.seen.tolist() == [5, 5]
    assert two.blocks[0].fc.weight.data is weight and weight is not one.blocks[0].fc.weight.data


def test_a_state_that_does_not_fit_is_reported_whole_and_changes_nothing():
    net, state = Net(), Net().state_dict()
    before = {key: value.copy() for key, value in net.state_dict().items()}
    del state["norm.bias"], state["scale"]
    state["norm.gain"], state["extra"] = np.zeros(3), np.zeros(1)
    state["blocks.0.fc.weight"], state["seen"] = np.zeros((3, 6)), np.zeros(3)
    with pytest.raises(KeyError) as error:
        net.load_state_dict(state)
    assert str(error.value) == (
        "state of Net does not fit; missing (2): scale, norm.bias; unexpected (2): norm.gain, extra; of another shape (2): "
        "blocks.0.fc.weight: (3, 6) given, (6, 3) expected, seen: (3,) given, (2,) expected")
    with pytest.raises(KeyError, match="of another shape"):
        net.load_state_dict(state, strict=False)
    assert all(np.array_equal(value, before[key]) for key, value in net.state_dict().items())


def test_loose_loading_takes_what_fits_and_converts():
    net = Net()
    missing, unexpected = net.load_state_dict({"scale": np.array([7.0]), "other": np.zeros(1)}, strict=False)
    assert net.scale.numpy().tolist() == [7] and net.scale.dtype == np.float32
    assert unexpected == ["other"] and "scale" not in missing and len(missing) == len(NAMES)


def test_loading_under_a_live_graph_is_refused():
    net = Linear(2, 2)
    x = Tensor(np.ones((1, 2), np.float32), requires_grad=True)
    with fused(True):
        y = ops.sum(net(x))
    with pytest.raises(RuntimeError, match="load_state_dict would change weight, which linear saved for backward"):
        net.load_state_dict(net.state_dict())
    y.backward()
    net.load_state_dict(net.state_dict())


def test_repr_shows_the_tree():
    assert repr(Sequential(Linear(2, 3), Sequential(LayerNorm(3), Dropout(0.1)))) == (
        "Sequential(\n"
        "  (0): Linear(2, 3, bias=True)\n"
        "  (1): Sequential(\n"
        "    (0): LayerNorm(3, eps=1e-05, bias=True)\n"
        "    (1): Dropout(0.1)\n"
        "  )\n"
        ")")


def test_module_list_and_sequential():
    layers = ModuleList([Linear(2, 2)])
    layers.append(Linear(2, 3))
    assert len(layers) == 2 and layers[-1].weight.shape == (3, 2) and layers[-1].weight.name == "1.weight"
    assert [type(m) for m in layers] == [Linear, Linear]
    x = np.ones((1, 2), np.float32)
    assert np.array_equal(Sequential(*layers)(x).numpy(), layers[1](layers[0](x)).numpy())
    with pytest.raises(NotImplementedError, match=r"ModuleList has no forward"):
        layers(x)


def test_a_copy_has_parameters_of_its_own():
    net = Net()
    twin = copy.deepcopy(net)
    assert [p.name for p in twin.parameters()] == NAMES
    twin.scale.copy_([9.0])
    assert net.scale.item() == 2 and type(twin.scale) is Parameter
