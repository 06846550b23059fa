"""Tests of the diagnosis: known faults are named."""
