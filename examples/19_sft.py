# %% [markdown]
# # Fine-tuning: from going on to answering
#
# A pretrained model goes on with a text; it does not answer. Supervised fine-tuning shows it questions with their answers, in a fixed frame, and
# counts the loss on the answers alone. Here a small model knows what some signs do to digits, and learns from six hundred examples to do it when it
# is told in words. Then two questions: what if the loss counts the questions too, and what if the model starts from nothing? In full the lesson takes
# about a minute.

# %%
import copy
import math
import os

import numpy as np

import tinyllm as tl
from tinyllm import drawing
from tinyllm.train import examples

quick = os.environ.get("TINYLLM_LESSONS") == "quick"

# %% [markdown]
# ## The frame
#
# A template says who speaks. ChatML, which many models use, marks turns with tokens of their own, which the tokenizer makes from no text: whoever
# writes `<|im_end|>` into a question writes ordinary pieces of text and ends nothing.

# %%
tokenizer = tl.tokenizers.BPETokenizer.train(tl.text.read(["tales"]), 640, special_tokens=["<|im_start|>", "<|im_end|>"])
chatml = examples.TEMPLATES["chatml"]
shown, answer = chatml.encode(tokenizer, "Who is Olive?", "Olive the owl.")
print(repr(tokenizer.decode(shown + answer)))
end = tokenizer.special_tokens["<|im_end|>"]
assert chatml.end_ids(tokenizer) == [end] and answer[-1] == end
forged, _ = chatml.encode(tokenizer, "I am done.<|im_end|>")
assert forged.count(end) == 1        # the template's own

# %% [markdown]
# ## The mask
#
# One row holds question and answer; each place is to predict the next token. Places whose next token belongs to the question get no target: the model
# sees them and is not asked.

# %%
ids, targets = examples.batch_of([(np.array(shown + answer), len(shown))])
pieces = [tokenizer.decode([i]).replace("\n", "⏎") for i in shown + answer]
counted = targets[0] != tl.text.IGNORE
sizes = [max(len(pieces[t]), len(pieces[t + 1]) * counted[t]) + 1 for t in range(len(pieces) - 1)]
drawing.save("out/19_mask.svg", drawing.strips(
    [[(pieces[t], sizes[t], None if t < len(shown) else 2) for t in range(len(sizes))],
     [(pieces[t + 1] if counted[t] else None, sizes[t], 2) for t in range(len(sizes))]],
    ["shown", "to be said next"], "one row: the question is seen, the answer is learnt", unit=6.6))
logits = tl.Generator(0).normal(0, 1, (1, len(sizes), tokenizer.vocab_size), dtype=np.float64)
logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
by_hand = -np.mean([logp[0, len(shown) - 1 + k, token] for k, token in enumerate(answer)])
loss = tl.F.cross_entropy(tl.Tensor(logits), targets, ignore_index=tl.text.IGNORE).item()
print(f"{len(shown)} tokens shown, {len(answer)} learnt; loss {loss:.4f}, by hand {by_hand:.4f}")
assert abs(loss - by_hand) < 1e-9

# %% [markdown]
# ## A model that knows signs
#
# Its only reading is lines such as `4290>0249`: four digits, a sign, and the digits copied (=), reversed (<) or sorted (>). Nobody could predict such
# a line better than this: four digits at random, one of three signs, the rest for certain.

# %%
tasks = {name: tl.rl.TASKS[name](4) for name in ("copy", "reverse", "sort")}
signs = {"copy": "=", "reverse": "<", "sort": ">"}
generator = tl.Generator(0)


def draw(count):
    """`count` pairs (way, digits)."""
    return [(list(tasks)[int(generator.randint(0, 3, 1)[0])], "".join(map(str, generator.randint(0, 10, 4)))) for _ in range(count)]


solve = lambda way, digits: tasks[way].answer(digits + "=")
text = "".join(f"{digits}{signs[way]}{solve(way, digits)}\n" for way, digits in draw(2_000 if quick else 20_000))
characters = tl.tokenizers.CharTokenizer(sorted(set("0123456789=<> :\nQA" + "".join(tasks))))
floor = (4 * math.log(10) + math.log(3)) / 10


def fresh():
    tl.manual_seed(0)
    return tl.models.Llama(tl.models.LlamaConfig(vocab_size=characters.vocab_size, n_layer=3, n_head=4, n_embd=64, block_size=40))


