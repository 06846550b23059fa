"""Where sequences come from. A task has a vocabulary and gives batches."""

from typing import Protocol, runtime_checkable

from numpy_lstm.training.batching import Batch
from numpy_lstm.training.vocabulary import Vocabulary


@runtime_checkable
class Task(Protocol):
    """What the training loop asks of a task."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens that occur in the task."""
        ...

    @property
    def floor(self) -> float | None:
        """Lowest expected validation loss, in nats per token, where it is known exactly."""
        ...

    def training_batches(self, epoch: int) -> list[Batch]:
        """The batches of an epoch, the same at every call."""
        ...

    def validation_batches(self) -> list[Batch]:
        """The batches of the validation split."""
        ...
