"""Probabilities and text of a language model in PyTorch, as `numpy_lstm` gives them of its own."""

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional

from numpy_lstm.errors import InputError
from numpy_lstm.shapes import Float, Int
from numpy_lstm.training.sampling import check_sampling
from torch_oracle.weights.torch_language_model import State, TorchLanguageModel


def log_probabilities(
    module: TorchLanguageModel, tokens: Int[np.ndarray, "T N"]
) -> Float[np.ndarray, "T N V"]:
    """Log-probabilities of the next token after every token, from zero states.

    Raises:
        InputError: a token outside the vocabulary.
    """
    logits, _ = _read(module, tokens)
    return functional.log_softmax(logits, dim=-1).numpy()


def generate(
    module: TorchLanguageModel,
    prompt: Int[np.ndarray, " tokens"],
    *,
    temperature: float = 1.0,
    rng: np.random.Generator | None = None,
) -> Iterator[int]:
    """Token after token, without end; `numpy_lstm.generate` with torch's arithmetic.

    Equal seeds give equal tokens, unless a draw falls between the two cumulative distributions,
    which differ by rounding.

    Args:
        module: the model.
        prompt: indices that are read first; at least one.
        temperature: divides the logits before sampling; 0 takes the most probable token (greedy).
        rng: source of randomness; needed unless greedy.

    Raises:
        InputError: an empty prompt, a token outside the vocabulary, or a temperature that is
            negative or not finite.
    """
    check_sampling(prompt, temperature, rng)
    return _generate(module, prompt, temperature, rng)


def _generate(
    module: TorchLanguageModel,
    prompt: Int[np.ndarray, " tokens"],
    temperature: float,
    rng: np.random.Generator | None,
) -> Iterator[int]:
    logits, state = _read(module, prompt[:, None])
    while True:
        token = _choose(logits[-1, 0].double(), temperature, rng)
        yield token
        logits, state = _read(module, np.array([[token]]), state)


@torch.no_grad()
def _read(
    module: TorchLanguageModel, tokens: Int[np.ndarray, "T N"], state: State | None = None
) -> tuple[torch.Tensor, State]:
    """Logits and states, without a graph."""
    V = module.vocab_size
    lowest, highest = tokens.min(initial=0), tokens.max(initial=0)
    if lowest < 0 or highest >= V:
        raise InputError(
            f"tokens: expected integers 0 to V - 1 = {V - 1}, got {lowest} to {highest}"
        )
    return module(torch.from_numpy(tokens.astype(np.int64)), state)


def _choose(
    logits: Float[torch.Tensor, " V"], temperature: float, rng: np.random.Generator | None
) -> int:
    """A token, drawn from softmax(logits / temperature) by inversion; or the most probable one."""
    if rng is None or temperature == 0:
        return int(logits.argmax())
    cumulative = torch.exp((logits - logits.max()) / temperature).cumsum(0)
    return int(torch.searchsorted(cumulative, rng.random() * cumulative[-1], right=True))
