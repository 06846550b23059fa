"""PyTorch's files (.pt, .pth) and live modules as archives of named tensors, and back.

`torch.load(weights_only=True)` runs no code, but believes what a file says: it verifies no
checksum, so that flipped bits become weights, and `bytearray(2**33)` is harmless to it. So every
member's checksum is verified here, the calls in the pickle are read without making them, and torch
is given a fresh archive of what was verified.
"""

import io
import math
import pickletools
import warnings
import zipfile
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
    check_is_file,
    check_name,
    errors_as_damage,
    left_out_note,
)
from numpy_lstm.porting.formats.dtypes import bfloat16
from numpy_lstm.porting.formats.npz_file import ZIP_ERRORS

TORCH_DTYPES = tuple("float16 bfloat16 float32 float64 bool uint8 int8 int16 int32 int64".split())
"""What is kept, by the names that torch and NumPy share."""
NESTED = ("state_dict", "model_state_dict", "model")
"""Where training programs put a state_dict beside other things."""
HARMLESS_CALLS = {
    "collections.OrderedDict",
    "collections.Counter",
    "builtins.set",
    "__builtin__.set",
    "builtins.complex",
    "__builtin__.complex",
    "torch.Size",
    "torch.device",
    "torch.serialization._get_layout",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_qtensor",
    "torch._utils._rebuild_sparse_tensor",
    "torch._utils._rebuild_meta_tensor_no_storage",
}
"""What a pickle of tensors and plain values calls, besides storages and dtypes. Not UntypedStorage,
bytearray or encode, which make memory out of a number or out of themselves; of the dtypes that need
the first, such as uint16 and those of eight-bit floats, no LSTM's weights are."""
OTHER_CALLS = ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4")
"""Opcodes that call in other ways; torch.save writes none of them."""


def read_pt(path: Path) -> Archive:
    """Read a state_dict, or a dict that has one under a key of `NESTED`.

    What is no dense tensor of `TORCH_DTYPES` is left out, with a note.

    Raises:
        InputError: a file that is not whole, of the format before PyTorch 1.6, or TorchScript; one
            that calls anything but what rebuilds tensors; one without tensors; or tensors that
            are larger than such a file can honestly hold.
    """
    content = _load(path, _verified(path))
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


def _verified(path: Path) -> io.BytesIO:
    """The members of the file in an archive of our own, every checksum verified.

    Two readers may find different members in one damaged or crafted zip file. In this one they
    cannot.
    """
    check_is_file(path, "a .pt or .pth file")
    result = io.BytesIO()
    with errors_as_damage(path, "PyTorch file", ZIP_ERRORS), path.open("rb") as file:
        if file.read(4) != b"PK\3\4":
            raise InputError(
                f"{path}: expected a zip file, as PyTorch writes since 1.6, got something else; if"
                " it is older and you trust it, load it in PyTorch and save its state_dict again"
            )
        with zipfile.ZipFile(file) as archive, zipfile.ZipFile(result, "w") as copy:
            _check_members(path, archive.infolist())
            for info in archive.infolist():
                content = archive.read(info)  # raises for a wrong checksum
                if info.filename.endswith("/data.pkl"):
                    _check_pickle(path, content)
                copy.writestr(zipfile.ZipInfo(info.filename), content)
    result.seek(0)
    return result


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Raise unless this is the archive of one pickle, and no larger than the file."""
    names = [info.orig_filename for info in members]
    if any(name.endswith("/constants.pkl") for name in names):
        raise InputError(
            f"{path}: is a TorchScript archive, which holds code; save the state_dict of"
            " torch.jit.load(...) instead"
        )
    for info in members:
        _check_member(path, info)
    check_declared(path, sum(info.file_size for info in members))
    if len(set(names)) < len(names):
        raise InputError(
            f"{path}: expected members of different names, got one twice; was it damaged?"
        )
    pickles = [name for name in names if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise InputError(
            f"{path}: expected one member data.pkl, as torch.save writes it, got {len(pickles)}"
        )


def _check_member(path: Path, info: zipfile.ZipInfo) -> None:
    """Raise unless a member of the archive is stored as torch.save stores it."""
    check_name(path, info.orig_filename)
    if info.flag_bits & 1:
        raise InputError(f"{path}: {info.filename} is encrypted; decrypt it first")
    if info.compress_type != zipfile.ZIP_STORED:
        raise InputError(
            f"{path}: {info.filename}: expected a member stored as it is, as PyTorch writes it,"
            f" got compression {info.compress_type}; unpack the file first"
        )
    if info.compress_size != info.file_size:
        raise InputError(
            f"{path}: {info.filename}: expected as many bytes stored as there are, got"
            f" {info.compress_size:,} and {info.file_size:,}; was it damaged?"
        )


def _check_pickle(path: Path, data: bytes) -> None:
    """Raise if a pickle calls what is not needed for tensors; nothing is called here."""
    for opcode, argument, _ in pickletools.genops(data):
        called = None
        if opcode.name == "GLOBAL":
            name = str(argument).replace(" ", ".")
            if not _is_harmless(name):
                called = name
        elif opcode.name in OTHER_CALLS:
            called = f"opcode {opcode.name}"
        if called is not None:
            raise InputError(
                f"{path}: its pickle has {called[:100]!r}, which no LSTM's weights need, and which"
                " was not run; if you trust it, load it in PyTorch and save the state_dict alone"
            )


def _is_harmless(name: str) -> bool:
    """Whether a pickle may refer to this: one of `HARMLESS_CALLS`, a storage, or a dtype."""
    if name in HARMLESS_CALLS:
        return True
    module, _, attribute = name.rpartition(".")
    if module != "torch":
        return False
    if attribute.endswith("Storage"):
        return attribute not in ("TypedStorage", "UntypedStorage")
    return isinstance(getattr(torch, attribute, None), torch.dtype | torch.qscheme)


def _load(path: Path, archive: io.BytesIO) -> Any:
    """What torch finds in the verified archive."""
    # A crafted pickle may raise anything.
    with errors_as_damage(path, "PyTorch file", (Exception,)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sparse tensors and the like, which are left out
        return torch.load(archive, map_location="cpu", weights_only=True, mmap=False)
