"""Networks beside an LSTM, or in its place: GRUs, plain RNNs, Linear layers, and integers."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.inspection import inspect
from numpy_lstm.porting.recognise.loading import lstm_in_archive
from numpy_lstm.porting.recognise.recognition import survey


def weights(module: nn.Module, prefix: str = "") -> dict[str, np.ndarray]:
    return {prefix + name: tensor.numpy() for name, tensor in module.state_dict().items()}


PATH = Path("file")
GRU = "a GRU (three blocks of weights, not four)"
RNN = "a plain RNN (one block, not four)"


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (nn.GRU(3, 5), GRU),
        (nn.GRU(3, 5, 2, bidirectional=True), GRU),
        (nn.GRUCell(3, 5), GRU),
        (nn.GRU(5, 5, bias=False), GRU),
        (nn.GRU(3, 64), GRU),  # 3 x 64 rows are 4 x 48
        (nn.RNN(3, 5), RNN),
        (nn.RNNCell(5, 5), RNN),
    ],
)
@pytest.mark.parametrize("prefix", ["", "other."])
def test_three_blocks_are_a_gru_and_one_block_an_rnn_and_the_lstm_beside_is_taken(
    module, kind, prefix
):
    other = weights(module, prefix)
    found = survey(Archive("pt", other))
    assert found.lstms == []
    assert found.others[0].startswith(f"{prefix or 'the file'} is {kind}, and no LSTM")
    with pytest.raises(InputError, match=r"no LSTM found: .* blocks?"):
        lstm_in_archive(PATH, Archive("pt", other))
    both = Archive("pt", other | weights(nn.LSTM(4, 6), "lstm."))
    loaded = lstm_in_archive(PATH, both)
    assert loaded.lstm.prefixes == ("lstm.",)
    assert loaded.notes[-1].startswith(f"{prefix or 'the file'} is {kind}")


def test_the_grus_of_other_frameworks_are_known_by_their_blocks():
    rng = np.random.default_rng(0)
    keras = {"gru/kernel": (3, 15), "gru/recurrent_kernel": (5, 15), "gru/bias": (2, 15)}
    mlx = {"g.Wx": (15, 3), "g.Wh": (15, 5), "g.b": (15,), "g.bhn": (5,)}
    for shapes in (keras, mlx):
        archive = Archive("npz", {n: rng.standard_normal(s) for n, s in shapes.items()})
        found = survey(archive)
        assert found.lstms == []
        assert "a GRU" in found.others[0]


def test_matrices_of_three_blocks_without_names_are_no_lstm():
    tensors = {"w1": np.ones((18, 5)), "w2": np.ones((18, 6))}
    for arrays in (tensors, {name: array.T for name, array in tensors.items()}):
        with pytest.raises(InputError, match="w1, w2 have the shapes of a GRU"):
            lstm_in_archive(PATH, Archive("npz", arrays))


@pytest.mark.parametrize(
    ("shape", "leaves"),
    [((64, 64), ("weight", "bias")), ((48, 64), ("kernel", "bias")), ((256, 64), ("w", "b"))],
)
def test_linear_layers_are_no_lstms_and_thousands_of_them_take_no_time(shape, leaves):
    matrix, bias = np.zeros(shape, "f4"), np.zeros(shape[0], "f4")
    tensors = {}
    for k in range(2000):
        tensors |= {f"layer.{k}.q.{leaves[0]}": matrix, f"layer.{k}.q.{leaves[1]}": bias}
    start = time.process_time()
    report = inspect(Archive("safetensors", tensors))
    assert report["lstms"] == []
    assert time.process_time() - start < 2


def test_an_lstm_of_integers_is_called_quantised():
    tensors = {
        name: (array * 100).astype(np.int8) if array.ndim == 2 else array
        for name, array in weights(nn.LSTM(3, 5), "lstm.").items()
    }
    with pytest.raises(InputError, match="weight_hh_l0 is quantised: int8, the float weights are"):
        lstm_in_archive(PATH, Archive("npz", tensors))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