pretrained, steps = fresh(), 4 if quick else 800
config = tl.train.TrainConfig(steps=steps, lr=4e-3, min_lr=4e-4, warmup=min(30, steps // 2))
trainer = tl.train.Trainer(pretrained, tl.text.RandomWindows(characters.encode_array(text), 40, 32, tl.Generator(1)), None, config)
for step in range(steps):
    loss = trainer.train_step()["loss"]
    if step % 100 == 99:
        print(f"step {step + 1:4}   loss {loss:.3f}   (floor {floor:.3f})")


def goes_on(model, prompt, **options):
    """What the model writes after `prompt`, up to the end of the line."""
    ids = characters.encode(prompt)
    model.eval()
    return characters.decode(model.generate(ids, 8, stop=characters.encode("\n"), **options)[len(ids):])


print("\n" + "   ".join(f"4290{sign}{goes_on(pretrained, f'{chr(10)}4290{sign}', temperature=0)}" for sign in signs.values()))

# %% [markdown]
# ## Six hundred examples
#
# The questions say in words what to do. The frame is as plain as can be, `sort 4290:0249⏎`: a colon opens the answer, the line break ends it. Neither
# the words nor the colon did the model ever see.

# %%
frame = examples.Template("", ":", "\n")
pairs = list(dict.fromkeys(draw(100 if quick else 820)))
records = [{"prompt": f"{way} {digits}", "response": solve(way, digits)} for way, digits in pairs]
rows = examples.answer_rows(characters, records, frame)
split = 60 if quick else 600
taught, asked = rows[:split], rows[split:]
share = sum(len(ids) - shown for ids, shown in taught) / sum(len(ids) for ids, _ in taught)
print(f"{len(taught)} examples, {len(asked)} others to test with; {share:.0%} of the tokens are answers")
print(f"before: sort 4290:{goes_on(pretrained, 'sort 4290:', temperature=0)}")


def right(model, rows):
    """Share of the questions answered word for word: each token of the answer, the end too, is the likeliest one."""
    model.eval()
    inputs, targets = examples.batch_of(rows)
    with tl.no_grad():
        said = model(inputs).numpy().argmax(axis=-1)
    model.train()
    return float(((said == targets) | (targets == tl.text.IGNORE)).all(axis=1).mean())


def tune(model, taught, steps, looks=10):
    """A tuned copy, and (step, share right of the examples, of other questions, loss on the old lines) on the way."""
    model = copy.deepcopy(model).train()
    trainer = tl.train.Trainer(model, examples.ShuffledRows(taught, 32, tl.Generator(0)), None,
                               tl.train.TrainConfig(steps=steps, lr=1e-3, min_lr=1e-4, warmup=min(5, steps // 2)))
    old = list(tl.text.EvalWindows(characters.encode_array(text[-6000:]), 40, 32))
    points = []
    for step in range(steps + 1):
        if step % max(steps // looks, 1) == 0:
            points.append((step, right(model, rows[:200]), right(model, asked), tl.train.evaluate(model, old)))
        if step < steps:
            trainer.train_step()
    return model, np.array(points)


tuning = 4 if quick else 240
runs = {
    "answers alone": tune(pretrained, taught, tuning),
    "questions too": tune(pretrained, [(ids, 1) for ids, _ in taught], tuning),
    "from fresh weights": tune(fresh(), taught, tuning),
}
print(f"\n{'other questions, share right at step':38}" + "".join(f"{step:>7.0f}" for step in runs["answers alone"][1][::2, 0]))
for name, (_, points) in runs.items():
    print(f"{name:38}" + "".join(f"{value:>7.1%}" for value in points[::2, 2]))
print(f"\n{'':20}{'the examples':>14}{'others':>9}{'loss on the old lines':>24}")
for name, (_, points) in runs.items():
    print(f"{name:20}{points[-1, 1]:>14.1%}{points[-1, 2]:>9.1%}{points[0, 3]:>15.3f} -> {points[-1, 3]:.3f}")
lines = lambda column: {name: (points[:, 0], points[:, column]) for name, (_, points) in runs.items()}
drawing.save("out/19_tuning.html", drawing.page(
    "Learning to answer",
    drawing.curves(lines(1), "share right of the examples", 460, 270, x_label="step"),
    drawing.curves(lines(2), "share right of other questions", 460, 270, x_label="step"),
    drawing.curves(lines(3), "loss on the old lines: what is forgotten", 460, 270, x_label="step", y_label="nats")))

# %% [markdown]
# Two tokens in three belong to the questions, and their digits are random: a loss that counts them spends most of its pull on what cannot be learnt,
# and the answers come late. Fresh weights have to learn from the examples what sorting is; the pretrained model only has to learn what it is called,
# and is far ahead for the first hundred steps. In the end fresh weights catch up: by then they have seen each example a dozen times, and there is not
# much to know here. And look at the last picture: what is not asked for is forgotten, less of it where the questions count too. So real fine-tuning
# goes in small steps, stops early, mixes old text in, or trains a few added weights alone (`tinyllm finetune --lora`).

# %%
for way in tasks:
    question = f"{way} 7315"
    print(f"{question:13} is {solve(way, '7315')}   " + "   ".join(f"{name}: {goes_on(model, question + ':', temperature=0)}" for name, (model, _) in runs.items()))
