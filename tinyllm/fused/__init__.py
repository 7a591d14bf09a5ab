"""Floor 2: the operations that language models spend their time in, one a file.

Each file reads top to bottom: the maths, the definition composed of primitives, the fast path with its rules, and
the function. `with tl.fused(False):` runs the definitions. The functions are exposed as `tl.F`.
"""

from .attention import attention, self_attention
from .cross_entropy import cross_entropy
from .dropout import dropout, keep_mask
from .embedding import embedding
from .experts import experts
from .gates import gates
from .gelu import gelu
from .latent_attention import latent, latent_attention
from .layer_norm import layer_norm
from .linear import linear
from .linear_cross_entropy import linear_cross_entropy
from .rms_norm import add_rms_norm, rms_norm
from .rope import rope, rope_tables
from .softmax import log_softmax, softmax
from .swiglu import silu, swiglu
