"""Small training runs in which training bugs show: batches, recipes and weights to start from."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from numpy_lstm.language_model import LanguageModel
from numpy_lstm.training.batching import Batch, pad, stream_batches
from numpy_lstm.training.loop import Recipe
from numpy_lstm.training.optimizers import SGD, Adam, AdamW

V, H, N, T = 5, 4, 3, 7


@dataclass(frozen=True, eq=False)
class TrainingCase:
    """One short training run: the model, its first weights, the batches and the recipe.

    `weights` are the initial ones, all of them random and not zero. `batches` are those of all
    epochs, one after the other; the learning rate's schedule is over all of them.
    """

    name: str
    model: LanguageModel
    weights: dict[str, np.ndarray]
    batches: tuple[Batch, ...]
    recipe: Recipe

    @property
    def dtype(self) -> np.dtype:
        """The dtype of all arithmetic."""
        return self.weights["projection.weight"].dtype


@cache
def training_cases() -> tuple[TrainingCase, ...]:
    """The runs by which training is judged.

    Between them: SGD with and without momentum, Adam and AdamW, weight decay of either kind, both
    divisors, no clipping and both kinds of it, active in some steps and not in others, a schedule,
    ragged batches, a text with carried states over two epochs, two layers, one bias and two,
    float64 and float32.
    """
    sgd, momentum = SGD(0.5), SGD(0.1, 0.9, weight_decay=0.05)
    adam, adamw = Adam(0.01, weight_decay=0.1), AdamW(0.01, weight_decay=0.1)
    heavy = Recipe(momentum, 2, max_norm=1.5, divisor="sequences")
    each = Recipe(adamw, 2, max_norm=0.5, clipping="per_tensor", divisor="sequences")
    return (
        _ragged("sgd", Recipe(sgd, 2, max_norm=0.4)),
        _ragged("momentum", heavy),
        _ragged("adam", Recipe(adam, 2, max_norm=0.3, schedule="cosine"), bias_pair=True),
        _ragged("adamw", each, num_layers=2),
        _text("text", Recipe(Adam(0.01), 2, max_norm=None)),
        _ragged("momentum-float32", replace(heavy, max_norm=0.2), dtype=np.float32),
        _ragged("adamw-float32", Recipe(adamw, 2, max_norm=0.35), dtype=np.float32),
    )


SEED = 5
"""With it, the first step's gradients exceed max_norm and those of some other steps do not; in the
case momentum-float32 all do, and some of their elements alone."""


def _ragged(name: str, recipe: Recipe, *, dtype: Any = np.float64, **options: Any) -> TrainingCase:
    """Four batches of random sequences of 1 to T tokens and their targets, in both orders."""
    rng = np.random.default_rng(SEED)
    batches = []
    for _ in range(4):
        lengths = rng.integers(2, T + 1, N)
        lengths[rng.permutation(N)[:2]] = T + 1, 2
        batches.append(pad([rng.integers(0, V, length) for length in lengths]))
    return _case(name, recipe, (*batches, *batches[::-1]), rng, dtype, **options)


def _text(name: str, recipe: Recipe) -> TrainingCase:
    """Three batches of one random text, twice; the last of each epoch is shorter."""
    rng = np.random.default_rng(SEED)
    batches = stream_batches(rng.integers(0, V, 10 * N + 1), N, 4)
    return _case(name, recipe, (*batches, *batches), rng, np.float64)


def _case(
    name: str,
    recipe: Recipe,
    batches: tuple[Batch, ...],
    rng: np.random.Generator,
    dtype: Any,
    **options: Any,
) -> TrainingCase:
    model = LanguageModel(V, H, **options)
    weights = {
        key: (0.5 * rng.standard_normal([size for _, size in shape])).astype(dtype)
        for key, shape in model.parameter_shapes().items()
    }
    return TrainingCase(name, model, weights, batches, recipe)
