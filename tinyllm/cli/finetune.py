"""Fine-tune a model: on prompts and responses, or (--classify) on texts and labels, one JSON object a line.

    {"prompt": "Name a colour.", "response": "Blue."}
    {"text": "What a lovely day", "label": "happy"}

MODEL is a run, a Hugging Face directory or a .bin of llama2.c. Only responses are learned, prompts are shown. The run is left in a
directory under runs/; tinyllm sample goes on with its prompts in the same template, and names the class of a text.
"""

import secrets
from pathlib import Path

from ..errors import UserError

EXAMPLE = r"""printf '{"prompt": "Name a colour.", "response": "Blue."}\n%.0s' 1 2 3 > answers.jsonl
  tinyllm finetune runs/tales answers.jsonl --steps 20"""


def configure(parser):
    """The command's arguments."""
    from ..train.examples import TEMPLATES
    parser.add_argument("model", nargs="?", metavar="MODEL", help="what to start from")
    parser.add_argument("examples", nargs="?", metavar="FILE", help="a .jsonl file")
    parser.add_argument("--resume", metavar="RUN", help="go on with a run that was stopped")
    parser.add_argument("--classify", action="store_true", help="learn the label of a text, with a head of its own")
    parser.add_argument("--template", default="instruction", choices=tuple(TEMPLATES), help="how prompt and response are put together (instruction)")
    parser.add_argument("--lora", type=int, default=0, metavar="R", help="learn adapters of rank R only (0: all weights)")
    parser.add_argument("--epochs", type=float, default=3.0, metavar="X", help="how often each example is seen (3)")
    parser.add_argument("--steps", type=int, metavar="N", help="updates, instead of --epochs")
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="examples in a batch (8)")
    parser.add_argument("--lr", type=float, default=3e-4, metavar="X", help="highest learning rate (3e-4)")
    parser.add_argument("--val-fraction", type=float, default=0.1, metavar="F", help="share of the examples that is held out (0.1)")
    parser.add_argument("--tokenizer", metavar="FILE", help="a tokenizer file, instead of the model's own")
    parser.add_argument("--seed", type=int, metavar="N", help="of everything random (default: drawn)")
    parser.add_argument("--out", metavar="DIR", help="run directory (default: runs/NAME, NAME from the file)")


def run(args):
    """Tune; returns nothing."""
    from ..train.finetune import Tuning
    if args.resume:
        if args.model:
            raise UserError(f"--resume goes on with a run as it was started: leave out {args.model}")
        with Tuning.resume(args.resume) as tuning:
            return _fit(tuning)
    if not args.examples:
        raise UserError("say what to tune and on what: tinyllm finetune MODEL FILE")
    with _new(args) as tuning:
        return _fit(tuning)


def _new(args):
    from ..load import load
    from ..train.examples import read_examples
    from ..train.finetune import TuneConfig, Tuning, find_labels
    from ..train.loop import TrainConfig
    from ..train.session import free_directory
    if not Path(args.examples).is_file():
        raise UserError(f"{args.examples} is not a file")
    seed = secrets.randbits(31) if args.seed is None else args.seed
    tune = TuneConfig(args.examples, args.template, find_labels(args.examples) if args.classify else None, args.lora, args.val_fraction, seed)
    count = len(read_examples(args.examples, ("text", "label") if args.classify else ("prompt", "response")))
    model, tokenizer = load(args.model, args.tokenizer)
    if tokenizer is None:
        raise UserError(f"{args.model} has no tokenizer beside it: name one with --tokenizer")
    if hasattr(model, "labels"):
        raise UserError(f"{args.model} is a classifier; start from the model that it was made from")
    steps = args.steps or max(1, round(args.epochs * count * (1 - args.val_fraction) / max(args.batch, 1)))
    config = TrainConfig(steps=steps, batch=args.batch, lr=args.lr, min_lr=args.lr / 10, warmup=min(100, steps // 20), betas=(0.9, 0.99),
                         weight_decay=0.0, eval_every=max(1, steps // 10), eval_windows=0, seed=seed)
    return Tuning.new(args.out or free_directory([args.examples]), model, tokenizer, tune, config)


def _fit(tuning):
    from ..train.report import write_report
    model, tune = tuning.model, tuning.tune
    learned = sum(p.size for p in model.parameters() if p.requires_grad)
    what = f"{len(tune.labels)} classes" if tune.labels else f"responses, template {tune.template}"
    print(f"{type(model).__name__} of {model.num_params():,} parameters, of which {learned:,} are learned; {what}; seed {tune.seed}; "
          f"{tuning.run.path}")
    tuning.trainer.fit()
    _, arrays, _ = tuning.run.checkpoints.load("best")
    model.load_state_dict(arrays["model"])
    print(f"held out: loss {tuning.trainer.best['loss']:.4f} nats per token at step {tuning.trainer.best['step']}")
    if tune.labels:
        print(f"held out: {tuning.accuracy():.1%} of {len(tuning.held_out)} classes are right")
    print(f"curves:   {write_report(tuning.run.path)}")
    print(f'try it:   tinyllm sample {tuning.run.path} --prompt "…"')
