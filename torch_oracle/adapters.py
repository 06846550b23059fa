"""What a program with an adapter of its own imports; see `torch_oracle.verification.adapters`."""

from torch_oracle.verification.adapters import Adapter, Options, adapter
from torch_oracle.verification.loading import adapter_of, load

__all__ = ["Adapter", "Options", "adapter", "adapter_of", "load"]
