"""Small whole files of every container."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

I, H = 2, 3


@dataclass(frozen=True)
class Sample:
    """A whole file, or a few that belong together.

    Args:
        kind: container, for the table.
        files: content by name; the first is the one to read.
        checked: whether a checksum covers the tensors.
        facts: what a caller must say to convert it.
    """

    kind: str
    files: Mapping[str, bytes]
    checked: bool
    facts: Mapping[str, float | str] = field(default_factory=dict)


def random_lstm(seed: int) -> dict[str, np.ndarray]:
    """An LSTM in PyTorch's layout, with random values that are not zero."""
    rng = np.random.default_rng(seed)
    shapes = {"weight_ih_l0": (4 * H, I), "weight_hh_l0": (4 * H, H), "bias_ih_l0": (4 * H,)}
    shapes["bias_hh_l0"] = (4 * H,)
    return {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}


def keras_arrays(seed: int) -> dict[str, np.ndarray]:
    """The same by Keras' names, shapes and order."""
    p = random_lstm(seed)
    return {
        "kernel": p["weight_ih_l0"].T,
        "recurrent_kernel": p["weight_hh_l0"].T,
        "bias": p["bias_ih_l0"],
    }


def keras_config() -> str:
    """A model of one LSTM, as Keras 3 describes it, without what readers do not need."""
    layer = {
        "name": "lstm",
        "units": H,
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "use_bias": True,
        "return_sequences": True,
        "go_backwards": False,
    }
    layers = [{"module": "keras.layers", "class_name": "LSTM", "config": layer}]
    model = {"name": "sequential", "layers": layers}
    return json.dumps({"module": "keras", "class_name": "Sequential", "config": model})


def keras_3_weights() -> bytes:
    """A .weights.h5 file as Keras 3 writes it."""
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        variables = h5.create_group("layers/lstm/cell/vars")
        variables.attrs["name"] = "lstm_cell"
        h5.create_group("layers/lstm/vars").attrs["name"] = "lstm"
        for k, array in enumerate(keras_arrays(5).values()):
            variables.create_dataset(str(k), data=array)
    return file.getvalue()


def keras_2_model() -> bytes:
    """.h5 with its model's description."""
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        h5.attrs["keras_version"] = "2.4.0"
        h5.attrs["backend"] = "tensorflow"
        h5.attrs["model_config"] = keras_config().replace('"module": "keras", ', "")
        weights = h5.create_group("model_weights")
        weights.attrs["layer_names"] = [b"lstm"]
        group = weights.create_group("lstm")
        group.attrs["weight_names"] = [f"lstm/lstm_cell/{n}:0".encode() for n in keras_arrays(0)]
        for name, array in keras_arrays(6).items():
            group.create_dataset(f"lstm/lstm_cell/{name}:0", data=array)
    return file.getvalue()


def zip_of(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive of these members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    return file.getvalue()


def saved_npz(save: Callable[..., None]) -> bytes:
    """By one of NumPy's two functions."""
    file = io.BytesIO()
    save(file, **random_lstm(1))
    return file.getvalue()


def torch_file() -> bytes:
    """A state_dict saved by torch."""
    import torch

    file = io.BytesIO()
    state = {f"rnn.{n}": torch.from_numpy(a) for n, a in random_lstm(2).items()}
    torch.save(state, file)
    return file.getvalue()


def onnx_model(external: str | None = None, **changes: np.ndarray) -> bytes:
    """One LSTM node; its first tensor in another file if one is named."""
    import onnx
    from onnx import helper, numpy_helper

    p = random_lstm(7)
    rows = np.arange(4 * H).reshape(4, H)[[0, 3, 1, 2]].ravel()
    bias = np.concatenate([p["bias_ih_l0"][rows], p["bias_hh_l0"][rows]])
    arrays = {"W": p["weight_ih_l0"][rows][None], "R": p["weight_hh_l0"][rows][None]}
    arrays |= {"B": bias[None]} | changes
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    if external is not None:
        tensors[0].ClearField("raw_data")
        tensors[0].data_location = onnx.TensorProto.EXTERNAL
        tensors[0].external_data.add(key="location", value=external)
    node = helper.make_node("LSTM", ["x", "W", "R", "B"], ["y"], "lstm", hidden_size=H)
    infos = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", ["T", "N", I]), ("y", ["T", 1, "N", H]))
    ]
    graph = helper.make_graph([node], "g", infos[:1], infos[1:], tensors)
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def tf_files() -> dict[str, bytes]:
    """A checkpoint of one BasicLSTMCell."""
    from numpy_lstm.porting.formats.tensorflow.checkpoint_writer import tf_bundle

    p = random_lstm(8)
    kernel = np.concatenate([p["weight_ih_l0"], p["weight_hh_l0"]], axis=1).T
    names = {"rnn/basic_lstm_cell/kernel": kernel, "rnn/basic_lstm_cell/bias": p["bias_ih_l0"]}
    index, data = tf_bundle(names)
    return {"model.index": index, "model.data-00000-of-00001": data}


def samples() -> list[Sample]:
    """One or two whole files of every container."""
    from safetensors.numpy import save

    lists = {f"rnn.{name}": array.tolist() for name, array in random_lstm(3).items()}
    keras = {"metadata.json": b'{"keras_version": "3.8.0"}', "config.json": keras_config().encode()}
    keras["model.weights.h5"] = keras_3_weights()
    return [
        Sample("npz", {"a.npz": saved_npz(np.savez)}, True),
        Sample("npz, deflated", {"a.npz": saved_npz(np.savez_compressed)}, True),
        Sample("safetensors", {"a.safetensors": save(random_lstm(4), {"by": "us"})}, False),
        Sample("json", {"a.json": json.dumps(lists).encode()}, False),
        Sample("pt", {"a.pt": torch_file()}, True),
        Sample("keras", {"a.keras": zip_of(keras)}, True),
        Sample("weights.h5", {"a.weights.h5": keras_3_weights()}, False),
        Sample("Keras 2 h5", {"a.h5": keras_2_model()}, False),
        Sample("onnx", {"a.onnx": onnx_model()}, False),
        Sample("tf-bundle", tf_files(), True, {"forget_bias": 1.0, "layout": "tf-basic"}),
    ]
