"""Files that harm, or mislead, by what they hold: values, code, sizes, names."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from parity_tests.campaigns.corruption.attack import CANARY, Attack, one_file
from parity_tests.campaigns.corruption.samples import (
    keras_arrays,
    keras_config,
    onnx_model,
    random_lstm,
    zip_of,
)


class Code:
    """Makes the canary when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / CANARY

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def _npz(arrays: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _npy(descr: str, shape: str, data: bytes = b"") -> bytes:
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + data


def _safetensors(header: str, data: bytes = b"") -> bytes:
    return len(header.encode()).to_bytes(8, "little") + header.encode() + data


def bad_values() -> Iterator[Attack]:
    """NaN, infinity, dtypes that are no weights', and weights without the others."""
    import torch
    from safetensors.numpy import save

    for value in (np.nan, np.inf):
        weights = random_lstm(0)
        weights["weight_hh_l0"][3, 1] = value
        file = io.BytesIO()
        torch.save({name: torch.from_numpy(array) for name, array in weights.items()}, file)
        recurrent = np.full((1, 12, 3), value, np.float32)
        for name, content in (
            ("a.npz", _npz(weights)),
            ("a.safetensors", save(weights)),
            ("a.pt", file.getvalue()),
            ("a.onnx", onnx_model(R=recurrent)),
        ):
            yield Attack(f"{value} in {name}", one_file(name, content), "convert")
        text = json.dumps({name: array.tolist() for name, array in weights.items()})
        yield Attack(f"{value} in a.json", one_file("a.json", text.encode()))
    for dtype in ("int8", "int64", "complex64", "bool"):
        weights = {name: array.astype(dtype) for name, array in random_lstm(0).items()}
        yield Attack(f"{dtype} in a.npz", one_file("a.npz", _npz(weights)), "convert")
    mixed = random_lstm(0)
    mixed["bias_hh_l0"] = mixed["bias_hh_l0"].astype(np.float64)
    yield Attack("two dtypes in a.npz", one_file("a.npz", _npz(mixed)), "convert")
    for lacking in random_lstm(0):
        rest = {name: array for name, array in random_lstm(0).items() if name != lacking}
        yield Attack(f"{lacking} missing", one_file("a.npz", _npz(rest)), "convert")


def code() -> Iterator[Attack]:
    """Pickles that do something, wherever one might be loaded."""

    def npz(folder: Path) -> Path:
        content = _npz({**random_lstm(0), "code": np.array([Code(folder)], dtype=object)})
        return one_file("a.npz", content)(folder)

    def npy(folder: Path) -> Path:
        np.save(folder / "a.npy", np.array([Code(folder)], dtype=object), allow_pickle=True)
        return folder / "a.npy"

    def plain(name: str) -> Callable[[Path], Path]:
        return lambda folder: one_file(name, pickle.dumps(Code(folder), protocol=2))(folder)

    def torch_zip(folder: Path) -> Path:
        import torch

        torch.save({"weight_ih_l0": Code(folder)}, folder / "a.pt")
        return folder / "a.pt"

    def torch_legacy(folder: Path) -> Path:
        import torch

        content = {"weight_ih_l0": Code(folder)}
        torch.save(content, folder / "a.pt", _use_new_zipfile_serialization=False)
        return folder / "a.pt"

    yield Attack("pickle in .npz", npz)
    yield Attack("pickle in .npy", npy)
    for name in ("a.pt", "a.npz", "a.pkl", "a.h5", "a.onnx", "a.index", "a"):
        yield Attack(f"pickle as {name}", plain(name))
    yield Attack("code in .pt", torch_zip)
    yield Attack("code in .pt before 1.6", torch_legacy)


def declared() -> Iterator[Attack]:
    """Files that declare sizes without having the bytes."""
    huge = 1 << 33
    npy = _npy("<f4", f"({huge},)")
    yield Attack("huge shape in .npz", one_file("a.npz", zip_of({"a.npy": npy})))
    header = f'{{"a":{{"dtype":"F32","shape":[{huge}],"data_offsets":[0,{4 * huge}]}}}}'
    yield Attack("huge shape in .safetensors", one_file("a.safetensors", _safetensors(header)))
    endless = (1 << 62).to_bytes(8, "little") + b"{}"
    yield Attack("huge header in .safetensors", one_file("a.safetensors", endless))
    deep = b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    yield Attack("deep JSON", one_file("a.json", deep))
    yield Attack("long number in JSON", one_file("a.json", b'{"a": 1' + b"0" * 10**6 + b"}"))

    def onnx_dims(folder: Path) -> Path:
        import onnx

        model = onnx.ModelProto.FromString(onnx_model())
        model.graph.initializer[0].dims[:] = [1, 1 << 31, 1 << 31]
        return one_file("a.onnx", model.SerializeToString())(folder)

    def onnx_nested(folder: Path) -> Path:
        """Graphs within graphs, by hand: protobuf's own classes refuse as many."""
        graph = b""
        for _ in range(3000):
            attribute = b"\x0a\x01b\x32" + _varint(len(graph)) + graph  # name, g
            node = b"\x2a" + _varint(len(attribute)) + attribute
            graph = b"\x0a" + _varint(len(node)) + node
        return one_file("a.onnx", b"\x08\x08\x3a" + _varint(len(graph)) + graph)(folder)

    yield Attack("huge shape in .onnx", onnx_dims)
    yield Attack("3000 graphs within each other in .onnx", onnx_nested)


def _varint(value: int) -> bytes:
    result = bytearray()
    while value > 127:
        result.append(value & 127 | 128)
        value >>= 7
    return bytes([*result, value])


def bombs() -> Iterator[Attack]:
    """Small files that are large once decompressed."""
    size = 128 << 20

    def build(name: str, member: str, prefix: bytes = b"") -> Callable[[Path], Path]:
        def bomb(folder: Path) -> Path:
            with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
                for other in {"a.keras": ["config.json"], "a.pt": ["a/data.pkl"]}.get(name, []):
                    archive.writestr(other, keras_config() if name == "a.keras" else b"\x80\2}.")
                with archive.open(member, "w") as file:
                    file.write(prefix)
                    for _ in range(size >> 20):
                        file.write(bytes(1 << 20))
            return folder / name

        return bomb

    yield Attack("bomb in .npz", build("a.npz", "a.npy", _npy("<f4", f"({size >> 2},)")))
    yield Attack("bomb in .keras", build("a.keras", "model.weights.h5", b"\x89HDF\r\n\x1a\n"))
    yield Attack("bomb in .pt", build("a.pt", "a/data/0"))
    yield Attack("bomb in data.pkl", build("a.pt", "b/data.pkl"))

    def hdf5(chunked: bool) -> Callable[[Path], Path]:
        def bomb(folder: Path) -> Path:
            import h5py

            with h5py.File(folder / "a.weights.h5", "w") as h5:
                group = h5.create_group("layers/lstm/cell/vars")
                options = {"chunks": (1, 1 << 20), "compression": "gzip"} if chunked else {}
                shape = (1 << 11, 1 << 20)
                data = group.create_dataset("0", shape, "f4", **options)
                if chunked:
                    data[:4] = 0
                group["1"] = keras_arrays(0)["recurrent_kernel"]
                group["2"] = keras_arrays(0)["bias"]
            return folder / "a.weights.h5"

        return bomb

    yield Attack("HDF5 with 8 GiB never written", hdf5(False))
    yield Attack("HDF5 with 8 GiB of chunks", hdf5(True))


def names() -> Iterator[Attack]:
    """Names that promise more layers than there are."""
    square = np.zeros((8, 2), np.float32)
    for number in (len(random_lstm(0)) + 1, 99_999_999, 10**40):
        weights = random_lstm(0) | {f"weight_hh_l{number}": np.ones((12, 3), np.float32)}
        yield Attack(f"layer {number} in a.npz", one_file("a.npz", _npz(weights)), "convert")
    gaps = {f"weight_hh_l{k}": square for k in range(0, 4000, 2)}
    yield Attack("every other of 4,000 layers", one_file("a.npz", _npz(gaps)), "convert")
    many = {f"lstm_{k}/recurrent_kernel": square for k in range(2000)}
    yield Attack("2,000 LSTMs", one_file("a.npz", _npz(many)), "convert")
    nested = one_file("a.npz", _npz(random_lstm(0)))

    def with_proof(folder: Path) -> Path:
        (folder / "a.npz.proof.json").write_text("[" * 100_000)
        return nested(folder)

    yield Attack("a proof beside it that nests", with_proof, "convert")


CONTENT_ATTACKS = (bad_values, code, declared, bombs, names)
