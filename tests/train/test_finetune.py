"""Fine-tuning: only responses count, nobody can smuggle in a special token, a stopped run goes on bit for bit, and it learns."""

import json

import numpy as np
import pytest

import tinyllm.cli
from tinyllm.engine.random import Generator
from tinyllm.errors import UserError
from tinyllm.load import load
from tinyllm.models import GPT, GPTConfig
from tinyllm.text.batches import IGNORE
from tinyllm.tokenizers import BPETokenizer, CharTokenizer
from tinyllm.train.examples import TEMPLATES, ShuffledRows, answer_rows, batch_of, class_rows, read_examples
from tinyllm.train.finetune import TuneConfig, Tuning, classify
from tinyllm.train.loop import Stopped, TrainConfig

COLOURS = {"sky": "blue", "sun": "gold", "sea": "blue", "hay": "gold"}
CHARACTERS = CharTokenizer.train("abcdefghijklmnopqrstuvwxyz?.\n ")


def lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


@pytest.fixture
def answers(tmp_path):
    """Colours asked for."""
    names = list(COLOURS) * 12
    return lines(tmp_path / "answers.jsonl", [{"prompt": f"the {name}?", "response": COLOURS[name]} for name in names])


@pytest.fixture
def classes(tmp_path):
    """Colours as classes."""
    names = list(COLOURS) * 12
    return lines(tmp_path / "classes.jsonl", [{"text": f"the {name}", "label": COLOURS[name]} for name in names])


def small(seed=0):
    return GPT(GPTConfig(CHARACTERS.vocab_size, 1, 2, 16, 24), Generator(seed))


def config(**changes):
    return TrainConfig(**{**dict(steps=60, batch=8, lr=1e-2, min_lr=1e-3, warmup=2, weight_decay=0.0, eval_every=30, seed=3), **changes})


def test_the_loss_is_the_mean_over_the_tokens_of_the_responses():
    records = [{"prompt": "ab?", "response": "cd"}, {"prompt": "a longer one?", "response": "e"}]
    rows = answer_rows(CHARACTERS, records, TEMPLATES["lines"])
    ids, targets = batch_of(rows)
    assert [CHARACTERS.decode(row[row != IGNORE]) for row in targets] == ["cd\n", "e\n"]
    model = small().eval()
    logits = model(ids).numpy().astype(np.float64)
    logp = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    told = [-logp[i, t, targets[i, t]] for i, t in np.argwhere(targets != IGNORE)]
    assert len(told) == 5 and model.loss(ids, targets).item() == pytest.approx(np.mean(told), rel=1e-5)


def test_padding_and_the_prompts_own_words_change_nothing():
    rows = answer_rows(CHARACTERS, [{"prompt": "ab?", "response": "cd"}, {"prompt": "abc?", "response": "cdefgh"}], TEMPLATES["plain"])
    model = small().eval()
    (one, first), (two, second) = batch_of(rows[:1]), batch_of(rows[1:])
    kept = [(t != IGNORE).sum() for t in (first, second)]
    both = model.loss(*batch_of(rows)).item()
    assert both == pytest.approx((model.loss(one, first).item() * kept[0] + model.loss(two, second).item() * kept[1]) / sum(kept), rel=1e-5)


def test_llama3s_template_is_the_published_one():
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer = BPETokenizer.train("user assistant hello " * 5, 256 + len(names), special_tokens=names)
    shown, answer = TEMPLATES["llama3"].encode(tokenizer, "hello", "you")
    assert tokenizer.decode(shown + answer) == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhello<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nyou<|eot_id|>")
    special = {name: tokenizer.special_tokens[name] for name in names}
    assert [i for i in shown if i in special.values()] == [special[name] for name in (names[0], names[2], names[3], names[4], names[2], names[3])]
    assert answer[-1] == special["<|eot_id|>"]


def test_a_prompt_cannot_speak_for_somebody_else():
    tokenizer = BPETokenizer.train("abc " * 5, 260, special_tokens=["<|im_start|>", "<|im_end|>"])
    shown, _ = TEMPLATES["chatml"].encode(tokenizer, "x<|im_end|>y")
    honest, _ = TEMPLATES["chatml"].encode(tokenizer, "xy")
    end = tokenizer.special_tokens["<|im_end|>"]
    assert shown.count(end) == honest.count(end) == 1 and "x<|im_end|>y" in tokenizer.decode(shown)


def test_a_class_is_the_only_target_and_stands_at_the_last_token():
    rows = class_rows(CHARACTERS, [{"text": "abc", "label": "y"}, {"text": "a", "label": "x"}], ["x", "y"])
    ids, targets = batch_of(rows)
    assert ids.tolist() == [CHARACTERS.encode("abc"), [*CHARACTERS.encode("a"), 0, 0]]
    assert targets.tolist() == [[IGNORE, IGNORE, 1], [0, IGNORE, IGNORE]]


def test_every_row_once_before_any_twice_and_the_same_again():
    rows = [(np.array([i, i]), 1) for i in range(6)]
    batches = ShuffledRows(rows, 2, Generator(0))
    seen = [int(i) for _ in range(3) for i in next(batches)[0][:, 0]]
    assert sorted(seen) == list(range(6))
    state = json.loads(json.dumps(batches.state_dict()))
    other = ShuffledRows(rows, 2, Generator(9))
    other.load_state_dict(state)
    for _ in range(7):
        assert np.array_equal(next(batches)[0], next(other)[0])


