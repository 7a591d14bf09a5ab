"""Short tales of animals, written by a grammar, with their exact entropy: the text that tinyllm ships.

A curve of the training loss says how far a model has come; it does not say how far there is to go, because
nobody knows the entropy of English. Of these tales it is known. They are drawn from a probabilistic grammar
(`grammar.py` has the idea, `tale_rules.py` the plots, `tale_lists.py` the animals), every choice can be read
off the text, and so the mean number of nats of the choices, divided by the mean number of characters, is the
lowest loss per character that a model can expect on tales it has not seen:

    entropy_per_char()         the floor of the source: an exact expectation over all tales
    surprisal(text)            the nats that one given text really contains, so that the loss on a validation
                               text can be shown beside the floor of exactly that text; divided by its number
                               of tokens it is the floor for any tokenizer

A model that has yet to learn the grammar is above the floor; one that sees only the last few characters stays
above it, since a tale's title tells of its end.

Tales are stable: the only source of chance is `random.Random(seed).random()`, whose stream Python promises to
keep for whole-number seeds, and the draws below are made from it with whole numbers alone. The same seed gives
the same text on every version of Python and NumPy. In a corpus tales are separated by a blank line, and the
first line of each is its title.

>>> print(write(seed=1).splitlines()[0])
Hattie Hears a Noise
"""

import functools
import math
import random
from typing import NamedTuple

from tinyllm.text.grammar import Grammar
from tinyllm.text.tale_lists import LISTS, VARIABLES
from tinyllm.text.tale_rules import RULES

SEPARATOR = "\n\n"
DEFAULT_SIZE = 500_000


@functools.cache
def grammar():
    """The grammar of the tales (built once, on first use)."""
    return Grammar(RULES, LISTS, VARIABLES)


def _draws(seed):
    """A function `draw(n)` that gives uniform whole numbers below n, the same on every Python."""
    stream = random.Random(seed)

    def draw(n):
        # random() is a multiple of 2**-53: times 2**53 it is a whole number of 53 fair bits. Numbers
        # past the last full multiple of n are drawn again, which leaves every remainder equally likely.
        full = 2**53 - 2**53 % n
        while (bits := int(stream.random() * 2**53)) >= full:
            pass
        return bits % n
    return draw


def write(seed=0):
    """Write one tale: its title, a line break, and the tale, one paragraph a line."""
    return grammar().write(_draws(seed))


def corpus(size=DEFAULT_SIZE, seed=0):
    """Write tales until together they hold at least `size` characters; one text, tales separated by a blank line.

    `corpus()` is the text of `data/tales.txt`, character for character.
    """
    draw, tales, length = _draws(seed), [], 0
    while length < size:
        tales.append(grammar().write(draw))
        length += len(tales[-1]) + len(SEPARATOR)
    return SEPARATOR.join(tales) + "\n"


def parse(tale):
    """The choices that wrote a tale, in the order of the text, each with its probability and position.

    Raises ValueError where the text is not a tale. The product of the probabilities is that of the tale.
    """
    return grammar().parse(tale.strip("\n"))


def nats(tale):
    """-ln P(tale): the information in one tale, in nats."""
    return -math.fsum(math.log(choice.probability) for choice in parse(tale))


class Surprisal(NamedTuple):
    """What a text of tales contains: `nats` in total, over `chars` characters, in `tales` tales."""
    nats: float
    chars: int
    tales: int

    @property
    def per_char(self):
        """Nats per character: the floor of a character model's loss on this very text."""
        return self.nats / self.chars


def surprisal(text):
    """The information in a text of whole tales, as a `Surprisal`; every character counts, separators too.

    Raises ValueError where a part of the text is not a tale.
    """
    tales = [tale for tale in text.strip("\n").split(SEPARATOR) if tale]
    return Surprisal(math.fsum(nats(tale) for tale in tales), len(text), len(tales))


@functools.cache
def expected():
    """Exact means of one tale over the grammar: `.nats`, and `.chars` without the separator."""
    return grammar().expected()


def entropy_per_char():
    """The entropy of the tales in nats per character: E[nats of a tale] / E[characters, separator included].

    This is the limit that the mean loss of the true model reaches on ever longer corpora.
    """
    mean = expected()
    return mean.nats / (mean.chars + len(SEPARATOR))
