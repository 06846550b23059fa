"""The measuring instrument: PyTorch's autograd beside the hand-derived gradients."""
