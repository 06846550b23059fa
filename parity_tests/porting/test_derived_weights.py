"""Weights that PyTorch keeps as other tensors are computed from them, or refused by name."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.archive import Archive
from numpy_lstm.porting.formats.derived_weights import with_derived_weights
from numpy_lstm.porting.formats.npz_file import npz_bytes
from numpy_lstm.porting.recognise.loading import read_lstm


def old_weight_norm(lstm, name, dim):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(lstm, name, dim)


def old_spectral_norm(lstm, name):
    return nn.utils.spectral_norm(lstm, name)


CASES = {
    "weight_norm of rows": lambda lstm, n: parametrizations.weight_norm(lstm, n),
    "weight_norm of columns": lambda lstm, n: parametrizations.weight_norm(lstm, n, dim=1),
    "weight_norm of all": lambda lstm, n: parametrizations.weight_norm(lstm, n, dim=None),
    "old weight_norm of rows": lambda lstm, n: old_weight_norm(lstm, n, 0),
    "old weight_norm of all": lambda lstm, n: old_weight_norm(lstm, n, None),
    "spectral_norm": lambda lstm, n: parametrizations.spectral_norm(lstm, n),
    "old spectral_norm": old_spectral_norm,
    "prune": lambda lstm, n: prune.l1_unstructured(lstm, n, 0.3),
}


def saved(tmp_path, state: dict[str, torch.Tensor]):
    path = tmp_path / "model.npz"
    path.write_bytes(npz_bytes({name: tensor.numpy() for name, tensor in state.items()}))
    return path


@pytest.mark.parametrize("prefix", ["", "net.rnn."])
@pytest.mark.parametrize("case", CASES)
def test_the_weight_is_the_one_that_pytorch_computes(tmp_path, case, prefix):
    torch.manual_seed(1)
    lstm = nn.LSTM(4, 5, 2, dtype=torch.float64)
    names = ["weight_hh_l0", "weight_ih_l1"]
    plain = copy.deepcopy(lstm.state_dict())
    for name in names:
        CASES[case](lstm, name)
    lstm.train(False)
    lstm(torch.zeros(2, 1, 4, dtype=torch.float64))
    path = saved(tmp_path, {prefix + n: t for n, t in lstm.state_dict().items()})
    loaded = read_lstm(path)
    assert set(loaded.lstm.tensors) == {prefix + name for name in plain}
    for name in plain:
        theirs = getattr(lstm, name).detach().numpy()
        np.testing.assert_array_max_ulp(loaded.lstm.tensors[prefix + name], theirs, 64)
    assert sum("was computed from" in note for note in loaded.notes) == len(names)


@pytest.mark.parametrize("within", ["module.", ""])
def test_the_raw_weights_are_taken_before_a_copy_that_was_dropped_out(tmp_path, within):
    lstm = nn.LSTM(4, 5)
    state = {f"rnns.0.module.{n}": t for n, t in lstm.state_dict().items()}
    raw = state["rnns.0.module.weight_hh_l0"]
    state[f"rnns.0.{within}weight_hh_l0_raw"] = raw
    state["rnns.0.module.weight_hh_l0"] = torch.dropout(raw, 0.5, True)
    loaded = read_lstm(saved(tmp_path, state))
    assert np.array_equal(loaded.lstm.tensors["rnns.0.module.weight_hh_l0"], raw.numpy())
    assert "WeightDrop of AWD-LSTM" in loaded.notes[0]


def test_what_has_no_known_formula_is_refused_by_name(tmp_path):
    class Doubled(nn.Module):
        def forward(self, weight):
            return 2 * weight

    lstm = nn.LSTM(4, 5)
    parametrize.register_parametrization(lstm, "weight_hh_l0", Doubled())
    with pytest.raises(InputError, match=r"parametrizations\.weight_hh_l0\.original, from which"):
        read_lstm(saved(tmp_path, lstm.state_dict()))


@pytest.mark.parametrize("name", ["weight_hh_l0_g", "weight_hh_l0_mask", "weight_hh_l0_u"])
def test_half_of_a_formula_is_refused_by_name(tmp_path, name):
    state = nn.LSTM(4, 5).state_dict()
    state[name] = torch.ones(20, 1)
    with pytest.raises(InputError, match=f"{name}: unexpected"):
        read_lstm(saved(tmp_path, state))


def test_other_tensors_of_such_names_are_left_as_they_are():
    arrays = {"W_g": (5, 8), "W_v": (7, 5), "b_g": (5, 1), "b_v": (5, 1)}
    archive = Archive("npz", {name: np.ones(shape) for name, shape in arrays.items()})
    assert with_derived_weights(archive) is archive
