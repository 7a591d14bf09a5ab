# %% [markdown]
# # Pre-norm and post-norm
#
# A Transformer block adds two branches to a stream, attention and a feed-forward layer, and normalises. The first
# Transformer (2017) normalised after each addition, GPT-2 before each branch. It looks like a detail. Xiong et al. 2020
# ("On Layer Normalization in the Transformer Architecture") showed that it decides whether training needs a warm-up.
# This lesson measures both of their findings. In full it trains four models, which takes about a minute and a half on
# two quiet cores.

# %%
import os

import numpy as np

import tinyllm as tl
from tinyllm import drawing
from tinyllm.train.blas import use_one_thread

use_one_thread()            # the products here are small: several threads would spend their time waiting for each other
quick = os.environ.get("TINYLLM_LESSONS") == "quick"

# %% [markdown]
# ## The two blocks
#
# The same four parts, put together in two ways. Matrices are drawn with variance 1 / in, as in the paper's theorem.

# %%


class MLP(tl.nn.Module):
    def __init__(self, C):
        self.fc = tl.nn.Linear(C, 4 * C, std=C**-0.5)
        self.proj = tl.nn.Linear(4 * C, C, std=(4 * C)**-0.5)

    def forward(self, x):                                   # (B, T, C)
        return self.proj(tl.F.relu(self.fc(x)))             # (B, T, C)


class PreNorm(tl.nn.Module):
    """x + branch(norm(x)): the stream itself is never touched."""

    def __init__(self, C, n_head):
        self.norm1, self.norm2 = tl.nn.LayerNorm(C), tl.nn.LayerNorm(C)
        self.attn = tl.nn.Attention(C, n_head, std=C**-0.5, proj_std=C**-0.5)
        self.mlp = MLP(C)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PostNorm(PreNorm):
    """norm(x + branch(x)): the stream is brought back to variance 1 after every addition."""

    def forward(self, x):
        x = self.norm1(x + self.attn(x))
        return self.norm2(x + self.mlp(x))


