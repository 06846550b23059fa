"""All known faults together, and the page that lists them."""

from torch_oracle.cell_faults import BACKWARD, FORWARD, LOSS, ORDERS

CELL_FAULTS = (*FORWARD, *LOSS, *BACKWARD, *ORDERS)
"""Faults of one forward and backward run."""
