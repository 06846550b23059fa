"""PyTorch's files (.pt, .pth) and live modules as archives of named tensors, and back."""

import io
import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.formats.checks import (
    check_can_be_written,
    check_declared,
    check_name,
    errors_as_damage,
    left_out_note,
)
from numpy_lstm.porting.formats.dtypes import bfloat16
from torch_oracle.weights.verified_archive import verified_archive

TORCH_DTYPES = tuple("float16 bfloat16 float32 float64 bool uint8 int8 int16 int32 int64".split())
"""What is kept, by the names that torch and NumPy share."""
NESTED = ("state_dict", "model_state_dict", "model")
"""Where training programs put a state_dict beside other things."""


def read_pt(path: Path) -> Archive:
    """Read a state_dict, or a dict that has one under a key of `NESTED`.

    What is no dense tensor of `TORCH_DTYPES` is left out, with a note.

    Raises:
        InputError: a file that is not whole, of the format before PyTorch 1.6, or TorchScript; one
            that calls anything but what rebuilds tensors; one without tensors; or tensors that
            are larger than such a file can honestly hold.
    """
    content = _load(path, verified_archive(path))
    if not isinstance(content, Mapping):
        raise InputError(
            f"{path}: expected a state_dict, or a dict with one under {', '.join(NESTED)},"
            f" got {type(content).__name__}; save module.state_dict()"
        )
    found, left_out = {}, []
    for name, value in _entries(content):
        reason = _reason(value)
        if not isinstance(name, str):
            left_out.append(f"an entry named by a {type(name).__name__}")
            continue
        if reason:
            left_out.append(f"{name[:60]} ({reason})")
            continue
        check_name(path, name)
        if name in found:
            raise InputError(f"{path}: {name}: expected one tensor of that name, got two")
        found[name] = value
    if not found:
        raise InputError(f"{path}: expected a dict of tensors, got none; save module.state_dict()")
    # Strides of zero make any size of one number.
    sizes = (math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in found.values())
    check_declared(path, sum(sizes))
    tensors = {name: to_array(tensor) for name, tensor in found.items()}
    nested = [key for key in NESTED if isinstance(content.get(key), Mapping)]
    notes = tuple(f"names begin with {key}, where the file has its weights" for key in nested)
    return Archive("pt", tensors, notes=notes + left_out_note(left_out))


def pt_bytes(tensors: Mapping[str, np.ndarray]) -> bytes:
    """A .pt file of a state_dict; always the same bytes for the same tensors.

    Raises:
        InputError: a name or dtype that is not read back.
    """
    check_can_be_written(tensors, "", " ".join(TORCH_DTYPES))
    file = io.BytesIO()
    torch.save({name: to_tensor(array) for name, array in tensors.items()}, file)
    return file.getvalue()


def module_archive(module: nn.Module) -> Archive:
    """The state_dict of a live module, copied.

    What is no dense tensor of `TORCH_DTYPES` is left out, with a note.
    """
    if not isinstance(module, nn.Module):
        raise InputError(
            f"expected a torch.nn.Module, got {type(module).__name__}; give an instance, not a"
            " class, a function or a state_dict"
        )
    tensors, left_out, notes = {}, [], []
    for name, value in module.state_dict().items():
        reason = _reason(value)
        if reason:
            left_out.append(f"{name} ({reason})")
        else:
            tensors[name] = to_array(value)
    for name, part in module.named_modules():
        if isinstance(part, nn.LSTM) and part.dropout:
            place = name or type(part).__name__
            notes.append(f"{place}: dropout = {part.dropout:g} acts in training, and is no weight")
    return Archive("module", tensors, rows=(), notes=(*notes, *left_out_note(left_out)))


def to_array(tensor: torch.Tensor) -> np.ndarray:
    """A copy, contiguous, of any device; its dtype is one of `TORCH_DTYPES`."""
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return to_array(tensor.contiguous().view(torch.int16)).view(bfloat16())
    return np.array(tensor.numpy(force=True), order="C", copy=True)


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """A copy, contiguous, on the CPU; the dtype is one of `TORCH_DTYPES`."""
    array = np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _entries(content: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """Names and values, those of a nested state_dict under a dotted prefix."""
    for key, value in content.items():
        if key in NESTED and isinstance(value, Mapping):
            for name, inner in value.items():
                if isinstance(name, str):
                    name = f"{key}.{name}"
                yield name, inner
        else:
            yield key, value


def _reason(value: Any) -> str:
    """Why this is left out; "" for a dense tensor of numbers."""
    if not isinstance(value, torch.Tensor):
        return type(value).__name__
    if value.layout != torch.strided:
        return "sparse"
    if value.is_quantized:
        return "quantised"
    if value.is_meta:
        return "without numbers, on the device meta"
    dtype = str(value.dtype).removeprefix("torch.")
    if dtype in TORCH_DTYPES:
        return ""
    return dtype


def _load(path: Path, archive: io.BytesIO) -> Any:
    """What torch finds in the verified archive."""
    # A crafted pickle may raise anything.
    with errors_as_damage(path, "PyTorch file", (Exception,)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sparse tensors and the like, which are left out
        return torch.load(archive, map_location="cpu", weights_only=True, mmap=False)
