"""Weights of other frameworks: inspected, converted with a proof, checked again."""
