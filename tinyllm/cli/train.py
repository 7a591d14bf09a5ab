"""Train a model on a text: a file, several files, a name from `tinyllm data list`, or - for standard input.

Without arguments it trains the default tiny GPT on the tales that ship, in about two minutes. The run is
left in a directory under runs/: checkpoints, tokenizer, metrics.jsonl. Ctrl-C saves; --resume goes on.
`mpiexec -n 4 tinyllm train …` trains with four processes, on one machine or several (pip install "tinyllm[mpi]").
"""

import secrets
import sys

from ..errors import UserError
from ..text.corpora import CATALOGUE

EXAMPLE = "tinyllm train mytext.txt --preset small --steps 3000"

# A preset is a size of model with a batch and a learning rate that suit it on a CPU.
PRESETS = {
    "tiny": dict(layers=4, heads=4, width=128, block=64, batch=16, lr=3e-3, steps=1500),
    "small": dict(layers=6, heads=6, width=192, block=128, batch=16, lr=1e-3, steps=3000),
    "medium": dict(layers=6, heads=6, width=384, block=256, batch=16, lr=1e-3, steps=5000),
}

# GPT-2 small as Raschka's "Build a Large Language Model (From Scratch)" trains it on one short story: PyTorch's initial weights, an
# untied head, a constant rate, every window once an epoch. Too large for its text, which is the point: it learns it by heart.
STUDY = dict(
    model=dict(type="gpt", n_layer=12, n_head=12, n_embd=768, block_size=256, dropout=0.1, qkv_bias=False, tied=False, init_std=None),
    training=dict(batch=4, lr=4e-4, steps=120, warmup=0, schedule="constant", betas=(0.9, 0.999), clip=0.0, eval_every=10, eval_windows=0,
                  stride=256, val_fraction=0.15))


def configure(parser):
    """The command's arguments."""
    parser.set_defaults(parser=parser)      # --resume asks it which flags were given
    parser.add_argument("sources", nargs="*", metavar="TEXT", help="what to train on (default: tales)")
    parser.add_argument("--resume", metavar="RUN", help="go on with a run that was stopped, exactly as it would have gone on")
    parser.add_argument("--out", metavar="DIR", help="run directory (default: runs/NAME, NAME from the text)")

    group = parser.add_argument_group("model")
    group.add_argument("--model", choices=("gpt", "llama", "deepseek"), help="the family (gpt)")
    group.add_argument("--preset", default="tiny", metavar="NAME",
                       help="size of the model: tiny (default), small, medium, or a published one such as gpt2; study: model and "
                            "training of the book's run on a short story")
    for flag, what in (("--layers", "blocks"), ("--heads", "attention heads"), ("--width", "size of the residual stream"),
                       ("--block", "tokens the model sees")):
        group.add_argument(flag, type=int, metavar="N", help=what)
    group.add_argument("--dropout", type=float, metavar="P", help="share of numbers dropped in training (0)")

    group = parser.add_argument_group("text")
    group.add_argument("--tokenizer", metavar="KIND", help="bpe (default for the tales), char (default), or the file of a tokenizer")
    group.add_argument("--vocab-size", type=int, metavar="N", help="of the bpe tokenizer (1024; 2048 for the tales, where that is nearly every word)")
    group.add_argument("--split", choices=("position", "document"),
                       help="validate on the end of the text (default) or on whole documents (default for the tales)")
    group.add_argument("--val-fraction", type=float, metavar="F", help="share of the text to validate on (0.1); 0: none")
    group.add_argument("--field", metavar="NAME", help="field that holds the text in .ndjson")

    group = parser.add_argument_group("training")
    for flag, kind, what in (("--steps", int, "updates"), ("--batch", int, "windows in a batch"), ("--lr", float, "highest learning rate"),
                             ("--min-lr", float, "learning rate at the end (a tenth of --lr)"),
                             ("--warmup", int, "steps until --lr is reached (a twentieth of --steps, 100 at most)")):
        group.add_argument(flag, type=kind, metavar="N" if kind is int else "X", help=what)
    group.add_argument("--stride", type=int, metavar="N",
                       help="windows N tokens apart, each once an epoch in random order (default: windows start anywhere)")
    group.add_argument("--accumulate", type=int, metavar="N", help="batches whose gradients make one update (1)")
    group.add_argument("--schedule", choices=("cosine", "linear", "constant", "wsd"), help="of the learning rate (cosine)")
    group.add_argument("--betas", type=float, nargs=2, metavar="B", help="of AdamW (0.9 0.99)")
    group.add_argument("--weight-decay", type=float, metavar="X", help="of AdamW, on matrices (0.1; 0 with --overfit-batch)")
    group.add_argument("--clip", type=float, metavar="X", help="largest norm of the gradient (1); 0: any")
    group.add_argument("--eval-every", type=int, metavar="N", help="steps between evaluations (250)")
    group.add_argument("--eval-windows", type=int, metavar="N", help="windows of the validation text in each (200); 0: all")
    group.add_argument("--early-stop", type=int, metavar="N", help="stop after N evaluations without a new best; 0: never")
    group.add_argument("--seed", type=int, metavar="N", help="of everything random (default: drawn, and written into the run)")
    group.add_argument("--overfit-batch", action="store_true", default=None, help="learn one batch by heart: a check that learning works (200 steps)")
    group.add_argument("--skip-bad-steps", type=int, metavar="N", help="go on after up to N steps with a NaN or Inf (0)")
    group.add_argument("--shards", type=int, metavar="N",
                       help="parts of a batch worked on at once (default: one for each core); the numbers depend on it")
    group.add_argument("--recompute", action="store_true", default=None,
                       help="keep only what enters each block and compute the rest again: the same numbers in less memory, more slowly")
    group.add_argument("--threads", type=int, metavar="N", help="threads to do it with (default: one for each core); the numbers do not")
    group.add_argument("--profile", action="store_true", help="show a step's memory and time by operation; kept in profile.json of the run")
    group.add_argument("--sample", type=int, default=200, metavar="N", help="tokens of the sample shown at the end (200)")


