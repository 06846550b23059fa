"""What lies where in an HDF5 file, listed by a program of its own.

The HDF5 library, given a damaged file, may loop for ever (it does: one damaged copy in a hundred,
in the heap of strings) and may crash. So it runs in a child process with limits of time and memory,
opens the metadata alone, and says where the numbers are; they are taken from the file's bytes by
`hdf5_files`. This module imports nothing of the package, so as to start fast.

As a program: the file on standard input, JSON on standard output, as `listing` returns it, or
{"problem": sentence}.
"""

import io
import json
import sys
from importlib import import_module
from typing import Any

SECONDS = 3
"""What a listing may take; of an honest file, it takes milliseconds."""
TEXTS = ("keras_version", "model_config", "name", "dtype")
"""Attributes that are read; no other is touched."""


def listing(data: bytes) -> dict[str, Any]:
    """Tensors and texts of an HDF5 file.

    Args:
        data: the file.

    Returns:
        tensors: by path in the file: dtype as NumPy spells it, shape, and offset in the file.
        texts: by path of the object, its attributes of `TEXTS`.

    Raises:
        ValueError: a link that is not hard, an object with two names, data that is not plain
            numbers in one piece within the file; whatever else h5py raises.
    """
    h5py: Any = import_module("h5py")  # its types lack what is used here
    tensors, texts, seen = {}, {}, set()
    with h5py.File(io.BytesIO(data), "r") as file:
        found: list[tuple[str, Any]] = [("", file)]
        while found:
            where, item = found.pop()
            address = h5py.h5o.get_info(item.id).addr
            _require(address not in seen, f"{where!r} is a second name of an object")
            seen.add(address)
            texts[where] = {name: _text(item, where, name) for name in TEXTS if name in item.attrs}
            if isinstance(item, h5py.Dataset):
                tensors[where] = _place(item, where)
                continue
            _require(isinstance(item, h5py.Group), f"{where!r} is neither group nor dataset")
            for name in reversed(list(item)):
                path = f"{where}/{name}" if where else name
                path.encode()  # names must be text
                link = item.get(name, getlink=True)
                # Soft and external links are never followed: the latter open other files.
                _require(isinstance(link, h5py.HardLink), f"{path!r} is a {type(link).__name__}")
                found.append((path, item[name]))
    return {"tensors": tensors, "texts": {w: found for w, found in texts.items() if found}}


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise ValueError(sentence)


def _text(item: Any, where: str, name: str) -> str:
    import h5py

    attribute = item.attrs.get_id(name)
    is_text = attribute.shape == () and h5py.check_string_dtype(attribute.dtype) is not None
    _require(is_text, f"attribute {name!r} of {where!r} is not text")
    value = item.attrs[name]
    return value.decode() if isinstance(value, bytes) else str(value)


def _place(dataset: Any, where: str) -> tuple[str, tuple[int, ...], int]:
    """Dtype, shape and offset of a dataset; the layout first, since asking a virtual dataset for
    its shape opens other files."""
    import h5py

    plist = dataset.id.get_create_plist()
    plain = plist.get_layout() == h5py.h5d.CONTIGUOUS and not plist.get_external_count()
    _require(
        plain,
        f"{where!r} is not stored in one piece in this file (chunked, compressed, virtual or"
        " external), as Keras stores it",
    )
    dtype = dataset.dtype
    opaque = dtype.str == "|V2"  # Keras' bfloat16, which an attribute tells
    usual = dtype.kind in "biuf" and dataset.id.get_type() == h5py.h5t.py_create(
        dtype, logical=True
    )
    _require(opaque or usual, f"{where!r} does not hold plain numbers ({dtype})")
    _require(dataset.shape is not None, f"{where!r} has no shape")
    offset = dataset.id.get_offset()
    _require(offset is not None or not dataset.size, f"{where!r} has a shape and no data")
    return dtype.str, dataset.shape, offset or 0


def _limit(file_bytes: int) -> None:
    """Time and memory, where the system has such limits."""
    try:
        import resource
    except ImportError:
        return
    memory = (2 << 30) + 4 * file_bytes
    for kind, amount in (
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        amount = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
        resource.setrlimit(kind, (amount, hard))


def main() -> None:
    """List the file on standard input."""
    data = sys.stdin.buffer.read()
    _limit(len(data))
    try:
        result = listing(data)
    except Exception as error:  # the HDF5 library's errors come as any of Python's
        result = {"problem": " ".join(str(error).split()) or type(error).__name__}
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
