"""Files that are built to mislead or to harm, for `corruption_campaign`."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from parity_tests.campaigns.corruption_samples import (
    keras_arrays,
    keras_config,
    onnx_model,
    random_lstm,
    tf_files,
    torch_file,
    zip_of,
)

SECRET = 0.8125
"""What only files hold that no attack's own file may open: H and more of them each."""
CANARY = "canary"
"""A folder that code makes which must not run."""


@dataclass(frozen=True)
class Attack:
    """A file that must be refused.

    Args:
        name: of the attack.
        build: called with an empty folder; the file, in it.
        by: who must refuse it: "read", or only "convert", which looks at the values.
        facts: what a caller must say to convert it.
    """

    name: str
    build: Callable[[Path], Path]
    by: Literal["read", "convert"] = "read"
    facts: Mapping[str, float | str] = field(default_factory=dict)


class Code:
    """Makes the canary when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / CANARY

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def _file(name: str, content: bytes) -> Callable[[Path], Path]:
    """A builder of one file."""

    def build(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return build


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
            yield Attack(f"{value} in {name}", _file(name, content), "convert")
        text = json.dumps({name: array.tolist() for name, array in weights.items()})
        yield Attack(f"{value} in a.json", _file("a.json", text.encode()))
    for dtype in ("int8", "int64", "complex64", "bool"):
        weights = {name: array.astype(dtype) for name, array in random_lstm(0).items()}
        yield Attack(f"{dtype} in a.npz", _file("a.npz", _npz(weights)), "convert")
    mixed = random_lstm(0)
    mixed["bias_hh_l0"] = mixed["bias_hh_l0"].astype(np.float64)
    yield Attack("two dtypes in a.npz", _file("a.npz", _npz(mixed)), "convert")
    for lacking in random_lstm(0):
        rest = {name: array for name, array in random_lstm(0).items() if name != lacking}
        yield Attack(f"{lacking} missing", _file("a.npz", _npz(rest)), "convert")


def code() -> Iterator[Attack]:
    """Pickles that do something, wherever one might be loaded."""

    def npz(folder: Path) -> Path:
        content = _npz({**random_lstm(0), "code": np.array([Code(folder)], dtype=object)})
        return _file("a.npz", content)(folder)

    def npy(folder: Path) -> Path:
        np.save(folder / "a.npy", np.array([Code(folder)], dtype=object), allow_pickle=True)
        return folder / "a.npy"

    def plain(name: str) -> Callable[[Path], Path]:
        return lambda folder: _file(name, pickle.dumps(Code(folder), protocol=2))(folder)

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
    """Sizes without the bytes."""
    huge = 1 << 33
    npy = _npy("<f4", f"({huge},)")
    yield Attack("huge shape in .npz", _file("a.npz", zip_of({"a.npy": npy})))
    header = f'{{"a":{{"dtype":"F32","shape":[{huge}],"data_offsets":[0,{4 * huge}]}}}}'
    yield Attack("huge shape in .safetensors", _file("a.safetensors", _safetensors(header)))
    endless = (1 << 62).to_bytes(8, "little") + b"{}"
    yield Attack("huge header in .safetensors", _file("a.safetensors", endless))
    deep = b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    yield Attack("deep JSON", _file("a.json", deep))
    yield Attack("long number in JSON", _file("a.json", b'{"a": 1' + b"0" * 10**6 + b"}"))

    def onnx_dims(folder: Path) -> Path:
        import onnx

        model = onnx.ModelProto.FromString(onnx_model())
        model.graph.initializer[0].dims[:] = [1, 1 << 31, 1 << 31]
        return _file("a.onnx", model.SerializeToString())(folder)

    def onnx_nested(folder: Path) -> Path:
        """Graphs within graphs, by hand: protobuf's own classes refuse as many."""
        graph = b""
        for _ in range(3000):
            attribute = b"\x0a\x01b\x32" + _varint(len(graph)) + graph  # name, g
            node = b"\x2a" + _varint(len(attribute)) + attribute
            graph = b"\x0a" + _varint(len(node)) + node
        return _file("a.onnx", b"\x08\x08\x3a" + _varint(len(graph)) + graph)(folder)

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


def paths() -> Iterator[Attack]:
    """Names that lead out of the file."""
    ones = io.BytesIO()
    np.save(ones, np.ones(3))
    for name in ("../a.npy", "/tmp/a.npy", "x/../../a.npy", "..\\a.npy"):
        yield Attack(f"{name} in .npz", _file("a.npz", zip_of({name: ones.getvalue()})))
    with zipfile.ZipFile(io.BytesIO(torch_file())) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    # Both are refused, or read without leaving the file: `convert` finds no LSTM then.
    out = {f"../{name}": data for name, data in members.items()}
    yield Attack("../ in .pt", _file("a.pt", zip_of(out)), "convert")

    def onnx(location: Callable[[Path], str]) -> Callable[[Path], Path]:
        def build(folder: Path) -> Path:
            (folder / "in").mkdir()
            for secret in (folder / "secret.bin", folder / "in" / "secret.bin"):
                secret.write_bytes(np.full(24, SECRET, np.float32).tobytes())
            (folder / "in" / "link.bin").symlink_to(folder / "secret.bin")
            return _file("in/a.onnx", onnx_model(location(folder)))(folder)

        return build

    for name, location in (
        ("../secret.bin", lambda folder: "../secret.bin"),
        ("an absolute path", lambda folder: str(folder / "secret.bin")),
        ("a link", lambda folder: "link.bin"),
        ("a file beside", lambda folder: "secret.bin"),
        ("a device", lambda folder: "/dev/zero"),
    ):
        yield Attack(f"ONNX external data, {name}", onnx(location))