def run(args):
    """Train; returns nothing."""
    from ..engine.threads import set_num_threads
    from ..train.compiling import compile_kernels
    from ..train.parallel import team
    from ..train.profile import profile_run
    from ..train.report import write_report
    from ..train.session import Session
    with team() as ranks:
        set_num_threads(ranks.cores if args.threads is None else args.threads)
        if not ranks.first:
            session = Session.follow(ranks)
            ranks.meet()        # when the kernels are compiled
            session.trainer.fit()
            session.final_loss()
            return
        with _new(args, ranks) if args.resume is None else _resumed(args, ranks) as session:
            _introduce(session)
            compile_kernels(session.model, session.config.shards)
            ranks.meet()
            session.trainer.fit(profile_run if args.profile else None)
            report = write_report(session.run.path)
            if session.config.overfit_batch:
                print(f"the batch is learned to a loss of {session.trainer.last_loss:.4f}")
            else:
                _conclude(session, args.sample)
            print(f"curves:      {report}")


def _resumed(args, team):
    from ..train.session import Session
    given = [f"--{name.replace('_', '-')}" for name, value in vars(args).items()
             if name not in ("sources", "resume", "sample", "threads", "profile", "debug", "run", "parser") and value != args.parser.get_default(name)]
    if args.sources or given:
        raise UserError(f"--resume goes on with a run as it was started: leave out {(*args.sources, *given)[0]}")
    return Session.resume(args.resume, team=team)


