"""Preferences: which of two completions of a prompt somebody likes better.

They come from a file, one JSON object a line,

    {"prompt": "07+45=", "chosen": "250", "rejected": "340"}

or from a judge who looks at two completions of the policy, prefers the one with the higher true reward, and errs in a known share of
the cases: an oracle about whom everything is known.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..text import reading
from .rollout import sample, scored
from .rows import encode_rows
from .tasks import Prompts


@dataclass
class Pairs:
    """B preferences; `chosen` and `rejected` are `Rows`."""

    chosen: object
    rejected: object

    def __len__(self):
        return len(self.chosen)

    def take(self, index):
        """These pairs."""
        return Pairs(self.chosen.take(index), self.rejected.take(index))


def judged_pairs(model, tokenizer, task, count, generator, *, noise=0.0, temperature=1.0, batch=256):
    """`count` Pairs of completions that `model` gives training prompts, judged by the true reward; a share `noise` the wrong way round.

    Pairs of equal reward are nobody's preference and are drawn again. UserError if less than one in twenty is a preference.
    """
    if not 0 <= noise < 0.5:
        raise UserError(f"noise is {noise}; expected from 0 up to, not including, 0.5: a judge who errs as often as not says nothing")
    records, prompts = [], Prompts(task)
    tries = 20 * count // batch + 10
    for _ in range(tries):
        rollout = scored(sample(model, tokenizer, prompts.draw(batch, generator), 2, task.max_new_tokens, generator,
                                temperature=temperature), task)
        errs = generator.rand(batch, dtype=np.float64) < noise
        for i in range(batch):
            one, two = rollout.rewards[2 * i], rollout.rewards[2 * i + 1]
            if one != two and np.isfinite([one, two]).all() and not rollout.truncated[2 * i:2 * i + 2].any():
                first = (one > two) != errs[i]
                records.append({"prompt": rollout.prompts[2 * i], "chosen": rollout.texts[2 * i + 1 - first],
                                "rejected": rollout.texts[2 * i + first]})
        if len(records) >= count:
            return records[:count]
    raise UserError(f"{tries * batch} pairs of completions gave {len(records)} preferences, {count} were asked for: the policy is nearly always "
                    "right or nearly always wrong; start from another, or ask for fewer")


def write_pairs(path, records):
    """Write preferences, one a line."""
    Path(path).write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")


def read_pairs(path):
    """The preferences in a file, as a list of dicts; UserError for an empty file or a line that is none."""
    records = []
    for where, record in reading.records(path, ("prompt", "chosen", "rejected")):
        if record["chosen"] == record["rejected"]:
            raise UserError(f"{where}: chosen and rejected are the same: no preference")
        records.append(record)
    if not records:
        raise UserError(f"{path} has no preferences; expected lines of {{\"prompt\": …, \"chosen\": …, \"rejected\": …}}")
    return records


def encode_pairs(tokenizer, records, block_size):
    """Pairs of a list of records."""
    if not records:
        raise UserError("no preferences: there is nothing to learn from")
    prompts = [record["prompt"] for record in records]
    rows = [encode_rows(tokenizer, prompts, [record[side] for record in records], block_size) for side in ("chosen", "rejected")]
    return Pairs(*rows)
