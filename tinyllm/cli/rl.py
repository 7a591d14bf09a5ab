"""Reinforcement learning on tasks whose answers can be checked: sft, reward, ppo, grpo, dpo, compare.

    sft       learn right answers                        reward    learn from preferences what is good
    grpo      improve by trying, groups as the baseline  ppo       improve by trying, a value function as the baseline
    dpo       improve from preferences alone             compare   all three ways from one start, in one chart

Each starts from --init RUN, or makes its own start: a fresh model and a short supervised warm start. The run is left in a directory
under runs/. Ctrl-C saves; tinyllm rl --resume RUN goes on.
"""

import dataclasses
import secrets

from ..errors import UserError

EXAMPLE = "tinyllm rl grpo --task addition --seed 0"
HELP = {
    "steps": "iterations", "lr": "learning rate", "batch": "examples in a step", "prompts": "prompts in a step",
    "group_size": "completions of each prompt", "episodes": "completions in a step", "epochs": "passes over a rollout",
    "minibatches": "updates in a pass", "loss_type": "grpo, bnpo, dapo, dr_grpo, gspo, cispo, sapo",
    "beta": "price of the distance to the reference", "until": "stop at this sampled accuracy", "eval_every": "steps between evaluations",
    "kind": "loss of a pair", "kl_coef": "price of KL in the reward", "target_kl": "steer KL to so many nats a completion; 0: no steering",
}


def configure(parser):
    """The command's arguments."""
    from ..rl.session import ALGORITHMS
    parser.add_argument("--resume", metavar="RUN", help="go on with a run that was stopped")
    parser.add_argument("--task", dest="task_file", metavar="FILE.py", help="with --resume: the run's task, if it is a Python file")
    ways = parser.add_subparsers(dest="way", metavar="sft|reward|ppo|grpo|dpo|compare")
    for name, (trainer, config) in ALGORITHMS.items():
        way = ways.add_parser(name, help=trainer.__doc__.splitlines()[0], allow_abbrev=False)
        _common(way)
        group = way.add_argument_group(f"{name} settings")
        for field in dataclasses.fields(config):
            if field.name == "seed":
                continue
            flag, note = f"--{field.name.replace('_', '-')}", HELP.get(field.name, field.name.replace("_", " "))
            if field.type is bool:
                group.add_argument(flag, action="store_true", help=note)
            else:
                kind = float if field.default is None else field.type
                group.add_argument(flag, type=kind, default=field.default, metavar="X", help=f"{note} ({field.default})")
        if name in ("reward", "dpo"):
            way.add_argument("--pairs", metavar="FILE",
                             help="preferences, one JSON object a line (default: a judge compares the policy's completions)")
            way.add_argument("--noise", type=float, default=0.1, metavar="P", help="share of comparisons that the judge gets wrong (0.1)")
        if name == "ppo":
            way.add_argument("--reward", metavar="RUN", help="a reward model, instead of the task's own reward")
    compare = ways.add_parser("compare", help="PPO on a learnt reward, DPO on the same preferences, GRPO on the true reward", allow_abbrev=False)
    _common(compare, "sort", 4)
    compare.add_argument("--noise", type=float, default=0.1, metavar="P", help="share of comparisons that the judge gets wrong (0.1)")
    compare.add_argument("--pairs", type=int, default=4000, metavar="N", help="preferences (4000)")
    compare.add_argument("--steps", type=int, default=100, metavar="N", help="steps of each (100)")


def _common(way, task="addition", difficulty=None):
    way.add_argument("--task", default=task, metavar="NAME", help="copy, reverse, sort, addition, parity, brackets, format, acrostic, rhyme, "
                     f"words, or your own Python file ({task})")
    way.add_argument("--difficulty", type=int, default=difficulty, metavar="N", help="digits, bits, pairs, words")
    way.add_argument("--text", metavar="FILE", help="where tasks on words take theirs from (default: the tales)")
    way.add_argument("--init", metavar="RUN", help="the policy to start from (default: a warm start)")
    way.add_argument("--warm-until", type=float, default=0.25, metavar="P", help="sampled accuracy at which the warm start ends (0.25)")
    way.add_argument("--model", default="gpt", choices=("gpt", "llama"), help="kind of a fresh model (gpt)")
    for flag, value, what in (("--layers", 2, "blocks"), ("--heads", 4, "attention heads"), ("--width", 64, "size of the residual stream")):
        way.add_argument(flag, type=int, default=value, metavar="N", help=f"{what} of a fresh model ({value})")
    way.add_argument("--seed", type=int, metavar="N", help="of everything random (default: drawn)")
    way.add_argument("--out", metavar="DIR", help="run directory (default: runs/WAY-TASK)")


