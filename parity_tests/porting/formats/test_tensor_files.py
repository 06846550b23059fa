"""Files of named tensors: bit-exact round trips, refusal of whatever is not whole, and dispatch."""

import io
import json
import os
import struct
import sys
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from numpy_lstm.errors import InputError, MissingPackage
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.formats.containers import CONTAINERS, load
from numpy_lstm.porting.formats.dtypes import bfloat16
from numpy_lstm.porting.formats.json_file import read_json
from numpy_lstm.porting.formats.npz_file import npz_bytes, read_npz
from numpy_lstm.porting.formats.read import read_archive
from numpy_lstm.porting.formats.safetensors_file import read_safetensors, safetensors_bytes
from parity_tests.conftest import DATA

NPZ_DTYPES = "f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 c8 c16 ?".split()
SAFETENSORS_DTYPES = "f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 c8 ?".split()


def random_array(seed, shape, dtype):
    """Random bytes, so that NaN, infinity and subnormal numbers are among the floats."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    if dtype.kind == "b":
        return rng.integers(2, size=shape).astype(bool)
    data = rng.bytes(int(np.prod(shape)) * dtype.itemsize)
    return np.frombuffer(data, dtype).reshape(shape)


def laid_out(dtype):
    """The same kind of values in every way that memory can hold them."""
    a = random_array(0, (6, 5), dtype)
    return {
        "rows": a,
        "columns/F": np.asfortranarray(a),
        "transposed": a.T,
        "every.other": random_array(1, (8, 6), dtype)[::2, ::-3],
        "broadcast": np.broadcast_to(a[0], (3, 5)),
        "scalar": random_array(2, (), dtype),
        "empty": random_array(3, (0, 4), dtype),
        "four axes": random_array(4, (2, 3, 4, 5), dtype).transpose(3, 1, 0, 2),
    }


def assert_same(actual, expected):
    assert list(actual) == sorted(expected) or list(actual) == list(expected)
    for name, array in expected.items():
        got = actual[name]
        assert got.dtype == array.dtype.newbyteorder("=")
        assert got.shape == array.shape
        assert got.flags.c_contiguous
        assert got.flags.writeable
        assert got.tobytes() == array.astype(got.dtype).tobytes()


def save(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("dtype", NPZ_DTYPES)
def test_npz_round_trip_is_bit_exact_whatever_the_order_in_memory(tmp_path, dtype):
    tensors = laid_out(dtype)
    path = save(tmp_path, "a.npz", npz_bytes(tensors))
    archive = read_npz(path)
    assert (archive.container, archive.notes) == ("npz", ())
    assert_same(archive.tensors, tensors)
    with np.load(path) as loaded:  # NumPy's own reader agrees
        assert_same({name: np.array(loaded[name], order="C") for name in loaded.files}, tensors)


@pytest.mark.parametrize("dtype", [*SAFETENSORS_DTYPES, ml_dtypes.bfloat16])
def test_safetensors_round_trip_is_bit_exact_whatever_the_order_in_memory(tmp_path, dtype):
    tensors = laid_out(dtype)
    path = save(tmp_path, "a.safetensors", safetensors_bytes(tensors))
    archive = read_safetensors(path)
    assert (archive.container, archive.notes) == ("safetensors", ())
    assert_same(archive.tensors, tensors)
    if dtype is not ml_dtypes.bfloat16:
        own = safetensors.numpy.load(path.read_bytes())
        assert_same({name: np.array(own[name]) for name in tensors}, tensors)


def test_the_library_alone_would_have_written_wrong_values():
    """Why arrays are straightened first; once this fails, the precaution may go."""
    a = random_array(0, (6, 5), "i4")
    assert not np.array_equal(safetensors.numpy.load(safetensors.numpy.save({"a": a.T}))["a"], a.T)


@pytest.mark.parametrize("write", [npz_bytes, safetensors_bytes])
def test_big_endian_arrays_are_read_back_with_their_values(tmp_path, write):
    a = np.random.default_rng(0).standard_normal((3, 4))
    tensors = {"a": a.astype(">f8"), "b": a.astype(">f4")}
    assert_same(read_archive(save(tmp_path, "file", write(tensors))).tensors, tensors)


def test_numpy_writes_what_is_read(tmp_path):
    tensors = laid_out(">f4") | {"b": laid_out("<f8")["transposed"]}
    for save_as in (np.savez, np.savez_compressed):
        save_as(tmp_path / "a.npz", **tensors)
        assert_same(read_npz(tmp_path / "a.npz").tensors, tensors)


def test_the_same_tensors_are_always_the_same_bytes():
    tensors = laid_out("f4")
    assert npz_bytes(tensors) == npz_bytes({name: a.copy() for name, a in tensors.items()})
    metadata = {f"key {k}": "\u00e9\x7f" for k in range(20)}
    first = safetensors_bytes(tensors, metadata)
    assert all(safetensors_bytes(tensors, metadata) == first for _ in range(5))
    assert list(json.loads(first[8 : 8 + int.from_bytes(first[:8], "little")])["__metadata__"]) == (
        sorted(metadata)
    )


def test_tensors_of_safetensors_begin_at_a_multiple_of_eight_bytes():
    for size in range(1, 9):
        data = safetensors_bytes({"a" * size: np.ones(2)}, {"key": "value"})
        assert int.from_bytes(data[:8], "little") % 8 == 0
        assert data.endswith(np.ones(2).tobytes())


@pytest.mark.parametrize(
    ("write", "tensors", "message"),
    [
        (npz_bytes, {"a": np.ones(2, ml_dtypes.bfloat16)}, "^a: cannot be written with dtype bf"),
        (npz_bytes, {"a": np.array([None])}, "^a: cannot be written with dtype object; expected"),
        (npz_bytes, {"../a": np.ones(2)}, "^'../a': expected another name"),
        (npz_bytes, {"": np.ones(2)}, "^'': expected another name"),
        (npz_bytes, {"a\0": np.ones(2)}, r"^'a\\x00': expected another name"),
        (safetensors_bytes, {"\ud800": np.ones(2)}, r"^'\\ud800': expected another name"),
        (safetensors_bytes, {"a": np.array(["b"])}, "^a: cannot be written with dtype <U1"),
        (safetensors_bytes, {"a": np.ones(2, complex)}, "^a: cannot be written with dtype complex"),
        (safetensors_bytes, {"a": np.ones(2, np.longdouble)}, "^safetensors: cannot hold"),
        (safetensors_bytes, {"__metadata__": np.ones(2)}, "^__metadata__: is no name"),
        (safetensors_bytes, {"a": np.ones((1,) * 9)}, "^a: expected at most 8 axes, got 9"),
    ],
)
def test_what_a_container_cannot_hold_is_not_written(write, tensors, message):
    with pytest.raises(InputError, match=message):
        write(tensors)


def refused(read, path, message):
    """One sentence, beginning with the path."""
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert text.isprintable()


def npy(array, allow_pickle=False):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def npy_with_header(header, data=b"", version=(1, 0)):
    text = header.encode() + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + data


def zip_of(members, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


class Canary:
    """Makes a folder when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


