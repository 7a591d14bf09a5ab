"""Hugging Face's tokenizer.json, in and out: byte-level BPE, Llama 2's BPE with byte fallback, and single characters.

Byte-level files write each byte as a character (GPT-2's alphabet: a space is Ġ). What decides the ids is read:
vocabulary, merges, `ignore_merges`, the pre-tokenizer's pattern, added tokens. What this program would not do
in the same way (a normalizer, dropout, an unknown pre-tokenizer) is refused, because other ids would come out.
"""

import json

from tinyllm import atomic
from tinyllm.tokenizers import llama, split
from tinyllm.tokenizers.base import TokenizerError
from tinyllm.tokenizers.bpe import GPT2_BYTE_ORDER
from tinyllm.tokenizers.bytelevel import BPETokenizer
from tinyllm.tokenizers.char import CharTokenizer
from tinyllm.untrusted import shown

# The 188 printable bytes are their own characters, the others follow from U+0100 on, in ascending order.
BYTE_CHARACTERS = {byte: chr(byte if place < 188 else 256 + place - 188) for place, byte in enumerate(GPT2_BYTE_ORDER)}
_BYTES = {character: byte for byte, character in BYTE_CHARACTERS.items()}

# The named patterns without possessive quantifiers, as tokenizer.json files carry them: the same pieces.
_CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")
_WRITTEN = {**split.PATTERNS, "cl100k": _CL100K, "nanochat": _CL100K.replace("{1,3}", "{1,2}")}
_READ = {**{text: name for name, text in _WRITTEN.items()}, **{text: name for name, text in split.PATTERNS.items()}}


def to_characters(data):
    """Bytes in GPT-2's characters."""
    return "".join([BYTE_CHARACTERS[byte] for byte in data])


def bpe_from_strings(ids, merges, special_tokens, *, pattern, whole_pieces=False):
    """A byte-level tokenizer from {token: id}, merges of tokens, and {special token: id}.

    Tokens that no merge makes are special where they look like <…> or cannot be bytes; the others can only be
    found as whole pieces. Every id up to the highest has to be given, once.
    """
    _check_ids({**ids, **special_tokens})
    missing = [character for character in _BYTES if character not in ids]
    if missing:
        raise TokenizerError(f"the vocabulary has no token for the byte {_BYTES[missing[0]]}, written {missing[0]!r} "
                             f"({len(missing)} of 256 are missing)")
    made = {}
    for rank, (left, right) in enumerate(merges):
        for side in (left, right, left + right):
            if side not in ids:
                raise TokenizerError(f"merge {rank}, {shown(left)} with {shown(right)}, needs the token {shown(side)}, which the vocabulary lacks")
        made[left + right] = None
    extra, special_tokens = {}, dict(special_tokens)
    for name, token in ids.items():
        if name in _BYTES or name in made or name in special_tokens:
            continue
        if (name[0] == "<" and name[-1] == ">") or not all(character in _BYTES for character in name):
            special_tokens[name] = token
        else:
            extra[token] = bytes([_BYTES[character] for character in name])
    return BPETokenizer([(ids[left], ids[right]) for left, right in merges], pattern=pattern, special_tokens=special_tokens,
                        byte_ids=[ids[BYTE_CHARACTERS[byte]] for byte in range(256)],
                        merge_ids=[ids[left + right] for left, right in merges], extra_tokens=extra,
                        whole_pieces=whole_pieces)


def _check_ids(ids):
    for name, token in ids.items():
        if not name or type(token) is not int or token < 0:
            raise TokenizerError(f"the token {shown(name)} has the id {shown(token)}; expected a name and a whole number from 0")
    by_id = {}
    for name, token in ids.items():
        if token in by_id:
            raise TokenizerError(f"the tokens {shown(by_id[token])} and {shown(name)} share the id {token}")
        by_id[token] = name
    hole = next((token for token in range(len(by_id)) if token not in by_id), None)
    if hole is not None:
        raise TokenizerError(f"no token has the id {hole}, and the highest id is {max(by_id)}: the vocabulary has a hole")


def from_record(record):
    """The tokenizer of a tokenizer.json that has been read."""
    try:
        return _from_record(record)
    except TokenizerError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise TokenizerError(f"not a tokenizer.json as Hugging Face writes it: {type(error).__name__} {error}") from error


def _from_record(record):
    model = record["model"]
    if model.get("type", "BPE") != "BPE":
        raise TokenizerError(f"the model is {shown(model.get('type'))}; this program reads BPE")
    for feature in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(feature):
            raise TokenizerError(f"the model has {feature} {shown(model[feature])}, which this program does not do")
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    if any(len(merge) != 2 or not all(isinstance(side, str) for side in merge) for merge in merges):
        raise TokenizerError("a merge is not a pair of tokens")
    added = {entry["content"]: entry["id"] for entry in record.get("added_tokens") or ()}
    if model.get("byte_fallback"):
        return llama.from_merges(model["vocab"], merges, added)
    if record.get("normalizer"):
        raise TokenizerError(f"the file has a normalizer ({shown(record['normalizer'].get('type'))}), which this program does not do: "
                             "ids would differ")
    if not merges and not added and record.get("pre_tokenizer") is None:
        _check_ids(model["vocab"])
        return CharTokenizer(sorted(model["vocab"], key=model["vocab"].get))
    return bpe_from_strings(model["vocab"], merges, added, pattern=_pattern(record.get("pre_tokenizer")),
                            whole_pieces=bool(model.get("ignore_merges")))


