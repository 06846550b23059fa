"""Trained models on disk: safetensors, written atomically, with everything needed to use them.

The tensors carry the parameters' names; the file's metadata carries the model's sizes and the
vocabulary, as JSON.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from numpy_lstm.errors import InputError, check_parameters
from numpy_lstm.files import write_atomically
from numpy_lstm.language_model import LanguageModel
from numpy_lstm.lstm import Parameters
from numpy_lstm.training.vocabulary import Vocabulary

FORMAT = "numpy_lstm.language_model/1"


@dataclass(frozen=True)
class Checkpoint:
    """A language model with its weights and vocabulary, and notes of how it came about."""

    model: LanguageModel
    vocabulary: Vocabulary
    parameters: Parameters
    notes: dict[str, Any]


def checkpoint_bytes(checkpoint: Checkpoint) -> bytes:
    """The content of a checkpoint's file.

    Raises:
        InputError: parameters do not fit the model.
    """
    # Here, so that `import numpy_lstm` does not load what reads other people's files.
    from numpy_lstm.porting.formats.safetensors_file import safetensors_bytes

    check_parameters(checkpoint.parameters, checkpoint.model.parameter_shapes())
    header = {
        "model": asdict(checkpoint.model),
        "vocabulary": checkpoint.vocabulary.tokens,
        "notes": checkpoint.notes,
    }
    metadata = {"format": FORMAT, "header": json.dumps(header)}
    return safetensors_bytes(checkpoint.parameters, metadata)


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; a file of that name is replaced in one moment or not at all.

    Raises:
        InputError: the folder cannot be written to, or parameters do not fit the model.
    """
    data = checkpoint_bytes(checkpoint)
    try:
        write_atomically({Path(path): data})
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read what `save_checkpoint` wrote, and check all of it.

    Raises:
        InputError: the file is missing, truncated, of another kind, or holds tensors of the wrong
            name, shape or dtype, NaN or infinity.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a checkpoint (.safetensors)")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise InputError(
                    f"{path}: expected a checkpoint of this package ({FORMAT}),"
                    f" got format {metadata.get('format')!r}"
                )
            dtypes = {name: file.get_slice(name).get_dtype() for name in file.keys()}
            other = [f"{name} is {d}" for name, d in dtypes.items() if d not in ("F32", "F64")]
            if other:
                raise InputError(
                    f"{path}: expected float32 or float64 tensors, got {', '.join(other)}"
                )
            parameters = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: not a whole safetensors file ({error}); was it truncated?"
        ) from error
    try:
        header = json.loads(metadata["header"])
        model, notes = LanguageModel(**header["model"]), header["notes"]
        vocabulary = Vocabulary(tuple(map(str, header["vocabulary"])))
        check_parameters(parameters, model.parameter_shapes())
        if len(vocabulary) != model.vocab_size:
            expected, got = model.vocab_size, len(vocabulary)
            raise InputError(f"vocabulary: expected vocab_size = {expected} tokens, got {got}")
    except KeyError as error:
        raise InputError(f"{path}: its header lacks {error}") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error
    ordered = {name: parameters[name] for name in model.parameter_shapes()}
    return Checkpoint(model, vocabulary, ordered, notes)