ONES = npy(np.ones(3))
HEADER = "{{'descr': {!r}, 'fortran_order': False, 'shape': {}}}"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.npy", npy_with_header(HEADER.format("<f8", "(4,)"), bytes(24)))], "expected 32 byt"),
        ([("a.npy", npy_with_header(HEADER.format("<f8", "(2,)"), bytes(24)))], "expected 16 byt"),
        ([("a.npy", npy_with_header(HEADER.format("<f8", "(-1, -3)"), bytes(24)))], "a shape of"),
        ([("a.npy", npy_with_header(HEADER.format("<f8", f"(0, {10**30})")))], "a shape of"),
        ([("a.npy", npy_with_header(HEADER.format("<f8", (1,) * 40), bytes(8)))], "a shape of"),
        ([("a.npy", npy_with_header(HEADER.format("<f8", f"({10**11},)")))], "expected 800,000"),
        ([("a.npy", npy_with_header("(" * 9000))], "its header cannot be read"),
        ([("a.npy", npy_with_header("{'descr': '<f8'}"))], "its header cannot be read"),
        ([("a.npy", npy_with_header("'\\", version=(2, 0)))], "its header cannot be read"),
        ([("a.npy", ONES[:6])], "its header cannot be read"),
        ([("a.npy", b"\x93NUMPY\1\0\xff\xff" + ONES[10:])], "its header cannot be read"),
        ([("a.npy", b"\x93NUMPY\2\0\xff\xff\xff\x7f" + ONES[10:])], "its header cannot be read"),
        ([("a.npy", npy_with_header("{}", version=(3, 0)))], "expected .npy version 1.0 or 2.0"),
        ([("a.npy", npy(np.zeros(2, [("x", "f8"), ("y", "f4")])))], "a: expected numbers, got dt"),
        ([("a.npy", npy(np.zeros(2, "V2")))], "a: expected numbers, got dtype .*bfloat16"),
        ([("a.npy", b"text")], "a is no array"),
        ([("folder/", b"")], "folder/ is no array"),
        ([("a.npy", ONES), ("a", ONES)], "a: expected one tensor of that name, got two"),
        ([("../a.npy", ONES)], "the name '../a.npy' of a tensor is that of a path out"),
        ([("x\\..\\a.npy", ONES)], "of a tensor is that of a path out"),
        ([("/etc/a.npy", ONES)], "the name '/etc/a.npy' of a tensor is that of a path out"),
        ([("a\n.npy", ONES)], "cannot be printed"),
        ([(".npy", ONES)], "is empty"),
    ],
)
def test_npz_members_that_are_no_plain_arrays_are_refused(tmp_path, members, message):
    refused(read_npz, save(tmp_path, "a.npz", zip_of(members)), message)


