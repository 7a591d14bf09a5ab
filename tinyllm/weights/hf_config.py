"""Hugging Face's config.json, in both directions: which models of theirs are models here, and under which settings.

    gpt2                        GPT         GPT-2
    llama                       Llama       Llama 1, 2, 3, 3.1, 3.2 and what is built like them
    mistral                     Llama       with a sliding window in every layer
    qwen2, qwen3                Llama       with biases of queries, keys and values; with their norms; windows in the upper layers
    deepseek_v2, deepseek_v3    DeepSeek

A setting that changes what is computed and that the models here lack is refused by name, and so is every other model_type:
weights that load and compute something else would be worse than none.
"""

from ..errors import UserError
from ..models import DeepSeek, DeepSeekConfig, GPT, GPTConfig, Llama, LlamaConfig
from ..untrusted import shown
from .fill import WeightsError

ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}
REQUIRED = object()


class _Settings:
    """The settings of a config.json by name, with the type that is expected."""

    def __init__(self, record, path):
        self.record, self.path = record, path

    def wrong(self, text):
        return WeightsError(f"{self.path}: {text}")

    def whole(self, name, default=REQUIRED):
        """A whole number, or None where that is the default and nothing else is given."""
        value = self._get(name, default)
        if value is None and default is None:
            return None
        if type(value) is not int or not 0 <= value < 2**31:
            raise self.wrong(f"{name} is {shown(value)}; expected a whole number")
        return value

    def number(self, name, default=REQUIRED):
        value = self._get(name, default)
        if type(value) not in (int, float) or not 0 <= value < 1e15:
            raise self.wrong(f"{name} is {shown(value)}; expected a number")
        return float(value)

    def flag(self, name, default):
        value = self._get(name, default)
        if type(value) is not bool:
            raise self.wrong(f"{name} is {shown(value)}; expected true or false")
        return value

    def must(self, name, *allowed):
        """Refuse a setting other than `allowed`, of which the first is what a missing one means; returns it."""
        value = self.record.get(name, allowed[0])
        if not any(value is a or (type(value) is type(a) and value == a) for a in allowed):
            raise self.wrong(f"{name} is {shown(value)}; the models here do {' or '.join(map(repr, allowed))} only")
        return value

    def end_tokens(self):
        """eos_token_id: None, a whole number or a list of them."""
        value = self.record.get("eos_token_id")
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if not all(type(token) is int and 0 <= token < 2**31 for token in ids):
            raise self.wrong(f"eos_token_id is {shown(value)}; expected a token or a list of tokens")
        return value

    def _get(self, name, default):
        value = self.record.get(name, default)
        if value is REQUIRED:
            raise self.wrong(f"{name} is missing")
        return value

    def rope(self):
        """{rope_theta, rope_scaling}, from the newer `rope_parameters` or the older two settings."""
        newer = self._get("rope_parameters", None)
        older = self._get("rope_scaling", None)
        for settings in (newer, older):
            if settings is not None and not isinstance(settings, dict):
                raise self.wrong(f"rope settings {shown(settings)}; expected an object")
        settings = dict(newer or older or {})
        theta = settings.pop("rope_theta", self.record.get("rope_theta", 10000.0))
        share = settings.pop("partial_rotary_factor", self.record.get("partial_rotary_factor"))
        if share not in (None, 1, 1.0):
            raise self.wrong(f"partial_rotary_factor is {shown(share)}; the models here turn whole heads only")
        if settings.get("rope_type", settings.get("type", "default")) == "yarn" and settings.get("original_max_position_embeddings") is None:
            settings["original_max_position_embeddings"] = self.record.get("max_position_embeddings")
        for name, value in {**settings, "rope_theta": theta}.items():
            if type(value) in (int, float) and not 0 < value < 1e15 and name not in ("mscale", "mscale_all_dim"):
                raise self.wrong(f"{name} is {shown(value)}; expected a number above 0")
            if type(value) not in (int, float, str, bool, type(None)):
                raise self.wrong(f"{name} is {shown(value)}; expected a number")
        if type(theta) not in (int, float):
            raise self.wrong(f"rope_theta is {shown(theta)}; expected a number above 0")
        kind = settings.get("rope_type", settings.get("type", "default"))
        return {"rope_theta": float(theta), "rope_scaling": None if kind == "default" else settings}


