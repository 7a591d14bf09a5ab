"""Texts to train on: the tales that ship, the catalogue, reading, splitting, and batches."""

from tinyllm.text import tales
