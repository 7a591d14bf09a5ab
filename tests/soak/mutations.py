"""How a sound file is damaged: bytes, lengths, splices, and the values of JSON.

A target says what it is (`fuzz_targets.Target`): its original bytes, whether it is JSON, and its layers, pairs of functions that
open a compressed or signed file and close it again, so that what is inside can be damaged, too.
"""

import copy
import json
import re

NUMBERS = (0, 1, 2, 3, 7, 8, 15, 16, 127, 128, 255, 256, 1023, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**64 - 1, -1, -2, -2**31, -2**63)
TOKENS = (b"0", b"-", b"9" * 30, b"[", b"{", b"}", b'"', b"\\", b"null", b"1e99", b"NaN", b"\xff\xff\xff\xff", b"\n", b"\0", b"\xed\xa0\x80", b"\\ud800", b",", b":")
STRINGS = ("", "x", "../x", "/etc/passwd", "a\0b", "\ud800", "é😀", "x" * 300, "\x1b[2J", "__proto__", "-1", "None", "." * 20, "(" * 500, "(a+)+$", "(?R)",
           "(?:(?:a?){9000}){9000}", "(?:a{e<=9}){99}", "[" * 50, "\\p{X}", "(?:a|a)*b|.", "n0", "n99", "f8", "object", "F64")


def damaged(rng, target, others):
    """(damaged bytes of a target, whether a layer was opened and closed again)."""
    data, layer = target.original, None
    if target.layers and rng.random() < 0.6:
        layer = rng.choice(target.layers)
        data = layer.open(data)
    if (layer.json if layer else target.json) and rng.random() < 0.75:
        data = edited(rng, data)
    else:
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            data = _bytes(rng, data, others)
    return (layer.close(data), True) if layer else (data, False)


