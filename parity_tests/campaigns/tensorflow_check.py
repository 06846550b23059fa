"""One-time checks against TensorFlow itself, which the tests do without.

TensorFlow's own cells, whose layouts the table knows, are run on random weights and saved by its
own Saver; what `read_tf_bundle` reads is then run by `run_as_placed` and must give the
same outputs. The reader and the writer of checkpoints are held against TensorFlow's, bit for bit.

How to run it, in an environment of its own:

    python -m venv tensorflow_env
    tensorflow_env/bin/pip install tensorflow-cpu==2.21.0 tf_keras==2.21.0 google-crc32c \
        safetensors scipy threadpoolctl
    tensorflow_env/bin/python -m parity_tests.campaigns.tensorflow_check
"""

import tempfile
from collections.abc import Iterator
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.tensorflow.checkpoint_reader import read_tf_bundle
from numpy_lstm.porting.formats.tensorflow.checkpoint_writer import tf_bundle
from numpy_lstm.porting.layouts.all_frameworks import TABLE
from numpy_lstm.porting.layouts.arrangement import to_canonical
from numpy_lstm.porting.layouts.canonical import RuntimeFacts
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.proof.run_as_placed import run_as_placed
from numpy_lstm.roundoff import K, Noise, distance
from parity_tests.campaigns.tensorflow_cells import PREFIXES, H, I, N, P, T, TFRun, tf, tf_run, v1

tf_keras: Any = import_module("tf_keras")
hdf5_format: Any = import_module("tf_keras.src.saving.legacy.hdf5_format")


def random_tensors(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Names with long shared prefixes, every dtype, scalars and an empty tensor."""
    dtypes: list[Any] = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
    dtypes += [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
    shapes = [(), (1,), (3, 5), (2, 1, 4), (0, 3), (300,)]
    tensors = {}
    for k, (dtype, shape) in enumerate(product(dtypes, shapes)):
        name = f"rnn/multi_rnn_cell/cell_{k % 13}/basic_lstm_cell/kernel_{k:03}/Ünicode"
        tensors[name] = (100 * rng.random(shape)).astype(dtype)
    return tensors


def save(prefix: Path, tensors: dict[str, np.ndarray], slices: list[str] | None = None) -> None:
    """Save with TensorFlow, in eager mode."""
    names = list(tensors)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=slices or [""] * len(names),
        tensors=[tf.constant(tensors[name]) for name in names],
    )


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    """Whether two sets of tensors are the same, bit for bit."""
    return a.keys() == b.keys() and all(
        (a[n].dtype, a[n].shape, a[n].tobytes()) == (b[n].dtype, b[n].shape, b[n].tobytes())
        for n in a
    )


def check_bundles(folder: Path) -> Iterator[tuple[str, bool]]:
    """Files of checkpoints, ours and TensorFlow's."""
    tensors = random_tensors(np.random.default_rng(1))
    save(folder / "theirs", tensors)
    yield (
        f"{len(tensors)} tensors of TensorFlow are read bit for bit",
        same(dict(read_tf_bundle(folder / "theirs").tensors), tensors),
    )
    tensors = dict(sorted(tensors.items()))  # TensorFlow lays the data out as the caller does
    save(folder / "theirs", tensors)
    index, data = tf_bundle(tensors)
    ours = {".index": index, ".data-00000-of-00001": data}
    for end, content in ours.items():
        (folder / f"ours{end}").write_bytes(content)
        yield (
            f"our {end} is TensorFlow's byte for byte",
            content == (folder / f"theirs{end}").read_bytes(),
        )
    reader = tf.train.load_checkpoint(str(folder / "ours"))
    read = {name: np.asarray(reader.get_tensor(name)) for name in tensors}
    yield "TensorFlow reads ours bit for bit", same(read, tensors)

    many = {f"{'scope/' * 20}{k:05}": np.float32(k + 1) * np.ones(2, "f4") for k in range(20_000)}
    save(folder / "many", many)
    yield (
        "20,000 variables, in several blocks, are read bit for bit",
        same(dict(read_tf_bundle(folder / "many.index").tensors), many),
    )
    for name, content in zip((".index", ".data-00000-of-00001"), tf_bundle(many), strict=True):
        (folder / f"many2{name}").write_bytes(content)
    reader = tf.train.load_checkpoint(str(folder / "many2"))
    yield (
        "TensorFlow reads 20,000 of ours bit for bit",
        same({name: np.asarray(reader.get_tensor(name)) for name in many}, many),
    )

    halves = [dict(list(tensors.items())[k::2]) for k in (0, 1)]
    for k, half in enumerate(halves):
        save(folder / f"half{k}", half)
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=[str(folder / f"half{k}") for k in (0, 1)],
        destination_prefix=str(folder / "merged"),
    )
    yield (
        "two shards of TensorFlow are read bit for bit",
        same(dict(read_tf_bundle(folder / "merged.data-00001-of-00002").tensors), tensors),
    )

    save(folder / "sliced", {"w": np.ones((2, 3))}, ["4 3 0,2:0,3"])
    yield "slices of TensorFlow are refused", "in slices" in refusal(folder / "sliced")
    others = {"text": np.array([b"a", b"bc"]), "flag": np.array([True]), "w": np.ones(2)}
    save(folder / "others", others)
    archive = read_tf_bundle(folder / "others")
    left_out = list(archive.tensors) == ["w"] and "flag, text" in archive.notes[0]
    yield "strings and booleans of TensorFlow are left out", left_out


