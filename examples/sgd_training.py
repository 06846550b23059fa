"""A small training program, judged: `lstm-oracle training examples/sgd_training.py:train`.

It has plain SGD and clipping of the global norm, and no other recipe.
"""

import numpy as np

from examples import fixed_lstm
from numpy_lstm import SGD
from torch_oracle.layouts import ColumnVectors

LAYOUT = ColumnVectors(bias_pair=False)


def loss_and_gradients(weights, batch):
    """The mean loss over all tokens of a batch, one sequence after another, and its gradients."""
    p = LAYOUT.to_theirs(weights)
    symbols = np.eye(len(p["b_v"]))[:, :, None]
    state = np.zeros((len(p["b_f"]), 1))
    loss, sums = 0.0, {name: np.zeros_like(weight) for name, weight in p.items()}
    for n, length in enumerate(batch.lengths):
        inputs = symbols[batch.inputs[:length, n]]
        targets = symbols[batch.targets[:length, n]]
        values = fixed_lstm.forward(inputs, state, state, p)
        of_sequence, gradients = fixed_lstm.backward(*values, targets, p)
        loss += of_sequence
        for name, gradient in gradients.items():
            sums[name] += gradient
    means = {name: total / batch.tokens for name, total in sums.items()}
    return loss / batch.tokens, LAYOUT.to_torch_gradients(means)


def train(weights, batches, recipe, learning_rates):
    """Train on the batches, and report what each step did."""
    plain = SGD(recipe.optimizer.lr) == recipe.optimizer and recipe.divisor == "tokens"
    if not plain or recipe.clipping != "global" or recipe.max_norm is None:
        raise NotImplementedError("plain SGD alone, with one norm over all weights")
    steps = []
    for batch, lr in zip(batches, learning_rates, strict=True):
        loss, gradients = loss_and_gradients(weights, batch)
        norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
        factor = min(1.0, recipe.max_norm / (norm + 1e-6))
        clipped = {name: factor * gradient for name, gradient in gradients.items()}
        weights = {name: weight - lr * clipped[name] for name, weight in weights.items()}
        steps.append({"loss": loss, "gradients": gradients, "clipped": clipped, "weights": weights})
    return steps
