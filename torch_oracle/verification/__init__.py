"""Is somebody's LSTM right? Adapters, cases and a verdict."""
