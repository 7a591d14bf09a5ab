"""Weights in files, and weights that take less room.

    safetensors     named arrays, in and out
    hf              directories of Hugging Face's transformers, in and out
    llama2c         llama2.c's .bin, in and out         llama3np    llama3.np's .npz, in
    int8            a copy of a model with 8-bit weights, for drawing text
"""

from . import hf, int8, llama2c, llama3np, safetensors
from .fill import WeightsError
