"""Softmax cross-entropy, one loss for each token; sums and means are the caller's."""

from dataclasses import dataclass

import numpy as np

from numpy_lstm.activations import log_softmax
from numpy_lstm.errors import check
from numpy_lstm.shapes import Int, Shaped


@dataclass(frozen=True)
class CrossEntropyCache:
    """What the backward pass of the loss needs of its forward pass."""

    log_probabilities: Shaped[np.ndarray, "M V"]
    targets: Int[np.ndarray, " M"]


def cross_entropy_forward(
    logits: Shaped[np.ndarray, "M V"], targets: Int[np.ndarray, " M"]
) -> tuple[Shaped[np.ndarray, " M"], CrossEntropyCache]:
    """Negative log-likelihood of each target, in nats.

    ::

        (16) loss = -log softmax(logits)[target]

    Args:
        logits: scores of the V symbols for M tokens.
        targets: index of the right symbol of each token.

    Raises:
        InputError: a target outside 0 .. V - 1.
    """
    V = logits.shape[-1]
    low, high = targets.min(), targets.max()
    check(low >= 0 and high < V, f"targets: expected 0 to V - 1 = {V - 1}, got {low} to {high}")
    log_probabilities = log_softmax(logits)
    losses = -log_probabilities[np.arange(len(targets)), targets]  # (16)
    return losses, CrossEntropyCache(log_probabilities, targets)


def cross_entropy_backward(
    dlosses: Shaped[np.ndarray, " M"], cache: CrossEntropyCache
) -> Shaped[np.ndarray, "M V"]:
    """Gradient with respect to the logits.

    ::

        (17) dlogits = dloss * (softmax(logits) - one_hot(target))

    Args:
        dlosses: gradient of each token's loss [M].
        cache: what `cross_entropy_forward` returned; not changed.
    """
    dlogits = np.exp(cache.log_probabilities)
    dlogits[np.arange(len(cache.targets)), cache.targets] -= 1
    dlogits *= dlosses[:, None]  # (17)
    return dlogits
