"""Names of programs written from scratch: read where names and shapes leave one reading."""

import numpy as np
import pytest

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.npz_file import npz_bytes
from numpy_lstm.porting.layouts.arrangement import to_canonical
from numpy_lstm.porting.recognise.loading import read_lstm

I, H = 4, 6


def random(*shape):
    return np.random.default_rng(shape).standard_normal(shape)


def read(tmp_path, tensors, prefix=""):
    path = tmp_path / "model.npz"
    path.write_bytes(npz_bytes({prefix + name: array for name, array in tensors.items()}))
    return read_lstm(path)


@pytest.mark.parametrize("prefix", ["", "layers/0/"])
@pytest.mark.parametrize("candidate", ["g", "c", "C"])
@pytest.mark.parametrize("names", [("W{}", "b{}"), ("W_{}", "b_{}")])
@pytest.mark.parametrize("bias", [(H,), (H, 1), (1, H)])
def test_one_matrix_a_gate_is_on_h_and_x(tmp_path, prefix, candidate, names, bias):
    given = {gate: random(H, H + I) + k for k, gate in enumerate("ifgo")}
    tensors = {}
    for gate, W in given.items():
        letter = candidate if gate == "g" else gate
        tensors[names[0].format(letter)] = W
        tensors[names[1].format(letter)] = random(*bias)
    if names[0] == "W_{}" and candidate == "g" and bias == (H, 1):
        return  # the layout seed itself
    if not prefix:
        tensors |= {"Wy": random(3, H), "by": random(3, 1)}
    loaded = read(tmp_path, tensors, prefix)
    assert loaded.lstm.layout.key == "seed"
    weights = to_canonical(loaded.lstm).parameters
    expected = np.concatenate([given[gate] for gate in "ifgo"])
    assert np.array_equal(weights["weight_hh_l0"], expected[:, :H])
    assert np.array_equal(weights["weight_ih_l0"], expected[:, H:])
    assert any("are read as the layout seed, on z = [h; x]" in note for note in loaded.notes)


@pytest.mark.parametrize("rows_are_units", [True, False])
@pytest.mark.parametrize(
    "names",
    [
        ("W{}", "U{}", "b{}"),
        ("Wx{}", "Wh{}", "b{}"),
        ("W_x{}", "W_h{}", "b_{}"),
        ("kernel_{}", "recurrent_kernel_{}", "bias_{}"),
    ],
)
def test_two_matrices_a_gate_are_read_by_their_shapes(tmp_path, names, rows_are_units):
    given = {g: (random(H, I) + k, random(H, H) + k) for k, g in enumerate("ifgo")}
    tensors = {}
    for gate, (W, U) in given.items():
        tensors[names[0].format(gate)] = W if rows_are_units else W.T
        tensors[names[1].format(gate)] = U if rows_are_units else U.T
        tensors[names[2].format(gate)] = random(H)
    weights = to_canonical(read(tmp_path, tensors).lstm).parameters
    for k, name in enumerate(("weight_ih_l0", "weight_hh_l0")):
        assert np.array_equal(weights[name], np.concatenate([given[g][k] for g in "ifgo"]))


def test_square_matrices_leave_two_readings_and_are_refused(tmp_path):
    tensors = {}
    for gate in "ifgo":
        tensors |= {f"W{gate}": random(H, H), f"U{gate}": random(H, H), f"b{gate}": random(H)}
    with pytest.raises(InputError, match=r"Wi, Ui, bi \.\.\. are an LSTM's by their names"):
        read(tmp_path, tensors)
