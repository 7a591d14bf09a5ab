"""Which tensor of a Hugging Face file is which parameter here: one table for each family, read in both directions.

A `Piece` ties one tensor of the file to a parameter of the model, or to some of its rows:

    model.layers.0.self_attn.k_proj.weight   (K·D, C)     rows H·D … (H + K)·D of blocks.0.attn.qkv.weight

Three things differ between the two sides:
    - queries, keys and values are one matrix `qkv` here, and three there (GPT-2 has one, too);
    - GPT-2's files hold its matrices as (in, out), transposed;
    - rotary pairs are (i, i + D/2) there; a model with interleaved pairs has the rows of its query and key maps in another
      order (`nn.positions.to_halves`).
"""

from dataclasses import dataclass, field

from ..models import DeepSeekConfig, GPTConfig, LlamaConfig
from ..nn.positions import to_halves, to_interleaved


@dataclass(frozen=True)
class Piece:
    """A tensor `theirs` of `shape` in the file is `ours`, or `rows` of it; `ours` None: zeros, which the model leaves out."""

    theirs: str
    ours: str | None
    shape: tuple
    rows: slice = field(default_factory=lambda: slice(None))
    transposed: bool = False
    heads: int | None = None        # so many heads whose interleaved pairs become halves in the file

    def put(self, array, parameter):
        """Copy the file's `array` into the array of the parameter."""
        if self.transposed:
            array = array.T
        if self.heads:
            array = to_interleaved(array, self.heads)
        parameter[self.rows][...] = array

    def take(self, parameter):
        """The file's array from the parameter's; a view where nothing has to move."""
        array = parameter[self.rows]
        if self.heads:
            array = to_halves(array, self.heads)
        return array.T if self.transposed else array


def pieces(config, halves=True):
    """Yield the pieces of a model of this configuration.

    `halves`: the file has rotary pairs as halves, as all of Hugging Face's; False: in the model's own layout.
    """
    return FAMILIES[type(config)](config, halves)


def _gpt(config, halves):
    C, V = config.n_embd, config.vocab_size
    biased = config.bias
    qkv_biased = biased if config.qkv_bias is None else config.qkv_bias

    def norm(theirs, ours):
        yield Piece(f"{theirs}.weight", f"{ours}.weight", (C,))
        yield Piece(f"{theirs}.bias", f"{ours}.bias" if biased else None, (C,))

    def linear(theirs, ours, inputs, outputs, biased=biased):
        yield Piece(f"{theirs}.weight", f"{ours}.weight", (inputs, outputs), transposed=True)
        yield Piece(f"{theirs}.bias", f"{ours}.bias" if biased else None, (outputs,))

    yield Piece("transformer.wte.weight", "wte.weight", (V, C))
    yield Piece("transformer.wpe.weight", "wpe.weight", (config.block_size, C))
    for layer in range(config.n_layer):
        theirs, ours = f"transformer.h.{layer}", f"blocks.{layer}"
        yield from norm(f"{theirs}.ln_1", f"{ours}.norm1")
        yield from linear(f"{theirs}.attn.c_attn", f"{ours}.attn.qkv", C, 3 * C, qkv_biased)
        yield from linear(f"{theirs}.attn.c_proj", f"{ours}.attn.proj", C, C)
        yield from norm(f"{theirs}.ln_2", f"{ours}.norm2")
        yield from linear(f"{theirs}.mlp.c_fc", f"{ours}.mlp.fc", C, 4 * C)
        yield from linear(f"{theirs}.mlp.c_proj", f"{ours}.mlp.proj", 4 * C, C)
    yield from norm("transformer.ln_f", "norm")
    if not config.tied:
        yield Piece("lm_head.weight", "head.weight", (V, C))


def _around(config, blocks):
    """The pieces of Llama and DeepSeek but for the blocks'."""
    C, V = config.n_embd, config.vocab_size
    yield Piece("model.embed_tokens.weight", "wte.weight", (V, C))
    for layer in range(config.n_layer):
        theirs, ours = f"model.layers.{layer}", f"blocks.{layer}"
        yield Piece(f"{theirs}.input_layernorm.weight", f"{ours}.norm1.weight", (C,))
        yield from blocks(layer, theirs, ours)
        yield Piece(f"{theirs}.post_attention_layernorm.weight", f"{ours}.norm2.weight", (C,))
    yield Piece("model.norm.weight", "norm.weight", (C,))
    if not config.tied:
        yield Piece("lm_head.weight", "head.weight", (V, C))


