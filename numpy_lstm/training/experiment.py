"""All settings of a training run in one flat dataclass, as a command sets them, and presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from numpy_lstm.errors import (
    InputError,
    check_choice,
    check_memory,
    check_not_negative,
    check_positive,
)
from numpy_lstm.initialization import InputInit, init_language_model
from numpy_lstm.language_model import LanguageModel
from numpy_lstm.training.clipping import Clipping
from numpy_lstm.training.loop import Divisor, Recipe
from numpy_lstm.training.optimizers import SGD, Adam, AdamW, Optimizer, Schedule
from numpy_lstm.training.tasks.counting import CountingTask
from numpy_lstm.training.tasks.text import TextTask, read_text

OptimizerName = Literal["sgd", "adam", "adamw"]
DType = Literal["float32", "float64"]


@dataclass(frozen=True)
class Experiment:
    """A model, its initial weights and the recipe by which it is trained."""

    hidden_size: int = 50
    """Units of each layer of the LSTM."""
    num_layers: int = 1
    """Layers of the LSTM."""
    bias_pair: bool = False
    """Two biases per gate, as PyTorch has them, instead of one."""
    forget_bias: float = 1.0
    """Initial bias of the forget gate."""
    input_init: InputInit = "orthogonal"
    """Initial input weights: orthogonal, or uniform within 1 / sqrt(inputs)."""
    optimizer: OptimizerName = "adam"
    """Update rule."""
    lr: float = 1e-2
    """Learning rate (of the first step, where a schedule changes it)."""
    momentum: float = 0.0
    """Momentum of SGD."""
    weight_decay: float = 0.0
    """L2 penalty (SGD, Adam) or decoupled decay (AdamW)."""
    schedule: Schedule = "cosine"
    """Course of the learning rate: constant, or half a cosine down to a tenth."""
    max_norm: float | None = 0.25
    """Bound of the gradient norm; None for no clipping."""
    clipping: Clipping = "global"
    """Clip all gradients by their common norm, or each tensor by its own."""
    divisor: Divisor = "sequences"
    """Divide the gradient of the summed loss by the batch's sequences, or by its real tokens."""
    epochs: int = 30
    """Passes over the training data."""
    dtype: DType = "float64"
    """Floating-point type of all arithmetic."""
    seed: int = 0
    """Decides everything random."""

    def __post_init__(self) -> None:
        check_choice("optimizer", self.optimizer, OptimizerName)
        check_choice("dtype", self.dtype, DType)
        check_not_negative(seed=self.seed)
        if self.momentum and self.optimizer != "sgd":
            raise InputError(
                f"expected 0 with {self.optimizer}, got {self.momentum}; only sgd has one",
                argument="momentum",
            )

    @property
    def recipe(self) -> Recipe:
        """The optimizer, the clipping and the schedule of these settings."""
        kinds: dict[str, Optimizer] = {
            "sgd": SGD(self.lr, self.momentum, self.weight_decay),
            "adam": Adam(self.lr, weight_decay=self.weight_decay),
            "adamw": AdamW(self.lr, weight_decay=self.weight_decay),
        }
        return Recipe(
            kinds[self.optimizer],
            self.epochs,
            self.max_norm,
            self.clipping,
            self.divisor,
            self.schedule,
        )

    def model(self, vocab_size: int) -> LanguageModel:
        """The model for a vocabulary of this size.

        Raises:
            InputError: sizes that are no sizes, or weights that fit into no memory.
        """
        check_positive(hidden_size=self.hidden_size, num_layers=self.num_layers)
        recurrent_weights = 4 * self.hidden_size**2 * self.num_layers
        needed = 2 * recurrent_weights * np.dtype(self.dtype).itemsize
        check_memory(
            "hidden_size", f"{self.num_layers} layers of this size and their gradients", needed
        )
        return LanguageModel(
            vocab_size, self.hidden_size, self.num_layers, bias_pair=self.bias_pair
        )

    def parameters(self, model: LanguageModel) -> dict[str, np.ndarray]:
        """The initial weights of the model, drawn by the seed."""
        return init_language_model(
            model,
            rng=np.random.default_rng([self.seed, 2]),
            dtype=np.dtype(self.dtype).type,
            forget_bias=self.forget_bias,
            input_init=self.input_init,
        )


@dataclass(frozen=True)
class CountingExperiment(Experiment):
    """Learn the counting language a^n b^n EOS."""

    n_min: int = 1
    """Smallest n."""
    n_max: int = 11
    """Largest n."""
    num_sequences: int = 1000
    """Sequences drawn, for training, validation and test together (80/10/10)."""
    batch_size: int = 32
    """Sequences in a training batch."""

    def task(self) -> CountingTask:
        """The sequences of these settings."""
        return CountingTask(self.num_sequences, self.n_min, self.n_max, self.batch_size, self.seed)


@dataclass(frozen=True)
class TextExperiment(Experiment):
    """Learn a UTF-8 text, character by character; the last tenth is validation."""

    hidden_size: int = 128
    """Units of the LSTM."""
    lr: float = 4e-3
    """Learning rate (of the first step, where a schedule changes it)."""
    max_norm: float | None = 1.0
    """Bound of the gradient norm; None for no clipping."""
    divisor: Divisor = "tokens"
    """Divide the gradient of the summed loss by the batch's sequences, or by its real tokens."""
    epochs: int = 8
    """Passes over the training data."""
    dtype: DType = "float32"
    """Floating-point type of all arithmetic."""
    streams: int = 50
    """Contiguous streams read side by side, each carrying its state."""
    steps: int = 50
    """Characters of each stream in a batch; gradients are cut at its start."""

    def task(self, file: Path) -> TextTask:
        """The streams of this file's text."""
        return TextTask(read_text(file), self.streams, self.steps)


RECOMMENDED = CountingExperiment()
"""Adam, batches of 32, clipped at 0.25, forget bias 1."""

SEED_RECIPE = CountingExperiment(
    forget_bias=0.0,
    optimizer="sgd",
    lr=0.1,
    schedule="constant",
    epochs=200,
    num_sequences=256,
    batch_size=1,
)
"""The script that this project began with: SGD, one sequence at a time."""
