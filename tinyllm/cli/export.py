"""Write a model in a format that other programs read: Hugging Face's directories, or llama2.c's .bin.

A directory of transformers holds config.json, model.safetensors and tokenizer.json: transformers, vLLM and the converter of
llama.cpp go on from there. llama2.c's program takes DIR/model.bin, and DIR/tokenizer.bin with -z.
"""

from pathlib import Path

from ..errors import UserError, WorkError

EXAMPLE = "tinyllm export runs/tales --to hf exported"


def configure(parser):
    """The command's arguments."""
    parser.add_argument("model", metavar="RUN", help="a run directory, or whatever else tinyllm sample reads")
    parser.add_argument("directory", metavar="DIR", help="where to write; a new or empty directory")
    parser.add_argument("--to", required=True, choices=("hf", "llama2c"), help="hf: Hugging Face; llama2c: llama2.c, version 0 (Llama models)")
    parser.add_argument("--tokenizer", metavar="FILE", help="a tokenizer file, instead of the run's own")


def run(args):
    """Write; returns nothing."""
    from ..load import load
    path = Path(args.directory)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists and is not an empty directory: choose another")
    model, tokenizer = load(args.model, args.tokenizer)
    (_to_hf if args.to == "hf" else _to_llama2c)(model, tokenizer, path)
    for file in sorted(path.iterdir()):
        print(f"{file}  {file.stat().st_size:,} bytes")


def _to_hf(model, tokenizer, path):
    from ..weights import hf
    hf.save(model, path, tokenizer)
    if tokenizer is None:
        print("no tokenizer was found: name one with --tokenizer, or give the directory one")


def _to_llama2c(model, tokenizer, path):
    from ..tokenizers.llama import LlamaTokenizer
    from ..weights import llama2c
    llama2c.refuse(model)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkError(f"cannot make {path}: {error.strerror}") from error
    llama2c.save(model, path / "model.bin")
    if isinstance(tokenizer, LlamaTokenizer):
        llama2c.save_tokenizer(tokenizer, path / "tokenizer.bin")
    else:
        print("only the model was written: llama2.c's program has one kind of tokenizer, Llama 2's, and this model has another")
