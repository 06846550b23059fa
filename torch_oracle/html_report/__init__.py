"""A verdict on somebody's LSTM as one page of HTML."""
