"""What a conversion carries: everything that any row of the table of layouts can hold."""

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np

from numpy_lstm.errors import InputError, check
from numpy_lstm.lstm import LSTM, Parameters

SIGMOID_TANH = ("sigmoid", "tanh", "tanh")
INITIAL = ("initial_h", "initial_c")
DTYPES = ("float16", "bfloat16", "float32", "float64")
"""What weights may be stored in; bfloat16 is that of the package ml_dtypes."""


@dataclass(frozen=True)
class Facts:
    """What a file of tensors may leave unsaid, and the equations need.

    Args:
        forget_bias: added to a_f at run time; what is in the biases is not counted here.
        activations: of the gates i, f, o; of the candidate g; of c on its way out. Names as in
            `run_as_placed.activation`: "sigmoid", "tanh", "hard_sigmoid(0.2, 0.5)", ...
    """

    forget_bias: float = 0.0
    activations: tuple[str, str, str] = SIGMOID_TANH


@dataclass(frozen=True)
class CanonicalLSTM:
    """An LSTM in this package's own layout, with what that layout alone would lose.

    Args:
        config: sizes and options; `bias_pair` says whether both of PyTorch's biases are kept.
        parameters: as `LSTM.parameter_shapes` says, of one dtype, that of the source.
        facts: forget bias at run time, and activations.
        initial_h: learned initial states [layers * D, P]; None where there are none.
        initial_c: the same of the cells [layers * D, H].

    Raises:
        InputError: names, shapes or dtypes that do not fit. (Files are checked before.)
    """

    config: LSTM
    parameters: Parameters
    facts: Facts = field(default_factory=Facts)
    initial_h: np.ndarray | None = None
    initial_c: np.ndarray | None = None

    def __post_init__(self) -> None:
        shapes = {
            n: tuple(size for _, size in s) for n, s in self.config.parameter_shapes().items()
        }
        found = {name: array.shape for name, array in self.parameters.items()}
        check(found == shapes, f"parameters: expected {shapes}, got {found}")
        dtypes = {array.dtype.name for array in self.arrays().values()}
        check(
            len(dtypes) == 1 and dtypes <= set(DTYPES),
            f"parameters: expected one dtype of {', '.join(DTYPES)}, got {sorted(dtypes)}",
        )
        check(
            (self.initial_h is None) == (self.initial_c is None),
            "initial states: expected both of initial_h and initial_c, or neither",
        )
        L, c = len(self.config.suffixes), self.config
        for name, state, size in (
            ("initial_h", self.initial_h, c.output_size),
            ("initial_c", self.initial_c, c.hidden_size),
        ):
            if state is not None and state.shape != (L, size):
                raise InputError(
                    f"{name}: expected [layers * D, features] = [{L}, {size}],"
                    f" got {list(state.shape)}"
                )

    @property
    def dtype(self) -> np.dtype:
        """That of the source."""
        return next(iter(self.parameters.values())).dtype

    def arrays(self) -> dict[str, np.ndarray]:
        """Parameters and learned initial states, by name."""
        states = dict(zip(INITIAL, (self.initial_h, self.initial_c), strict=True))
        return dict(self.parameters) | {n: s for n, s in states.items() if s is not None}

    def astype(self, dtype: np.dtype | str) -> "CanonicalLSTM":
        """The same in another dtype; numbers that it cannot hold become infinite."""
        with np.errstate(over="ignore"):
            cast = {name: array.astype(dtype) for name, array in self.arrays().items()}
        states = {name: cast.pop(name, None) for name in INITIAL}
        return replace(self, parameters=cast, **states)

    def digest(self) -> str:
        """SHA-256 of everything: names, dtypes, shapes, bytes and facts."""
        return digest(self.arrays(), repr((self.config, self.facts)))


def digest(arrays: Parameters, also: str = "") -> str:
    """SHA-256 of named arrays, whatever their order in the mapping and in memory."""
    sha = hashlib.sha256(also.encode())
    for name in sorted(arrays):
        array = arrays[name]
        sha.update(f"\n{name} {array.dtype.name} {array.shape}\n".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()
