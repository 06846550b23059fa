"""The proof, as tests."""
