import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_the_interactive_examples_print_what_they_say():
    result = run("-m", "doctest", "README.md")
    assert result.returncode == 0, result.stdout + result.stderr
    assert README.count(">>> ") > 5


def test_the_loop_prints_what_it_says():
    """The losses to 0.03: sums are taken in another order on another processor, and training carries that on."""
    loop, printed = re.search(r"```python\n(import tinyllm as tl\n\ntl.manual_seed.*?)```\n```text\n(.*?)```", README, re.S).groups()
    result = run("-c", loop)
    assert result.returncode == 0, result.stderr
    number = re.compile(r"\d+\.\d+")
    assert number.sub("#", result.stdout) == number.sub("#", printed)
    assert [float(x) for x in number.findall(result.stdout)] == pytest.approx([float(x) for x in number.findall(printed)], abs=0.03)


def test_every_command_it_names_is_there():
    from tinyllm.cli import COMMANDS
    named = set(re.findall(r"`tinyllm ([a-z]+)", README))
    assert named >= {"train", "sample", "step", "gradcheck", "data", "bench"} and named <= set(COMMANDS)


def test_ci_installs_with_the_words_of_the_readme():
    install = re.search(r'pip install -e "[^"]+"', README).group()
    assert install.removeprefix("pip install ") in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
