"""The targets of tokenizers: tinyllm's own files, Hugging Face's, GPT-2's pair, tiktoken's ranks, llama2.c's tokenizer.bin."""

import json

from fuzz_targets import TEXT, Target

from tinyllm import tokenizers
from tinyllm.errors import UserError
from tinyllm.tokenizers import BPETokenizer, CharTokenizer, huggingface, ranks
from tinyllm.tokenizers.llama import LlamaTokenizer
from tinyllm.weights import llama2c


def llama_parts():
    """The pieces and the scores of a small vocabulary of Llama's kind."""
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + [" ", "t", "h", "e", "th", "the", " the"]
    return tokens, [0.0] * 262 + [-float(i) for i in range(len(tokens) - 262)]


def tried(tokenizer):
    """A tokenizer that encodes and decodes, or refuses with a UserError."""
    sample = "".join(getattr(tokenizer, "characters", "the thing's é 12 "))[:20]
    with_surrogates = any("\ud800" <= character <= "\udfff" for character in sample)
    try:
        ids = tokenizer.encode(sample)
        assert with_surrogates or tokenizer.decode(ids) == sample or tokenizer.kind == "llama", f"{sample!r} does not come back"
    except UserError:
        pass
    return tokenizer.fingerprint()


def own_tokenizers(directory):
    """The four kinds that `save` writes."""
    bpe = BPETokenizer.train(TEXT, 270, special_tokens=["<|endoftext|>"])
    kinds = {"bpe": bpe, "char": CharTokenizer.train(TEXT), "llama": LlamaTokenizer([t.encode() for t in llama_parts()[0]], llama_parts()[1]),
             "ranks": BPETokenizer.from_ranks(bpe.tokens[:270 - 1], pattern="cl100k", special_tokens=["<|end|>"])}
    for name, tokenizer in kinds.items():
        path = directory / f"{name}.json"
        tokenizer.save(path)
        yield Target(path, lambda path=path: tried(tokenizers.load(path)), json=True)


def hf_tokenizers(directory):
    """tokenizer.json of the three kinds."""
    kinds = {"bpe": BPETokenizer.train(TEXT, 262, special_tokens=["<|endoftext|>"]), "cl100k": BPETokenizer.train(TEXT, 262, pattern="cl100k"),
             "char": CharTokenizer.train(TEXT), "llama": LlamaTokenizer([t.encode() for t in llama_parts()[0]], llama_parts()[1])}
    for name, tokenizer in kinds.items():
        path = directory / f"{name}.json"
        huggingface.save(tokenizer, path)
        yield Target(path, lambda path=path: tried(tokenizers.load(path)), json=True)


def other_tokenizers(directory):
    """GPT-2's pair, tiktoken's ranks, llama2.c's tokenizer.bin."""
    bpe = BPETokenizer.train(TEXT, 264)
    vocabulary = {huggingface.to_characters(data): token for token, data in enumerate(bpe.tokens)}
    (directory / "encoder.json").write_text(json.dumps(vocabulary))
    texts = [huggingface.to_characters(data) for data in bpe.tokens]
    (directory / "vocab.bpe").write_text("#version: 0.2\n" + "".join(f"{texts[a]} {texts[b]}\n" for a, b in bpe.merges))
    read = lambda: tried(tokenizers.load(directory / "encoder.json"))
    yield Target(directory / "encoder.json", read, json=True)
    yield Target(directory / "vocab.bpe", read)
    ranks.save(bpe, directory / "gpt2.tiktoken")
    yield Target(directory / "gpt2.tiktoken", lambda: tried(tokenizers.load(directory / "gpt2.tiktoken")))
    spelled, scores = llama_parts()
    llama2c.save_tokenizer(LlamaTokenizer([t.encode() for t in spelled], scores), directory / "tokenizer.bin")
    yield Target(directory / "tokenizer.bin", lambda: tried(tokenizers.load(directory / "tokenizer.bin")))