def _read_gpt2(s):
    C = s.whole("n_embd", 768)
    s.must("n_inner", None, 4 * C)
    s.must("scale_attn_weights", True)
    s.must("scale_attn_by_inverse_layer_idx", False)
    s.must("add_cross_attention", False)
    return GPTConfig(
        vocab_size=s.whole("vocab_size", 50257), n_layer=s.whole("n_layer", 12), n_head=s.whole("n_head", 12), n_embd=C,
        block_size=s.whole("n_positions", s.whole("n_ctx", 1024)), dropout=s.number("resid_pdrop", 0.1),
        activation=ACTIVATIONS[s.must("activation_function", *ACTIVATIONS)], norm_eps=s.number("layer_norm_epsilon", 1e-5),
        tied=s.flag("tie_word_embeddings", True), eos_token_id=s.end_tokens())


def _sizes(s):
    """What Llama's relatives and DeepSeek have in common."""
    s.must("hidden_act", "silu")
    return dict(vocab_size=s.whole("vocab_size"), n_layer=s.whole("num_hidden_layers"), n_head=s.whole("num_attention_heads"),
                n_embd=s.whole("hidden_size"), block_size=s.whole("max_position_embeddings"), ffn_dim=s.whole("intermediate_size"),
                norm_eps=s.number("rms_norm_eps", 1e-6), eos_token_id=s.end_tokens(), **s.rope())


def _llama(s, **more):
    head_dim = s.whole("head_dim", None)
    return LlamaConfig(**_sizes(s), n_kv_head=s.whole("num_key_value_heads", None), head_dim=head_dim,
                       tied=s.flag("tie_word_embeddings", False), rope_interleaved=False, **more)


def _read_llama(s):
    bias = s.flag("attention_bias", False)
    if s.flag("mlp_bias", False) != bias:
        raise s.wrong(f"attention_bias {bias} and mlp_bias {not bias}; the models here have biases in both or in neither")
    return _llama(s, bias=bias)


def _read_mistral(s):
    return _llama(s, window=s.whole("sliding_window", None) if "sliding_window" in s.record else 4096)


def _read_qwen2(s):
    return _llama(s, qkv_bias=True, **_windows(s))


def _read_qwen3(s):
    s.must("attention_bias", False)
    return _llama(s, qk_norm=True, **_windows(s))


def _windows(s):
    """Qwen's sliding windows: none, or in the layers from max_window_layers on."""
    layers, kinds = s.whole("num_hidden_layers"), s.record.get("layer_types")
    if not s.flag("use_sliding_window", False):
        first = layers
    else:
        first = min(s.whole("max_window_layers", 28), layers)
    if kinds is not None:
        first = kinds.index("sliding_attention") if isinstance(kinds, list) and "sliding_attention" in kinds else len(kinds)
        if kinds != ["full_attention"] * first + ["sliding_attention"] * (layers - first):
            raise s.wrong("layer_types; the models here have full attention in the lower layers and sliding windows in the upper ones")
    return {} if first == layers else {"window": s.whole("sliding_window"), "first_window_layer": first}


def _deepseek(s, **more):
    s.must("moe_layer_freq", 1)
    s.must("num_key_value_heads", s.whole("num_attention_heads"))
    return DeepSeekConfig(
        **_sizes(s), tied=s.flag("tie_word_embeddings", False), bias=s.flag("attention_bias", False), q_lora_rank=s.whole("q_lora_rank", None),
        kv_lora_rank=s.whole("kv_lora_rank", 512), qk_nope_head_dim=s.whole("qk_nope_head_dim", 128),
        qk_rope_head_dim=s.whole("qk_rope_head_dim", 64), v_head_dim=s.whole("v_head_dim", 128), moe_ffn_dim=s.whole("moe_intermediate_size"),
        num_experts_per_tok=s.whole("num_experts_per_tok"), n_routed_experts=s.whole("n_routed_experts"),
        routed_scaling_factor=s.number("routed_scaling_factor", 1.0), **more)