def run(args):
    """Train."""
    from ..train.blas import use_one_thread
    use_one_thread()
    if args.resume:
        if args.way:
            raise UserError(f"--resume goes on with a run as it was started: leave out {args.way}")
        return _resume(args.resume, args.task_file)
    if not args.way:
        raise UserError("say what to do: tinyllm rl sft, reward, ppo, grpo, dpo or compare")
    args.seed = secrets.randbits(31) if args.seed is None else args.seed
    return _compare(args) if args.way == "compare" else _train(args)


def _start(args):
    """(task's words, task, model, tokenizer) to start from, the warm start done."""
    from ..rl.rows import task_tokenizer
    from ..rl.session import fresh_model, load_policy, warm_start
    from ..rl.tasks import load_task
    words = (args.task, args.difficulty, args.text)
    task = load_task(*words)
    if args.init:
        model, tokenizer = load_policy(args.init)
        missing = sorted(set(task.characters) - set("".join(getattr(tokenizer, "characters", task.characters))))
        if missing:
            raise UserError(f"{args.init} was trained on another task: its tokenizer does not know {' '.join(missing)}")
        return words, task, model, tokenizer
    tokenizer = task_tokenizer(task)
    model = fresh_model(task, tokenizer, kind=args.model, n_layer=args.layers, n_head=args.heads, n_embd=args.width, seed=args.seed)
    print(f"{args.task}: {type(model).__name__} of {model.num_params():,} parameters, seed {args.seed}")
    if args.way != "sft":
        print("warm start on right answers:")
        warm_start(model, task, tokenizer, until=args.warm_until, seed=args.seed)
    return words, task, model, tokenizer


def _train(args):
    from ..rl.pairs import read_pairs
    from ..rl.session import ALGORITHMS, free_directory, load_reward, new_run
    config_class = ALGORITHMS[args.way][1]
    config = config_class(**{field.name: getattr(args, field.name) for field in dataclasses.fields(config_class)})
    records = read_pairs(args.pairs) if getattr(args, "pairs", None) else None
    reward = load_reward(args.reward) if getattr(args, "reward", None) else None
    words, _, model, tokenizer = _start(args)
    path = args.out or free_directory(args.way, args.task)
    print(f"{args.way}:  {path}")
    noise = getattr(args, "noise", 0.0)
    with new_run(path, args.way, words, model, tokenizer, config, records=records, reward=reward, noise=noise) as trainer:
        _finish(trainer)


def _resume(path, task_file):
    from ..rl.session import resumed_run
    with resumed_run(path, task_file=task_file) as trainer:
        print(f"going on after step {trainer.step}")
        _finish(trainer)


def _finish(trainer):
    """Train to the end, show samples, write the report."""
    from ..rl.report import write_report
    trainer.fit()
    for prompt, text, reward in trainer.last.get("samples", ()):
        print(f"  {prompt!r} -> {text!r}   reward {reward:g}")
    for low, high, count, predicted, right in trainer.last.get("calibration", ()):
        print(f"  margin {low:6.2f} to {high:6.2f}: {count:4} comparisons, {predicted:.1%} predicted, {right:.1%} right")
    print(f"report: {write_report(trainer)}")


def _compare(args):
    from ..rl.compare import compare
    from ..rl.session import free_directory
    _, task, model, tokenizer = _start(args)
    compare(model, task, tokenizer, path=args.out or free_directory("compare", args.task), steps=args.steps, pairs=args.pairs,
            noise=args.noise, seed=args.seed)
