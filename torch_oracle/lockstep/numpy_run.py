"""A run of the NumPy program with noise, on the batches of the run that is judged."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from numpy_lstm.language_model import LanguageModel
from numpy_lstm.training.batching import Batch
from numpy_lstm.training.loop import Position, Recipe, evaluate, training_step
from torch_oracle.lockstep.noise import noise_factors
from torch_oracle.lockstep.torch_run import Quantities, step_quantities


class NumpyRun:
    """A model that `training_step` trains, with noise on all parameters before each step.

    Args:
        model: sizes.
        parameters: the initial weights.
        recipe: optimiser, clipping and divisor.
        rng: draws the noise.
    """

    def __init__(
        self,
        model: LanguageModel,
        parameters: Mapping[str, np.ndarray],
        recipe: Recipe,
        rng: np.random.Generator,
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.rng = rng
        position = Position(dict(parameters), recipe.optimizer.init(parameters))
        self.position = self._with_noise(position)

    def step(self, batch: Batch, lr: float) -> Quantities:
        """Take one training step, and return everything of it that is compared.

        Raises:
            InputError: the run is no longer finite.
        """
        step = training_step(self.model, self.recipe, self.position, batch, lr)
        self.position = self._with_noise(step.after)
        return step_quantities(
            step.loss, step.gradients, step.coefficients, self.position.parameters
        )

    def validation_loss(self, batches: list[Batch]) -> float:
        """The loss over these batches at the present weights, in nats per token.

        Raises:
            InputError: the loss is not finite.
        """
        return evaluate(self.model, self.position.parameters, batches)

    def _with_noise(self, position: Position) -> Position:
        moved = {
            name: array * noise_factors(self.rng, array)
            for name, array in position.parameters.items()
        }
        return replace(position, parameters=moved)
