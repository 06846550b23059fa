"""Free-running generation: the model reads its own output, carrying its state."""

import math
from collections.abc import Iterator

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.fast.stepping import LSTMCell
from numpy_lstm.language_model import LanguageModel, lstm_parameters, predict
from numpy_lstm.lstm import Parameters
from numpy_lstm.shapes import Int, Shaped


def generate(
    model: LanguageModel,
    parameters: Parameters,
    prompt: Int[np.ndarray, " tokens"],
    *,
    temperature: float = 1.0,
    rng: np.random.Generator | None = None,
) -> Iterator[int]:
    """Draw the indices of one token after the other, without end.

    Args:
        model: sizes.
        parameters: weights.
        prompt: indices that are read first; at least one.
        temperature: divides the logits before sampling; 0 takes the most probable token (greedy).
        rng: source of randomness; needed unless greedy.

    Raises:
        InputError: an empty prompt, or a temperature that is negative or not finite.
    """
    check_sampling(prompt, temperature, rng)
    return _generate(model, parameters, prompt, temperature, rng)


def check_sampling(
    prompt: Int[np.ndarray, " tokens"], temperature: float, rng: np.random.Generator | None
) -> None:
    """Raise unless `generate` can work with these arguments.

    Raises:
        InputError: an empty prompt, a temperature that is negative or not finite, or no `rng`.
    """
    if len(prompt) == 0:
        raise InputError("expected at least one token, got none", argument="prompt")
    if not 0 <= temperature < math.inf:
        raise InputError(
            f"expected a finite number of at least 0, got {temperature}", argument="temperature"
        )
    if temperature > 0 and rng is None:
        raise InputError(
            "expected a numpy.random.Generator for sampling, got None; give one, or temperature 0",
            argument="rng",
        )


def _generate(
    model: LanguageModel,
    parameters: Parameters,
    prompt: Int[np.ndarray, " tokens"],
    temperature: float,
    rng: np.random.Generator | None,
) -> Iterator[int]:
    cell = LSTMCell(model.lstm, lstm_parameters(parameters))
    W_v, b_v = parameters["projection.weight"], parameters["projection.bias"]
    cache = predict(model, parameters, prompt[:, None])
    logits, state = cache.logits[-1], cache.state
    while True:
        token = _choose(logits.astype(np.float64), temperature, rng)
        yield token
        y, state = cell.step(np.array([token]), state)
        logits = W_v @ y[0] + b_v  # (15)


def _choose(
    logits: Shaped[np.ndarray, " V"], temperature: float, rng: np.random.Generator | None
) -> int:
    """A token drawn from softmax(logits / temperature), or the most probable one."""
    if rng is None or temperature == 0:
        return int(logits.argmax())
    with np.errstate(over="ignore", under="ignore"):  # -inf is a probability of 0
        cumulative = np.exp((logits - logits.max()) / temperature).cumsum()
    return int(cumulative.searchsorted(rng.random() * cumulative[-1], side="right"))
