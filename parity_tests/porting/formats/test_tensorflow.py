"""TensorFlow's checkpoints without TensorFlow, and a published model of TensorFlow 1 in NumPy.

What needs TensorFlow itself is in `tensorflow_check`, which runs on its own.
"""

import json
import re
import time
import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from numpy_lstm.errors import InputError
from numpy_lstm.language_model import LanguageModel, language_model_forward
from numpy_lstm.porting.formats.tensorflow.checkpoint_files import INDEX_ENDS_WITH
from numpy_lstm.porting.formats.tensorflow.checkpoint_reader import read_tf_bundle
from numpy_lstm.porting.formats.tensorflow.checkpoint_writer import tf_bundle
from numpy_lstm.porting.formats.tensorflow.messages import TENSORFLOW_DTYPES, BundleEntryProto
from numpy_lstm.porting.formats.tensorflow.sorted_table import (
    TRAILER,
    block_of,
    masked_checksum,
    varint_of,
    with_trailer,
)
from numpy_lstm.porting.layouts.all_frameworks import TABLE
from numpy_lstm.porting.layouts.arrangement import to_canonical
from numpy_lstm.porting.layouts.canonical import RuntimeFacts
from numpy_lstm.porting.layouts.fitting import fit_to_layout
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.roundoff import K, distance
from parity_tests.conftest import DATA

DATA_0 = ".data-00000-of-00001"
TENSORS = {
    "rnn/bias": np.array([1.5, -2.25], np.float32),
    "rnn/kernel": np.array([[1, 2, 3]], ml_dtypes.bfloat16),
    "step": np.array(7, np.int64),
}
INDEX_OF_TENSORFLOW = bytes.fromhex(
    "00000608011a02080100080f726e6e2f626961730801120412020802280835c622ca530406156b65726e656c"
    "080e12081202080112020803200828063538825c2500040d7374657008091200200e280835bbd79f11000000"
    "000100000000810bc401000000000100000000c0f2a1b000010274005d000000000100000000d280da226208"
    "6f0e00000000000000000000000000000000000000000000000000000000000000000000000057fb808b2475"
    "47db"
)
"""What TensorFlow 2.21 writes for `TENSORS`."""
DATA_OF_TENSORFLOW = bytes.fromhex("0000c03f000010c0803f004040400700000000000000")


def saved(folder, index, data, *more):
    """The prefix of a checkpoint of one or more shards."""
    (folder / "model.index").write_bytes(index)
    for k, shard in enumerate((data, *more)):
        (folder / f"model.data-{k:05}-of-{1 + len(more):05}").write_bytes(shard)
    return folder / "model"


def assert_same(actual, expected):
    assert list(actual) == sorted(expected)
    for name, array in expected.items():
        assert (actual[name].dtype, actual[name].shape) == (array.dtype, array.shape)
        assert actual[name].tobytes() == array.tobytes()


def refusal(path):
    """The one sentence that refuses a file."""
    with pytest.raises(InputError) as caught:
        read_tf_bundle(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- the sum ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"", 0),
    ],
)
def test_crc32c_has_the_values_of_rfc_3720(data, expected):
    assert crc32c(data) == expected


def crc32c(data):
    """The sum that the stored one is made of: moved and rotated back."""
    rotated = (masked_checksum(data) - 0xA282EAD8) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


def test_crc32c_is_that_of_bit_by_bit_division_at_every_length():
    data = np.random.default_rng(1).bytes(700)
    crc = 0xFFFFFFFF
    for length, byte in enumerate(data):
        assert crc32c(data[:length]) == crc ^ 0xFFFFFFFF, length
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)


def test_three_megabytes_are_summed_in_under_a_second():
    data = np.random.default_rng(2).bytes(3_000_000)
    start = time.process_time()
    crc32c(data)
    assert time.process_time() - start < 1


# --- whole files ------------------------------------------------------------------------------


