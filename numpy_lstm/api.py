"""The public names of `numpy_lstm`, which `import numpy_lstm` loads when one is first used."""

from numpy_lstm.config import LSTM
from numpy_lstm.errors import InputError
from numpy_lstm.fast.stepping import LSTMCell, LSTMStepper
from numpy_lstm.initialization import init_language_model, init_lstm
from numpy_lstm.language_model import (
    LanguageModel,
    language_model_backward,
    language_model_forward,
    predict,
)
from numpy_lstm.lstm import dropout_masks, lstm_backward, lstm_forward
from numpy_lstm.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from numpy_lstm.training.loop import Recipe, evaluate, train
from numpy_lstm.training.optimizers import SGD, Adam, AdamW
from numpy_lstm.training.sampling import generate
from numpy_lstm.training.vocabulary import Vocabulary

__all__ = [
    "LSTM",
    "SGD",
    "Adam",
    "AdamW",
    "Checkpoint",
    "InputError",
    "LSTMCell",
    "LSTMStepper",
    "LanguageModel",
    "Recipe",
    "Vocabulary",
    "dropout_masks",
    "evaluate",
    "generate",
    "init_language_model",
    "init_lstm",
    "language_model_backward",
    "language_model_forward",
    "load_checkpoint",
    "lstm_backward",
    "lstm_forward",
    "predict",
    "save_checkpoint",
    "train",
]
