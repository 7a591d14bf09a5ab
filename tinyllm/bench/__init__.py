"""Measurements that anyone can repeat: `tinyllm bench engine`, `tinyllm bench matmul`, ..."""