def test_python_objects_are_never_unpickled(tmp_path):
    canary = tmp_path / "canary"
    array = np.array([Canary(canary)], dtype=object)
    path = save(tmp_path, "a.npz", zip_of([("a.npy", npy(array, allow_pickle=True))]))
    refused(read_npz, path, "a holds Python objects, which are pickled and never read")
    assert not canary.exists()
    with np.load(path, allow_pickle=True) as file:  # the canary would have sung
        _ = file["a"]
    assert canary.exists()


def test_npz_archives_that_are_tampered_with_are_refused(tmp_path):
    whole = npz_bytes({"a": np.arange(8.0), "b": np.arange(9.0)})
    start = whole.index(b"PK\1\2")
    entry = whole[start : whole.index(b"PK\1\2", start + 4)]
    end = whole.index(b"PK\5\6")

    def edited(at, value):
        return whole[:at] + value + whole[at + len(value) :]

    flag, method, size = start + 8, start + 10, start + 24
    nul = whole.replace(b"a.npy", b"a\0npy")
    # As from a flipped bit in the directory's size: without its first entry.
    short = edited(end + 12, struct.pack("<II", end - start - len(entry), start + len(entry)))
    assert len(zipfile.ZipFile(io.BytesIO(short)).namelist()) == 1
    for data, message in (
        (edited(flag, b"\1"), "a.npy is encrypted; decrypt it first"),
        (edited(method, b"\x0c"), "expected a member stored or deflated"),
        (edited(size, struct.pack("<I", 1 << 30)), "declares 1,073,742,024 bytes of tensors"),
        (edited(size, struct.pack("<I", 400)), r"expected 400 bytes, got 192; was it cut short\?"),
        (edited(size, struct.pack("<I", 150)), "not a whole npz file .Bad CRC-32"),
        (edited(60, b"\1"), "not a whole npz file .Bad CRC-32"),
        (nul, r"the name 'a\\x00npy' of a tensor"),
        (short, "expected 2 members, and nothing after them, got 1"),
        (whole + b"more", "expected .* members, and nothing after them"),
        (whole[:-10], "not a whole npz file"),
        (whole[50:], "not a whole npz file"),
        (b"", "not a whole npz file"),
    ):
        refused(read_npz, save(tmp_path, "a.npz", data), message)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    zeros = npy_with_header(HEADER.format("<f8", f"({1 << 24},)"), bytes(8 << 24))
    data = zip_of([("a.npy", zeros)], zipfile.ZIP_DEFLATED)
    assert len(data) < len(zeros) / 900
    path = save(tmp_path, "a.npz", data)
    refused(read_npz, path, "declares 134,217,8.. bytes of tensors in a file of 130,...; ")
    # One that declares less is decompressed no further than that.
    at = data.index(b"PK\1\2") + 24
    path.write_bytes(data[:at] + struct.pack("<I", 1 << 20) + data[at + 4 :])
    tracemalloc.start()
    refused(read_npz, path, "not a whole npz file .Bad CRC-32")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 1 << 20 < peak < 4 << 20


