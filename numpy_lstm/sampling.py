"""Free-running generation: the model reads its own output, carrying its state."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from numpy_lstm.activations import log_softmax
from numpy_lstm.errors import check
from numpy_lstm.language_model import LanguageModel, predict
from numpy_lstm.lstm import Parameters


def generate(
    model: LanguageModel,
    parameters: Parameters,
    prompt: Int[np.ndarray, " tokens"],
    *,
    temperature: float = 1.0,
    rng: np.random.Generator | None = None,
) -> Iterator[int]:
    """Yield token after token, without end.

    Args:
        model: sizes.
        parameters: weights.
        prompt: indices that are read first; at least one.
        temperature: divides the logits before sampling; 0 takes the most probable token (greedy).
        rng: source of randomness; needed unless greedy.

    Raises:
        InputError: an empty prompt, or a temperature that is negative or not finite.
    """
    check(len(prompt) > 0, "prompt: expected at least one token, got none")
    check(
        0 <= temperature < float("inf"),
        f"temperature: expected a finite number of at least 0, got {temperature}",
    )
    check(
        temperature == 0 or rng is not None,
        "rng: expected a numpy.random.Generator for sampling, got None; give one, or temperature 0",
    )
    tokens, state = prompt, None
    while True:
        cache = predict(model, parameters, tokens[:, None], state=state)
        state = cache.state
        logits = cache.logits[-1].astype(np.float64)
        if rng is None or temperature == 0:
            token = int(logits.argmax())
        else:
            with np.errstate(over="ignore"):  # to -inf, a probability of 0
                scaled = (logits - logits.max()) / temperature
            probabilities = np.exp(log_softmax(scaled))
            token = int(rng.choice(len(logits), p=probabilities))
        yield token
        tokens = np.array([token])
