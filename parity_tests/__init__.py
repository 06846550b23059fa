"""The proof that the LSTM and its oracle are right, as tests of pytest."""
