"""Prompts and completions as a rectangle of ids, padded on the right, with a mask that marks what is learnt from.

    ids     [p p p | c c c E .]       prompt, completion, end token, padding        (B, L)
    mask     0 0 0   1 1 1 1 0        the completion with its end                   (B, L)

Prompt and completion are tokenized apart and put together: no token reaches across the border, and whatever the sampler was given
is what is learnt from. What a row of L tokens teaches is the L - 1 tokens that follow another.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from ..errors import UserError
from ..tokenizers import CharTokenizer
from .logps import token_logps

PAD, END = 0, 1


def task_tokenizer(task):
    """A character tokenizer for a task: id 0 pads, id 1 ends a completion, then the task's characters."""
    return CharTokenizer(["\0", "\n", *sorted(set(task.characters) - {"\0", "\n"})])


@dataclass
class Rows:
    """B prompts with their completions; see the module's text for the arrays."""

    prompts: list
    texts: list
    ids: np.ndarray         # (B, L)
    mask: np.ndarray        # (B, L) bool

    def __len__(self):
        return len(self.texts)

    inputs = property(lambda self: self.ids[:, :-1], doc="what the model is shown, (B, L-1)")
    targets = property(lambda self: np.where(self.mask, self.ids, -1)[:, 1:], doc="what follows each input, -1 where it is not learnt")
    actions = property(lambda self: self.mask[:, 1:], doc="mask of the targets, (B, L-1)")
    lengths = property(lambda self: self.mask.sum(axis=1), doc="tokens of each completion, the end included, (B,)")

    def take(self, index):
        """These rows, in this order."""
        index = np.asarray(index)
        picked = {f.name: getattr(self, f.name) for f in fields(self)}
        picked = {name: [value[i] for i in index] if isinstance(value, list) else None if value is None else value[index]
                  for name, value in picked.items()}
        return type(self)(**picked).trimmed()

    def joined(self, other):
        """The rows of both, the narrower ones padded."""
        width = max(self.ids.shape[1], other.ids.shape[1])
        wide = lambda x: np.pad(x, ((0, 0), (0, width - x.shape[1]))) if x.ndim == 2 else x
        join = lambda a, b: a + b if isinstance(a, list) else None if a is None else np.concatenate([wide(a), wide(b)])
        return type(self)(**{f.name: join(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)})

    def trimmed(self):
        """The same without columns that are padding in every row."""
        columns = np.flatnonzero(self.mask.any(axis=0))
        width = int(columns.max()) + 1 if columns.size else self.ids.shape[1]
        wide = [f.name for f in fields(self) if getattr(getattr(self, f.name), "ndim", 0) == 2]
        return replace(self, **{name: getattr(self, name)[:, :width] for name in wide})


def encode_rows(tokenizer, prompts, texts, block_size, *, end_id=END, pad_id=PAD):
    """Rows of given completions, each closed by the end token. UserError for a row longer than `block_size` positions."""
    if pad_id == end_id:
        raise UserError(f"padding and end are both token {pad_id}: the end is an action to be learnt, padding is none")
    if not len(texts):
        raise UserError("no completions: there is nothing to learn from")
    parts = [(list(tokenizer.encode(prompt, disallowed_special=())), [*tokenizer.encode(text, disallowed_special=()), end_id])
             for prompt, text in zip(prompts, texts)]
    longest = max(len(prompt) + len(completion) for prompt, completion in parts)
    if longest - 1 > block_size:
        where = next(i for i, (p, c) in enumerate(parts) if len(p) + len(c) == longest)
        raise UserError(f"row {where} ({prompts[where][:20]!r} …) has {longest} tokens; the model knows {block_size} positions (block_size)")
    ids, mask = np.full((len(parts), longest), pad_id), np.zeros((len(parts), longest), bool)
    for i, (prompt, completion) in enumerate(parts):
        ids[i, :len(prompt) + len(completion)] = prompt + completion
        mask[i, len(prompt):len(prompt) + len(completion)] = True
    return Rows(list(prompts), list(texts), ids, mask)


def policy_logps(model, rows, temperature=1.0):
    """log π of every token that is learnt from, with its graph; (B, L-1), 0 elsewhere."""
    return token_logps(model(rows.inputs), rows.targets, temperature)
