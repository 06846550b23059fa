"""The canonical form of an LSTM, through which every conversion goes.

It has this package's names and order of gates, and room for everything that any layout of the table
can hold, so that nothing is lost on the way through it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.lstm import LSTM, Parameters

SIGMOID_TANH = ("sigmoid", "tanh", "tanh")
"""The activations of a usual LSTM: of the gates, of the candidate, and of c on its way out."""
INITIAL_STATES = ("initial_h", "initial_c")
WEIGHT_DTYPES = ("float16", "bfloat16", "float32", "float64")
"""The dtypes that weights may be stored in; bfloat16 is that of the package ml_dtypes."""


@dataclass(frozen=True)
class RuntimeFacts:
    """What the equations need and a file of tensors may not say.

    Args:
        forget_bias: a number added to a_f at run time, beside the stored biases.
        activations: of the gates i, f, o; of the candidate g; of c on its way out. The names are
            those of `named_activations`: "sigmoid", "tanh", "hard_sigmoid(0.2, 0.5)", ...
    """

    forget_bias: float = 0.0
    activations: tuple[str, str, str] = SIGMOID_TANH


@dataclass(frozen=True)
class CanonicalLSTM:
    """An LSTM in this package's own layout, with what that layout alone would lose.

    Args:
        config: sizes and options; `bias_pair` says whether both of PyTorch's biases are kept.
        parameters: as `LSTM.parameter_shapes` says, all of one dtype, that of the source.
        facts: the forget bias of run time, and the activations.
        initial_h: learned initial states [layers * D, P]; None where there are none.
        initial_c: the same of the cells [layers * D, H].

    Raises:
        InputError: names, shapes or dtypes do not fit. (What a file holds is checked before.)
    """

    config: LSTM
    parameters: Parameters
    facts: RuntimeFacts = field(default_factory=RuntimeFacts)
    initial_h: np.ndarray | None = None
    initial_c: np.ndarray | None = None

    def __post_init__(self) -> None:
        shapes = {}
        for name, axes in self.config.parameter_shapes().items():
            shapes[name] = tuple(size for _, size in axes)
        found = {name: array.shape for name, array in self.parameters.items()}
        if found != shapes:
            raise InputError(f"parameters: expected {shapes}, got {found}")
        dtypes = {array.dtype.name for array in self.arrays().values()}
        if len(dtypes) != 1 or not dtypes <= set(WEIGHT_DTYPES):
            raise InputError(
                f"parameters: expected one dtype of {', '.join(WEIGHT_DTYPES)}, got"
                f" {sorted(dtypes)}"
            )
        if (self.initial_h is None) != (self.initial_c is None):
            raise InputError("initial states: expected both of initial_h and initial_c, or neither")
        self._check_state("initial_h", self.initial_h, self.config.output_size)
        self._check_state("initial_c", self.initial_c, self.config.hidden_size)

    def _check_state(self, name: str, state: np.ndarray | None, size: int) -> None:
        expected = (len(self.config.suffixes), size)
        if state is not None and state.shape != expected:
            raise InputError(
                f"{name}: expected [layers * D, features] = {list(expected)},"
                f" got {list(state.shape)}"
            )

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the weights."""
        return next(iter(self.parameters.values())).dtype

    def arrays(self) -> dict[str, np.ndarray]:
        """Parameters and learned initial states, by name."""
        result = dict(self.parameters)
        for name in INITIAL_STATES:
            state = getattr(self, name)
            if state is not None:
                result[name] = state
        return result

    def astype(self, dtype: np.dtype | str) -> "CanonicalLSTM":
        """The same in another dtype; numbers that it cannot hold become infinite."""
        with np.errstate(over="ignore"):
            cast = {name: array.astype(dtype) for name, array in self.arrays().items()}
        states = {name: cast.pop(name, None) for name in INITIAL_STATES}
        return replace(self, parameters=cast, **states)

    def digest(self) -> str:
        """SHA-256 of everything: names, dtypes, shapes, bytes, sizes, options and facts."""
        return digest(self.arrays(), _described(self.config, self.facts))


def _described(config: LSTM, facts: RuntimeFacts) -> str:
    """Configuration and facts as records of conversions have hashed them since the first one."""
    return (
        f"(LSTM(input_size={config.input_size}, hidden_size={config.hidden_size},"
        f" num_layers={config.num_layers}, bias={config.bias}, batch_first={config.batch_first},"
        f" dropout={config.dropout}, bidirectional={config.bidirectional},"
        f" proj_size={config.proj_size}, bias_pair={config.bias_pair}, peephole={config.peephole},"
        f" coupled={config.coupled}),"
        f" Facts(forget_bias={facts.forget_bias!r}, activations={facts.activations!r}))"
    )


def digest(arrays: Mapping[str, np.ndarray], description: str = "") -> str:
    """SHA-256 of named arrays, whatever their order in the mapping and in memory."""
    sha = hashlib.sha256(description.encode())
    for name in sorted(arrays):
        array = arrays[name]
        sha.update(f"\n{name} {array.dtype.name} {array.shape}\n".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()
