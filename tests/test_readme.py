import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tinyllm.train.metrics import read_metrics

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300, env={**os.environ, "TINYLLM_FUSED": "1"})


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
    named = set(re.findall(r"`(?:mpiexec -n \w+ )?tinyllm ([a-z]+)", README))
    assert named >= {"train", "sample", "step", "gradcheck", "data", "bench"} and named <= set(COMMANDS)


def test_ci_installs_with_the_words_of_the_readme():
    install = re.search(r'pip install -e "[^"]+"', README).group()
    assert install.removeprefix("pip install ") in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_file_it_names_is_there():
    places = set(re.findall(r"\]\((?!http)([^)]+)\)", README)) | set(re.findall(r"`(?:python|pytest) ([\w/.]+)`", README))
    assert len(places) > 24 and [place for place in places if not (ROOT / place).exists()] == []
    assert sorted(path.name for path in (ROOT / "examples").glob("[0-9]*.py")) == sorted(Path(p).name for p in places if re.match(r"examples/\d", p))


# ---- its commands, run as pasted, and the figures printed beside them


def shell_lines():
    """The commands of the shell blocks that call tinyllm, but for the first block, which installs."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.S)[1:]
    return [line for block in blocks for line in block.splitlines() if line.startswith("tinyllm ")]


@pytest.mark.slow
def test_the_commands_on_a_text_of_one_s_own_run_as_pasted(tmp_path):
    (tmp_path / "mytext.txt").write_text((ROOT / "data" / "tales.txt").read_text(encoding="utf-8")[:200_000], encoding="utf-8")
    own = [line for line in shell_lines() if "mytext" in line]
    assert len(own) == 2
    for line in own:
        tinyllm(line, tmp_path)


@pytest.mark.slow
def test_the_picture_is_of_the_default_run(tmp_path):
    """Its best point to 0.03, for another processor sums in another order; the floor is exact."""
    picture = (ROOT / "examples" / "default_run.svg").read_text(encoding="utf-8")
    best, floor = (float(re.search(words, picture).group(1)) for words in (r"best (\d\.\d+) at 1500", r"entropy of the text (\d\.\d+)"))
    tinyllm("tinyllm train --seed 1 --shards 2 --out run", tmp_path)
    losses = [record["val_loss"] for record in read_metrics(tmp_path / "run" / "metrics.jsonl") if "val_loss" in record]
    assert losses[-1] == min(losses) == pytest.approx(best, abs=0.03)
    config = json.loads((tmp_path / "run" / "config.json").read_bytes())
    assert config["data"]["floor_per_token"] == pytest.approx(floor, abs=5e-5)


@pytest.mark.slow
def test_the_recipe_s_loss_is_the_one_printed(tmp_path):
    """To 0.01: another processor sums in another order."""
    if not os.environ.get("TINYLLM_DATA"):
        pytest.skip("TINYLLM_DATA names no directory with tinyshakespeare.txt")
    (line,) = [line for line in shell_lines() if "tinyshakespeare" in line]
    printed = float(re.search(r"validation loss of (\d\.\d+)", README).group(1))
    out = tinyllm(line.replace("tinyshakespeare.txt", os.path.join(os.environ["TINYLLM_DATA"], "tinyshakespeare.txt")), tmp_path)
    assert float(re.search(r"validation loss (\d\.\d+)", out).group(1)) == pytest.approx(printed, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["dpo", "grpo"])
def test_reinforcement_learning_gets_as_far_as_printed(way, tmp_path):
    """Sampled accuracy of seed 0 before and after, to 5 points."""
    before, after = map(float, re.search(rf"`tinyllm rl {way}` \| ([\d.]+)% → ([\d.]+)%", README).groups())
    tinyllm(f"tinyllm rl {way} --seed 0 --out run", tmp_path)
    accuracies = [100 * record["eval_accuracy"] for record in read_metrics(tmp_path / "run" / "metrics.jsonl") if "eval_accuracy" in record]
    assert accuracies[0] == pytest.approx(before, abs=5) and accuracies[-1] == pytest.approx(after, abs=5)


def tinyllm(line, place):
    result = subprocess.run([sys.executable, "-m", *shlex.split(line)], cwd=place, capture_output=True, text=True, timeout=600,
                            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))})
    assert result.returncode == 0, result.stderr
    return result.stdout