def _linear(theirs, ours, inputs, outputs, biased=False):
    yield Piece(f"{theirs}.weight", f"{ours}.weight", (outputs, inputs))
    if biased:
        yield Piece(f"{theirs}.bias", f"{ours}.bias", (outputs,))


def _swiglu(theirs, ours, width, ffn_dim, biased=False):
    yield from _linear(f"{theirs}.gate_proj", f"{ours}.gate", width, ffn_dim, biased)
    yield from _linear(f"{theirs}.up_proj", f"{ours}.up", width, ffn_dim, biased)
    yield from _linear(f"{theirs}.down_proj", f"{ours}.down", ffn_dim, width, biased)


def _llama(config, halves):
    C, D = config.n_embd, config.head_dim
    moved = config.rope_interleaved and halves
    qkv_biased = config.bias if config.qkv_bias is None else config.qkv_bias

    def block(layer, theirs, ours):
        start = 0
        for name, heads, turned in (("q", config.n_head, moved), ("k", config.n_kv_head, moved), ("v", config.n_kv_head, False)):
            rows = slice(start, start + heads * D)
            start = rows.stop
            for part, shape in (("weight", (heads * D, C)), ("bias", (heads * D,)))[:1 + bool(qkv_biased)]:
                yield Piece(f"{theirs}.self_attn.{name}_proj.{part}", f"{ours}.attn.qkv.{part}", shape, rows, heads=heads if turned else None)
        yield from _linear(f"{theirs}.self_attn.o_proj", f"{ours}.attn.proj", config.n_head * D, C, config.bias)
        if config.qk_norm:
            for name in ("q_norm", "k_norm"):
                yield Piece(f"{theirs}.self_attn.{name}.weight", f"{ours}.attn.{name}.weight", (D,), heads=1 if moved else None)
        yield from _swiglu(f"{theirs}.mlp", f"{ours}.mlp", C, config.ffn_dim, config.bias)

    return _around(config, block)


def _deepseek(config, halves):
    C, H, rank = config.n_embd, config.n_head, config.q_lora_rank
    d_c, d_r = config.kv_lora_rank, config.qk_rope_head_dim
    query = H * (config.qk_nope_head_dim + d_r)

    def block(layer, theirs, ours):
        attention, attn = f"{theirs}.self_attn", f"{ours}.attn"
        if rank is None:
            yield from _linear(f"{attention}.q_proj", f"{attn}.q", C, query)
        else:
            yield from _linear(f"{attention}.q_a_proj", f"{attn}.q_down", C, rank, config.bias)
            yield Piece(f"{attention}.q_a_layernorm.weight", f"{attn}.q_norm.weight", (rank,))
            yield from _linear(f"{attention}.q_b_proj", f"{attn}.q_up", rank, query)
        yield from _linear(f"{attention}.kv_a_proj_with_mqa", f"{attn}.kv_down", C, d_c + d_r, config.bias)
        yield Piece(f"{attention}.kv_a_layernorm.weight", f"{attn}.kv_norm.weight", (d_c,))
        yield from _linear(f"{attention}.kv_b_proj", f"{attn}.kv_up", d_c, H * (config.qk_nope_head_dim + config.v_head_dim))
        yield from _linear(f"{attention}.o_proj", f"{attn}.proj", H * config.v_head_dim, C, config.bias)
        if layer < config.first_k_dense:
            yield from _swiglu(f"{theirs}.mlp", f"{ours}.mlp", C, config.ffn_dim)
            return
        E = config.n_routed_experts
        yield from _linear(f"{theirs}.mlp.gate", f"{ours}.mlp.router", C, E)
        if config.scoring_func == "sigmoid":
            yield Piece(f"{theirs}.mlp.gate.e_score_correction_bias", f"{ours}.mlp.router_bias", (E,))
        for expert in range(E):
            yield from _swiglu(f"{theirs}.mlp.experts.{expert}", f"{ours}.mlp.experts.{expert}", C, config.moe_ffn_dim)
        if config.n_shared_experts:
            yield from _swiglu(f"{theirs}.mlp.shared_experts", f"{ours}.mlp.shared", C, config.n_shared_experts * config.moe_ffn_dim)

    return _around(config, block)


FAMILIES = {GPTConfig: _gpt, LlamaConfig: _llama, DeepSeekConfig: _deepseek}
