"""The measuring instrument: PyTorch's autograd beside the hand-derived gradients.

``from torch_oracle import verify, diagnose, assert_correct`` judges an LSTM of your own; see
`torch_oracle.judge`. Importing the package alone loads neither torch nor NumPy.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch_oracle.judge import assert_correct, diagnose, verify

__all__ = ["assert_correct", "diagnose", "verify"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from torch_oracle import judge

        return getattr(judge, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