def test_headers_of_version_2_and_of_python_2_are_read(tmp_path):
    a = np.arange(6.0)
    header = HEADER.format("<f8", "(2L, 3L)")
    members = [
        ("a.npy", npy_with_header(HEADER.format("<f8", "(6,)"), a.tobytes(), (2, 0))),
        ("b.npy", npy_with_header(header, a.tobytes())),
        ("no suffix", npy(a)),
    ]
    archive = read_npz(save(tmp_path, "a.npz", zip_of(members)))
    assert_same(archive.tensors, {"a": a, "b": a.reshape(2, 3), "no suffix": a})


def test_texts_in_an_npz_are_left_out_with_a_note(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.ones(2), chars=np.array(["b", "c"]))
    archive = read_npz(tmp_path / "a.npz")
    assert list(archive.tensors) == ["a"]
    assert archive.notes == ("left out, as no numbers of a dtype read here: chars",)


def raw_safetensors(header, data=b""):
    return struct.pack("<Q", len(header.encode())) + header.encode() + data


ENTRY = '"{}":{{"dtype":"{}","shape":{},"data_offsets":{}}}'


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a whole safetensors file"),
        (raw_safetensors("{}")[:9], "not a whole safetensors file"),
        (struct.pack("<Q", 1 << 60) + b"{}", "not a whole safetensors file"),
        (raw_safetensors("{" + ENTRY.format("a", "F32", [2], [0, 8]) + "}", bytes(9)), "whole"),
        (raw_safetensors("{" + ENTRY.format("a", "F32", [2], [0, 8]) + "}", bytes(7)), "whole"),
        (raw_safetensors("{" + ENTRY.format("a", "F32", [9**9], [0, 4 * 9**9]) + "}"), "whole"),
        (raw_safetensors("{" + ENTRY.format("a", "F32", [3], [0, 8]) + "}", bytes(8)), "whole"),
        (raw_safetensors("{" + ENTRY.format("a", "F32", [0, 1 << 60], [0, 0]) + "}"), "shape of"),
        (raw_safetensors('{"a":' + "[" * 999 + "]" * 999 + "}"), "not a whole safetensors file"),
        (raw_safetensors("{" + ENTRY.format("../a", "F32", [], [0, 4]) + "}", bytes(4)), "a path"),
        (
            raw_safetensors(
                "{" + ",".join([ENTRY.format("a", "F32", [], [0, 4])] * 2) + "}", bytes(4)
            ),
            "expected the key 'a' once, got it 2 times",
        ),
    ],
)
def test_broken_safetensors_are_refused_in_one_sentence(tmp_path, data, message):
    refused(read_safetensors, save(tmp_path, "a.safetensors", data), message)