def test_files_are_those_of_tensorflow_byte_for_byte():
    assert tf_bundle(TENSORS) == (INDEX_OF_TENSORFLOW, DATA_OF_TENSORFLOW)


@pytest.mark.parametrize("end", ["", ".index", DATA_0])
def test_tensorflows_files_are_read_bit_for_bit_whichever_of_their_names_is_given(tmp_path, end):
    prefix = saved(tmp_path, INDEX_OF_TENSORFLOW, DATA_OF_TENSORFLOW)
    archive = read_tf_bundle(prefix.with_name(prefix.name + end))
    assert (archive.container, archive.rows, archive.notes) == ("tf-bundle", (), ())
    assert_same(archive.tensors, TENSORS)
    assert all(array.flags.writeable for array in archive.tensors.values())


def random_tensors(count):
    """Random bytes under names with long shared beginnings, of all dtypes and many shapes."""
    rng = np.random.default_rng(count)
    dtypes = [
        np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
        for name in TENSORFLOW_DTYPES.values()
    ]
    shapes = [(), (3,), (2, 5), (0, 4), (1, 2, 3)]
    tensors = {}
    for k in range(count):
        dtype, shape = dtypes[k % len(dtypes)], shapes[k % len(shapes)]
        raw = rng.bytes(int(np.prod(shape)) * dtype.itemsize)
        tensors[f"scope/{'x' * (k % 300)}/Größe_{k}"] = np.frombuffer(raw, dtype).reshape(shape)
    return tensors


@pytest.mark.parametrize("count", [1, 15, 16, 17, 700])
def test_round_trip_is_bit_exact_for_every_dtype(tmp_path, count):
    tensors = random_tensors(count)
    index, data = tf_bundle(tensors)
    assert_same(read_tf_bundle(saved(tmp_path, index, data)).tensors, tensors)
    assert tf_bundle(dict(reversed(tensors.items()))) == (index, data)


def test_every_sixteenth_name_is_whole():
    index, _ = tf_bundle({f"same/beginning/{k:03}": np.ones(2) for k in range(50)})
    size = index.index(b"\0\0\0\0\x01\0\0\0")  # of the first block, before the empty one
    block = index[: size - TRAILER]
    count = int.from_bytes(block[-4:], "little")
    starts = np.frombuffer(block[-4 * (count + 1) : -4], "<u4")
    assert [block[start] for start in starts] == [0] * 4
    assert [block[start + 3 :][:18] for start in starts[1:]] == [
        b"same/beginning/%03d" % (16 * k - 1) for k in (1, 2, 3)
    ]


def test_order_in_memory_does_not_matter():
    a = np.random.default_rng(3).standard_normal((4, 6))
    ways = [a, np.asfortranarray(a), a.repeat(2, axis=0)[::2], a.astype(">f8")]
    assert len({tf_bundle({"a": way}) for way in ways}) == 1
    assert tf_bundle({"a": a.T}) == tf_bundle({"a": a.T.copy()}) != tf_bundle({"a": a})


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "tensors: expected at least one, got none"),
        ({"": np.ones(2)}, "'': expected another name"),
        ({"a": np.ones(2, np.longdouble)}, "a: expected one of float32, float64, bfloat16"),
        ({"a": np.ones(2, complex)}, "a: cannot be written with dtype complex128"),
    ],
)
def test_what_a_checkpoint_cannot_hold_is_not_written(tensors, message):
    with pytest.raises(InputError, match=re.escape(message)):
        tf_bundle(tensors)


# --- hand-made files --------------------------------------------------------------------------


def header(shards=1, endianness=0):
    return b"", b"\x08" + varint_of(shards) + b"\x10" + varint_of(endianness)