def hdf5_links() -> Iterator[Attack]:
    """HDF5 that draws its weights from other files, or from itself without end."""
    import h5py

    def build(fill: Callable[[h5py.Group, Path], None]) -> Callable[[Path], Path]:
        def make(folder: Path) -> Path:
            with h5py.File(folder / "secret.h5", "w") as h5:
                h5["a"] = np.full((2, 12), SECRET, np.float32)
            (folder / "secret.bin").write_bytes(np.full((2, 12), SECRET, np.float32).tobytes())
            with h5py.File(folder / "a.weights.h5", "w") as h5:
                group = h5.create_group("layers/lstm/cell/vars")
                group["1"] = keras_arrays(0)["recurrent_kernel"]
                group["2"] = keras_arrays(0)["bias"]
                fill(group, folder)
            return folder / "a.weights.h5"

        return make

    def external_link(group: h5py.Group, folder: Path) -> None:
        group["0"] = h5py.ExternalLink(str(folder / "secret.h5"), "/a")

    def linked_group(group: h5py.Group, folder: Path) -> None:
        group["../lstm_2".replace("../", "")] = h5py.ExternalLink(str(folder / "secret.h5"), "/")

    def external_storage(group: h5py.Group, folder: Path) -> None:
        storage = [(str(folder / "secret.bin"), 0, 96)]
        group.create_dataset("0", (2, 12), "f4", external=storage)

    def virtual(group: h5py.Group, folder: Path) -> None:
        layout = h5py.VirtualLayout((2, 12), "f4")
        layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "a", (2, 12))
        group.create_virtual_dataset("0", layout)

    def cycle(group: h5py.Group, folder: Path) -> None:
        group["again"] = group.file["/layers"]
        group["soft"] = h5py.SoftLink("/layers/lstm")
        group["0"] = h5py.SoftLink("/layers/lstm/cell/vars/0")

    yield Attack("HDF5 external link", build(external_link), "convert")
    yield Attack("HDF5 link to another file's root", build(linked_group), "convert")
    yield Attack("HDF5 external storage", build(external_storage), "convert")
    yield Attack("HDF5 virtual dataset", build(virtual), "convert")
    yield Attack("HDF5 links in a circle", build(cycle), "convert")


def tf_tricks() -> Iterator[Attack]:
    """An index, with right checksums, of shards and places that are not there."""
    from numpy_lstm.porting.formats.tensorflow import sorted_table

    facts = {"forget_bias": 1.0, "layout": "tf-basic"}

    def build(change: Callable[[dict[bytes, bytes]], None]) -> Callable[[Path], Path]:
        def make(folder: Path) -> Path:
            for name, data in tf_files().items():
                (folder / name).write_bytes(data)
            path = folder / "model.index"
            table = sorted_table.read_table(path, path.read_bytes())
            change(table)
            path.write_bytes(sorted_table.table_of(sorted(table.items())))
            return path

        return make

    def header(content: bytes) -> Callable[[dict[bytes, bytes]], None]:
        return lambda table: table.update({b"": content})

    def entry(number: int, value: int) -> Callable[[dict[bytes, bytes]], None]:
        field = sorted_table.varint_of(number << 3) + sorted_table.varint_of(value)
        key = b"rnn/basic_lstm_cell/kernel"
        return lambda table: table.update({key: table[key] + field})  # the last one counts

    for name, change in (
        ("2^31 shards", header(b"\x08" + sorted_table.varint_of((1 << 31) - 1))),
        ("no shards", header(b"")),
        ("a shard that is not there", entry(3, 7)),
        ("a shard of number -1", entry(3, (1 << 64) - 1)),
        ("an offset beyond the shard", entry(4, 1 << 40)),
        ("a negative offset", entry(4, (1 << 64) - 8)),
        ("a size of 2^40", entry(5, 1 << 40)),
        ("an unknown dtype", entry(1, 99)),
    ):
        by = "convert" if name in ("no shards", "an unknown dtype") else "read"
        yield Attack(f"TensorFlow index with {name}", build(change), by, facts)

    def shard_of(target: str) -> Callable[[Path], Path]:
        def make(folder: Path) -> Path:
            (folder / "model.index").write_bytes(tf_files()["model.index"])
            (folder / "model.data-00000-of-00001").symlink_to(target)
            return folder / "model.index"

        return make

    yield Attack("TensorFlow shard that is a device", shard_of("/dev/zero"), "read", facts)


def names() -> Iterator[Attack]:
    """Names that promise more layers than there are."""
    square = np.zeros((8, 2), np.float32)
    for number in (len(random_lstm(0)) + 1, 99_999_999, 10**40):
        weights = random_lstm(0) | {f"weight_hh_l{number}": np.ones((12, 3), np.float32)}
        yield Attack(f"layer {number} in a.npz", _file("a.npz", _npz(weights)), "convert")
    gaps = {f"weight_hh_l{k}": square for k in range(0, 4000, 2)}
    yield Attack("every other of 4,000 layers", _file("a.npz", _npz(gaps)), "convert")
    many = {f"lstm_{k}/recurrent_kernel": square for k in range(2000)}
    yield Attack("2,000 LSTMs", _file("a.npz", _npz(many)), "convert")
    nested = _file("a.npz", _npz(random_lstm(0)))

    def with_proof(folder: Path) -> Path:
        (folder / "a.npz.proof.json").write_text("[" * 100_000)
        return nested(folder)

    yield Attack("a proof beside it that nests", with_proof, "convert")


def attacks() -> list[Attack]:
    """All of them."""
    groups = (bad_values, code, declared, bombs, paths, hdf5_links, tf_tricks, names)
    return [attack for group in groups for attack in group()]
