"""Tests of the verdict on somebody's LSTM."""
