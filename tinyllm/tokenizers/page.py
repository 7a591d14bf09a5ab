"""The tokens of a text as one HTML page that needs nothing else: no server, no network, no library.

Each token is coloured; pointing at one shows its id, its bytes and the merges that made it. Below: the most
frequent tokens of the text, the longest of the vocabulary, and the compression curve where there is one.
"""

import html
import json

from tinyllm.tokenizers import view
from tinyllm.tokenizers.base import to_bytes

_STYLE = """
:root{color-scheme:light dark;--ink:#222;--paper:#fdfdfb;--soft:#0001;--faint:#777}
@media(prefers-color-scheme:dark){:root{--ink:#e6e6e3;--paper:#17181a;--soft:#fff1;--faint:#999}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem}h2{font-size:1.05rem;margin-top:2rem}
.facts{color:var(--faint)}
.text{font:16px/2 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
.text span{border-radius:3px;padding:2px 0;cursor:pointer}
.text span:hover,.text span:focus{outline:2px solid currentColor;outline-offset:-1px}
.c0{background:hsl(210 80% 60%/.28)}.c1{background:hsl(30 90% 60%/.28)}.c2{background:hsl(140 60% 50%/.28)}
.c3{background:hsl(330 80% 65%/.28)}.c4{background:hsl(265 80% 70%/.28)}.c5{background:hsl(55 90% 50%/.28)}
.mark{opacity:.45}
#token{position:sticky;bottom:0;background:var(--paper);border-top:1px solid var(--soft);padding:.6rem 0;min-height:4.5rem;
font:14px/1.6 ui-monospace,monospace;overflow-wrap:anywhere}
table{border-collapse:collapse;font:14px ui-monospace,monospace}td,th{padding:.15rem .8rem .15rem 0;text-align:left}
td.n,th.n{text-align:right}.bar{display:inline-block;height:.7em;background:hsl(210 80% 60%/.6);border-radius:2px}
.side{display:flex;gap:3rem;flex-wrap:wrap}svg{max-width:100%;height:auto}
"""
_SCRIPT = """
const data=JSON.parse(document.getElementById('data').textContent),box=document.getElementById('token');
function show(s){const t=data[s.dataset.id];box.replaceChildren();
 const line=(a)=>{const p=document.createElement('div');p.textContent=a;box.append(p)};
 line('id '+s.dataset.id+'   '+t.shown+'   '+t.bytes+(t.rank===null?'':'   merge '+t.rank));
 if(t.made.length)line(t.made.join('   '))}
for(const e of ['pointerover','focusin','click'])document.querySelector('.text').addEventListener(e,ev=>{
 const s=ev.target.closest('[data-id]');if(s)show(s)});
"""


def html_page(tokenizer, text, title="Tokens"):
    """The page of a text, as a string."""
    tokens = view.tokens_of(tokenizer, text)
    size = len(to_bytes(text))
    facts = [f"{len(text):,} characters", f"{size:,} bytes", f"{len(tokens):,} tokens",
             f"{size / max(len(tokens), 1):.2f} bytes a token", f"vocabulary {tokenizer.vocab_size:,}"]
    parts = ['<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
             f"<title>{html.escape(title)}</title><style>{_STYLE}</style>", f"<h1>{html.escape(title)}</h1>",
             f'<p class="facts">{" · ".join(facts)}</p>', f'<div class="text">{_spans(tokens)}</div>',
             '<div id="token">Point at a token.</div>', '<div class="side">',
             _table("Most frequent here", view.most_frequent(tokens, 20)),
             _table("Longest of the vocabulary", view.longest(tokenizer, 20)), "</div>"]
    if getattr(tokenizer, "history", None):
        parts.append(f"<h2>Compression while training</h2>{view.curve_svg(tokenizer.history)}")
    told = json.dumps(_token_facts(tokenizer, tokens), ensure_ascii=False).replace("<", "\\u003c")
    parts.append(f'<script type="application/json" id="data">{told}</script><script>{_SCRIPT}</script></html>\n')
    return "\n".join(parts)


def _spans(tokens):
    out = []
    for place, (token, data) in enumerate(tokens):
        shown = html.escape(view.readable(data))
        for mark in "·⏎␍⇥":
            shown = shown.replace(mark, f'<i class="mark">{mark}</i>')
        shown = shown.replace("⏎</i>", "⏎</i>\n")
        out.append(f'<span class="c{place % 6}" tabindex="0" data-id="{token}" title="{token}">{shown}</span>')
    return "".join(out)


def _table(heading, rows):
    most = max((row[2] for row in rows if len(row) > 2), default=0)
    lines = []
    for token, data, *count in rows:
        amount = count[0] if count else len(data)
        bar = f'<td><span class="bar" style="width:{120 * amount / most:.0f}px"></span></td>' if count else ""
        lines.append(f'<tr><td class="n">{token}</td><td>{html.escape(view.readable(data))}</td><td class="n">{amount:,}</td>{bar}</tr>')
    last = "times" if most else "bytes"
    return (f'<section><h2>{heading}</h2><table><tr><th class="n">id</th><th>token</th><th class="n">{last}</th></tr>'
            f'{"".join(lines)}</table></section>')


def _token_facts(tokenizer, tokens):
    """For each token of the text: how it looks, its bytes, its merge, and what it was made of, step by step."""
    parents = {}
    if tokenizer.kind == "bpe":
        for rank, (pair, token) in enumerate(zip(tokenizer.merges, tokenizer.merge_ids)):
            parents.setdefault(token, (rank, pair))
    facts = {}
    for token, data in tokens:
        made, waiting = [], [token]
        while waiting and len(made) < 24:
            this = waiting.pop()
            if this in parents:
                left, right = parents[this][1]
                waiting += (left, right)
                made.append(" = ".join((view.readable(tokenizer.tokens[this]),
                                        view.readable(tokenizer.tokens[left]) + " + " + view.readable(tokenizer.tokens[right]))))
        facts[token] = {"shown": view.readable(data), "bytes": data.hex(" "), "made": made[::-1],
                        "rank": parents[token][0] if token in parents else None}
    return facts