class Stack(tl.models.LanguageModel):
    """Embeddings, `depth` blocks of one kind, a head. Pre-norm needs one more norm at the end: nobody has scaled its stream yet."""

    def __init__(self, kind, depth, vocab_size, C=64, n_head=4, block_size=32):
        self.wte = tl.nn.Embedding(vocab_size, C, std=0.5)
        self.wpe = tl.nn.Embedding(block_size, C, std=0.5)
        self.blocks = tl.nn.ModuleList(kind(C, n_head) for _ in range(depth))
        self.norm = tl.nn.LayerNorm(C) if kind is PreNorm else None
        self.head = tl.nn.Linear(C, vocab_size, bias=False, std=C**-0.5)

    def forward(self, ids):
        x = self.wte(ids) + self.wpe(np.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        self.size = np.sqrt((x.numpy()**2).mean())          # of the stream's numbers, behind the last block
        return self.head(x if self.norm is None else self.norm(x))


text = tl.text.read(["tales"])
tokenizer = tl.tokenizers.CharTokenizer.train(text)
ids, val_ids = tl.text.split_position(tokenizer.encode_array(text), 0.1)
x, y = next(tl.text.RandomWindows(ids, 32, 32, tl.Generator(0)))

# %% [markdown]
# ## Gradients by depth, before any training
#
# One batch, one backward pass, and the norm of the gradient of each block's last matrix.

# %%


def norms_by_block(kind, depth, seeds=1 if quick else 3):
    """Gradient norm of mlp.proj in each block of a new model, (depth,), and the stream's size; means over a few seeds."""
    rows, sizes = [], []
    for seed in range(seeds):
        tl.manual_seed(seed)
        model = Stack(kind, depth, tokenizer.vocab_size)
        model.loss(x, y).backward()
        rows.append([np.linalg.norm(block.mlp.proj.weight.grad) for block in model.blocks])
        sizes.append(model.size)
    return np.mean(rows, axis=0), np.mean(sizes)


depth = 12
(post, _), (pre, _) = norms_by_block(PostNorm, depth), norms_by_block(PreNorm, depth)
print("block      " + "".join(f"{i + 1:7}" for i in range(depth)))
print("post-norm  " + "".join(f"{n:7.3f}" for n in post))
print("pre-norm   " + "".join(f"{n:7.3f}" for n in pre))
print(f"last / first: post-norm {post[-1] / post[0]:.1f}, pre-norm {pre[-1] / pre[0]:.1f}")
drawing.save("out/10_gradient_norms.svg", drawing.curves(
    {"post-norm": post, "pre-norm": pre}, f"gradient norm of each block's last matrix, {depth} blocks, before training", x_label="block"))
assert post[-1] > post[0] and pre[-1] < pre[0]

# %% [markdown]
# In post-norm the gradient fades on the way down, since every norm stands on the main road. It is largest near the
# output, and so is the first step of training. In pre-norm nothing stands on the main road, and the lower blocks get
# the most.
#
# The paper's theorem is about the last block. In post-norm its gradient is the same however many blocks there are. In
# pre-norm it shrinks as 1/√L: by then the stream has grown by 2L branches, and the last norm divides the gradient by
# the stream's size. Then the two multiplied should stay about the same.

# %%
depths = [2, 8] if quick else [2, 4, 8, 16]
last = {}
print("\ndepth L                          " + "".join(f"{d:8}" for d in depths))
for kind in (PostNorm, PreNorm):
    measured = [norms_by_block(kind, d) for d in depths]
    name = "post-norm" if kind is PostNorm else "pre-norm"
    last[name] = gradients = np.array([norms[-1] for norms, _ in measured])
    sizes = np.array([size for _, size in measured])
    for what, row in (("gradient of the last block", gradients), ("size of the stream", sizes), ("gradient · size", gradients * sizes)):
        print(f"{name:9} {what:26}" + "".join(f"{v:8.3f}" for v in row))
    constant = gradients if kind is PostNorm else gradients * sizes
    assert constant.max() < 1.5 * constant.min() and (kind is PostNorm or gradients[-1] < 0.7 * gradients[0])
drawing.save("out/10_last_block.svg", drawing.curves(
    {name: (depths, values) for name, values in last.items()}, "gradient norm of the last block, by number of blocks",
    log="xy", x_label="blocks"))

# %% [markdown]
# ## Training with and without a warm-up
#
# Adam, a constant rate of 0.001, eight blocks; with a warm-up the rate climbs to it in a straight line. No clipping of
# gradients: it would hide the effect.

# %%
steps, warmup = (6, 3) if quick else (400, 100)


def train(kind, warmup):
    """The loss of each step, as a mean over the last twenty."""
    tl.manual_seed(1)
    model = Stack(kind, 8, tokenizer.vocab_size)
    batches = tl.text.RandomWindows(ids, 32, 16, tl.Generator(2))
    config = tl.train.TrainConfig(steps=steps, lr=1e-3, warmup=warmup, schedule="constant", clip=0, weight_decay=0, shards=2)
    trainer = tl.train.Trainer(model, batches, None, config)
    losses = [trainer.train_step()["loss"] for _ in range(steps)]
    return [np.mean(losses[max(0, i - 19):i + 1]) for i in range(steps)]


runs = {}
for kind in (PostNorm, PreNorm):
    for w in (0, warmup):
        name = f"{'post' if kind is PostNorm else 'pre'}-norm, {f'warm-up of {w}' if w else 'no warm-up'}"
        runs[name] = train(kind, w)
        print(f"{name:28} loss after {steps} steps {runs[name][-1]:.3f}")
drawing.save("out/10_training.svg", drawing.curves(runs, "training loss, 8 blocks, rate 0.001", x_label="step", y_label="nats"))
assert quick or runs["post-norm, no warm-up"][-1] > runs[f"post-norm, warm-up of {warmup}"][-1] + 0.3

# %% [markdown]
# Without a warm-up the post-norm model stays at about 3.1 nats for hundreds of steps: it knows how often each letter
# occurs, and nothing else. A warm-up saves it. The pre-norm model does without. `tl.models.GPT` is pre-norm;
# `GPTConfig(norm_first=False)` makes it post-norm, with the same two lines in `tl.nn.Block`.
#
# Try: a rate of 0.0005 (can post-norm start cold?), 4 blocks instead of 8, or 16, `clip=1`.