def refusal(path: Path) -> str:
    """What `read_tf_bundle` says of a file that it does not read."""
    try:
        return f"READ: {read_tf_bundle(path)}"
    except InputError as error:
        return str(error)


def check_cells(folder: Path) -> Iterator[tuple[str, bool]]:
    """Cells of TensorFlow against their rows of the table, in roundoffs of float64."""
    rnn_cell = v1.nn.rnn_cell
    cases: list[tuple[str, dict[str, Any]]] = [("tf-basic", {})]
    cases += [
        ("tf-lstm", {"use_peepholes": p, "num_proj": n}) for p in (False, True) for n in (None, P)
    ]
    rng = np.random.default_rng(2)
    for (key, options), kind, forget_bias in product(cases, PREFIXES, (0.0, 1.0, 0.3)):
        made = rnn_cell.BasicLSTMCell if key == "tf-basic" else rnn_cell.LSTMCell

        def cells(made=made, forget_bias=forget_bias, options=options, kind=kind) -> list[Any]:
            count = 1 if kind == "single" else 2
            return [
                made(H, forget_bias=forget_bias, dtype="float64", **options) for _ in range(count)
            ]

        theirs = tf_run(folder, cells, kind, rng)
        tensors = read_tf_bundle(theirs.checkpoint).tensors
        directions = 2 if kind == "bidirectional" else 1
        native = PlacedLSTM(
            TABLE[key], tensors, PREFIXES[kind], directions, RuntimeFacts(forget_bias)
        )
        far = farthest(native, theirs)
        wrong = PlacedLSTM(
            TABLE[key], tensors, PREFIXES[kind], directions, RuntimeFacts(forget_bias + 0.1)
        )
        notices = farthest(wrong, theirs) > K
        title = f"{key}, {kind}, forget_bias {forget_bias}, {options}: distance {far:.2f}"
        yield title, far <= K and notices


def farthest(native: PlacedLSTM, theirs: TFRun) -> float:
    """Largest distance of y, h_n and c_n from TensorFlow's, with the problem's own noise."""
    given = (theirs.x, theirs.h0, theirs.c0)
    ours = run_as_placed(native, *given)
    noise = Noise(3, np.dtype(np.float64))
    moved = ([noise.moved(array) for array in given] for _ in range(3))
    twins = [run_as_placed(native, x, h0, c0, noise) for x, h0, c0 in moved]
    return max(
        distance(actual, reference, [(twin[k] - actual) / noise.amplitude for twin in twins])
        for k, (actual, reference) in enumerate(zip(ours, theirs.outputs, strict=True))
    )


def check_cudnn() -> Iterator[tuple[str, bool]]:
    """Keras 2's conversion of CuDNNLSTM's weights against the row keras-cudnn."""
    rng = np.random.default_rng(4)
    weights = [rng.standard_normal(s) for s in ((I, 4 * H), (H, 4 * H), (8 * H,))]
    layer = tf_keras.layers.LSTM(H, return_sequences=True, return_state=True, dtype="float64")
    converted = hdf5_format._convert_rnn_weights(layer, weights)
    names = ("kernel", "recurrent_kernel", "bias")
    native = PlacedLSTM(TABLE["keras-cudnn"], dict(zip(names, weights, strict=True)), ("",))
    ours = to_canonical(native).parameters
    row = TABLE["keras"]
    theirs = to_canonical(PlacedLSTM(row, dict(zip(names, converted, strict=True)), ("",)))
    for name in ("weight_ih_l0", "weight_hh_l0"):
        yield (
            f"keras-cudnn: {name} is Keras' own conversion's bit for bit",
            bool((ours[name] == theirs.parameters[name]).all()),
        )
    summed = ours["bias_ih_l0"] + ours["bias_hh_l0"]
    yield (
        "keras-cudnn: the sum of biases is that of Keras' own conversion bit for bit",
        bool((summed == theirs.parameters["bias_l0"]).all()),
    )
    x, h0, c0 = (rng.standard_normal(s) for s in ((T, N, I), (1, N, H), (1, N, H)))
    layer.build((N, T, I))
    layer.set_weights(converted)
    given = [tf.constant(array) for array in (x.transpose(1, 0, 2), h0[0], c0[0])]
    y, h_n, c_n = layer(given[0], initial_state=given[1:])
    outputs = (y.numpy().transpose(1, 0, 2), h_n.numpy()[None], c_n.numpy()[None])
    far = farthest(native, TFRun(Path(), x, h0, c0, outputs))
    yield f"keras-cudnn: Keras 2's LSTM of the converted weights: distance {far:.2f}", far <= K


def main() -> None:
    """Run all checks, one line each; exit status 1 if one fails."""
    print(f"TensorFlow {tf.__version__}, tf_keras {tf_keras.__version__}, NumPy {np.__version__}")
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        for check in (check_bundles(Path(name)), check_cells(Path(name)), check_cudnn()):
            for title, passed in check:
                print(f"{'ok    ' if passed else 'FAILED'} {title}")
                failed += not passed
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    main()
