"""The axes of one tensor: their sizes, and the way into the canonical order and back."""

from collections.abc import Mapping
from math import prod

import numpy as np

from numpy_lstm.porting.layouts.layout import Tensor

Sizes = Mapping[str, int]
"""Sizes of axes by letter."""


def solve_sizes(groups: list[str], shape: tuple[int, ...], sizes: dict[str, int]) -> str | None:
    """Find the sizes of the letters of each axis.

    Args:
        groups: the letters of each axis, as in `Tensor.groups`.
        shape: the array's shape.
        sizes: the known sizes, to which those found are added.

    Returns:
        What does not fit; None if everything does.
    """
    if len(groups) != len(shape):
        return f"expected {len(groups)} axes"
    for letters, size in zip(groups, shape, strict=True):
        unknown = [a for a in letters if a not in sizes]
        product = prod(sizes[a] for a in letters if a in sizes)
        if len(unknown) > 1 or size < 1:
            return f"expected axis ({letters}) of at least 1"
        if unknown and size % product == 0:
            sizes[unknown[0]] = size // product
        elif unknown:
            return f"expected axis ({letters}) = a multiple of {product}"
        elif size != product:
            return f"expected axis ({letters}) = {product}"
    return None


def unpack(tensor: Tensor, array: np.ndarray, sizes: Sizes) -> np.ndarray:
    """The tensor with its axes apart and in canonical order; a view where it can be."""
    apart = array.reshape([sizes[a] for a in tensor.letters])
    order = [tensor.letters.index(a) for a in tensor.letters_in_canonical_order]
    canonical = apart.transpose(order)
    if not tensor.scrambled:
        return canonical
    # [g, u, x] from Keras' shape: the block [x, u] is the memory of [u, x].
    g, u, x = canonical.shape
    return np.ascontiguousarray(canonical.transpose(0, 2, 1)).reshape(g, u, x)


def pack(tensor: Tensor, canonical: np.ndarray) -> np.ndarray:
    """The inverse of `unpack`: the tensor as it lies in the file, contiguous."""
    if tensor.scrambled:
        g, u, x = canonical.shape
        canonical = np.ascontiguousarray(canonical).reshape(g, x, u).transpose(0, 2, 1)
    letters = tensor.letters_in_canonical_order
    sizes = dict(zip(letters, canonical.shape, strict=True))
    apart = canonical.transpose([letters.index(a) for a in tensor.letters])
    shape = [prod(sizes[a] for a in group) for group in tensor.groups]
    return np.ascontiguousarray(apart.reshape(shape))


def reordered(blocks: np.ndarray, before: str, after: str) -> np.ndarray:
    """Blocks along the first axis, from one order of their letters to another."""
    return blocks[[before.index(letter) for letter in after]]
