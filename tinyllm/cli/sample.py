"""Let a trained model write: the text appears as it is drawn."""

import sys

from ..errors import UserError
from ..tokenizers import TokenizerError

EXAMPLE = 'tinyllm sample runs/tales --prompt "Once" --temperature 0.8'


def configure(parser):
    """The command's arguments."""
    parser.add_argument("model", metavar="RUN", help="a run directory, as tinyllm train leaves it")
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
    parser.add_argument("--no-cache", dest="cache", action="store_false", help="compute all keys and values anew for each token (slow)")


def run(args):
    """Write."""
    from ..generate import Sampling
    from ..load import load
    from ..train.blas import use_one_thread
    use_one_thread()
    Sampling(args.temperature, args.top_k, args.top_p, args.min_p, args.repetition_penalty)     # refuse before the work of loading
    prompt = sys.stdin.read() if args.prompt == "-" else args.prompt
    if prompt == "":
        raise UserError("the prompt is empty; give at least one character, or leave --prompt out to start from an empty line")
    if None not in (args.beams, args.best_of):
        raise UserError("--beams searches and --best-of draws: give one of them")
    model, tokenizer = load(args.model, args.tokenizer)
    prompt = opening(tokenizer) if prompt is None else prompt
    options = dict(temperature=args.temperature, top_k=args.top_k, top_p=args.top_p, min_p=args.min_p,
                   repetition_penalty=args.repetition_penalty, seed=args.seed, use_cache=args.cache)
    if args.beams is not None or args.best_of is not None:
        print(likeliest(model, tokenizer, prompt, args.tokens, args.beams, args.best_of, options))
    else:
        write(model, tokenizer, prompt, args.tokens, **options)


def likeliest(model, tokenizer, prompt, max_new_tokens, beams, n, options):
    """The text that beam search finds, or the best of `n` draws."""
    from ..search import beam_search, best_of
    ids = tokenizer.encode_array(prompt, disallowed_special=())
    if beams is not None:
        found = beam_search(model, ids, max_new_tokens, beams=beams, use_cache=options["use_cache"])
    else:
        found = best_of(model, ids, max_new_tokens, n, **options)
    return tokenizer.decode(found[0].ids).lstrip("\n")


def opening(tokenizer):
    """What stands before a new piece of text: an empty line, or the first character the tokenizer knows if it knows no lines."""
    try:
        tokenizer.encode("\n\n")
        return "\n\n"
    except TokenizerError:
        return tokenizer.decode([0])


def write(model, tokenizer, prompt, max_new_tokens, **options):
    """Print the prompt and what the model makes of it, token by token, never half a character."""
    ids = tokenizer.encode_array(prompt, disallowed_special=())
    tokens = model.stream(ids, max_new_tokens, **options)
    decoder = tokenizer.decoder()
    print(prompt.lstrip("\n"), end="", flush=True)
    for token in tokens:
        print(decoder.push(token), end="", flush=True)
    print(decoder.finish(), flush=True)
