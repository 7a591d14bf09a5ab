"""tinyllm gradcheck: the registry, one name, a function of a script; exit codes."""

import shlex

import numpy as np
import pytest
import tinyllm as tl
from tinyllm.cli import gradcheck as command
from tinyllm.cli import main

SCRIPT = """
import numpy as np
import tinyllm as tl

def product(x=np.array([1.0, 2.0]), w=np.array([0.5, -1.0])):
    return (x * w).tanh()

def problem():
    return (lambda x: tl.ops.exp(x)), [np.array([0.5])]

def cut():
    return (lambda x: x.detach() * x), [np.array([0.5, 2.0])]

def single(x=np.ones(2, np.float32)):
    return x

def bare(x):
    return x

def nothing():
    return 3
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SCRIPT)
    return str(path)


def test_everything_is_checked(capsys):
    assert main(["gradcheck"]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line.endswith(" ok") and "," not in line]
    assert {"matmul", "softmax", "add", "getitem"} <= {row[0] for row in rows}
    errors = [float(row[3]) for row in rows]
    assert errors == sorted(errors, reverse=True)
    assert "all ok" in out and all(f"gradcheck {name} (directional): ok" in out for name in ("GPT", "Llama", "DeepSeek"))


def test_one_primitive_and_the_pasted_example(capsys):
    assert main(shlex.split(command.EXAMPLE)[1:]) == 0
    assert capsys.readouterr().out.startswith("gradcheck matmul: ok")


@pytest.mark.parametrize("name, parameters", [("gpt", ["wte.weight", "blocks.1.attn.qkv.weight"]), ("llama", ["blocks.1.mlp."]),
                                              ("deepseek", ["blocks.1."])])
def test_a_toy_model(capsys, name, parameters):
    assert main(["gradcheck", name, "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert all(parameter in out for parameter in parameters)


@pytest.mark.parametrize("name, inputs", [("product", ["x", "w"]), ("problem", ["x"])])
def test_a_function_of_a_script(script, capsys, name, inputs):
    assert main(["gradcheck", f"{script}:{name}"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[2:]] == inputs


def test_a_wrong_gradient_exits_with_1(script, capsys):
    assert main(["gradcheck", f"{script}:cut"]) == 1
    assert "half the truth" in capsys.readouterr().out


@pytest.mark.parametrize("name, words", [
    ("single", "float32"), ("bare", "give x an array as default"), ("nothing", "returns \\(fn, inputs\\)"), ("absent", "has no function absent"),
])
def test_what_a_script_may_do_wrong_is_one_line(script, capsys, name, words):
    import re
    assert main(["gradcheck", f"{script}:{name}"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and re.search(words, err)


def test_unknown_names_files_and_broken_scripts(tmp_path, capsys):
    assert main(["gradcheck", "matmull"]) == 2
    assert "no primitive or model of that name; there are abs, add" in capsys.readouterr().err
    assert main(["gradcheck", str(tmp_path / "none.py") + ":f"]) == 2
    assert "there is no file" in capsys.readouterr().err
    assert main(["gradcheck", str(tmp_path / "none.py")]) == 2
    assert "name a function in it" in capsys.readouterr().err
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0\n")
    assert main(["gradcheck", f"{broken}:f"]) == 1
    assert "does not run: ZeroDivisionError" in capsys.readouterr().err


def test_a_wrong_rule_in_the_registry_exits_with_1(capsys):
    class Wrong(tl.Primitive):
        def forward(a): return 2 * a
        def grad_a(g): return -2 * g
        def samples(rng): yield rng.normal(size=3),
    try:
        assert main(["gradcheck"]) == 1
        assert "FAILED: wrong" in capsys.readouterr().out
        assert main(["gradcheck", "wrong"]) == 1
        assert "the sign is flipped" in capsys.readouterr().out
    finally:
        del tl.primitives["wrong"]


def test_the_seed_changes_the_samples(capsys):
    main(["gradcheck", "exp"])
    first = capsys.readouterr().out
    main(["gradcheck", "exp", "--seed", "1"])
    numbers = [[line.split()[-4] for line in text.splitlines() if "ok" in line][1:4] for text in (first, capsys.readouterr().out)]
    assert numbers[0] != numbers[1]
    assert np.isfinite(float(numbers[0][0]))
