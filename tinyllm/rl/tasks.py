"""Tasks whose answers can be checked: a prompt, and a reward for what the model makes of it.

A task is anything with

    characters              what prompts and completions are written in (the end of a completion is no character)
    max_new_tokens          the longest completion
    prompt(rng)             a prompt; `rng` is a tinyllm Generator
    reward(prompt, text)    a number for a completion, 0 to 1 here; NaN if it cannot be judged
    answer(prompt, rng)     a right completion, for the supervised warm start (a task without one starts from a trained model)

so a Python file with these names at its top level is a task too:

    characters, max_new_tokens = "0123456789>", 3

    def prompt(rng):
        return f"{rng.randint(0, 100, (1,))[0]}>"

    def reward(prompt, text):
        return float(text == prompt[:-1][::-1])

Tasks on words (acrostic, rhyme, words) take theirs from the tales that tinyllm writes, or from any text file.
"""

import importlib.util
import re
import zlib
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..text import tales

DIGITS, LETTERS = "0123456789", "abcdefghijklmnopqrstuvwxyz"


def _integers(rng, high, count=1, low=0):
    return [int(x) for x in rng.randint(low, high, (count,))]


def _pick(rng, items):
    return items[_integers(rng, len(items))[0]]


class Exact:
    """A task with one right answer: reward 1 for it, 0 for anything else. `difficulty` is how many digits."""

    characters = DIGITS + "="

    def __init__(self, difficulty=5):
        if not 1 <= difficulty <= 50:
            raise UserError(f"difficulty {difficulty}; expected 1 to 50")
        self.difficulty = difficulty
        self.max_new_tokens = difficulty + 1            # the end is a token too

    def prompt(self, rng):
        return "".join(map(str, _integers(rng, 10, self.difficulty))) + "="

    def reward(self, prompt, text):
        return float(text == self.answer(prompt))


class Copy(Exact):
    """42907= -> 42907

    >>> Copy(5).reward("42907=", "42907")
    1.0
    """

    def answer(self, prompt, rng=None): return prompt[:-1]


class Reverse(Exact):
    """42907= -> 70924"""

    def answer(self, prompt, rng=None): return prompt[-2::-1]


class Sort(Exact):
    """42907= -> 02479"""

    def answer(self, prompt, rng=None): return "".join(sorted(prompt[:-1]))


class Addition(Exact):
    """07+45= -> 250: the sum with its digits from the lowest, in the order in which carries arise.

    >>> Addition(2).answer("07+45=")
    '250'
    """

    characters = DIGITS + "+="

    def __init__(self, difficulty=2):
        super().__init__(difficulty)
        self.max_new_tokens = difficulty + 2

    def prompt(self, rng):
        one, two = ("".join(map(str, _integers(rng, 10, self.difficulty))) for _ in range(2))
        return f"{one}+{two}="

    def answer(self, prompt, rng=None):
        one, two = prompt[:-1].split("+")
        return f"{int(one) + int(two):0{self.difficulty + 1}}"[::-1]


class Parity(Exact):
    """0110> -> 0100: the parity so far after each bit, the last being the answer.

    The steps in between are the scratchpad: reward 1 asks for all of them, a right last digit alone is worth 0.2.
    """

    characters = "01>"

    def prompt(self, rng):
        return "".join(map(str, _integers(rng, 2, self.difficulty))) + ">"

    def answer(self, prompt, rng=None):
        return "".join(str(n % 2) for n in np.cumsum([int(bit) for bit in prompt[:-1]]))

    def reward(self, prompt, text):
        right = self.answer(prompt)
        return 1.0 if text == right else 0.2 if len(text) == len(right) and text[-1] == right[-1] else 0.0


class Graded:
    """A task with one right answer, paid by the character: the share of them that stand where they should.

    >>> Graded(Sort(4)).reward("4290=", "0294")
    0.5
    """

    def __init__(self, task):
        self.characters, self.max_new_tokens = task.characters, task.max_new_tokens
        self.prompt, self.answer = task.prompt, task.answer

    def reward(self, prompt, text):
        """0 to 1; a completion that is too long or too short is measured against the longer of the two."""
        right = self.answer(prompt)
        return sum(a == b for a, b in zip(text, right)) / max(len(text), len(right))


