"""The command `numpy-lstm`: train, sample and port."""
