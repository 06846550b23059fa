"""Is this project's own LSTM right? Every tensor of every step against PyTorch."""
