"""The catalogue of known faults of hand-written LSTMs and training programs, as records."""
