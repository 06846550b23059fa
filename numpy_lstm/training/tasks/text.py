"""Characters of a UTF-8 text file, as contiguous streams."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from numpy_lstm.errors import InputError, check_positive
from numpy_lstm.training.batching import Batch, stream_batches
from numpy_lstm.training.vocabulary import Vocabulary


def read_text(path: Path) -> str:
    """The text of a file, line ends as they are.

    Raises:
        InputError: the file cannot be read, or is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: expected UTF-8 text, got byte 0x{data[error.start]:02x} at offset"
            f" {error.start}; convert the file to UTF-8"
        ) from error


@dataclass(frozen=True)
class TextTask:
    """Next-character prediction on one text: the last tenth is validation, the rest training.

    The vocabulary is that of the training part; characters that occur only in the validation part
    are UNK. Training runs `streams` streams side by side, carrying the state from batch to batch
    within an epoch. Validation reads its part as one stream, carrying the state throughout.

    Args:
        text: the characters.
        streams: N of a training batch.
        steps: T of a training batch; gradients are cut at its start (truncated BPTT).

    Raises:
        InputError: a text too short for the streams.
    """

    text: str
    streams: int = 50
    steps: int = 50

    def __post_init__(self) -> None:
        check_positive(streams=self.streams, steps=self.steps)
        if not self.text:
            raise InputError("text: expected characters, got an empty text")
        train = self._boundary
        validation = len(self.text) - train
        if train <= self.streams or validation < 2:
            raise InputError(
                f"text: expected more than {self.streams} characters for training in"
                f" {self.streams} streams and at least 2 for validation, got {train} and"
                f" {validation}; give a longer text or fewer streams"
            )

    @property
    def _boundary(self) -> int:
        return len(self.text) * 9 // 10

    @property
    def vocabulary(self) -> Vocabulary:
        """The characters of the training part by falling frequency, and UNK."""
        return self._vocabulary

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary.from_sequences([self.text[: self._boundary]])

    @property
    def floor(self) -> None:
        """None: nobody knows the lowest loss of a text."""
        return None

    @cached_property
    def _training(self) -> list[Batch]:
        tokens = self.vocabulary.encode(self.text[: self._boundary])
        return stream_batches(tokens, self.streams, self.steps)

    def training_batches(self, epoch: int) -> list[Batch]:
        """The training part from start to end, the same in every epoch."""
        return self._training

    def validation_batches(self) -> list[Batch]:
        """The validation part as one stream, in batches of 2,000 characters."""
        return self._validation

    @cached_property
    def _validation(self) -> list[Batch]:
        return stream_batches(self.vocabulary.encode(self.text[self._boundary :]), 1, 2000)