class Brackets(Exact):
    """(([ -> ]()) or ])() or …: any completion to `difficulty` balanced pairs of round and square brackets."""

    characters = "()[]"

    def __init__(self, difficulty=4):
        super().__init__(difficulty)
        self.max_new_tokens = 2 * difficulty

    def prompt(self, rng):
        count = _integers(rng, self.difficulty)[0] + 1
        return "".join(_pick(rng, "([") for _ in range(count))

    def answer(self, prompt, rng):
        text, left = prompt, 2 * self.difficulty - len(prompt)
        while left:
            depth = text.count("(") + text.count("[") - text.count(")") - text.count("]")
            if depth < left and (depth == 0 or _integers(rng, 2)[0]):
                text += _pick(rng, "([")
            else:
                text += {"(": ")", "[": "]"}[_innermost(text)]
            left -= 1
        return text[len(prompt):]

    def reward(self, prompt, text):
        whole = prompt + text
        return float(len(whole) == 2 * self.difficulty and _innermost(whole) == "")


def _innermost(text):
    """The innermost open bracket; "" if all are closed, None if one closes what is not open."""
    stack = []
    for bracket in text:
        if bracket in "([":
            stack.append(bracket)
        elif not stack or stack.pop() + bracket not in ("()", "[]"):
            return None
    return stack[-1] if stack else ""


class Format(Exact):
    """3+5= -> <t>3+5</t><a>8</a>: 0.2 for the form, the rest for the number."""

    characters = DIGITS + "+=<>/ta"
    shape = re.compile(r"<t>[0-9+]{1,5}</t><a>([0-9]{1,2})</a>")

    def __init__(self, difficulty=1):
        super().__init__(difficulty)
        self.max_new_tokens = 16 + 3 * difficulty + 3

    prompt = Addition.prompt

    def answer(self, prompt, rng=None):
        return f"<t>{prompt[:-1]}</t><a>{sum(map(int, prompt[:-1].split('+')))}</a>"

    def reward(self, prompt, text):
        match = self.shape.fullmatch(text)
        return 0.0 if match is None else 0.2 + 0.8 * (int(match[1]) == sum(map(int, prompt[:-1].split("+"))))


class Words:
    """Base of the tasks on words; `source` is a text file, or None for the tales."""

    characters = LETTERS + " :" + DIGITS

    def __init__(self, difficulty=3, source=None):
        if not 1 <= difficulty <= 9:
            raise UserError(f"difficulty {difficulty}; expected 1 to 9")
        self.difficulty = difficulty
        try:
            text = "".join(tales.write(seed) for seed in range(60)) if source is None else Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{source}: cannot be read as a text: {error}") from None
        self.words = sorted({word for word in re.findall(r"[a-z]+", text.lower()) if 2 < len(word) < 8})
        self.by_first = {letter: [word for word in self.words if word[0] == letter] for letter in LETTERS}
        self.by_end = {}
        for word in self.words:
            self.by_end.setdefault(word[-2:], []).append(word)
        self.known = set(self.words)
        self.max_new_tokens = 8 * difficulty
        if len(self.words) < 50:
            raise UserError(f"{source}: {len(self.words)} words of 3 to 7 letters; a task on words needs 50 different ones")


class Acrostic(Words):
    """cat: -> cold and tiny: words whose first letters spell the prompt; the share of letters that are right."""

    def prompt(self, rng):
        letters = [letter for letter in LETTERS if self.by_first[letter]]
        return "".join(_pick(rng, letters) for _ in range(self.difficulty)) + ":"

    def answer(self, prompt, rng):
        return " ".join(_pick(rng, self.by_first[letter]) for letter in prompt[:-1])

    def reward(self, prompt, text):
        words = text.split(" ")
        good = sum(word in self.known and word[0] == letter for word, letter in zip(words, prompt[:-1]))
        return good / max(len(words), len(prompt) - 1)


class Rhyme(Words):
    """hat: -> cat: another word with the same last two letters."""

    def __init__(self, difficulty=1, source=None):
        super().__init__(difficulty, source)
        self.rhyming = [word for word in self.words if len(self.by_end[word[-2:]]) > 1]
        if not self.rhyming:
            raise UserError(f"{source}: no two words end in the same two letters")

    def prompt(self, rng):
        return _pick(rng, self.rhyming) + ":"

    def answer(self, prompt, rng):
        return _pick(rng, [word for word in self.by_end[prompt[-3:-1]] if word != prompt[:-1]])

    def reward(self, prompt, text):
        return float(text in self.known and text != prompt[:-1] and text[-2:] == prompt[-3:-1])


