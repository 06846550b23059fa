"""What is timed: the sizes, and the same random inputs for all implementations."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Kind = Literal["layer", "training step", "generation"]
DType = Literal["float32", "float64"]


@dataclass(frozen=True)
class Workload:
    """What is timed. A layer forward and backward, from and to arrays; a step of training a
    language model (loss, clipping, Adam); or one generated token."""

    kind: Kind
    N: int
    T: int
    I: int
    H: int
    ragged: bool = False

    def __str__(self) -> str:
        """The sizes, as a table shows them."""
        text = f"{self.kind} N={self.N} T={self.T} I={self.I} H={self.H}"
        if self.ragged:
            text += " ragged"
        return text


LAYER_SIZES = (
    (1, 24, 4, 50),
    (50, 50, 65, 128),
    (20, 35, 200, 200),
    (64, 128, 256, 256),
    (20, 35, 650, 650),
    (128, 32, 512, 512),
    (1, 512, 64, 64),
    (32, 22, 3, 50),
)
"""N, T, I and H."""
WORKLOADS = (
    *(Workload("layer", *sizes) for sizes in LAYER_SIZES),
    Workload("layer", 32, 50, 65, 128, ragged=True),
    Workload("training step", 50, 50, 65, 128),
    Workload("generation", 1, 100, 65, 128),
)


def arrays(w: Workload, dtype: DType) -> dict[str, Any]:
    """The same random inputs for all implementations."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / shape[-1] ** 0.5).astype(dtype)

    lengths = np.full(w.N, w.T)
    if w.ragged:
        lengths = np.linspace(w.T, 1, w.N).astype(int)
    G = 4 * w.H
    parameters = {"weight_ih_l0": normal(G, w.I), "weight_hh_l0": normal(G, w.H)}
    states = {name: normal(1, w.N, w.H) for name in ("h0", "c0", "dh_n", "dc_n")}
    return states | {
        "parameters": parameters | {"bias_l0": normal(G)},
        "x": normal(w.T, w.N, w.I),
        "dy": normal(w.T, w.N, w.H),
        "lengths": lengths,
        "tokens": rng.integers(0, w.I, (w.T, w.N)),
        "targets": rng.integers(0, w.I, (w.T, w.N)),
    }
