"""tinyllm: language models from first principles in NumPy."""
