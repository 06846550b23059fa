"""The zip archive that a .pt file is, verified before torch is given it.

`torch.load(weights_only=True)` runs no code, but believes what a file says: it verifies no
checksum, so that flipped bits become weights, and `bytearray(2**33)` is harmless to it. So every
member's checksum is verified here, the calls in the pickle are read without making them, and torch
is given a fresh archive of what was verified.
"""

import io
import pickletools
import re
import zipfile
from pathlib import Path

import torch

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.archive import QUANTISED
from numpy_lstm.porting.formats.checks import (
    check_declared,
    check_is_file,
    check_name,
    errors_as_damage,
)
from numpy_lstm.porting.formats.npz_file import ZIP_ERRORS

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


def verified_archive(path: Path) -> io.BytesIO:
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
        if called is not None and re.search(r"ScriptObject|quanti[sz]ed", called):
            raise InputError(
                f"{path}: is quantised: {QUANTISED.format('int8')}"
                f" (its pickle has {called[:100]!r}, which was not run)"
            )
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
