"""PyTorch's files (.pt, .pth) and live modules as archives of named tensors, and back."""

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.archive import QUANTISED, Archive
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
NO_WEIGHTS = re.compile("optim|sched|scaler|callback|rng_state|hyper_param|loops", re.IGNORECASE)
"""Keys of checkpoints under which there are tensors, but not those of a model."""
MOST_LEVELS = 2
"""How many dicts deep a state_dict may lie in a file."""


def read_pt(path: Path) -> Archive:
    """Read a state_dict, or a dict that has some under any keys, two levels down at most.

    What is no dense tensor of `TORCH_DTYPES` is left out, with a note.

    Raises:
        InputError: a file that is not whole, of the format before PyTorch 1.6, or TorchScript; one
            that calls anything but what rebuilds tensors; one without tensors; or tensors that
            are larger than such a file can honestly hold.
    """
    content = _load(path, verified_archive(path))
    if not isinstance(content, Mapping):
        raise InputError(
            f"{path}: expected a state_dict, or a dict with one in it,"
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
        keys = ", ".join(str(key)[:40] for key in list(content)[:8])
        raise InputError(
            f"{path}: expected tensors, {MOST_LEVELS} dicts down at most, got none under the keys"
            f" {keys or '(none)'}; save module.state_dict()"
        )
    # Strides of zero make any size of one number.
    sizes = (math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in found.values())
    check_declared(path, sum(sizes))
    tensors = {name: to_array(tensor) for name, tensor in found.items()}
    nested = [key for key, value in content.items() if _holds_weights(key, value)]
    notes = tuple(f"names begin with {key}, where the file has its weights" for key in nested)
    others = ()
    for text in left_out:
        if text.endswith(" (quantised)"):
            name = text.removesuffix(" (quantised)")
            others = (f"{name} is quantised: {QUANTISED.format('integers')}",)
            break
    return Archive("pt", tensors, notes=notes + left_out_note(left_out), others=others)


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


def _entries(content: Mapping[Any, Any], level: int = 0) -> Iterator[tuple[Any, Any]]:
    """Names and values, those of a nested state_dict under a dotted prefix."""
    for key, value in content.items():
        if level < MOST_LEVELS and _holds_weights(key, value):
            for name, inner in _entries(value, level + 1):
                if isinstance(name, str):
                    name = f"{key}.{name}"
                yield name, inner
        else:
            yield key, value


def _holds_weights(key: Any, value: Any) -> bool:
    """Whether a dict within a checkpoint has tensors by name, of itself or one level below."""
    if not isinstance(value, Mapping) or not isinstance(key, str) or NO_WEIGHTS.search(key):
        return False
    if not value or not all(isinstance(name, str) for name in value) or "param_groups" in value:
        return False
    parts = [*value.values()]
    for name, part in value.items():
        if isinstance(part, Mapping) and not NO_WEIGHTS.search(name):
            parts += part.values()
    return any(isinstance(part, torch.Tensor) for part in parts)


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
