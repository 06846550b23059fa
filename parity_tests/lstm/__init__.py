"""Tests of the LSTM itself: equations, cell, layers, model."""