def entry(name, raw, dtype=1, shape=None, shard=0, offset=0, size=None, crc=None, slices=()):
    """An entry of the index, with whatever is given in the place of the truth."""
    message = BundleEntryProto(
        dtype=dtype,
        shape={"dim": [{"size": n} for n in ((len(raw) // 4,) if shape is None else shape)]},
        shard_id=shard,
        offset=offset,
        size=len(raw) if size is None else size,
        crc32c=masked_checksum(raw) if crc is None else crc,
        slices=slices,
    )
    return name.encode("utf-8", "surrogateescape"), message.SerializeToString()


def table(*blocks, kind=0):
    """A table of several blocks, of this kind: of entries, or of bytes as they are."""
    content, handles = b"", []
    made = [block if isinstance(block, bytes) else block_of(block) for block in blocks]
    for block in [*made, block_of([])]:
        handles.append(varint_of(len(content)) + varint_of(len(block)))
        trailer = bytes([kind]) + masked_checksum(block + bytes([kind])).to_bytes(4, "little")
        content += block + trailer
    index = block_of([(b"%d" % k, handle) for k, handle in enumerate(handles[:-1])])
    footer = handles[-1] + varint_of(len(content)) + varint_of(len(index))
    return content + with_trailer(index) + footer.ljust(40, b"\0") + INDEX_ENDS_WITH


def table_with_handle(handle):
    """A table whose only block of data is where this handle says."""
    empty, index = block_of([]), block_of([(b"0", handle)])
    content = with_trailer(empty)
    handles = (0, len(empty), len(content), len(index))
    footer = b"".join(map(varint_of, handles)).ljust(40, b"\0") + INDEX_ENDS_WITH
    return content + with_trailer(index) + footer


ONE_RESTART = bytes(4) + (1).to_bytes(4, "little")
RAW = np.array([1.0, 2.0, 3.0], np.float32).tobytes()
LONG = 1 << 40


def test_blocks_and_shards_are_found_by_their_numbers(tmp_path):
    other = np.array([4.0, 5.0], np.float32)
    index = table(
        [header(shards=2), entry("a", RAW)],
        [entry("b", other.tobytes(), shard=1, offset=3), entry("c", RAW[4:], offset=12)],
    )
    prefix = saved(tmp_path, index, RAW + RAW[4:], b"???" + other.tobytes())
    expected = {"a": np.frombuffer(RAW, "f4"), "b": other, "c": np.frombuffer(RAW[4:], "f4")}
    for end in (".index", ".data-00001-of-00002"):
        assert_same(read_tf_bundle(prefix.with_name(f"model{end}")).tensors, expected)


def test_what_is_no_number_is_left_out_and_noted(tmp_path):
    index = table([header(), entry("a", RAW), entry("text", b"??", dtype=7, offset=LONG)])
    archive = read_tf_bundle(saved(tmp_path, index, RAW))
    assert_same(archive.tensors, {"a": np.frombuffer(RAW, "f4")})
    assert archive.notes == ("left out, as no numbers of a dtype read here: text",)


REFUSED = {
    "snappy": (table([header(), entry("a", RAW)], kind=1), "compressed (kind 1; 1 is snappy)"),
    "slices": (table([header(), entry("w", RAW, slices=(b"",))]), "'w': saved in slices"),
    "big-endian": (table([header(endianness=1), entry("a", RAW)]), "is big-endian"),
    "no header": (table([entry("a", RAW)]), "lacks the entry that says how many shards"),
    "no shards": (table([header(shards=0)]), "expected 1 to 99,999 shards, got 0"),
    "many shards": (table([header(shards=LONG)]), "expected 1 to 99,999 shards"),
    "no such shard": (table([header(), entry("a", RAW, shard=1)]), "expected one of 1 shards"),
    "negative shard": (table([header(), entry("a", RAW, shard=-1)]), "expected one of 1 shards"),
    "negative offset": (table([header(), entry("a", RAW, offset=-1)]), "an offset and a size"),
    "twice": (table([header(), entry("a", RAW), entry("a", RAW)]), "names are not in order"),
    "disorder": (table([header(), entry("b", RAW)], [entry("a", RAW)]), "names are not in order"),
    "path": (table([header(), entry("../a", RAW)]), "is that of a path out of the file"),
    "bytes": (table([header(), entry("a\udcff", RAW)]), "is not UTF-8"),
    "wire type": (table([header(), (b"a", b"\x0b")]), "entry 'a' is no whole BundleEntryProto"),
    "cut message": (
        table([header(), (b"a", b"\x12\x05\0")]),
        "entry 'a' is no whole BundleEntryProto",
    ),
    "cut number": (table([header(), (b"a", b"\x08\x80")]), "entry 'a' is no whole"),
    "long number": (table([header(), (b"a", b"\x08" + b"\xff" * 10)]), "'a' is no whole"),
    "cut handle": (table_with_handle(b"\x80"), "ends inside a number"),
    "long handle": (table_with_handle(b"\xff" * 10), "exceeds 64 bits"),
    "too much shared": (table(b"\x05\x01\0a" + ONE_RESTART), "reaches beyond its block"),
    "long key": (table(b"\0\x01\0a\x01\x09\0b" + ONE_RESTART), "after 'a' reaches beyond its"),
    "long value": (table(b"\0\x01\x09a" + ONE_RESTART), "reaches beyond its block"),
    "short block": (table(b"\0\0\0"), "a block is shorter than its own list"),
    "long list": (table(bytes(8) + b"\x09\0\0\0"), "a block is shorter than its own list"),
    "far block": (
        bytes(40) + (b"\xff\x7f\x08" * 2).ljust(40, b"\0") + INDEX_ENDS_WITH,
        "a block of 8 bytes at 16,383 reaches beyond the file's end",
    ),
    "not a table": (b"{}" * 40, "expected the index of a TensorFlow checkpoint (version 2)"),
    "empty": (b"", "expected the index of a TensorFlow checkpoint (version 2)"),
}
"""By what is wrong with it: an index, and what is said."""


@pytest.mark.parametrize("wrong", REFUSED)
def test_an_index_is_refused_with_the_reason(tmp_path, wrong):
    index, expected = REFUSED[wrong]
    message = refusal(saved(tmp_path, index, RAW))
    assert message.startswith(f"{tmp_path / 'model.index'}: ")
    assert expected in message


WRONG_TENSORS = {
    "offset": ({"offset": 8}, "a: expected 12 bytes at 8, got a file of 12; is it truncated?"),
    "far offset": ({"offset": LONG}, "a: expected 12 bytes at 1,099,511,627,776"),
    "size": ({"size": LONG, "shape": (LONG // 4,)}, "a: expected 1,099,511,627,776 bytes at 0"),
    "shape": ({"shape": (LONG,)}, "a: expected a shape of"),
    "negative": ({"shape": (-3, -1)}, "a: expected a shape of"),
    "empty": ({"shape": (0, LONG, LONG)}, "a: expected a shape of"),
    "many axes": ({"shape": (3, *[1] * 99)}, "a: expected a shape of at most"),
    "smaller": ({"shape": (2,)}, "a: expected 8 bytes for float32 [2], got 12"),
    "dtype": ({"dtype": 2}, "a: expected 24 bytes for float64 [3], got 12"),
    "sum": ({"crc": 1}, "a: its bytes do not have the CRC-32C that the index says"),
}


@pytest.mark.parametrize("wrong", WRONG_TENSORS)
def test_a_tensor_is_refused_with_the_reason_and_before_memory_is_taken(tmp_path, wrong):
    changes, expected = WRONG_TENSORS[wrong]
    prefix = saved(tmp_path, table([header(), entry("a", RAW, **changes)]), RAW)
    tracemalloc.start()
    message = refusal(prefix)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert message.startswith(f"{tmp_path / 'model'}{DATA_0}: ")
    assert expected in message


def test_tensors_that_share_bytes_are_refused(tmp_path):
    entries = [entry(f"t{k:04}", RAW) for k in range(1000)]
    message = refusal(saved(tmp_path, table([header(), *entries]), RAW))
    assert "tensors of 12,000 bytes overlap in a file of 12" in message


def test_names_that_unfold_to_gigabytes_are_refused(tmp_path):
    # Every key is the one before with one more character: 4 bytes each, 200,000 characters long.
    first, more = b"a" * 200_000, 20_000
    head = b"".join(map(varint_of, (0, len(first), 0))) + first
    grown = b"".join(varint_of(len(first) + k) + b"\1\0a" for k in range(more))
    message = refusal(saved(tmp_path, table(head + grown + ONE_RESTART), RAW))
    assert message.startswith(f"{tmp_path / 'model.index'}: declares")


def flipped(data, k):
    """One bit of byte k the other way round; which, depends on k."""
    changed = bytearray(data)
    changed[k] ^= 1 << k % 8
    return bytes(changed)


def test_a_flipped_bit_of_any_byte_is_noticed(tmp_path):
    index, data = INDEX_OF_TENSORFLOW, DATA_OF_TENSORFLOW
    filling = range(len(index) - 44, len(index) - 8)  # between handles and magic; means nothing
    for k in range(len(index)):
        prefix = saved(tmp_path, flipped(index, k), data)
        if k in filling:
            assert_same(read_tf_bundle(prefix).tensors, TENSORS)
        else:
            assert refusal(prefix).startswith(f"{tmp_path / 'model.index'}: ")
    for k in range(len(data)):
        assert "CRC-32C" in refusal(saved(tmp_path, index, flipped(data, k)))


def test_every_truncation_is_noticed(tmp_path):
    index, data = INDEX_OF_TENSORFLOW, DATA_OF_TENSORFLOW
    for length in range(len(index)):
        message = refusal(saved(tmp_path, index[:length], data))
        assert message.startswith(f"{tmp_path / 'model.index'}: ")
    for length in range(len(data)):
        message = refusal(saved(tmp_path, index, data[:length]))
        assert message.startswith(f"{tmp_path / 'model'}{DATA_0}: ")
        assert "is it truncated?" in message


@pytest.mark.parametrize("end", [".index", DATA_0])
def test_a_missing_file_is_named(tmp_path, end):
    prefix = saved(tmp_path, INDEX_OF_TENSORFLOW, DATA_OF_TENSORFLOW)
    prefix.with_name(f"model{end}").unlink()
    message = refusal(prefix)
    assert message.startswith(f"{prefix}{end}: no such file; expected a TensorFlow checkpoint")


# --- a published model ------------------------------------------------------------------------

CELLS = tuple(f"rnn/multi_rnn_cell/cell_{k}/" for k in range(2))
MONITOR = "validation/loss_monitor/"
STREAMS, STEPS, EPOCHS_BEFORE = 20, 10, 11
"""Of tensorflow-char-rnn: streams side by side, steps a window, validations before this one.

Its streams are never set back to their beginnings, so that each epoch of a process validates from
where the one before ended. The checkpoint has 17 epochs behind it (85340 steps of 5020 each); the
loss that it stores is that of a twelfth validation, so that the process had been started anew, with
the weights of the fifth epoch. That one number was found by trying; all else is in train.py and
char_rnn_model.py.
"""


@pytest.fixture(scope="module")
def char_rnn():
    """Tensors, vocabulary and result of tensorflow-char-rnn's pretrained model."""
    folder = DATA / "tf-char-rnn"
    if not (folder / "model-85340.index").is_file():
        pytest.skip(f"{folder} is not there")
    vocabulary, result = (
        json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("vocab", "result")
    )
    return read_tf_bundle(folder / "model-85340").tensors, vocabulary, result


def converted(tensors, forget_bias, dtype):
    """The language model in our own parameters; the forget bias goes into the biases."""
    names = {f"{cell}basic_lstm_cell/{part}" for cell in CELLS for part in ("kernel", "bias")}
    own = {name: tensors[name] for name in sorted(names)}
    native = PlacedLSTM(TABLE["tf-basic"], own, CELLS, facts=RuntimeFacts(forget_bias))
    lstm, _ = fit_to_layout(to_canonical(native), TABLE["numpy-lstm"], allow_lossy=True)
    parameters = {f"lstm.{name}": array for name, array in lstm.parameters.items()}
    parameters["projection.weight"] = tensors["softmax/softmax_w"].T
    parameters["projection.bias"] = tensors["softmax/softmax_b"]
    c = lstm.config
    model = LanguageModel(c.input_size, c.hidden_size, c.num_layers)
    return model, {name: np.ascontiguousarray(p, dtype) for name, p in parameters.items()}


def validation_losses(model, parameters, tokens, most=None):
    """Mean loss of each window [279], or of the first ones; states begin at zero and are carried.

    The streams begin at equal distances and wrap round at the text's end, so that all windows are
    full; their number is that of the text's tokens, rounded up.
    """
    windows = -(-len(tokens) // (STREAMS * STEPS))
    begin = len(tokens) // STREAMS * np.arange(STREAMS) + EPOCHS_BEFORE * windows * STEPS
    stream = tokens[(begin + np.arange(windows * STEPS + 1)[:, None]) % len(tokens)]
    state, losses = None, []
    for start in range(0, windows * STEPS, STEPS)[:most]:
        window = stream[start : start + STEPS + 1]
        outputs, _ = language_model_forward(model, parameters, window[:-1], window[1:], state=state)
        state = (outputs.h_n, outputs.c_n)
        losses.append(outputs.losses.mean())
    return np.array(losses)


@pytest.fixture(scope="module")
def validation_tokens(char_rnn):
    """The 5 % of the text after the first 90 %."""
    path = DATA / "tinyshakespeare.txt"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    text = path.read_text("utf-8")
    start, size = int(0.9 * len(text)), int(0.05 * len(text))
    return np.array([char_rnn[1][character] for character in text[start : start + size]])


def test_a_checkpoint_of_tensorflow_1_is_read_and_written_again_byte_for_byte(char_rnn):
    tensors, _, result = char_rnn
    assert len(tensors) == 27
    assert tensors["global_step"] == 85340
    assert tensors[f"{CELLS[1]}basic_lstm_cell/kernel"].shape == (256, 512)
    prefix = DATA / "tf-char-rnn" / "model-85340"
    for end, content in zip((".index", DATA_0), tf_bundle(tensors), strict=True):
        assert content == prefix.with_name(prefix.name + end).read_bytes()
    mean = tensors[f"{MONITOR}sum_mean_loss"] / tensors[f"{MONITOR}count"]
    published = np.float32(result["best_valid_ppl"])
    assert distance(np.exp(mean).reshape(1), published.reshape(1)) <= K


@pytest.fixture(scope="module")
def losses(char_rnn, validation_tokens):
    """Of the windows of the published model's validation."""
    return validation_losses(*converted(char_rnn[0], 0.0, np.float64), validation_tokens)


def test_the_validation_loss_in_the_checkpoint_is_met_down_to_rounding(char_rnn, losses):
    tensors, _, result = char_rnn
    assert (len(losses), tensors[f"{MONITOR}count"]) == (279, 279)
    # Summed up in float32, number by number, as TensorFlow did.
    total = np.cumsum(losses.astype(np.float32))[-1:]
    assert distance(total, tensors[f"{MONITOR}sum_mean_loss"].reshape(1)) <= K
    # Each of those additions rounds the sum, by half a unit in its last place at most.
    rounding = len(losses) * np.finfo(np.float32).eps / 2 * losses.mean()
    assert abs(losses.mean() - np.log(result["best_valid_ppl"])) <= rounding


def test_the_likelihood_prefers_the_forget_bias_that_the_model_was_trained_with(
    char_rnn, validation_tokens, losses
):
    model, parameters = converted(char_rnn[0], 1.0, np.float64)
    with_one = validation_losses(model, parameters, validation_tokens, most=50)
    assert losses[:50].mean() < with_one.mean()
