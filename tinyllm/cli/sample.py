"""Let a trained model write: the text appears as it is drawn."""

import sys

import numpy as np

from ..errors import UserError

EXAMPLE = 'tinyllm sample runs/tales --prompt "Once" --temperature 0.8'


def configure(parser):
    """The command's arguments."""
    parser.add_argument("model", metavar="RUN", help="a run directory, as tinyllm train leaves it; a Hugging Face directory; a .bin of llama2.c")
    parser.add_argument("--prompt", metavar="TEXT", help="what the model goes on with; - reads standard input (default: an empty line)")
    parser.add_argument("--tokens", type=int, default=200, metavar="N", help="how many tokens to draw at most (200)")
    parser.add_argument("--temperature", type=float, default=0.8, metavar="T", help="0: always the best token; 1: as learned (0.8)")
    parser.add_argument("--top-k", type=int, metavar="K", help="draw from the K best tokens")
    parser.add_argument("--top-p", type=float, metavar="P", help="draw from the best tokens that make up P of the probability")
    parser.add_argument("--min-p", type=float, metavar="P", help="never draw a token less likely than P times the best")
    parser.add_argument("--repetition-penalty", type=float, default=1.0, metavar="R", help="make tokens that are there less likely (1: off)")
    parser.add_argument("--beams", type=int, metavar="N", help="search with N beams for the likeliest text, instead of drawing one")
    parser.add_argument("--best-of", type=int, metavar="N", help="draw N texts and write the likeliest")
    parser.add_argument("--seed", type=int, metavar="N", help="the same seed writes the same text (default: drawn)")
    parser.add_argument("--tokenizer", metavar="FILE", help="a tokenizer file, instead of the run's own")
    parser.add_argument("--int8", action="store_true", help="weights of 8 bits; ends with the perplexity of the text beside float32's")
    parser.add_argument("--no-cache", dest="cache", action="store_false", help="compute all keys and values anew for each token (slow)")


def run(args):
    """Write."""
    from ..generate import Sampling
    from ..load import load
    from ..train.blas import use_one_thread
    from ..train.watch import opening
    from ..weights.int8 import perplexity, quantized, weight_bytes
    use_one_thread()
    Sampling(args.temperature, args.top_k, args.top_p, args.min_p, args.repetition_penalty)     # refuse before the work of loading
    prompt = sys.stdin.read() if args.prompt == "-" else args.prompt
    if prompt == "":
        raise UserError("the prompt is empty; give at least one character, or leave --prompt out to start from an empty line")
    if None not in (args.beams, args.best_of):
        raise UserError("--beams searches and --best-of draws: give one of them")
    whole, tokenizer = load(args.model, args.tokenizer)
    if tokenizer is None:
        raise UserError(f"{args.model} has no tokenizer beside it: name one with --tokenizer")
    model = quantized(whole) if args.int8 else whole
    if hasattr(model, "labels"):
        from ..train.finetune import classify
        for label, p in classify(model, tokenizer, opening(tokenizer) if prompt is None else prompt):
            print(f"{p:7.2%}  {label}")
        return
    prompt = opening(tokenizer) if prompt is None else prompt
    options = dict(temperature=args.temperature, top_k=args.top_k, top_p=args.top_p, min_p=args.min_p,
                   repetition_penalty=args.repetition_penalty, seed=args.seed, use_cache=args.cache)
    if args.beams is not None or args.best_of is not None:
        ids = likeliest(model, tokenizer, prompt, args.tokens, args.beams, args.best_of, options)
        print(tokenizer.decode(ids).lstrip("\n"))
    else:
        ids = write(model, tokenizer, prompt, args.tokens, **options)
    if args.int8:
        print(f"\n{weight_bytes(model):,} bytes of weights for {weight_bytes(whole):,}; perplexity of this text {perplexity(model, ids):.4f}, "
              f"with float32 weights {perplexity(whole, ids):.4f}")


def likeliest(model, tokenizer, prompt, max_new_tokens, beams, n, options):
    """The ids of the text that beam search finds, or of the best of `n` draws."""
    from ..search import beam_search, best_of
    ids = encode(model, tokenizer, prompt)
    if beams is not None:
        found = beam_search(model, ids, max_new_tokens, beams=beams, use_cache=options["use_cache"])
    else:
        found = best_of(model, ids, max_new_tokens, n, **options)
    return found[0].ids


def encode(model, tokenizer, prompt):
    """The prompt's ids, in the template that the model was tuned with, behind the token that begins a text if there is one for that."""
    if hasattr(model, "template"):
        from ..train.examples import TEMPLATES
        return np.array(TEMPLATES[model.template].encode(tokenizer, prompt)[0])
    begins = tokenizer.bos_id not in (None, tokenizer.eos_id)
    return tokenizer.encode_array(prompt, bos=begins, disallowed_special=())


def write(model, tokenizer, prompt, max_new_tokens, **options):
    """Print the prompt and what the model makes of it, token by token, never half a character; returns all ids."""
    ids = encode(model, tokenizer, prompt)
    tokens = model.stream(ids, max_new_tokens, **options)
    decoder = tokenizer.decoder()
    print(prompt.lstrip("\n"), end="\n" if hasattr(model, "template") else "", flush=True)
    drawn = []
    for token in tokens:
        drawn.append(token)
        print(decoder.push(token), end="", flush=True)
    print(decoder.finish(), flush=True)
    return [*ids.tolist(), *drawn]
