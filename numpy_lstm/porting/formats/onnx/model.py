"""An ONNX model taken from a file: whole, and without tensors in other files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.checks import errors_as_damage, read_bytes

STANDARD_DOMAINS = ("", "ai.onnx")
"""What nodes and operator sets of the standard give as their domain."""
ACTIVATIONS_KEY = "numpy_lstm.activations"
"""Of the model's metadata: the names of activations with exact numbers; attributes are float32."""
STATES_KEY = "numpy_lstm.initial_states"
"""Of the model's metadata, if initial states are learned, even where they are zeros."""


def load_model(path: Path) -> tuple[onnx.ModelProto, int]:
    """The model in a file, and how large the file is; no other file is opened.

    Raises:
        InputError: no whole model, or one with tensors in other files.
    """
    data = read_bytes(path, "an .onnx file")
    with errors_as_damage(path, "ONNX model", (DecodeError, UnicodeDecodeError, RecursionError)):
        model = onnx.ModelProto.FromString(data)
        if model.ir_version <= 0 or not model.opset_import or not model.HasField("graph"):
            raise InputError(
                f"{path}: not a whole ONNX model (no version, operator set or graph);"
                " was it damaged or cut short?"
            )
        for message in _messages(model):
            _check_message(path, message)
    return model, len(data)


def _messages(message: Any) -> Iterator[Any]:
    """A message and all that are within it."""
    yield message
    for description, value in message.ListFields():
        if description.message_type is None:
            continue
        if hasattr(value, "ListFields"):
            yield from _messages(value)
        else:
            for part in value:
                yield from _messages(part)


def _check_message(path: Path, message: Any) -> None:
    """Raise for a text that is none, and for a tensor whose numbers are in another file."""
    for description, value in message.ListFields():
        if description.type == description.TYPE_STRING:
            texts = [value] if isinstance(value, str | bytes) else value
            if any(isinstance(text, bytes) for text in texts):  # as protobuf gives what is no text
                raise InputError(
                    f"{path}: not a whole ONNX model (a name that is no text);"
                    " was it damaged or cut short?"
                )
    if isinstance(message, onnx.TensorProto) and (
        message.data_location == onnx.TensorProto.EXTERNAL or message.external_data
    ):
        raise InputError(
            f"{path}: {message.name}: its numbers are in another file, which is never"
            " opened; save the model with all tensors inside, with onnx.save_model"
        )
