"""How each framework lays an LSTM's weights out: one row a framework."""
