"""NumPy's dtypes by name, among them bfloat16, which is that of the package ml_dtypes."""

import numpy as np

from numpy_lstm.errors import require


def little_endian(name: str) -> np.dtype:
    """The dtype of this name as files store it, the least significant byte first.

    Raises:
        MissingPackage: bfloat16 where ml_dtypes is not installed.
    """
    if name == "bfloat16":
        return bfloat16()
    return np.dtype(name).newbyteorder("<")


def bfloat16() -> np.dtype:
    """The dtype bfloat16, which NumPy itself lacks.

    Raises:
        MissingPackage: ml_dtypes is not installed.
    """
    require("ml_dtypes", "bfloat16")
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)
