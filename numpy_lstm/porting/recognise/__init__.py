"""Which LSTMs a file holds, in whose layout, and what is wrong with their tensors."""
