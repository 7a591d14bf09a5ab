"""Measure models: what a token costs in each one's key/value cache."""

from ..errors import UserError

EXAMPLE = "tinyllm eval --kv"
SHOWN = ("gpt2", "llama-2-7b", "llama-2-70b", "llama-3-8b", "llama-3-70b", "llama-3.1-405b", "deepseek-v2-lite", "deepseek-v2",
         "deepseek-v3")


def configure(parser):
    """The command's arguments."""
    parser.add_argument("presets", nargs="*", metavar="PRESET", help=f"models to show (default: {', '.join(SHOWN)})")
    parser.add_argument("--kv", action="store_true", help="table of the cache: numbers in a layer, bytes a token, memory for long texts")
    parser.add_argument("--bytes", type=int, default=2, choices=(1, 2, 4), metavar="N", help="bytes of a number (2): 1, 2 or 4")


def run(args):
    """Print the table; returns nothing."""
    if not args.kv:
        raise UserError("say what to measure: --kv prints the table of key/value caches")
    from ..load import MODELS
    published = {name: config for _, config in MODELS.values() for name in config.presets}
    unknown = [name for name in args.presets if name not in published]
    if unknown:
        raise UserError(f"no preset is called {unknown[0]!r}; known are {', '.join(published)}")
    names = args.presets or SHOWN
    width = max(map(len, names))
    print(f"{'':{width}}  {'kind':9}  numbers a layer   bytes a token   4,096 tokens   131,072 tokens   kept of full heads")
    for name in names:
        print(row(name, published[name].preset(name), args.bytes, width))
    print(f"\n{args.bytes} byte{'s' * (args.bytes > 1)} a number. Full heads: a key and a value for each query head, of the size the scores and the "
          "values have.")


def row(name, config, size, width=0):
    """One line of the table."""
    numbers = config.cached_per_token()
    full = full_heads(config)
    return (f"{name:{width}}  {kind(config):9}  {numbers // config.n_layer:15,}  {numbers * size:14,}   {memory(size * filled(config, 4096)):>12}   "
            f"{memory(size * filled(config, 131072)):>14}   {numbers / full:17.1%}")


def filled(config, tokens):
    """How many numbers the cache holds after so many tokens; a layer with a window holds no more than that."""
    windows = config.layer_windows() if hasattr(config, "layer_windows") else [None] * config.n_layer
    return config.cached_per_token() // config.n_layer * sum(tokens if w is None else min(w, tokens) for w in windows)


def kind(config):
    """MHA, GQA, MQA or MLA."""
    if hasattr(config, "kv_lora_rank"):
        return "MLA"
    heads = getattr(config, "n_kv_head", config.n_head)
    return "MHA" if heads == config.n_head else "MQA" if heads == 1 else f"GQA {config.n_head}/{heads}"


def full_heads(config):
    """What the cache of the same model would hold with a key and a value for every query head."""
    if hasattr(config, "kv_lora_rank"):
        head = config.qk_nope_head_dim + config.qk_rope_head_dim + config.v_head_dim
    else:
        head = 2 * getattr(config, "head_dim", config.n_embd // config.n_head)
    return config.n_head * head * config.n_layer


def memory(size):
    """Bytes in the unit that suits them.

    >>> memory(288 << 20), memory(63 << 30)
    ('288.0 MiB', '63.0 GiB')
    """
    return f"{size / 2**30:.1f} GiB" if size >= 1 << 30 else f"{size / 2**20:.1f} MiB"
