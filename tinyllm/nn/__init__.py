"""Floor 3: layers. A `Module` owns `Parameter`s and other modules; models are built of them."""

from . import functional, init
from .attention import Attention
from .block import Block
from .cache import KVCache
from .dropout import Dropout
from .feed_forward import SwiGLU, swiglu_width
from .latent_attention import LatentAttention
from .linear import Embedding, Linear
from .lora import lora
from .module import Module, ModuleList, Parameter, Sequential, StateError
from .moe import MoE
from .norm import LayerNorm, RMSNorm
from .positions import RotaryPositions
from .recomputed import recomputed
