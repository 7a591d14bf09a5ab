"""What is shown of tokens: nothing is lost, and what is shown is so."""

import html
import re
import xml.etree.ElementTree as ElementTree

import pytest

from tinyllm.tokenizers import BPETokenizer, CharTokenizer, TokenizerError, page, view

TEXT = "the theme of <b>the</b> thesis:\n\tnaïve 日本 & co. </script>"


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train(TEXT * 9, 280, special_tokens=["<|end|>"])


def test_a_words_merges_are_the_textbooks():
    tokenizer = BPETokenizer([(97, 97), (97, 98), (256, 257)], pattern=None)       # aa, ab, aaab
    assert view.steps(tokenizer, "aaab") == [(None, [97, 97, 97, 98]), (0, [256, 97, 98]), (1, [256, 257]), (2, [258])]
    assert [line.split()[-1] for line in view.steps_text(tokenizer, "aaab").splitlines()] == ["b", "b", "ab", "aaab"]


def test_words_without_steps(tokenizer):
    with pytest.raises(TokenizerError, match="cuts 'the end' into"):
        view.steps(tokenizer, "the end")
    with pytest.raises(TokenizerError, match="char tokenizer has no merges"):
        view.steps(CharTokenizer("abc"), "a")


def test_a_whole_piece_is_a_last_step():
    tokens = [bytes([b]) for b in range(256)] + [b"xyz"]
    assert view.steps(BPETokenizer.from_ranks(tokens, pattern="gpt2"), "xyz")[-1] == (None, [256])


def test_the_terminal_shows_every_token(tokenizer):
    plain = view.terminal(tokenizer, TEXT, colour=False)
    shown = [view.readable(data) for _, data in view.tokens_of(tokenizer, TEXT)]
    assert plain.replace("\n", "").split("|")[:-1] == shown
    coloured = view.terminal(tokenizer, TEXT)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured).replace("\n", "") == "".join(shown)


def test_counts_and_lengths(tokenizer):
    tokens = view.tokens_of(tokenizer, "a a a b")
    assert view.most_frequent(tokens, 1)[0][2] == max(sum(t == u for u in tokens) for t in tokens)
    lengths = [len(data) for _, data in view.longest(tokenizer, 9)]
    assert lengths == sorted(map(len, tokenizer.tokens[:-1]), reverse=True)[:9]


def test_measures():
    found = view.measures(BPETokenizer([]), "ab cd")
    assert (found["tokens"], found["tokens per word"], found["tokens per character"], found["different ids"]) == (5, 2.5, 1, 5)


def test_the_curve_is_svg_that_ends_at_the_ratio(tokenizer):
    root = ElementTree.fromstring(view.curve_svg(tokenizer.history))
    line = root.find("{http://www.w3.org/2000/svg}polyline").get("points").split()
    heights = [float(point.split(",")[1]) for point in line]
    assert heights == sorted(heights) and len(line) == len(tokenizer.history)
    assert f"{tokenizer.history[0] / tokenizer.history[-1]:.2f} bytes a token" in "".join(root.itertext())
    with pytest.raises(TokenizerError, match="no history"):
        view.curve_svg(None)


def test_the_page_holds_the_text_and_nothing_escapes(tokenizer):
    whole = page.html_page(tokenizer, TEXT, "A <title>")
    body = re.search(r'<div class="text">(.*?)</div>', whole, re.S)[1]
    spans = re.findall(r'<span class="c\d" tabindex="0" data-id="(\d+)"[^>]*>(.*?)</span>', body, re.S)
    assert [int(token) for token, _ in spans] == tokenizer.encode(TEXT)
    shown = html.unescape(re.sub(r"<[^>]*>", "", "".join(text for _, text in spans))).replace("⏎\n", "⏎")
    assert shown == "".join(view.readable(data) for _, data in view.tokens_of(tokenizer, TEXT))
    assert "<b>" not in whole and whole.count("</script>") == 2 and "<title>A &lt;title&gt;</title>" in whole
