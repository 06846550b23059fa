"""One step at a time, for generation and for loops of one's own: the weights are prepared once."""

import numpy as np

from numpy_lstm.config import LSTM, Parameters, State
from numpy_lstm.errors import (
    InputError,
    check_array,
    check_is_array,
    check_parameters,
    check_positive,
)
from numpy_lstm.fast.layer import step_forward
from numpy_lstm.fast.recurrence import ForwardWeights, layer_weights
from numpy_lstm.shapes import Int, Shaped


class LSTMStepper:
    """All layers of an LSTM for one step at a time; the states are the caller's.

    Args:
        config: sizes and options; one direction. Dropout does not act (evaluation).
        parameters: as `LSTM.parameter_shapes` says. They are copied: later changes are not seen.

    Raises:
        InputError: parameters that do not fit, or a bidirectional LSTM.
    """

    def __init__(self, config: LSTM, parameters: Parameters) -> None:
        if config.bidirectional:
            raise InputError(
                "bidirectional: expected False; the reverse direction needs the whole sequence"
            )
        self._dtype = check_parameters(parameters, config.parameter_shapes())
        self._config = config
        self._layers = [_layer(config, parameters, suffix) for suffix in config.suffixes]

    def zero_state(self, N: int) -> State:
        """h and c of N sequences that begin."""
        check_positive(N=N)
        L, config = self._config.num_layers, self._config
        h = np.zeros((L, N, config.output_size), self._dtype)
        return h, np.zeros((L, N, config.hidden_size), self._dtype)

    def step(
        self, x: Shaped[np.ndarray, "N I"] | Int[np.ndarray, " N"], state: State
    ) -> tuple[Shaped[np.ndarray, "N P"], State]:
        """The output of the last layer, and all layers' states, after one input each.

        Args:
            x: inputs [N, I]; or integers [N], which stand for one-hot vectors.
            state: what the last step returned, or `zero_state`; not changed.

        Raises:
            InputError: an input that does not fit.
        """
        self._check_input(x)
        N = len(x)
        h, c = self._checked_state(state, N)
        h_new = np.empty((len(h), h.shape[2], N), self._dtype)
        c_new = np.empty((len(c), c.shape[2], N), self._dtype)
        for k, layer in enumerate(self._layers):
            layer.step(x, h[k], c[k], h_new[k], c_new[k])
            x = h_new[k].T
        return x.copy(), (h_new.transpose(0, 2, 1), c_new.transpose(0, 2, 1))

    def _check_input(self, x: np.ndarray) -> None:
        check_is_array("x", x)
        I = self._config.input_size
        if x.dtype.kind not in "iu":
            check_array("x", x, (("N", len(x)), ("I", I)), self._dtype)
        elif x.ndim != 1 or not all(0 <= token < I for token in x.tolist()):
            raise InputError(
                f"x (tokens): expected integers 0 to I - 1 = {I - 1} in an array [N], got {x}"
            )

    def _checked_state(self, state: State, N: int) -> State:
        h, c = state
        L, config = self._config.num_layers, self._config
        h_shape, c_shape = (L, N, config.output_size), (L, N, config.hidden_size)
        if h.shape != h_shape or c.shape != c_shape:
            raise InputError(
                f"state: expected shapes {h_shape} and {c_shape}, got {h.shape} and {c.shape}"
            )
        if h.dtype != self._dtype or c.dtype != self._dtype:
            raise InputError(f"state: expected dtype {self._dtype}, got {h.dtype} and {c.dtype}")
        return h, c


class _FastLayer:
    """A layer of torch's own cell."""

    def __init__(self, config: LSTM, parameters: Parameters, suffix: str) -> None:
        self._weights = ForwardWeights(layer_weights(config, parameters, suffix))

    def step(
        self, x: np.ndarray, h: np.ndarray, c: np.ndarray, h_new: np.ndarray, c_new: np.ndarray
    ) -> None:
        """Advance h and c [N, ...] by one input; the new states are written [..., N]."""
        step_forward(self._weights, x, h.T, c.T, h_new, c_new)


class _VariantLayer:
    """A layer of another cell, by its own equations."""

    def __init__(self, config: LSTM, parameters: Parameters, suffix: str) -> None:
        copies = {name: parameter.copy() for name, parameter in parameters.items()}
        self._cell, self._weights = config.cell, config.cell_weights(copies, suffix)
        self._W_hr = config.projection(copies, suffix)

    def step(
        self, x: np.ndarray, h: np.ndarray, c: np.ndarray, h_new: np.ndarray, c_new: np.ndarray
    ) -> None:
        """Advance h and c [N, ...] by one input; the new states are written [..., N]."""
        if x.dtype.kind in "iu":
            x = np.eye(self._weights[0].shape[1], dtype=h.dtype)[x]
        (h_t, c_t), _ = self._cell.cell_forward(self._weights, x, h, c)
        if self._W_hr is not None:
            h_t = h_t @ self._W_hr.T  # (19)
        h_new[...], c_new[...] = h_t.T, c_t.T


def _layer(config: LSTM, parameters: Parameters, suffix: str) -> _FastLayer | _VariantLayer:
    if config.variant is None:
        return _FastLayer(config, parameters, suffix)
    return _VariantLayer(config, parameters, suffix)


LSTMCell = LSTMStepper
"""The former name of `LSTMStepper`, which has layers and is no cell; it goes with release 0.2."""
