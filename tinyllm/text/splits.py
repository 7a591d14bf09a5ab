"""Split a text into a part to train on and a part to validate on, with nothing shared between the two.

By position: one cut, the end of the text is validation. Each side is tokenized and windowed on its own, so no
window reaches across. By document: whole documents are drawn for validation, and documents that are equal,
word for word, go to the same side, since a line learned by heart would make the validation loss too good.
"""

import random

from tinyllm.errors import UserError


def split_position(text, val_fraction=0.1):
    """Cut a string or an array: `(train, val)`, the first int((1 - val_fraction)·len) items and the rest.

    Raises UserError where the fraction is not between 0 and 1 or one side would be empty.

    >>> split_position("abcdefghij", 0.2)
    ('abcdefgh', 'ij')
    """
    _check_fraction(val_fraction)
    cut = int(len(text) * (1 - val_fraction) + 1e-9)  # 10 · (1 - 0.9) is 1, not 0.99…
    if not 0 < cut < len(text):
        raise UserError(f"a text of {len(text)} items cannot be cut at {val_fraction:g}: one side would be empty")
    return text[:cut], text[cut:]


def split_documents(documents, val_fraction=0.1, seed=0):
    """Draw documents for validation: `(train, val)`, two lists in the order of the text.

    Distinct documents are drawn in random order until the drawn ones, repeats included, hold at least
    `val_fraction` of all characters. The same seed gives the same split on every version of Python. Raises
    UserError where there are fewer than two distinct documents or one side would be empty.

    >>> split_documents(["a1", "b2", "c3", "a1"], 0.25)
    (['a1', 'b2', 'a1'], ['c3'])
    """
    _check_fraction(val_fraction)
    documents = list(documents)
    sizes = {}
    for document in documents:
        sizes[document] = sizes.get(document, 0) + len(document)
    stream = random.Random(seed)  # random() alone is promised to stay the same
    order = sorted(sizes, key=lambda document: stream.random())
    wanted, chosen, size = val_fraction * sum(sizes.values()), set(), 0
    for document in order:
        if size >= wanted:
            break
        chosen.add(document)
        size += sizes[document]
    train = [document for document in documents if document not in chosen]
    if not train or not chosen:
        raise UserError(f"{len(documents)} documents ({len(sizes)} distinct) cannot be split at {val_fraction:g} by document: one side "
                        "would be empty; split by position, or separate the documents by blank lines")
    return train, [document for document in documents if document in chosen]


def _check_fraction(fraction):
    if not 0 < fraction < 1:
        raise UserError(f"the share of the validation part is {fraction:g}; expected a number between 0 and 1, such as 0.1")
