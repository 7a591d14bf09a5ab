"""Strip what Project Gutenberg adds to a book, so that a model learns the book and not the licence.

A Gutenberg file opens with a header and ends with a licence of some 18,000 characters: in Pride and Prejudice
that is a sixth of the last 15 percent, the part that is usually kept for validation. An illustrated edition
carries captions and copyright notices in mid-sentence, and a text made from an e-book repeats the line "The
Project Gutenberg eBook of …" between chapters. `strip_gutenberg` removes all of it; cleaning a clean text
changes nothing.

What is left alone: underscores for italics, chapter headings, footnotes, line breaks within paragraphs.
"""

import re

_START = re.compile(r"\A.*?^\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG E-?BOOK[^\n]*\n(?:[^\n]*\*\*\*\n)?", re.S | re.M | re.I)
_END = re.compile(r"^(?:\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG|End of (?:the )?Project Gutenberg(?:'|’)s"
                  r"|START: FULL LICENSE).*", re.S | re.M | re.I)
_TITLE_LINE = re.compile(r"^The Project Gutenberg e-?book of [^\n]*(?:\n|\Z)", re.M | re.I)
_PERMISSION = re.compile(r"^This e-?book is for the use of anyone anywhere.{0,900}?(?:before\s+using\s+this\s+e-?book\.|www\.gutenberg\.org)"
                         r"[^\n]*(?:\n|\Z)", re.S | re.M | re.I)
_ILLUSTRATION = re.compile(r"^ *\[Illustration(?:[^\[\]]|\[[^\[\]]*\])*\] *(?:\n|\Z)", re.M)
_INLINE_ILLUSTRATION = re.compile(r"\[Illustration(?:[^\[\]]|\[[^\[\]]*\])*\]")
# A caption in quotation marks may run over two lines; one without them is a single short line.
_CAPTION = re.compile(r"^(?:“[^”\n]*(?:\n[^”\n]*)?”|[^\n]{1,60})\s\[_?Copyright\s+\d{4}\s+by\s[^\]]*\](?:\n|\Z)", re.M)
_COPYRIGHT = re.compile(r"\[_?Copyright\s+\d{4}\s+by\s[^\]]*\]")


def strip_gutenberg(text):
    """The text without Project Gutenberg's header, licence, repeated titles, captions and copyright notices.

    >>> strip_gutenberg("*** START OF THE PROJECT GUTENBERG EBOOK X ***\\n\\nIt was so.\\n\\n*** END OF THE PROJECT GUTENBERG EBOOK X ***")
    'It was so.\\n'
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    stripped = _START.sub("", text, count=1)
    for pattern in (_END, _PERMISSION, _TITLE_LINE, _ILLUSTRATION, _INLINE_ILLUSTRATION, _CAPTION, _COPYRIGHT):
        stripped = pattern.sub("", stripped)
    return text if stripped == text else re.sub(r"\n{4,}", "\n\n\n", stripped).strip() + "\n"


def between(text, begin=None, end=None):
    """The part of `text` from the first match of the pattern `begin` up to the next match of `end`.

    None stands for the text's own beginning or end, and so does an `end` that is not found. Returns None
    where `begin` is not found: it is not the text that was expected. Case does not count.
    """
    start = 0
    if begin is not None:
        match = re.search(begin, text, re.I)
        if match is None:
            return None
        start = match.start()
    stop = re.search(end, text[start:], re.M) if end is not None else None
    return text[start:start + stop.start()].rstrip() + "\n" if stop else text[start:]
