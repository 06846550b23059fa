"""Keras' files: .keras, .weights.h5 and the .h5 of versions 1 and 2."""
