import json

import pytest

from tinyllm.cli import main

START = ["--task", "copy", "--difficulty", "2", "--layers", "1", "--heads", "2", "--width", "32", "--seed", "0"]


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A run of `rl sft` that others start from."""
    path = tmp_path_factory.mktemp("rl") / "sft"
    assert main(["rl", "sft", *START, "--steps", "400", "--lr", "5e-3", "--batch", "32", "--until", "0.2", "--eval-prompts", "64", "--out", str(path)]) == 0
    return path


def failure(capsys, *words):
    """(exit code, the one line on stderr) of a command that fails."""
    code = main(["rl", *words])
    lines = capsys.readouterr().err.strip().splitlines()
    return code, lines[-1]


@pytest.mark.parametrize("way, options", [("grpo", ["--prompts", "4"]), ("ppo", ["--episodes", "16"]), ("dpo", ["--noise", "0"]), ("reward", [])])
def test_each_way_trains_and_leaves_a_run(started, way, options, tmp_path, capsys):
    path = tmp_path / way
    assert main(["rl", way, *START, "--init", str(started), "--steps", "2", "--eval-every", "1", "--eval-prompts", "16", "--out", str(path), *options]) == 0
    shown = capsys.readouterr().out
    assert "step 2/2" in shown and f"report: {path / 'report.html'}" in shown
    assert {"config.json", "tokenizer.json", "metrics.jsonl", "report.html", "checkpoints"} <= {file.name for file in path.iterdir()}
    records = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "seconds" in record] == [1, 2]
    assert main(["rl", "--resume", str(path)]) == 0
    assert "going on after step 2" in capsys.readouterr().out


def test_ppo_takes_a_reward_model(started, tmp_path, capsys):
    reward = tmp_path / "reward"
    common = [*START, "--init", str(started), "--steps", "2", "--eval-every", "2", "--eval-prompts", "16"]
    assert main(["rl", "reward", *common, "--out", str(reward)]) == 0
    assert "comparisons" in capsys.readouterr().out
    assert main(["rl", "ppo", *common, "--reward", str(reward), "--out", str(tmp_path / "ppo")]) == 0


def test_a_fresh_start_warms_up_first(tmp_path, capsys):
    words = ["rl", "grpo", *START, "--warm-until", "0.05", "--steps", "1", "--prompts", "4", "--eval-prompts", "16", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert shown.index("warm start") < shown.index("grpo:")


def test_compare_runs_all_ways_and_draws_one_chart(started, tmp_path, capsys):
    path = tmp_path / "compare"
    assert main(["rl", "compare", *START, "--init", str(started), "--steps", "2", "--pairs", "40", "--out", str(path)]) == 0
    curves = json.loads((path / "compare.json").read_text())
    assert set(curves) == {"PPO", "PPO, no price on KL", "PPO, weak reward model", "DPO", "GRPO, true reward"}
    assert all(points[0]["kl"] == pytest.approx(0, abs=1e-4) for points in curves.values())
    assert "score" in curves["PPO"][0] and "score" not in curves["DPO"][0]
    assert (path / "compare.html").read_text().count("<svg") == 3
    assert failure(capsys, "compare", *START, "--init", str(started), "--out", str(path))[0] == 2


@pytest.mark.parametrize("words, message", [
    (["grpo", "--task", "chess"], "no task is called 'chess'"), (["grpo", "--group-size", "1"], "alone in its group"),
    (["grpo", "--init", "nowhere"], "nowhere is not a run directory"), (["--resume", "nowhere"], "nowhere is not a run directory"),
    (["--resume", "nowhere", "grpo"], "leave out grpo"), ([], "say what to do"), (["dpo", "--pairs", "nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
    (["ppo", "--reward", "nowhere"], "nowhere is not a run directory"), (["grpo", "--task", "words", "--text", "nowhere.txt"], "nowhere.txt: cannot be read"),
    (["grpo", "--loss-type", "best"], "loss_type 'best'")])
def test_words_that_are_wrong_get_one_line(words, message, capsys):
    code, line = failure(capsys, *words)
    assert code == 2 and message in line


def test_a_start_from_another_task_is_refused(started, capsys):
    code, line = failure(capsys, "grpo", "--task", "addition", "--init", str(started))
    assert code == 2 and "does not know +" in line


def test_help_of_every_way_runs(capsys):
    for way in ("sft", "reward", "ppo", "grpo", "dpo", "compare"):
        assert main(["rl", way, "--help"]) == 0
        assert "--task" in capsys.readouterr().out


def test_a_task_that_is_a_file_is_not_run_because_a_directory_names_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    task = tmp_path / "mine.py"
    task.write_text("characters = '0123456789='\nmax_new_tokens = 3\n"
                    "def prompt(rng): return f'{int(rng.randint(0, 1000, 1)[0])}='\ndef reward(prompt, text): return float(text == prompt[:-1])\n"
                    "def answer(prompt, rng): return prompt[:-1]\n")
    assert main(["rl", "sft", "--task", "mine.py", "--steps", "1", "--eval-every", "1", "--out", "run", "--layers", "1", "--width", "8", "--heads", "2"]) == 0
    task.write_text(task.read_text() + "\nopen('was_run', 'w')\n")
    capsys.readouterr()
    assert main(["rl", "--resume", "run"]) == 2
    assert "is a Python file, mine.py, which would be run" in capsys.readouterr().err and not (tmp_path / "was_run").exists()
    assert main(["rl", "--resume", "run", "--task", "mine.py"]) == 0 and (tmp_path / "was_run").exists()
