import math

import numpy as np
import pytest

from tinyllm import Generator
from tinyllm.errors import UserError
from tinyllm.rl.tasks import TASKS, Graded, Prompts, judge, load_task


@pytest.fixture(scope="module", params=TASKS)
def task(request):
    return load_task(request.param)


def test_answers_are_right_fit_and_use_the_tasks_characters(task):
    rng = Generator(0)
    for prompt in Prompts(task).draw(50, rng):
        answer = task.answer(prompt, rng)
        assert task.reward(prompt, answer) == 1.0, (prompt, answer)
        assert len(answer) + 1 <= task.max_new_tokens
        assert set(prompt + answer) <= set(task.characters)


def test_nonsense_is_worth_less_than_everything(task):
    rng = Generator(1)
    for prompt in Prompts(task).draw(20, rng):
        for text in ("", task.characters[0] * 30):
            assert 0.0 <= task.reward(prompt, text) < 1.0


@pytest.mark.parametrize("name, difficulty, prompt, text, reward", [
    ("copy", 3, "042=", "042", 1), ("reverse", 3, "042=", "240", 1), ("reverse", 3, "042=", "042", 0), ("sort", 4, "3103=", "0133", 1),
    ("addition", 2, "07+45=", "250", 1), ("addition", 2, "99+99=", "891", 1), ("addition", 2, "07+45=", "052", 0),
    ("parity", 4, "0110>", "0100", 1), ("parity", 4, "0110>", "1110", 0.2), ("parity", 4, "0110>", "0", 0), ("parity", 4, "0111>", "0101", 1),
    ("brackets", 2, "(", "[])", 1), ("brackets", 2, "(", ")[]", 1), ("brackets", 2, "(", "(]]", 0), ("brackets", 2, "(", ")", 0),
    ("format", 1, "3+5=", "<t>3+5</t><a>8</a>", 1), ("format", 1, "3+5=", "<t>1</t><a>7</a>", 0.2), ("format", 1, "3+5=", "8", 0)])
def test_rewards_by_hand(name, difficulty, prompt, text, reward):
    assert load_task(name, difficulty).reward(prompt, text) == reward


@pytest.mark.parametrize("text, reward", [("0249", 1), ("0248", 0.75), ("4290", 0.25), ("024", 0.75), ("02490", 0.8), ("", 0)])
def test_a_graded_task_pays_by_the_character(text, reward):
    assert Graded(load_task("sort", 4)).reward("4290=", text) == reward


def test_tasks_on_words_read_a_text_of_ones_own(tmp_path):
    poem = tmp_path / "poem.txt"
    words = [first + end for first in "bcdfghjklmnprst" for end in ("ight", "one", "ook", "ay")]
    poem.write_text(" ".join(words))
    rhyme = load_task("rhyme", source=poem)
    assert rhyme.reward("light:", "night") == 1 and rhyme.reward("light:", "light") == 0 and rhyme.reward("light:", "xight") == 0
    acrostic = load_task("acrostic", 3, poem)
    assert acrostic.reward("bed:", "bone") == pytest.approx(1 / 3)
    assert load_task("words", 3, poem).reward("2:", "night light") == 1
    assert load_task("words", 3, poem).reward("2:", "night") == 0.5
    with pytest.raises(UserError, match="reads no text"):
        load_task("copy", source=poem)
    poem.write_text("one two three")
    with pytest.raises(UserError, match="3 words"):
        load_task("rhyme", source=poem)


def test_one_prompt_in_ten_is_held_out_and_never_trained_on():
    prompts, rng = Prompts(load_task("addition")), Generator(0)
    train, held = set(prompts.draw(3000, rng)), set(prompts.draw(400, rng, held_out=True))
    assert not train & held
    every = [f"{a:02}+{b:02}=" for a in range(100) for b in range(100)]
    import zlib
    assert 0.09 < np.mean([zlib.crc32(p.encode()) % 10 == 0 for p in every]) < 0.11


OWN = '''
characters, max_new_tokens = "0123456789>", 4

def prompt(rng):
    return f"{rng.randint(0, 1000, (1,))[0]}>"

def reward(prompt, text):
    return float(text == prompt[:-1][::-1])
'''


def test_a_task_of_ones_own_is_a_python_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    task = load_task(path)
    prompt = Prompts(task).draw(1, Generator(0))[0]
    assert judge(task, prompt, prompt[:-1][::-1]) == 1.0


@pytest.mark.parametrize("change, message", [
    (("def reward", "def rewarded"), "lacks reward"), (("def prompt(rng):", "def prompt(rng:"), "cannot be run: SyntaxError")])
def test_a_file_that_is_no_task_is_refused(tmp_path, change, message):
    path = tmp_path / "mine.py"
    path.write_text(OWN.replace(*change))
    with pytest.raises(UserError, match=message):
        load_task(path)
    with pytest.raises(UserError, match="is not there"):
        load_task(tmp_path / "other.py")


class Odd:
    """A task whose reward is what it is told."""

    characters, max_new_tokens = "ab", 2

    def __init__(self, value=None, prompts=None):
        self.value, self.prompts = value, prompts

    def prompt(self, rng):
        return self.prompts

    def reward(self, prompt, text):
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


@pytest.mark.parametrize("value, message", [
    (ZeroDivisionError("by nothing"), "raised ZeroDivisionError: by nothing"), ("good", "is 'good'; expected a number"),
    (None, "is None; expected a number"), (math.inf, "is infinite")])
def test_a_reward_that_is_none_is_refused_with_the_prompt_that_caused_it(value, message):
    with pytest.raises(UserError, match=message) as caught:
        judge(Odd(value), "a", "b")
    assert "reward('a', 'b')" in str(caught.value)
    assert math.isnan(judge(Odd(math.nan), "a", "b"))


def test_prompts_that_are_none_or_never_vary_are_refused():
    with pytest.raises(UserError, match="expected a text of at least one character"):
        Prompts(Odd(prompts="")).draw(1, Generator(0))
    with pytest.raises(UserError, match="too few different prompts"):
        Prompts(Odd(prompts="a")).draw(1, Generator(0), held_out=True)
    with pytest.raises(UserError, match="there are copy, reverse"):
        load_task("chess")
    with pytest.raises(UserError, match="difficulty 0"):
        load_task("copy", 0)
