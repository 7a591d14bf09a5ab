"""Examples to fine-tune on, from a file with one JSON object a line, as batches in which only the answer counts.

    {"prompt": "Name a colour.", "response": "Blue."}        learn to answer
    {"text": "What a lovely day", "label": "happy"}          learn to tell classes apart

A template turns prompt and response into one row of tokens; what the model is shown without having to learn it gets no target:

    ids        <user> N a m e … <answer> B l u e . <end>
    targets     -   - - - - - -    B     l u e . <end> -      each the next token; - does not count

A class is learned as if it were the next token after the last one, over a vocabulary of classes.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..text import reading
from ..text.batches import IGNORE


@dataclass(frozen=True)
class Template:
    """What stands before a prompt, between prompt and response, and after the response; `end` None: the tokenizer's end token.

    A special token's name in the template is that token where the tokenizer has it; in prompts and responses it is
    ordinary text, so that nobody can speak for somebody else.
    """

    before: str
    between: str
    end: str | None = None

    def encode(self, tokenizer, prompt, response=None):
        """(ids of the prompt with what surrounds it, ids of the response with its end); without a response the second is empty."""
        begin = [tokenizer.bos_id] if tokenizer.bos_id not in (None, tokenizer.eos_id) else []
        shown = [*begin, *_special(tokenizer, self.before), *_plain(tokenizer, prompt), *_special(tokenizer, self.between)]
        return shown, [] if response is None else [*_plain(tokenizer, response), *self.end_ids(tokenizer)]

    def end_ids(self, tokenizer):
        """The tokens that end a response: `end`, or the end token, or a line break for a tokenizer that has none."""
        if self.end is not None:
            return _special(tokenizer, self.end)
        return [tokenizer.eos_id] if tokenizer.eos_id is not None else _plain(tokenizer, "\n")


def _plain(tokenizer, text):
    return tokenizer.encode(text, disallowed_special=())


def _special(tokenizer, text):
    return tokenizer.encode(text, allowed_special="all")


TEMPLATES = {
    "plain": Template("", ""),
    "lines": Template("", "\n"),
    "instruction": Template("### Instruction:\n", "\n\n### Response:\n"),
    "chatml": Template("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>"),
    "llama3": Template("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
                       "<|eot_id|>"),
}


def read_examples(path, fields):
    """The records of a .jsonl file, each a dict with these fields, all of them strings; UserError names the line that is not so."""
    records = [record for _, record in reading.records(path, fields)]
    if len(records) < 2:
        raise UserError(f"{path} has {len(records)} examples; expected at least 2: one to learn from, one to be tested on")
    return records


def answer_rows(tokenizer, records, template):
    """For each {"prompt", "response"}: (ids, how many of them are only shown)."""
    parts = [template.encode(tokenizer, record["prompt"], record["response"]) for record in records]
    return [(np.array(shown + answer, np.int64), max(len(shown), 1)) for shown, answer in parts]


def class_rows(tokenizer, records, labels):
    """For each {"text", "label"}: (ids with the number of the label behind them, how many of them are only shown)."""
    texts = [_plain(tokenizer, record["text"]) for record in records]
    empty = next((i for i, ids in enumerate(texts) if not ids), None)
    if empty is not None:
        raise UserError(f"example {empty + 1} has an empty text: there is no last token to read a class from")
    return [(np.array([*ids, labels.index(record["label"])], np.int64), len(ids)) for ids, record in zip(texts, records)]


def check_lengths(rows, block_size, path):
    """UserError if a row does not fit into a model's window."""
    longest = max(range(len(rows)), key=lambda i: len(rows[i][0]))
    if len(rows[longest][0]) - 1 > block_size:
        raise UserError(f"{path}: example {longest + 1} has {len(rows[longest][0])} tokens; the model knows {block_size} positions (block_size): "
                        "shorten it, or leave it out")


def batch_of(rows):
    """ids (B, T) and targets (B, T) of some rows, padded on the right to the longest.

    >>> batch_of([(np.array([5, 6, 7, 8]), 2), (np.array([5, 6]), 1)])
    (array([[5, 6, 7],
           [5, 0, 0]]), array([[-100,    7,    8],
           [   6, -100, -100]]))
    """
    width = max(len(ids) for ids, _ in rows) - 1
    inputs, targets = np.zeros((len(rows), width), np.int64), np.full((len(rows), width), IGNORE)
    for i, (ids, shown) in enumerate(rows):
        inputs[i, :len(ids) - 1] = ids[:-1]
        targets[i, shown - 1:len(ids) - 1] = ids[shown:]
    return inputs, targets


class ShuffledRows:
    """Batches of rows without end: every row once, in random order, then again in another. Its state can be saved."""

    def __init__(self, rows, batch_size, generator):
        self.rows, self.batch_size, self.generator = rows, min(batch_size, len(rows)), generator
        self.block_size = max(1, round(float(np.mean([len(ids) - 1 for ids, _ in rows]))))     # for the count of tokens per second
        self.order, self.place = [], 0

    def __next__(self):
        if self.place + self.batch_size > len(self.order):
            self.order, self.place = self.generator.randperm(len(self.rows)).tolist(), 0
        picked = self.order[self.place:self.place + self.batch_size]
        self.place += self.batch_size
        return batch_of([self.rows[i] for i in picked])

    def state_dict(self):
        """What the next batch depends on, as JSON can hold it."""
        return {"order": self.order, "place": self.place, "generator": self.generator.get_state()}

    def load_state_dict(self, state):
        """Go on with the batch that would have come next."""
        self.order, self.place = state["order"], state["place"]
        self.generator.set_state(state["generator"])
