"""Weights in files: `safetensors` reads and writes named arrays."""

from . import safetensors
