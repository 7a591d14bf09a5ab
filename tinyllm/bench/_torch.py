"""The contenders of `tinyllm bench step` in PyTorch: the same models, written as one writes them there.

GPT, Llama and DeepSeek of the sizes of `step.CONFIGS`; attention is scaled_dot_product_attention, norms are PyTorch's own, a
mixture of experts gathers each expert's rows. Needs the [parity] extra.
"""

import torch
import torch.nn.functional as F
from torch import nn


def rotate(x, cos, sin):
    """Rotary positions, pairs (i, i + D/2)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


class Rotary(nn.Module):
    """cos and sin (T, D/2)."""

    def __init__(self, length, size):
        super().__init__()
        angles = torch.outer(torch.arange(length), 10000.0 ** (-torch.arange(0, size, 2) / size))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, x):
        return rotate(x, self.cos, self.sin)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        C, self.heads, self.kv_heads = c["n_embd"], c["n_head"], c.get("n_kv_head", c["n_head"])
        self.size = C // self.heads
        self.qkv = nn.Linear(C, (self.heads + 2 * self.kv_heads) * self.size, bias=False)
        self.proj = nn.Linear(C, C, bias=False)
        self.rotary = Rotary(c["block_size"], self.size) if "n_kv_head" in c else None

    def forward(self, x):
        B, T, C = x.shape
        heads = self.qkv(x).view(B, T, -1, self.size).transpose(1, 2)
        q, k, v = heads.split((self.heads, self.kv_heads, self.kv_heads), dim=1)
        if self.rotary is not None:
            q, k = self.rotary(q), self.rotary(k)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.heads != self.kv_heads)
        return self.proj(y.transpose(1, 2).reshape(B, T, C))


class LatentAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        C, self.heads, self.latent = c["n_embd"], c["n_head"], c["kv_lora_rank"]
        self.nope, self.rope, self.value = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
        self.q = nn.Linear(C, self.heads * (self.nope + self.rope), bias=False)
        self.kv_down = nn.Linear(C, self.latent + self.rope, bias=False)
        self.kv_norm = nn.RMSNorm(self.latent, eps=1e-6)
        self.kv_up = nn.Linear(self.latent, self.heads * (self.nope + self.value), bias=False)
        self.proj = nn.Linear(self.heads * self.value, C, bias=False)
        self.rotary = Rotary(c["block_size"], self.rope)

    def forward(self, x):
        B, T, _ = x.shape
        q = self.q(x).view(B, T, self.heads, -1).transpose(1, 2)
        q_nope, q_rope = q.split((self.nope, self.rope), dim=-1)
        latent, k_rope = self.kv_down(x).split((self.latent, self.rope), dim=-1)
        k_nope, v = self.kv_up(self.kv_norm(latent)).view(B, T, self.heads, -1).transpose(1, 2).split((self.nope, self.value), dim=-1)
        k_rope = self.rotary(k_rope[:, None]).expand(B, self.heads, T, self.rope)
        y = F.scaled_dot_product_attention(torch.cat((q_nope, self.rotary(q_rope)), -1), torch.cat((k_nope, k_rope), -1), v, is_causal=True)
        return self.proj(y.transpose(1, 2).reshape(B, T, -1))


class MLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.fc = nn.Linear(c["n_embd"], 4 * c["n_embd"], bias=False)
        self.proj = nn.Linear(4 * c["n_embd"], c["n_embd"], bias=False)

    def forward(self, x):
        return self.proj(F.gelu(self.fc(x)))


class SwiGLU(nn.Module):
    def __init__(self, C, hidden):
        super().__init__()
        self.gate, self.up = nn.Linear(C, hidden, bias=False), nn.Linear(C, hidden, bias=False)
        self.down = nn.Linear(hidden, C, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class MoE(nn.Module):
    def __init__(self, c):
        super().__init__()
        C, hidden, self.k = c["n_embd"], c["moe_ffn_dim"], c["num_experts_per_tok"]
        self.router = nn.Linear(C, c["n_routed_experts"], bias=False)
        self.experts = nn.ModuleList(SwiGLU(C, hidden) for _ in range(c["n_routed_experts"]))
        self.shared = SwiGLU(C, hidden * c["n_shared_experts"])

    def forward(self, x):
        rows = x.reshape(-1, x.shape[-1])
        gates, chosen = self.router(rows).softmax(-1).topk(self.k, dim=-1)
        gates = gates / gates.sum(-1, keepdim=True)
        y = self.shared(rows)
        for i, expert in enumerate(self.experts):
            row, place = (chosen == i).nonzero(as_tuple=True)
            y = y.index_add(0, row, expert(rows[row]) * gates[row, place, None])
        return y.view_as(x)


class Block(nn.Module):
    def __init__(self, c, layer):
        super().__init__()
        C = c["n_embd"]
        norm = (lambda: nn.LayerNorm(C, bias=False)) if "ffn_dim" not in c else (lambda: nn.RMSNorm(C, eps=1e-5))
        self.norm1, self.norm2 = norm(), norm()
        self.attn = LatentAttention(c) if "kv_lora_rank" in c else Attention(c)
        if "kv_lora_rank" in c and layer > 0:
            self.mlp = MoE(c)
        else:
            self.mlp = SwiGLU(C, c["ffn_dim"]) if "ffn_dim" in c else MLP(c)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Model(nn.Module):
    """The loss of one batch for the sizes `c`, head tied to the token table."""

    def __init__(self, c):
        super().__init__()
        self.wte = nn.Embedding(c["vocab_size"], c["n_embd"])
        self.wpe = nn.Embedding(c["block_size"], c["n_embd"]) if "ffn_dim" not in c else None
        self.blocks = nn.ModuleList(Block(c, layer) for layer in range(c["n_layer"]))
        self.norm = nn.LayerNorm(c["n_embd"], bias=False) if self.wpe is not None else nn.RMSNorm(c["n_embd"], eps=1e-5)
        for p in self.parameters():
            if p.ndim > 1:
                nn.init.normal_(p, std=0.02)

    def forward(self, ids, targets):
        x = self.wte(ids)
        if self.wpe is not None:
            x = x + self.wpe.weight[:ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.wte.weight)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))


def stepper(sizes, batch, threads, steps, compiled):
    """Get ready to train; returns a function that makes `steps` steps."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = Model(sizes)
    run = torch.compile(model) if compiled else model
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=1e-3, betas=(0.9, 0.99))

    def turn():
        for _ in range(steps):
            ids = torch.randint(0, sizes["vocab_size"], (batch, sizes["block_size"] + 1))
            optimizer.zero_grad(set_to_none=True)
            loss = run(ids[:, :-1], ids[:, 1:])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        return {"loss": loss.item()}

    for _ in range(2):      # compiled, and buffers in place
        turn()
    return turn
