"""Proof that converted weights compute what the original ones did."""
