"""Dropout between layers: masks that are drawn or given, and what is wrong with them."""

from collections.abc import Sequence

import numpy as np

from numpy_lstm.config import LSTM
from numpy_lstm.errors import InputError, check_array
from numpy_lstm.fast.packing import Packing
from numpy_lstm.shapes import Shaped


def dropout_masks(
    config: LSTM, T: int, N: int, dtype: np.dtype | type, *, rng: np.random.Generator
) -> list[Shaped[np.ndarray, "T N F"]]:
    """Masks of inverted dropout for each layer but the last: 1 / (1 - p), or 0 with probability p.

    Scaling at training time leaves the expected output as it is, so evaluation needs no mask.

    Args:
        config: the LSTM, with the probability p.
        T: steps.
        N: sequences.
        dtype: of the masks.
        rng: draws what is dropped.
    """
    p, features = config.dropout, config.directions * config.output_size
    if p == 0:
        return []
    scale = 0.0 if p == 1 else 1 / (1 - p)
    masks = []
    for _ in range(config.num_layers - 1):
        kept = rng.random((T, N, features)) >= p
        masks.append((scale * kept).astype(dtype))
    return masks


def masks_for(
    config: LSTM,
    packing: Packing,
    dtype: np.dtype,
    masks: Sequence[np.ndarray] | None,
    rng: np.random.Generator | None,
) -> Sequence[np.ndarray]:
    """The masks that are given, or drawn; none without dropout.

    Raises:
        InputError: masks and a generator at once, or either of them without dropout.
    """
    if masks is not None and rng is not None:
        raise InputError("masks, rng: expected one of them, got both")
    if config.dropout == 0 and (masks or rng):
        raise InputError(
            "masks, rng: expected None where dropout is 0; set dropout in the configuration"
        )
    if masks is not None:
        return masks
    if rng is None:
        return []
    return dropout_masks(config, packing.T, packing.N, dtype, rng=rng)


def check_masks(config: LSTM, T: int, N: int, masks: Sequence[np.ndarray], dtype: np.dtype) -> None:
    """Raise unless there are no masks of dropout, or one of the right shape for each layer below.

    Raises:
        InputError: too few or too many masks, or one of a wrong shape or dtype.
    """
    below = config.num_layers - 1
    if len(masks) not in (0, below):
        raise InputError(
            f"masks: expected one for each of num_layers - 1 = {below} layers, got {len(masks)}"
        )
    shape = (("T", T), ("N", N), ("D P", config.directions * config.output_size))
    for k, mask in enumerate(masks):
        check_array(f"masks[{k}]", mask, shape, dtype)
