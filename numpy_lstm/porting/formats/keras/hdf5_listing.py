"""What lies where in an HDF5 file, listed by a program of its own.

The HDF5 library, given a damaged file, may loop for ever (it does: one damaged copy in a hundred,
in the heap of strings) and may crash. So it runs in a child process with limits of time and memory,
opens the metadata alone, and says where the numbers are; they are taken from the file's bytes by
`hdf5_reader`. This module imports nothing of the package, so as to start fast.

As a program: the seconds of processor time that it may take as its argument, the file on standard
input; on standard output JSON, as `listing` returns it, or {"problem": sentence}.
"""

import io
import json
import sys
from importlib import import_module
from typing import Any

TEXTS = ("keras_version", "model_config", "name", "dtype")
"""Attributes that are read; no other is touched, but for `LAYER_NAMES`."""
LAYER_NAMES = "layer_names"
"""The attribute of Keras 1 and 2 with a list of texts: all layers, in their order."""


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
            if address in seen:
                raise ValueError(f"{where!r} is a second name of an object")
            seen.add(address)
            texts[where] = {name: _text(item, where, name) for name in TEXTS if name in item.attrs}
            if LAYER_NAMES in item.attrs:
                texts[where][LAYER_NAMES] = _joined_texts(item, where)
            if isinstance(item, h5py.Dataset):
                tensors[where] = _place(item, where)
                continue
            if not isinstance(item, h5py.Group):
                raise ValueError(f"{where!r} is neither group nor dataset")
            for name in reversed(list(item)):
                path = f"{where}/{name}" if where else name
                path.encode()  # names must be text
                link = item.get(name, getlink=True)
                # Soft and external links are never followed: the latter open other files.
                if not isinstance(link, h5py.HardLink):
                    raise ValueError(f"{path!r} is a {type(link).__name__}")
                found.append((path, item[name]))
    return {"tensors": tensors, "texts": {w: found for w, found in texts.items() if found}}


def _text(item: Any, where: str, name: str) -> str:
    """An attribute of an object that is text."""
    import h5py

    attribute = item.attrs.get_id(name)
    if attribute.shape != () or h5py.check_string_dtype(attribute.dtype) is None:
        raise ValueError(f"attribute {name!r} of {where!r} is not text")
    value = item.attrs[name]
    if isinstance(value, bytes):
        return value.decode()
    return str(value)


def _joined_texts(item: Any, where: str) -> str:
    """The list of layers' names of a group, a line each."""
    import h5py

    attribute = item.attrs.get_id(LAYER_NAMES)
    is_text = attribute.dtype.kind == "S" or h5py.check_string_dtype(attribute.dtype) is not None
    if len(attribute.shape) != 1 or not (is_text or attribute.shape == (0,)):
        raise ValueError(f"attribute {LAYER_NAMES!r} of {where!r} is no list of texts")
    names = [
        name.decode() if isinstance(name, bytes) else str(name) for name in item.attrs[LAYER_NAMES]
    ]
    return "\n".join(names)


def _place(dataset: Any, where: str) -> tuple[str, tuple[int, ...], int]:
    """Dtype, shape and offset of a dataset; the layout first, since asking a virtual dataset for
    its shape opens other files."""
    import h5py

    created = dataset.id.get_create_plist()
    if created.get_layout() != h5py.h5d.CONTIGUOUS or created.get_external_count():
        raise ValueError(
            f"{where!r} is not stored in one piece in this file (chunked, compressed, virtual or"
            " external), as Keras stores it"
        )
    dtype = dataset.dtype
    opaque = dtype.str == "|V2"  # Keras' bfloat16, which an attribute tells
    usual = dtype.kind in "biuf" and dataset.id.get_type() == h5py.h5t.py_create(
        dtype, logical=True
    )
    if not opaque and not usual:
        raise ValueError(f"{where!r} does not hold plain numbers ({dtype})")
    if dataset.shape is None:
        raise ValueError(f"{where!r} has no shape")
    offset = dataset.id.get_offset()
    if offset is None and dataset.size:
        raise ValueError(f"{where!r} has a shape and no data")
    return dtype.str, dataset.shape, offset or 0


def _limit(seconds: int, file_bytes: int) -> None:
    """Limit this process's time and memory, where the system has such limits."""
    try:
        import resource
    except ImportError:
        return
    memory = (2 << 30) + 4 * file_bytes
    for kind, amount in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            amount = min(amount, hard)
        resource.setrlimit(kind, (amount, hard))


def main() -> None:
    """List the file on standard input."""
    data = sys.stdin.buffer.read()
    _limit(int(sys.argv[1]), len(data))
    try:
        result = listing(data)
    except Exception as error:  # the HDF5 library's errors come as any of Python's
        result = {"problem": " ".join(str(error).split()) or type(error).__name__}
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
