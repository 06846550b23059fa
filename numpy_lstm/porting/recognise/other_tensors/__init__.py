"""What a file holds beside the tensors of its LSTMs: parts of them, other networks, sources."""
