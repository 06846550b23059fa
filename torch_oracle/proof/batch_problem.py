"""A batch of a training run as a problem: one forward and backward run, to be compared."""

from collections.abc import Mapping

import numpy as np

from numpy_lstm.language_model import LanguageModel
from numpy_lstm.training.batching import Batch
from numpy_lstm.training.loop import Recipe
from torch_oracle.proof.trace import Problem

States = tuple[np.ndarray, np.ndarray]


def batch_problem(
    model: LanguageModel,
    recipe: Recipe,
    parameters: Mapping[str, np.ndarray],
    batch: Batch,
    states: States | None = None,
) -> Problem:
    """The forward and backward run of a batch.

    Args:
        model: the language model.
        recipe: its divisor turns the summed loss into the one whose gradient is taken.
        parameters: the model's, before the step.
        batch: the batch.
        states: h and c [layers, N, H] that the batch starts from; zero when None.
    """
    N = len(batch.lengths)
    dtype = parameters["projection.weight"].dtype
    zeros = np.zeros((model.num_layers, N, model.hidden_size), dtype)
    h0, c0 = (zeros, zeros) if states is None else states
    divisor = int(batch.lengths.sum()) if recipe.divisor == "tokens" else N
    return Problem(
        config=model,
        parameters=parameters,
        x=batch.inputs,
        lengths=batch.lengths,
        h0=h0,
        c0=c0,
        dh_n=zeros,
        dc_n=zeros,
        targets=batch.targets,
        dloss=1.0 / divisor,
    )