def _bytes(rng, data, others):
    size = len(data)
    at = rng.choice((rng.randrange(size + 1), min(size, rng.randrange(300))))
    kind = rng.randrange(10)
    changed = bytearray(data)
    if kind == 0 and size:                                      # bits
        for _ in range(rng.choice((1, 1, 2, 8))):
            changed[rng.randrange(size)] ^= 1 << rng.randrange(8)
    elif kind == 1:                                             # cut short
        del changed[at:]
    elif kind == 2:                                             # a hole
        del changed[at:at + rng.choice((1, 2, 4, 8, 50))]
    elif kind == 3:                                             # a length, or another number
        width = rng.choice((1, 2, 4, 8))
        old = int.from_bytes(data[at:at + width], "little")
        value = rng.choice((*NUMBERS, size, size - 1, size + 1, old + 1, old - 1, 2 * old, old // 2)) % (1 << 8 * width)
        changed[at:at + width] = value.to_bytes(width, rng.choice(("little", "little", "big")))
    elif kind == 4:                                             # something in between
        changed[at:at] = rng.choice(TOKENS)
    elif kind == 5:                                             # twice
        changed[at:at] = data[at:at + rng.randrange(1, 60)]
    elif kind == 6:                                             # a splice of two files
        other = rng.choice(others)
        changed = bytearray(data[:at] + other[rng.randrange(len(other) + 1):])
    elif kind == 7:                                             # two pieces change places
        b, width = rng.randrange(size + 1), rng.choice((1, 4, 8, 30))
        changed[at:at + width], changed[b:b + width] = changed[b:b + width], changed[at:at + width]
    elif kind == 8:                                             # a number in digits
        found = list(re.finditer(rb"-?\d+", data[:20_000]))
        if found:
            match = rng.choice(found)
            changed[match.start():match.end()] = str(rng.choice((*NUMBERS, int(match[0][:15]) + 1, int(match[0][:15]) - 1, 10**30))).encode()
    elif rng.random() < 0.1:                                    # large and repetitive
        changed[at:at] = rng.choice((b"[],", b"{},", b"0,", b"[", b"a", b"\0", b"\n", b"()", b'"":0,')) * rng.choice((1000, 200_000))
    else:                                                       # rubbish
        changed[at:at] = rng.randbytes(rng.randrange(1, 40))
    return bytes(changed)


# ---- JSON


class _Raw(str):
    """Text that stands in the JSON as it is."""


def edited(rng, data):
    """A JSON text with some of its keys and values changed; each line is a text of its own where there are several."""
    try:
        value = json.loads(data)
        lines = None
    except ValueError:
        lines = data.split(b"\n")
        number = rng.randrange(len(lines))
        try:
            value = json.loads(lines[number])
        except ValueError:
            return data + rng.choice(TOKENS)
    box = [value]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        _edit(rng, box)
    raws = []
    text = json.dumps(_marked(box[0], raws), ensure_ascii=rng.random() < 0.5)
    for number_, raw in enumerate(raws):
        text = text.replace(f'"@raw{number_}@"', raw)
    changed = text.encode("utf-8", "surrogatepass")
    if lines is None:
        return changed
    return b"\n".join([*lines[:number], changed.replace(b"\n", b" "), *lines[number + 1:]])


def _marked(value, raws):
    if isinstance(value, _Raw):
        raws.append(str(value))
        return f"@raw{len(raws) - 1}@"
    if isinstance(value, dict):
        return {key: _marked(child, raws) for key, child in value.items()}
    if isinstance(value, list):
        return [_marked(child, raws) for child in value]
    return value


def _edit(rng, box):
    parent, key = box, 0
    while rng.random() < 0.8 and isinstance(parent[key], (dict, list)) and parent[key]:
        parent = parent[key]
        key = rng.choice(list(parent)) if isinstance(parent, dict) else rng.randrange(len(parent))
    old, kind = parent[key], rng.randrange(12)
    if kind == 0 and parent is not box:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):                # another name
        parent[rng.choice((key + "x", key[:-1], *STRINGS))] = parent.pop(key)
    elif kind == 2 and isinstance(parent, dict):                # a name more
        parent[rng.choice((*STRINGS, "more"))] = _odd(rng, old)
    elif kind == 3 and isinstance(old, list):                   # longer
        parent[key] = (old * 3)[:rng.choice((len(old) + 1, 2 * len(old), 3 * len(old), 1, 2))]
    elif kind == 4 and isinstance(old, dict) and old:           # a key twice
        twice = rng.choice(list(old))
        text = json.dumps(_marked(old, []))
        parent[key] = _Raw("{" + json.dumps(twice) + ":" + json.dumps(rng.choice((0, None, "x"))) + "," + text[1:])
    elif kind == 5 and len(parent) > 1:                         # two change places
        other = rng.choice(list(parent)) if isinstance(parent, dict) else rng.randrange(len(parent))
        parent[key], parent[other] = parent[other], parent[key]
    elif kind == 6 and isinstance(old, (int, float)) and not isinstance(old, bool) and abs(old) < 1e300:
        parent[key] = rng.choice((old + 1, old - 1, -old, old * 2, old // 2, old * 1000, float(old), str(old), old + 0.5, *NUMBERS))
    elif kind == 7 and isinstance(old, str) and old:
        at = rng.randrange(len(old))
        parent[key] = rng.choice((old[:at], old[at:], old[:at] + rng.choice(STRINGS) + old[at:], old * 2, old.upper(), old[::-1]))
    else:
        parent[key] = _odd(rng, old)


def _odd(rng, old):
    """A value that hardly fits."""
    kind = rng.randrange(10)
    if kind < 2:
        return rng.choice(NUMBERS)
    if kind < 4:
        return rng.choice(STRINGS)
    if kind == 4:
        return rng.choice((None, True, False, [], {}, [[]], {"": None}, [None], [0], 0.5, -0.0, 1e-300, 1e308, 10**30, 10**400))
    if kind == 5:
        return _Raw(rng.choice(("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000, "0.1" + "0" * 4000, "1E+2")))
    if kind == 6:
        depth = rng.choice((70, 500, 990, 5000, 100_000))
        return _Raw(rng.choice(("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth)))
    if kind == 7:
        return rng.choice(([old], {"a": old}, [old, old], [[old]], str(old)[:50]))
    if kind == 8 and rng.random() < 0.05:
        count = rng.choice((1000, 100_000))
        return _Raw(rng.choice(("[" + "[]," * count + "0]", "[" + "0," * count + "0]", "[" + "1.5e9," * count + "0]", '"' + "a" * 3 * count + '"')))
    return copy.deepcopy(old) if isinstance(old, (int, str)) else rng.choice((0, "x", None, [1, 2], {"a": 1}))
