"""Floor 4: language models; each file reads like the figure of its paper."""

from .base import Config, LanguageModel
from .deepseek import DeepSeek, DeepSeekConfig
from .gpt import GPT, GPTConfig
from .llama import Llama, LlamaConfig