class LineLength(Words):
    """3: -> a cold day: a line of so many words; less 1/n for each word too many, too few, or unknown."""

    def prompt(self, rng):
        return f"{_integers(rng, self.difficulty + 1, low=1)[0]}:"

    def answer(self, prompt, rng):
        return " ".join(_pick(rng, self.words) for _ in range(int(prompt[:-1])))

    def reward(self, prompt, text):
        count, words = int(prompt[:-1]), text.split(" ")
        wrong = sum(word not in self.known for word in words)
        return max(0.0, 1 - (abs(len(words) - count) + wrong) / count)


TASKS = {"copy": Copy, "reverse": Reverse, "sort": Sort, "addition": Addition, "parity": Parity, "brackets": Brackets,
         "format": Format, "acrostic": Acrostic, "rhyme": Rhyme, "words": LineLength}


def load_task(name, difficulty=None, source=None):
    """The task of that name, or the one in a Python file; `difficulty` and `source` as its class takes them.

    UserError for an unknown name, and for a file that lacks something a task needs or cannot be run.
    """
    if str(name).endswith(".py"):
        if difficulty is not None or source is not None:
            raise UserError(f"{name} is a task of its own: a difficulty or a text is for the built-in ones")
        return _from_file(Path(name))
    if name not in TASKS:
        raise UserError(f"no task is called {name!r}; there are {', '.join(TASKS)}, or give a Python file (NAME.py)")
    options = {} if difficulty is None else {"difficulty": difficulty}
    if source is not None:
        if not issubclass(TASKS[name], Words):
            raise UserError(f"task {name} reads no text; those on words do: acrostic, rhyme, words")
        options["source"] = source
    return TASKS[name](**options)


def _from_file(path):
    if not path.is_file():
        raise UserError(f"{path} is not there; a task file is a Python file with characters, max_new_tokens, prompt, reward")
    spec = importlib.util.spec_from_file_location(f"task_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:      # whatever a user's file does wrong is reported as the user's
        raise UserError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    missing = [name for name in ("characters", "max_new_tokens", "prompt", "reward") if not hasattr(module, name)]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}; a task has characters, max_new_tokens, prompt(rng) and reward(prompt, text)")
    return module


def judge(task, prompt, text):
    """The task's reward as a float; UserError for a task that raises, or returns no number or an infinite one. NaN passes."""
    try:
        value = task.reward(prompt, text)
    except Exception as error:      # a user's function: whatever it raises is the user's to know
        raise UserError(f"the task's reward({prompt!r}, {text!r}) raised {type(error).__name__}: {error}") from error
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise UserError(f"the task's reward({prompt!r}, {text!r}) is {value!r}; expected a number") from None
    if np.isinf(number):
        raise UserError(f"the task's reward({prompt!r}, {text!r}) is infinite; give NaN for what cannot be judged")
    return number


class Prompts:
    """Prompts of a task, one in ten of them kept apart: `draw` gives those to train on, or with `held_out` the others.

    Which side a prompt is on is decided by its text alone, so no training prompt is ever held out, whatever the seed.

    >>> from tinyllm import Generator
    >>> prompts = Prompts(Reverse(5))
    >>> len(set(prompts.draw(5, Generator(0))) & set(prompts.draw(5, Generator(0), held_out=True)))
    0
    """

    TRIES = 10_000

    def __init__(self, task):
        self.task = task

    def draw(self, count, rng, held_out=False):
        """`count` prompts of one side, as a list."""
        drawn = []
        for _ in range(self.TRIES + 100 * count):
            prompt = self.task.prompt(rng)
            if not isinstance(prompt, str) or not prompt:
                raise UserError(f"the task's prompt(rng) is {prompt!r}; expected a text of at least one character")
            if (zlib.crc32(prompt.encode()) % 10 == 0) == held_out:
                drawn.append(prompt)
                if len(drawn) == count:
                    return drawn
        raise UserError(f"the task has too few different prompts to hold one in ten apart: {self.TRIES + 100 * count} draws gave "
                        f"{len(drawn)} {'held-out' if held_out else 'training'} ones; let prompt(rng) vary more")