def test_answers_are_learned_and_end(answers, tmp_path):
    with Tuning.new(tmp_path / "run", small(), CHARACTERS, TuneConfig(answers, "lines"), config(steps=150, eval_every=50)) as tuning:
        tuning.trainer.fit()
    model, tokenizer = load(tmp_path / "run")
    for name, colour in COLOURS.items():
        prompt = TEMPLATES[model.template].encode(tokenizer, f"the {name}?")[0]
        assert tokenizer.decode(model.generate(prompt, 12, temperature=0)) == f"the {name}?\n{colour}"


@pytest.mark.parametrize("lora", [0, 4])
def test_classes_are_learned(classes, tmp_path, lora):
    start = small()
    tune = TuneConfig(classes, labels=["blue", "gold"], lora=lora)
    with Tuning.new(tmp_path / "run", small(), CHARACTERS, tune, config(steps=150, eval_every=50)) as tuning:
        tuning.trainer.fit()
        assert tuning.accuracy() == 1
        if lora:    # the tables and norms are those it began with
            state = tuning.model.state_dict()
            assert all(np.array_equal(array, state[name]) for name, array in start.state_dict().items())
    model, tokenizer = load(tmp_path / "run")
    assert model.labels == ["blue", "gold"] and not any("lora" in name for name in model.state_dict())
    for name, colour in COLOURS.items():
        ranked = classify(model, tokenizer, f"the {name}")
        assert ranked[0][0] == colour and sum(p for _, p in ranked) == pytest.approx(1)
    with pytest.raises(UserError, match="is a classifier"):
        model.save_pretrained(tmp_path / "out")


def test_a_stopped_run_goes_on_bit_for_bit(answers, tmp_path, monkeypatch):
    tune = TuneConfig(answers, "lines", lora=2)
    with Tuning.new(tmp_path / "whole", small(), CHARACTERS, tune, config()) as tuning:
        tuning.trainer.fit()
    with Tuning.new(tmp_path / "cut", small(), CHARACTERS, tune, config()) as tuning:
        step = tuning.trainer.train_step

        def stopping():
            if tuning.trainer.step == 40:
                tuning.trainer.save("last")
                raise Stopped("enough")
            return step()
        monkeypatch.setattr(tuning.trainer, "train_step", stopping)
        with pytest.raises(Stopped):
            tuning.trainer.fit()
    with Tuning.resume(tmp_path / "cut") as tuning:
        assert tuning.trainer.step == 40
        tuning.trainer.fit()
    whole, cut = (load(tmp_path / name)[0].state_dict() for name in ("whole", "cut"))
    assert all(np.array_equal(whole[name], cut[name]) for name in whole)


@pytest.mark.parametrize("text, message", [
    ('{"prompt": "a", "response": "b"}\n{', "line 2 is not JSON"), ('{"prompt": "a"}\n', "line 1: expected an object with the texts 'prompt' and"),
    ("[]\n", "line 1 is a JSON list, expected an object"), ('{"prompt": "a", "response": "b"}\n', "has 1 examples; expected at least 2")])
def test_files_that_are_refused(tmp_path, text, message):
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(UserError, match=message):
        read_examples(tmp_path / "x.jsonl", ("prompt", "response"))


def test_an_example_that_does_not_fit(tmp_path):
    path = lines(tmp_path / "x.jsonl", [{"prompt": "a", "response": "b"}, {"prompt": "a" * 30, "response": "b"}])
    with pytest.raises(UserError, match="example 2 has 33 tokens; the model knows 24 positions"):
        Tuning(small(), CHARACTERS, TuneConfig(path, "lines"), config())


def test_from_the_command_line(answers, classes, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("the sky? blue\nthe sun? gold\nthe sea? blue\nthe hay? gold\n" * 30)
    run = ["--layers", "1", "--heads", "2", "--width", "16", "--block", "24", "--steps", "3", "--sample", "0", "--seed", "0"]
    assert tinyllm.cli.main(["train", str(tmp_path / "text.txt"), *run, "--out", str(tmp_path / "base")]) == 0
    words = ["--steps", "60", "--lr", "1e-2", "--seed", "0"]
    assert tinyllm.cli.main(["finetune", str(tmp_path / "base"), answers, "--template", "lines", *words, "--out", str(tmp_path / "told")]) == 0
    assert tinyllm.cli.main(["finetune", str(tmp_path / "base"), classes, "--classify", *words, "--out", str(tmp_path / "sorted")]) == 0
    said = capsys.readouterr().out
    assert "template lines" in said and "classes are right" in said and (tmp_path / "told" / "report.html").is_file()
    assert tinyllm.cli.main(["sample", str(tmp_path / "told"), "--prompt", "the sun?", "--temperature", "0"]) == 0
    assert capsys.readouterr().out.startswith("the sun?\n")
    assert tinyllm.cli.main(["sample", str(tmp_path / "sorted"), "--prompt", "the sun"]) == 0
    assert sorted(line.split()[1] for line in capsys.readouterr().out.splitlines()) == ["blue", "gold"]
    for words, message in ((["finetune"], "tinyllm finetune MODEL FILE"), (["finetune", str(tmp_path / "base"), "nowhere"], "nowhere is not a file"),
                           (["finetune", str(tmp_path / "sorted"), answers], "is a classifier"),
                           (["train", "--resume", str(tmp_path / "told")], "go on with tinyllm finetune --resume")):
        assert tinyllm.cli.main(words) == 2
        assert message in capsys.readouterr().err
