"""One measurement of `bench/bpe.py` in a process of its own; run as a script, by any Python that has the library.

    python _bpe_worker.py '{"who": "tiktoken", "task": "encode", …}'

Prints {"seconds": …, "cpu": …, "memory": …} as JSON: the median of the repetitions by the clock, the same in CPU
time, and for training the growth of the process in bytes. Imports, compilation and loading come before the clock
starts. This file imports nothing of the package at the top, so that it runs where only a peer is installed.
"""

import json
import os
import resource
import statistics
import sys
import time


def main(job):
    threads = str(job.get("threads", 1))
    os.environ.update(RAYON_NUM_THREADS=threads, TOKENIZERS_PARALLELISM="true" if threads != "1" else "false")
    work, prepare = globals()[f"{job['task']}_{job['who']}"](job)
    clock, cpu = [], []
    before = forget_peak()
    for _ in range(job.get("repeat", 1)):
        made = prepare()
        start, start_cpu = time.perf_counter(), time.process_time()
        for _ in range(job.get("calls", 1)):
            work(made)
        clock.append((time.perf_counter() - start) / job.get("calls", 1))
        cpu.append((time.process_time() - start_cpu) / job.get("calls", 1))
    print(json.dumps({"seconds": statistics.median(clock), "cpu": statistics.median(cpu), "memory": peak() - before}))


def forget_peak():
    """Bytes in memory now, which become the peak so far where the system (Linux) lets that be set."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass
    return peak()


def peak():
    """The most bytes this process has had in memory."""
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def text_of(job):
    if "text" in job:
        return job["text"]
    with open(job["path"], encoding="utf-8", newline="") as file:
        return file.read()


def documents(text, size):
    """The text in pieces cut before a line end that follows a word, as `str` trainers take it; the pre-tokens stay the same."""
    found, start = [], 0
    while start < len(text):
        end = min(start + size, len(text))
        while end < len(text) and not (text[end] == "\n" and not text[end - 1].isspace()):
            end += 1
        found.append(text[start:end])
        start = end
    return found


def nothing():
    return None


# ---- training: the same text for all, from memory but for gigabpe, which reads the file itself


def train_tinyllm(job):
    from tinyllm.tokenizers import BPETokenizer

    BPETokenizer.train("warm up " * 2000, 258)
    text = text_of(job)
    return lambda _: BPETokenizer.train(text, job["vocab_size"], min_frequency=1, threads=job.get("threads", 1)), nothing


def train_rustbpe(job):
    import rustbpe

    texts = documents(text_of(job), job["document"])
    return lambda tokenizer: tokenizer.train_from_iterator(iter(texts), job["vocab_size"], pattern=job["pattern"]), rustbpe.Tokenizer


def train_bpeasy(job):
    import bpeasy

    texts = documents(text_of(job), job["document"])
    return lambda _: bpeasy.train_bpe(iter(texts), job["pattern"], 1024, job["vocab_size"]), nothing


def train_ffbpe(job):
    import ffbpe

    texts = documents(text_of(job), job["document"])
    return lambda _: ffbpe.train_bpe(texts, vocab_size=job["vocab_size"]), nothing


def train_gigabpe(job):
    import gigabpe

    threads = job.get("threads", 1)
    return lambda _: gigabpe.train_bpe([job["path"]], job["vocab_size"], pretokenizer="bytelevel", threads=threads), nothing


def train_tokenizers(job):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    texts = documents(text_of(job), job["document"])

    def prepare():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        return tokenizer

    def work(tokenizer):
        trainer = trainers.BpeTrainer(vocab_size=job["vocab_size"], show_progress=False, min_frequency=0,
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
        tokenizer.train_from_iterator(iter(texts), trainer)

    return work, prepare


# ---- encoding and decoding: one vocabulary, each library's own file of it


def encode_tinyllm(job):
    from tinyllm import tokenizers

    tokenizer, text = tokenizers.load(job["own"]), text_of(job)
    call = tokenizer.encode if job.get("list") else tokenizer.encode_array
    call("warm up " * 20_000)

    def prepare():
        for coder in tokenizer._coders if job.get("cold", True) else ():
            coder.forget()               # a text's words are new to it

    return lambda _: call(text), prepare


def encode_tiktoken(job):
    encoding, text = _tiktoken(job), text_of(job)
    return lambda _: encoding.encode_ordinary(text), nothing


def encode_tokenizers(job):
    from tokenizers import Tokenizer

    tokenizer, texts = Tokenizer.from_file(job["huggingface"]), documents(text_of(job), job["document"])
    return lambda _: tokenizer.encode_batch_fast(texts), nothing


def decode_tinyllm(job):
    from tinyllm import tokenizers

    tokenizer = tokenizers.load(job["own"])
    ids = tokenizer.encode_array(text_of(job))
    tokenizer.decode(ids[:10_000])
    return lambda _: tokenizer.decode(ids), nothing


def decode_tiktoken(job):
    encoding = _tiktoken(job)
    ids = encoding.encode_ordinary(text_of(job))
    return lambda _: encoding.decode(ids), nothing


def _tiktoken(job):
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe

    return tiktoken.Encoding("bench", pat_str=job["pattern"], mergeable_ranks=load_tiktoken_bpe(job["tiktoken"]), special_tokens={})


# ---- the start: import, compile or read the cache, and do a little of everything


def start_tinyllm(job):
    from tinyllm.tokenizers import BPETokenizer

    def work(_):
        tokenizer = BPETokenizer.train("the start of it all " * 2000, 270)
        tokenizer.decode(tokenizer.encode_array("the start " * 5000))

    return work, nothing


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