def _read_deepseek_v2(s):
    s.must("mlp_bias", False)
    s.must("norm_topk_prob", False)
    s.must("scoring_func", "softmax")
    grouped = s.must("topk_method", "greedy", "group_limited_greedy") != "greedy"
    return _deepseek(s, n_group=s.whole("n_group") if grouped else 1, topk_group=s.whole("topk_group") if grouped else 1,
                     n_shared_experts=s.whole("n_shared_experts", 2), first_k_dense=s.whole("first_k_dense_replace", 0),
                     scoring_func="softmax", norm_topk_prob=False, balance_alpha=s.number("aux_loss_alpha", 1e-3))


def _read_deepseek_v3(s):
    s.must("scoring_func", "sigmoid")
    s.must("topk_method", "noaux_tc")
    return _deepseek(s, n_group=s.whole("n_group", 8), topk_group=s.whole("topk_group", 4), n_shared_experts=s.whole("n_shared_experts", 1),
                     first_k_dense=s.whole("first_k_dense_replace", 3), scoring_func="sigmoid", norm_topk_prob=s.flag("norm_topk_prob", True),
                     rope_interleaved=s.flag("rope_interleave", True))


READERS = {"gpt2": (GPT, _read_gpt2), "llama": (Llama, _read_llama), "mistral": (Llama, _read_mistral), "qwen2": (Llama, _read_qwen2),
           "qwen3": (Llama, _read_qwen3), "deepseek_v2": (DeepSeek, _read_deepseek_v2), "deepseek_v3": (DeepSeek, _read_deepseek_v3)}


def read(record, path):
    """(model class, configuration) of a config.json that has been parsed; WeightsError for what is not a model here."""
    if not isinstance(record, dict):
        raise WeightsError(f"{path} holds a JSON {type(record).__name__}, expected an object")
    kind = record.get("model_type", "gpt2" if "n_embd" in record else None)     # the first files of GPT-2 do not say
    if not isinstance(kind, str) or kind not in READERS:
        raise WeightsError(f"{path}: model_type {shown(kind)} is not known here; known are {', '.join(READERS)}")
    if record.get("quantization_config") is not None:
        raise WeightsError(f"{path}: the weights are quantized ({shown(record['quantization_config'])}); expected float32, float16 or bfloat16")
    model, reader = READERS[kind]
    try:
        return model, reader(_Settings(record, path))
    except WeightsError:
        raise
    except UserError as error:
        raise WeightsError(f"{path}: {error}") from None


# ---- the way out


def write(config, dtype, bos_token_id=None):
    """The config.json of a model here, as a dict that transformers reads; UserError if it has no such model."""
    record = {GPTConfig: _write_gpt, LlamaConfig: _write_llama, DeepSeekConfig: _write_deepseek}[type(config)](config)
    return {**record, "vocab_size": config.vocab_size, "tie_word_embeddings": config.tied, "initializer_range": config.init_std or 0.02,
            "bos_token_id": bos_token_id, "eos_token_id": config.eos_token_id, "pad_token_id": None, "use_cache": True, "torch_dtype": str(dtype)}


def _refuse(config, name, why):
    raise UserError(f"no model of transformers has {name}={getattr(config, name)!r}: {why}")


