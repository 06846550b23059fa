"""Tests of the comparison with PyTorch, and of training side by side."""
