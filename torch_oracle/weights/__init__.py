"""Weights and whole language models in PyTorch's own files and modules."""