def _write_gpt(config):
    if not config.norm_first:
        _refuse(config, "norm_first", "GPT-2 normalises before each branch")
    if config.band_width is not None:
        _refuse(config, "band_width", "its GPT-2 has dense layers only")
    names = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    return {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": config.n_embd, "n_layer": config.n_layer,
            "n_head": config.n_head, "n_positions": config.block_size, "n_ctx": config.block_size, "n_inner": None,
            "activation_function": names[config.activation], "layer_norm_epsilon": config.norm_eps, "embd_pdrop": config.dropout,
            "attn_pdrop": config.dropout, "resid_pdrop": config.dropout, "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False, "reorder_and_upcast_attn": False}


def _common(config, kind, architecture):
    scaling = config.rope_scaling or {"rope_type": "default"}
    return {"model_type": kind, "architectures": [architecture], "hidden_size": config.n_embd, "num_hidden_layers": config.n_layer,
            "num_attention_heads": config.n_head, "intermediate_size": config.ffn_dim, "max_position_embeddings": config.block_size,
            "rms_norm_eps": config.norm_eps, "hidden_act": "silu", "attention_dropout": config.dropout,
            "rope_theta": config.rope_theta, "rope_scaling": config.rope_scaling,       # as transformers 4 and others read it
            "rope_parameters": {**scaling, "rope_theta": config.rope_theta}}            # as transformers 5 does


def _write_llama(config):
    qkv_bias = config.bias if config.qkv_bias is None else config.qkv_bias
    windowed = config.window is not None and config.first_window_layer < config.n_layer
    window = {"use_sliding_window": windowed, "sliding_window": config.window, "max_window_layers": config.first_window_layer}
    if config.qk_norm:
        kind, architecture, more = "qwen3", "Qwen3ForCausalLM", {"attention_bias": False, **window}
        if config.bias or qkv_bias:
            _refuse(config, "qk_norm", "its Qwen 3 has norms of queries and keys, but no biases")
    elif not windowed and qkv_bias == config.bias:
        kind, architecture, more = "llama", "LlamaForCausalLM", {"attention_bias": config.bias, "mlp_bias": config.bias}
    elif qkv_bias and not config.bias:
        kind, architecture, more = "qwen2", "Qwen2ForCausalLM", window
    elif windowed and not (qkv_bias or config.bias or config.first_window_layer):
        kind, architecture, more = "mistral", "MistralForCausalLM", {"sliding_window": config.window}
    else:
        _refuse(config, "window" if windowed else "qkv_bias", "Mistral has windows in all layers and no biases, Qwen 2 has biases of queries, "
                "keys and values")
    return {**_common(config, kind, architecture), "num_key_value_heads": config.n_kv_head, "head_dim": config.head_dim, **more}


def _write_deepseek(config):
    v3 = config.scoring_func == "sigmoid"
    if not v3 and config.norm_topk_prob:
        _refuse(config, "norm_topk_prob", "its DeepSeek-V2 does not normalise the gates")
    if not v3 and not config.rope_interleaved:
        _refuse(config, "rope_interleaved", "its DeepSeek-V2 has interleaved pairs")
    if not config.n_shared_experts:
        _refuse(config, "n_shared_experts", "its DeepSeek always has some")
    if v3:
        more = {"scoring_func": "sigmoid", "topk_method": "noaux_tc", "rope_interleave": config.rope_interleaved}
        common = _common(config, "deepseek_v3", "DeepseekV3ForCausalLM")
    else:
        more = {"scoring_func": "softmax", "topk_method": "greedy" if config.n_group == 1 else "group_limited_greedy", "mlp_bias": False,
                "aux_loss_alpha": config.balance_alpha}
        common = _common(config, "deepseek_v2", "DeepseekV2ForCausalLM")
    same = {name: getattr(config, name) for name in (
        "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "n_routed_experts", "n_shared_experts",
        "num_experts_per_tok", "n_group", "topk_group", "norm_topk_prob", "routed_scaling_factor")}
    return {**common, **same, **more, "num_key_value_heads": config.n_head, "head_dim": config.qk_rope_head_dim,
            "moe_intermediate_size": config.moe_ffn_dim, "first_k_dense_replace": config.first_k_dense, "attention_bias": config.bias,
            "moe_layer_freq": 1, "num_nextn_predict_layers": 0}
