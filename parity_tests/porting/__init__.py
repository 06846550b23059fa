"""Tests of weights carried between frameworks."""
