"""One step at a time, for generation and for loops of one's own: the weights are prepared once."""

import numpy as np
from jaxtyping import Int, Shaped

from numpy_lstm.errors import (
    InputError,
    check,
    check_array,
    check_is_array,
    check_parameters,
    check_positive,
)
from numpy_lstm.fast.layer import Prepared, step_forward
from numpy_lstm.lstm import LSTM, Parameters, State


class LSTMCell:
    """An LSTM's equations (1) to (7) and (19) to (21) for one step; states are the caller's.

    Args:
        config: sizes and options; all layers, one direction. Dropout does not act (evaluation).
        parameters: as `LSTM.parameter_shapes` says. They are copied: later changes are not seen.

    Raises:
        InputError: parameters that do not fit, or a bidirectional LSTM.
    """

    def __init__(self, config: LSTM, parameters: Parameters) -> None:
        check(
            not config.bidirectional,
            "bidirectional: expected False; the reverse direction needs the whole sequence",
        )
        self._dtype = check_parameters(parameters, config.parameter_shapes())
        self._config = config
        self._layers = [
            Prepared(config.cell_weights(parameters, suffix)) for suffix in config.suffixes
        ]

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
        check_is_array("x", x)
        config, N, I = self._config, len(x), self._config.input_size
        if x.dtype.kind in "iu":
            if x.ndim != 1 or not all(0 <= token < I for token in x.tolist()):
                raise InputError(
                    f"x (tokens): expected integers 0 to I - 1 = {I - 1} in an array [N], got {x}"
                )
        else:
            check_array("x", x, (("N", N), ("I", I)), self._dtype)
        h, c = state
        L = config.num_layers
        expected = ((L, N, config.output_size), (L, N, config.hidden_size))
        check(
            (h.shape, c.shape) == expected,
            f"state: expected shapes {expected[0]} and {expected[1]}, got {h.shape} and {c.shape}",
        )
        check(
            h.dtype == c.dtype == self._dtype,
            f"state: expected dtype {self._dtype}, got {h.dtype} and {c.dtype}",
        )
        columns = np.empty((L, expected[0][2], N), self._dtype)
        cells = np.empty((L, config.hidden_size, N), self._dtype)
        for k, prepared in enumerate(self._layers):
            step_forward(prepared, x, h[k].T, c[k].T, columns[k], cells[k])
            x = columns[k].T
        return x.copy(), (columns.transpose(0, 2, 1), cells.transpose(0, 2, 1))