def test_eight_bit_floats_in_safetensors_are_left_out_with_a_note(tmp_path):
    header = ",".join(
        [ENTRY.format("a", "F32", [], [0, 4]), ENTRY.format("b", "F8_E4M3", [2], [4, 6])]
    )
    data = raw_safetensors("{" + header + "}", np.float32(1.5).tobytes() + bytes(2))
    archive = read_safetensors(save(tmp_path, "a.safetensors", data))
    assert_same(archive.tensors, {"a": np.array(1.5, np.float32)})
    assert archive.notes == ("left out, as no numbers of a dtype read here: b (F8_E4M3)",)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_json_is_read_bit_for_bit_in_the_dtype_that_its_numbers_need(tmp_path, dtype):
    rng = np.random.default_rng(0)
    tensors = {
        "lstm.weight_ih_l0": rng.standard_normal((8, 3)).astype(dtype),
        "four/axes": rng.standard_normal((2, 3, 4, 5)).astype(dtype) * dtype(1e-30),
        "zeros": np.array([0.0, -0.0, np.finfo(dtype).tiny / 8, np.finfo(dtype).max], dtype),
        "scalar": np.array(3.0, dtype),
        "empty": np.zeros((2, 0), dtype),
    }
    text = json.dumps({name: array.tolist() for name, array in tensors.items()})
    archive = read_json(save(tmp_path, "a.json", text.encode()))
    assert_same(archive.tensors, tensors)
    assert archive.notes[0].startswith(f"read as {np.dtype(dtype)}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": NaN}', "expected numbers that float64 can hold, got NaN"),
        ('{"a": [1, -Infinity]}', "expected numbers that float64 can hold, got -Infinity"),
        ('{"a": 1e400}', "expected numbers that float64 can hold, got 1e400"),
        ('{"a": 9007199254740993}', "expected numbers that float64 can hold, got 9007199254740993"),
        ('{"a": 1' + "0" * 9000 + "}", r"got 10{29}\.\.\. of 9001 characters"),
        ('{"a": -1' + "0" * 350 + "}", r"got -10{28}\.\.\. of 352 characters"),
        ('{"a": [[1, 2], [3]]}', r"a: expected lists as long as one another.*lengths \[1, 2\] at"),
        ('{"a": [[1, 2], 3]}', "a: expected nested lists of numbers, got a list beside numbers"),
        ('{"a": ' + "[" * 9 + "1" + "]" * 9 + "}", "a: expected lists .* at most 8 deep"),
        ('{"a": ' + "[" * 99999 + "]" * 99999 + "}", "not a whole JSON file"),
        ('{"a": 1, "a": 2}', "expected the key 'a' once, got it 2 times"),
        ('{"a": ["1"]}', "a: expected nested lists of numbers, got a text"),
        ('{"a": [true]}', "a: expected nested lists of numbers, got true"),
        ('{"a": [1, null]}', "a: expected nested lists of numbers, got null"),
        ('{"a": {"b": 1}}', "a: expected nested lists of numbers, got an object"),
        ("[1]", "expected an object of named lists of numbers"),
        ('{"a": [1', "not a whole JSON file"),
        ('{"": 1}', "is empty"),
        ('{"\\ud800": 1}', "is not text"),
        ("", "not a whole JSON file"),
    ],
)
def test_json_of_any_other_form_is_refused(tmp_path, text, message):
    refused(read_json, save(tmp_path, "a.json", text.encode()), message)


def test_json_that_is_not_utf_8_is_refused(tmp_path):
    refused(read_json, save(tmp_path, "a.json", b'{"\xff": 1}'), "not a whole JSON file")


def test_the_weights_that_rtneural_publishes_are_read():
    path = DATA / "RTNeural" / "lstm_torch.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    archive = read_archive(path)
    assert archive.container == "json"
    assert archive.tensors["lstm2.weight_hh_l2"].shape == (32, 8)
    first = json.loads(path.read_text())["lstm.weight_ih_l0"][0][0]
    assert archive.tensors["lstm.weight_ih_l0"].dtype == np.float32
    assert archive.tensors["lstm.weight_ih_l0"][0, 0] == first


A = {"a": np.arange(6.0).reshape(2, 3)}
CONTENT = {
    "npz": npz_bytes(A),
    "safetensors": safetensors_bytes(A),
    "json": b' {"a": [[0, 1, 2], [3, 4, 5]]}',
}
UNREAD = {
    "keras": b"\x89HDF\r\n\x1a\n" + bytes(64),
    "tf-bundle": bytes(64) + bytes.fromhex("57fb808b247547db"),
    "pt": b"\x80\x02}q\x00.",
}
ZIPS = {
    "keras": zip_of([("config.json", b"{}"), ("model.weights.h5", b"")]),
    "pt": zip_of([("archive/data.pkl", b""), ("archive/data/0", b"")]),
}


@pytest.mark.parametrize("suffix", ["", ".npz", ".safetensors", ".json", ".onnx", ".pt", ".h5"])
@pytest.mark.parametrize("container", CONTENT)
def test_the_content_decides_and_a_suffix_that_disagrees_is_said(tmp_path, container, suffix):
    archive = read_archive(save(tmp_path, f"file{suffix}", CONTENT[container]))
    assert archive.container == container
    np.testing.assert_array_equal(archive.tensors["a"], A["a"])
    said = [note for note in archive.notes if "its suffix says" in note]
    if suffix in ("", *CONTAINERS[container].suffixes):
        assert not said
    else:
        (note,) = said
        assert note.endswith(
            f"its content {CONTAINERS[container].title}: read as {CONTAINERS[container].title}"
        )


