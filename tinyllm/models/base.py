"""What every language model here shares: the loss, and drawing text.

A model gives `config` (with `vocab_size` and `block_size`) and `forward(ids, cache=None)`, which turns whole
numbers (B, T) into logits (B, T, V). A model that can decode step by step also gives `make_cache(batch, length)`,
whose result has a `length` and grows by T at each `forward(ids, cache=...)`.
"""

from ..nn import functional as F
from ..nn.module import Module


class LanguageModel(Module):
    """Base of GPT, Llama and DeepSeek: logits (B, T, V) for ids (B, T), and what follows from them."""

    def loss(self, ids, targets, ignore_index=-100):
        """Mean cross-entropy in nats of `targets` (B, T) given `ids` (B, T); a scalar Tensor.

        The caller shifts: `targets[:, t]` is the token that follows `ids[:, t]`. Targets equal to
        `ignore_index` do not count.
        """
        return F.cross_entropy(self(ids), targets, ignore_index=ignore_index)

    def make_cache(self, batch, length):
        """An empty key/value cache for `batch` rows of at most `length` positions; None if there is none."""
        return None

    # Generation is a floor above the models, so nothing here may need it to be imported; the two methods
    # below fetch it when they are called, for the sake of `model.generate(...)`.

    def generate(self, ids, max_new_tokens, **options):
        """Continue `ids` by `max_new_tokens`; see `tinyllm.generate.generate` for the options."""
        from ..generate import generate
        return generate(self, ids, max_new_tokens, **options)

    def stream(self, ids, max_new_tokens, **options):
        """Yield the ids that continue `ids`, as they are drawn; see `tinyllm.generate.stream`."""
        from ..generate import stream
        return stream(self, ids, max_new_tokens, **options)
