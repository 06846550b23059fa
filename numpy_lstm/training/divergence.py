"""When a training run has left the numbers that a language model can have."""

import math

from numpy_lstm.errors import InputError

FACTOR = 2.0
"""A run has diverged whose loss is this many times what it was, or could be, without training."""


class TrainingDiverged(InputError):
    """The loss, a gradient or a parameter of a training step is no longer finite.

    Args:
        step: index of the training step, from 0.
        reason: what is not finite.
    """

    def __init__(self, step: int, reason: object) -> None:
        super().__init__(f"training diverged at step {step}: {reason}")
        self.step = step


class Divergence:
    """Follows the losses of a run and says whether it ended worse than it could have begun.

    A uniform guess among V tokens costs ln V nats per token, and the initial weights cost the loss
    of the first validation. Training that ends at more than `FACTOR` times the larger of the two
    has not learnt anything: its steps were too large.

    Args:
        vocab_size: V, the number of tokens in the vocabulary.
    """

    def __init__(self, vocab_size: int) -> None:
        self._guess = math.log(vocab_size)
        self._limit: float | None = None
        self._first_step: int | None = None
        self._last: tuple[int, float] | None = None

    def training_loss(self, step: int, loss: float) -> None:
        """Take the loss of a training step into account, in nats per token."""
        if self._limit is not None and self._first_step is None and not loss <= self._limit:
            self._first_step = step

    def validation_loss(self, step: int, loss: float) -> None:
        """Take a validation into account, made before the training step of this index."""
        if self._limit is None:
            self._limit = FACTOR * max(self._guess, loss)
        self._last = None
        if loss <= self._limit:
            self._first_step = None
        else:
            self._last = step, loss

    @property
    def sentence(self) -> str | None:
        """What went wrong and at which step, if the last validation shows a diverged run."""
        if self._last is None:
            return None
        step, loss = self._last
        if self._first_step is not None:
            step = self._first_step
        return (
            f"training diverged at step {step}: the last validation loss is {loss:.4g} nats per"
            f" token, where a uniform guess has {self._guess:.4f}; try a smaller learning rate"
        )
