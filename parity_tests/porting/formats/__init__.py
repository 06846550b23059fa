"""Tests of each kind of file: what is read, written and refused."""
