"""A hand-written NumPy LSTM language model, proven against PyTorch (see README.md)."""
