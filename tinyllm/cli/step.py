"""step through backprop, forward and backward, number by number

    tinyllm step                        a worked example: two layers on three numbers
    tinyllm step script.py:function     a function of yours that returns a loss
    tinyllm step bp.json                a trace that was saved
    tinyllm step --model llama          a toy of each model: gpt, llama, deepseek
    tinyllm step --deck attention       exercises: predict the next rule

Inside, ? lists the keys. --html writes a page that opens anywhere, --text prints every step, --save keeps the trace.
"""

EXAMPLE = 'tinyllm step --keys "nnncesq"'


def configure(parser):
    """Add the arguments to an argparse parser."""
    parser.add_argument("what", nargs="?", metavar="WHAT", help="script.py:function, or a saved trace; the worked example if left out")
    parser.add_argument("--model", metavar="NAME", help="a toy: gpt, llama or deepseek")
    parser.add_argument("--deck", metavar="NAME", help="exercises: chain, broadcasting, matmul, softmax-cross-entropy, norms, attention or clip")
    parser.add_argument("--fused", action="store_true", help="record the kernels in place of their definitions")
    parser.add_argument("--against", metavar="WHAT", help="a second trace for the key d: fused, float32, or a saved trace")
    parser.add_argument("--keys", metavar="KEYS", help=r"press these keys and print what a person would see; \n is Enter")
    parser.add_argument("--width", type=int, default=80, metavar="N", help="columns of what --keys and --text print (default 80)")
    parser.add_argument("--text", action="store_true", help="print every step and leave")
    parser.add_argument("--html", metavar="PATH", help="write one HTML page and leave")
    parser.add_argument("--save", metavar="PATH", help="write the trace as JSON and leave")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the toy and of the exercises (default 0)")
    parser.add_argument("--scores", metavar="PATH", help="where exercises are scored (default ~/.local/state/tinyllm/predict.json)")


def run(args):
    """Record or read the trace, and show it in the way that was asked for."""
    from ..stepper.predict import Quiz, Scores
    from ..stepper.terminal import Stepper, play
    from ..stepper.tty import run as run_terminal
    trace = recorded(args)
    if args.save or args.html or args.text:
        if args.save:
            trace.save(args.save)
            print(args.save)
        if args.html:
            print(trace.html(args.html, seed=args.seed))
        if args.text:
            print(trace.text(args.width), end="")
        return
    stepper = Stepper(trace, second(args), Quiz(args.seed, Scores(args.scores), args.deck or "free"))
    if args.deck:
        stepper.drill = True
        stepper.press("f")      # the questions begin where the rules do
        stepper.press("e")
    if args.keys is not None:
        print(play(stepper, args.keys.replace("\\n", "\n"), args.width), end="")
    else:
        run_terminal(stepper)


def recorded(args, **options):
    """The trace that the arguments name."""
    from ..errors import UserError
    from ..stepper import Trace, worked
    chosen = [x for x in (args.what, args.model, args.deck) if x]
    if len(chosen) > 1:
        raise UserError(f"step: {' and '.join(chosen)} were given; choose one of a script, --model and --deck")
    options = {"fused": args.fused, **options}
    if args.model:
        return worked.trace_toy(args.model, seed=args.seed, **options)
    if args.deck:
        return worked.trace_deck(args.deck, **options)
    if args.what is None:
        return worked.trace_example(**options)
    return worked.trace_script(args.what, **options) if ":" in args.what or args.what.endswith(".py") else Trace.load(args.what)


def second(args):
    """The trace to compare with, or None."""
    import numpy as np

    from ..errors import UserError
    from ..stepper import Trace, worked
    if args.against is None:
        return None
    if args.against == "fused":
        return recorded(args, fused=not args.fused)
    if args.against != "float32":
        return Trace.load(args.against)
    if not args.model:
        raise UserError("step --against float32: the toys of --model can be built in another precision")
    return worked.trace_toy(args.model, np.float32, args.seed, fused=args.fused)
