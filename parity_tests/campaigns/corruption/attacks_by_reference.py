"""Files that refer to what lies outside them: other files, devices, places that are not there."""

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from parity_tests.campaigns.corruption.attack import SECRET, Attack, one_file
from parity_tests.campaigns.corruption.samples import (
    keras_arrays,
    onnx_model,
    tf_files,
    torch_file,
    zip_of,
)


def paths() -> Iterator[Attack]:
    """Names that lead out of the file."""
    ones = io.BytesIO()
    np.save(ones, np.ones(3))
    for name in ("../a.npy", "/tmp/a.npy", "x/../../a.npy", "..\\a.npy"):
        yield Attack(f"{name} in .npz", one_file("a.npz", zip_of({name: ones.getvalue()})))
    with zipfile.ZipFile(io.BytesIO(torch_file())) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    # Both are refused, or read without leaving the file: `convert` finds no LSTM then.
    out = {f"../{name}": data for name, data in members.items()}
    yield Attack("../ in .pt", one_file("a.pt", zip_of(out)), "convert")

    def onnx(location: Callable[[Path], str]) -> Callable[[Path], Path]:
        def build(folder: Path) -> Path:
            (folder / "in").mkdir()
            for secret in (folder / "secret.bin", folder / "in" / "secret.bin"):
                secret.write_bytes(np.full(24, SECRET, np.float32).tobytes())
            (folder / "in" / "link.bin").symlink_to(folder / "secret.bin")
            return one_file("in/a.onnx", onnx_model(location(folder)))(folder)

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


REFERENCE_ATTACKS = (paths, hdf5_links, tf_tricks)