def _new(args, team):
    from ..train.data import DataConfig
    from ..train.loop import TrainConfig
    from ..train.session import Session, free_directory
    model, training = _sizes(args)
    sources = args.sources or ["tales"]
    tales = sources == ["tales"]
    seed = secrets.randbits(31) if args.seed is None else args.seed
    val_fraction = training.pop("val_fraction", 0.1) if args.val_fraction is None else args.val_fraction
    data = DataConfig(sources, args.field, args.split or ("document" if tales else "position"), val_fraction,
                      args.tokenizer or ("bpe" if tales else "char"), args.vocab_size or (2048 if tales else 1024), seed)
    if args.overfit_batch:      # learning by heart has nothing to be careful about: no decay, a high rate
        training |= dict(lr=5e-3, steps=200, weight_decay=0.0)
    training |= {name: value for name in TrainConfig.__dataclass_fields__ if (value := getattr(args, name)) is not None}
    defaults = dict(min_lr=training["lr"] / 10, warmup=min(100, training["steps"] // 20), shards=min(team.size * team.cores, training["batch"]))
    return Session.new(args.out or free_directory(sources), data, model, TrainConfig(**{**defaults, **training, "seed": seed}), team=team)


def _sizes(args):
    """(the model's description, the preset's training settings) after the flags that change single numbers of the model."""
    from ..load import MODELS, describe_config
    changes = {"n_layer": args.layers, "n_head": args.heads, "n_embd": args.width, "block_size": args.block, "dropout": args.dropout}
    changes = {name: value for name, value in changes.items() if value is not None}
    if args.preset in PRESETS:
        shape = PRESETS[args.preset]
        sizes = dict(n_layer=shape["layers"], n_head=shape["heads"], n_embd=shape["width"], block_size=shape["block"], bias=False)
        return {"type": args.model or "gpt", **sizes, **changes}, {name: shape[name] for name in ("batch", "lr", "steps")}
    published = {name: kind for kind, (_, config) in MODELS.items() for name in config.presets}
    if args.preset != "study" and args.preset not in published:
        raise UserError(f"no preset is called {args.preset!r}; made for a CPU are {', '.join(PRESETS)}, published are {', '.join(published)}, "
                        "and study is the book's run on a short story")
    kind = published.get(args.preset, "gpt")
    if args.model not in (None, kind):
        raise UserError(f"{args.preset} is a {kind}, not a {args.model}: leave --model out")
    if args.preset == "study":
        return {**STUDY["model"], **changes}, dict(STUDY["training"])
    return describe_config(kind, MODELS[kind][1].preset(args.preset, **{"dropout": 0.0, **changes})), dict(batch=4, lr=6e-4, steps=1000)


def _introduce(session):
    data, model, trainer = session.data, session.model, session.trainer
    names = ", ".join(source if source in CATALOGUE else source.rsplit("/", 1)[-1] for source in data.config.sources)
    print(f"{names}: {len(data.train_ids):,} tokens to train on, {len(data.val_ids):,} to validate on, "
          f"vocabulary {data.tokenizer.vocab_size:,} ({data.tokenizer.kind})")
    config = model.config
    print(f"{type(model).__name__} of {model.num_params():,} parameters: {config.n_layer} layers, {config.n_head} heads, width {config.n_embd}, "
          f"block {config.block_size}; seed {session.config.seed}; {session.run.path}")
    if session.team.size > 1:
        print(f"{session.team.size} processes share {session.config.shards} shards of each batch")
    if trainer.step:
        print(f"going on after step {trainer.step}")
    sys.stdout.flush()


def _conclude(session, sample_length):
    """Loss over the whole validation text beside what is known of its floor, a sample, and what to do next."""
    data, loss = session.data, session.final_loss()
    if loss is not None:
        per_char = len(data.val_ids) / len(data.val_text)
        line = f"validation loss {loss:.4f} nats per token"
        if data.tokenizer.kind != "char":
            line += f", {loss * per_char:.4f} per character"
        line += f" (whole text, best weights: step {session.trainer.best['step']})"
        print(line)
        if data.floor is not None:
            print(f"the grammar's floor for this text is {data.floor / len(data.val_ids):.4f} per token, "
                  f"{data.floor / len(data.val_text):.4f} per character: no model can do better")
    if sample_length:
        from ..train.watch import opening
        from .sample import write
        print("\na sample:\n")
        write(session.model, data.tokenizer, opening(data.tokenizer), sample_length, temperature=0.8, seed=session.config.seed)
    print(f"\nmore of it:  tinyllm sample {session.run.path} --prompt \"{_first_words(data)}\"")


def _first_words(data):
    """A prompt that the model has a chance with: the first whole words of the text."""
    words = (data.val_text or data.train_text).split()
    first = 1 if data.config.split == "position" and len(words) > 2 else 0      # a cut by position may halve a word
    return " ".join(words[first:first + 2]).replace('"', "")

