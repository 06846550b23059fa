"""Weight layouts for adapters; see `torch_oracle.verification.hand_layouts`."""

from torch_oracle.verification.hand_layouts import ColumnVectors, GatePairs, Stacked

__all__ = ["ColumnVectors", "GatePairs", "Stacked"]
