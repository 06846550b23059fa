"""PyTorch and NumPy trained side by side, from the same weights on the same batches."""