@pytest.mark.parametrize("suffix", ["", ".npz", ".onnx"])
@pytest.mark.parametrize(
    ("container", "data"), [*UNREAD.items(), *ZIPS.items()], ids=lambda value: str(value)[:9]
)
def test_the_content_chooses_the_reader(tmp_path, container, data, suffix):
    seen = []

    def read(path):
        seen.append(path)
        return Archive(container, {})

    path = save(tmp_path, f"file{suffix}", data)
    assert read_archive(path, {container: read}).container == container
    assert seen == [path]


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_suffix_chooses_the_reader_where_the_content_does_not_say(tmp_path, container):
    suffixes = CONTAINERS[container].suffixes
    for suffix, content in (
        *((s, bytes(99)) for s in suffixes),
        (suffixes[0], b"PK\3\4" + bytes(9)),
    ):
        path = save(tmp_path, f"file{suffix}", content)
        assert read_archive(path, {container: lambda path: Archive(path.name, {})}).container == (
            f"file{suffix}"
        )


def test_suffixes_in_capitals_are_known(tmp_path):
    path = save(tmp_path, "A.NPZ", CONTENT["npz"])
    assert read_archive(path).notes == ()
    path.write_bytes(bytes(9))
    refused(read_archive, path, "not a whole npz file")


def test_a_tensorflow_checkpoint_is_found_by_any_of_its_names(tmp_path):
    readers = {"tf-bundle": lambda path: Archive(path.name, {})}
    save(tmp_path, "model-7.index", b"x")
    # A shard of tensors may begin with anything.
    for k, data in enumerate((b"PK\3\4", b"\x89HDF\r\n\x1a\n", b"\x80\2", b"{")):
        save(tmp_path, f"model-7.data-0000{k}-of-00004", data)
    for name in ("model-7", "model-7.index", "model-7.data-00000-of-00004",
                 "model-7.data-00001-of-00004", "model-7.data-00003-of-00004"):  # fmt: skip
        assert read_archive(tmp_path / name, readers).container == "model-7.index"


def test_what_is_no_container_is_refused_with_what_to_do(tmp_path):
    array = tmp_path / "a.npy"
    np.save(array, np.ones(3))
    refused(read_archive, array, "holds one array without a name; put the arrays into an .npz")
    refused(read_archive, tmp_path / "a.npz", "no such file; expected a file of weights .*.npz")
    refused(read_archive, tmp_path, "not a regular file; expected a file of weights")
    refused(read_archive, save(tmp_path, "empty.pt", b""), "is empty; was it saved?")
    refused(read_archive, tmp_path / ("a" * 999), "File name too long; expected a file of weights")
    refused(read_archive, save(tmp_path, "x", b"x"), "neither its content nor its suffix is that")
    refused(read_archive, save(tmp_path, "x.zip", zip_of([("a", b"")])), "neither its content")
    refused(read_archive, save(tmp_path, "a.pt", UNREAD["pt"]), "need torch.*numpy-lstm port")
    os.mkfifo(tmp_path / "pipe.npz")
    refused(read_archive, tmp_path / "pipe.npz", "not a regular file")


def test_an_error_says_that_content_and_suffix_disagree(tmp_path):
    path = save(tmp_path, "a.npz", CONTENT["safetensors"][:-1])
    refused(read_archive, path, r"its suffix says NumPy archive, its content safetensors\)$")


def test_a_json_text_is_not_taken_for_safetensors(tmp_path):
    path = save(tmp_path, "file", b'{"abc": {"b": 1}}')
    assert path.read_bytes()[8:9] == b"{"  # where the header of safetensors begins
    refused(read_archive, path, "abc: expected nested lists of numbers, got an object")


@pytest.mark.parametrize(
    ("key", "package"),
    [(key, package) for key, row in CONTAINERS.items() for package in row.packages],
)
def test_a_package_that_a_container_needs_is_named_with_the_line_that_installs_it(
    key, package, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackage) as caught:
        load("a file", key, CONTAINERS[key].reader)
    assert str(caught.value) == (
        f"a file: {CONTAINERS[key].title} needs the package {package}, which is not installed;"
        " pip install 'numpy-lstm[port]'"
    )


def test_bfloat16_names_the_package_that_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(MissingPackage, match=r"^bfloat16 needs the package ml_dtypes, which is"):
        bfloat16()