def _pattern(pre_tokenizer):
    """The pattern of a pre-tokenizer: ByteLevel alone, or Split and then ByteLevel."""
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer and pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    kinds = [step["type"] if step else None for step in steps]
    last = steps[-1]
    if kinds[-1] != "ByteLevel" or kinds[:-1] not in ([], ["Split"]) or last.get("add_prefix_space"):
        raise TokenizerError(f"the pre-tokenizer is {' + '.join(map(str, kinds))[:200]}; this program reads ByteLevel, or Split with a "
                             "Regex and then ByteLevel, without add_prefix_space")
    if len(steps) == 1:
        return "gpt2" if last.get("use_regex", True) else None
    if last.get("use_regex", True) or steps[0].get("behavior") != "Isolated" or steps[0].get("invert"):
        raise TokenizerError("the pre-tokenizer splits twice, or not as Isolated; this program does not do that")
    text = steps[0]["pattern"]["Regex"]
    return _READ.get(text, text)


def save(tokenizer, path):
    """Write a tokenizer as tokenizer.json, which Hugging Face's `tokenizers` loads and encodes with to the same ids."""
    kinds = {BPETokenizer: _byte_level, llama.LlamaTokenizer: _llama, CharTokenizer: _characters}
    if type(tokenizer) not in kinds:
        raise TokenizerError(f"a tokenizer of kind {tokenizer.kind!r} cannot be written as tokenizer.json")
    record = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
              "post_processor": None, **kinds[type(tokenizer)](tokenizer)}
    atomic.write_bytes(path, json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def _model(vocab, merges, **more):
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, **more, "vocab": vocab, "merges": merges}


def _added(names):
    """Entries of `added_tokens` for {special token: id}."""
    return [{"id": token, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
            for text, token in sorted(names.items(), key=lambda item: item[1])]


def _characters(tokenizer):
    """Characters are BPE without a merge; one that is not in the vocabulary is passed over there."""
    return {"decoder": {"type": "Fuse"}, "model": _model({character: i for i, character in enumerate(tokenizer.characters)}, [])}


def _llama(tokenizer):
    """SentencePiece BPE: a token's score becomes the rank of the merges that make it."""
    names = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    names += [data.decode("utf-8", "replace").replace(" ", "\u2581") for data in tokenizer.tokens[len(names):]]
    vocab = {name: token for token, name in enumerate(names)}
    if len(vocab) != len(names):
        twice = next(name for token, name in enumerate(names) if vocab[name] != token)
        raise TokenizerError(f"two ids stand for {twice!r}; tokenizer.json has one id a token")
    ranked = sorted(tokenizer.ranks.items(), key=lambda item: item[1])
    merges = [[names[left], names[right]] for (left, right), _ in ranked if min(left, right) >= 259]
    space = {"pattern": {"String": " "}, "content": "\u2581"}
    back = {"pattern": {"String": "\u2581"}, "content": " "}
    begin = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    sequences = [{"Sequence": {"id": which, "type_id": 0}} for which in "AB"]
    return {
        "added_tokens": _added({name: token for token, name in enumerate(names[:3])}),
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", **space}]},
        "post_processor": {"type": "TemplateProcessing", "single": [begin, sequences[0]], "pair": [begin, sequences[0], begin, sequences[1]],
                           "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", **back}, {"type": "ByteFallback"}, {"type": "Fuse"},
                                                     {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": _model(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)}


def _byte_level(tokenizer):
    special = set(tokenizer.special_tokens.values())
    vocab = {}
    for token, data in enumerate(tokenizer.tokens):
        if data is not None and token not in special:
            name = to_characters(data)
            if name in vocab:
                raise TokenizerError(f"ids {vocab[name]} and {token} both stand for {data!r}; tokenizer.json has one id a token")
            vocab[name] = token
    characters = [to_characters(data) if data is not None else "" for data in tokenizer.tokens]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    name = split.pattern_name(tokenizer.pattern)
    if name in ("gpt2", None):
        pre_tokenizer = {**byte_level, "use_regex": name == "gpt2"}
    else:
        cut = {"type": "Split", "pattern": {"Regex": _WRITTEN.get(name, name)}, "behavior": "Isolated", "invert": False}
        pre_tokenizer = {"type": "Sequence", "pretokenizers": [cut, {**byte_level, "use_regex": False}]}
    return {"added_tokens": _added(tokenizer.special_tokens), "pre_tokenizer": pre_tokenizer, "decoder": {**byte_level, "use_regex": True},
            "model": _model(vocab, [[characters[left], characters[right]] for left, right in tokenizer.merges],
                            ignore_merges=tokenizer.whole_pieces)}
