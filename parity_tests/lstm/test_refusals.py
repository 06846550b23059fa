"""What does not fit is refused, in one exact sentence."""

from dataclasses import replace

import jaxtyping
import numpy as np
import pytest

from numpy_lstm.errors import InputError
from numpy_lstm.language_model import (
    LanguageModel,
    language_model_forward,
    predict,
)
from numpy_lstm.lstm import LSTM, lstm_backward, lstm_forward
from parity_tests.support.problems import (
    random_parameters,
    random_problem,
)

PROBLEM = random_problem(4, sizes=(3, 2, 5, 8))
DEEP = random_problem(4, sizes=(3, 2, 5, 8), num_layers=2, dropout=0.5)
WIDE = random_problem(
    4, sizes=(3, 2, 5, 8), num_layers=2, bidirectional=True, proj_size=3, variant="peephole"
)
MODEL = random_problem(4, model=True, sizes=(3, 2, 5, 8))


def run(parameters=None, x=None, **arguments):
    return lstm_forward(
        PROBLEM.config,
        PROBLEM.parameters | (parameters or {}),
        PROBLEM.x if x is None else x,
        **arguments,
    )


def run_backward(dy=None, **arguments):
    return lstm_backward(np.ones((3, 2, 8)) if dy is None else dy, run()[1], **arguments)


def run_wide(parameters=None, **arguments):
    return lstm_forward(WIDE.config, WIDE.parameters | (parameters or {}), WIDE.x, **arguments)


def run_model(parameters=None, tokens=MODEL.x, targets=MODEL.targets):
    return language_model_forward(
        MODEL.config, MODEL.parameters | (parameters or {}), tokens, targets
    )


def spoilt(array, index, value):
    array = array.copy()
    array[index] = value
    return array


W_hh, W_ih = PROBLEM.parameters["weight_hh_l0"], PROBLEM.parameters["weight_ih_l0"]
REFUSALS = {
    "transposed weight": (
        lambda: run({"weight_hh_l0": W_hh.T.copy()}),
        "weight_hh_l0: expected [4H, H] = [32, 8], got [8, 32]; transposed?",
    ),
    "wrong dtype": (
        lambda: run({"weight_hh_l0": W_hh.astype(np.float32)}),
        "weight_hh_l0: expected dtype float64, got float32; convert it with .astype('float64')",
    ),
    "integer weights": (
        lambda: run({"weight_ih_l0": W_ih.astype(int)}),
        "parameters: expected a floating dtype such as float32 or float64, got int64",
    ),
    "NaN in a weight": (
        lambda: run({"weight_ih_l0": spoilt(W_ih, (3, 1), np.nan)}),
        "weight_ih_l0: nan at index [3, 1] (1 of 160 values are not finite);"
        " expected finite numbers",
    ),
    "infinite input": (
        lambda: run(x=spoilt(PROBLEM.x, (0, 1, 2), np.inf)),
        "x: inf at index [0, 1, 2] (1 of 30 values are not finite); expected finite numbers",
    ),
    "infinite gradient": (
        lambda: lstm_backward(spoilt(np.ones((3, 2, 8)), (2, 0, 1), np.nan), run()[1]),
        "dy: nan at index [2, 0, 1] (1 of 48 values are not finite); expected finite numbers",
    ),
    "infinite state": (
        lambda: run(c0=spoilt(np.ones((1, 2, 8)), (0, 1, 3), -np.inf)),
        "c0: -inf at index [0, 1, 3] (1 of 16 values are not finite); expected finite numbers",
    ),
    "input of another dtype": (
        lambda: run(x=PROBLEM.x.astype(np.float32)),
        "x: expected dtype float64, got float32; convert it with .astype('float64')",
    ),
    "wrong input size": (
        lambda: run(x=PROBLEM.x[:, :, :4]),
        "x: expected I = 5 features, got 4",
    ),
    "token out of range": (
        lambda: run(x=np.full((3, 2), 5)),
        "x (tokens): expected integers 0 to I - 1 = 4, got 5 to 5",
    ),
    "missing bias": (
        lambda: lstm_forward(PROBLEM.config, {"weight_ih_l0": W_ih}, PROBLEM.x),
        "parameters: missing ['weight_hh_l0', 'bias_l0'], unexpected [];"
        " expected exactly ['weight_ih_l0', 'weight_hh_l0', 'bias_l0']",
    ),
    "state of the wrong shape": (
        lambda: run(h0=np.zeros((1, 2, 9))),
        "h0: expected [layers * D, N, H] = [1, 2, 8], got [1, 2, 9]",
    ),
    "length zero": (
        lambda: run(lengths=np.array([3, 0])),
        "lengths: expected 1 to T = 3, got [0] at index [1]; leave out empty sequences",
    ),
    "length beyond T": (
        lambda: run(lengths=np.array([4, 1])),
        "lengths: expected 1 to T = 3, got [4] at index [0]; leave out empty sequences",
    ),
    "no sequence": (
        lambda: run(x=np.zeros((3, 0, 5))),
        "batch: expected at least one step and one sequence, got [3, 0]",
    ),
    "hidden size 0": (
        lambda: LSTM(3, 0),
        "hidden_size: expected an integer of at least 1, got 0",
    ),
    "bias pair without bias": (
        lambda: LSTM(3, 4, bias=False, bias_pair=True),
        "bias_pair: expected False where bias is False",
    ),
    "projection as large as the hidden state": (
        lambda: LSTM(3, 4, proj_size=4),
        "proj_size: expected an integer from 0 to hidden_size - 1 = 3, got 4",
    ),
    "dropout of one layer": (
        lambda: LSTM(3, 4, dropout=0.5),
        "dropout: expected 0 with one layer, got 0.5; it acts between layers",
    ),
    "dropout above one": (
        lambda: LSTM(3, 4, 2, dropout=1.5),
        "dropout: expected a probability from 0 to 1, got 1.5",
    ),
    "masks without layers between": (
        lambda: run(masks=[np.ones((3, 2, 8))]),
        "masks, rng: expected None where dropout is 0; set dropout in the configuration",
    ),
    "too many masks": (
        lambda: lstm_forward(
            DEEP.config, DEEP.parameters, DEEP.x, masks=[*DEEP.masks, *DEEP.masks]
        ),
        "masks: expected one for each of num_layers - 1 = 1 layers, got 2",
    ),
    "masks and rng": (
        lambda: lstm_forward(
            DEEP.config, DEEP.parameters, DEEP.x, masks=DEEP.masks, rng=np.random.default_rng(0)
        ),
        "masks, rng: expected one of them, got both",
    ),
    "a state with a batch where x has none": (
        lambda: run(x=PROBLEM.x[:, 0], h0=np.zeros((1, 1, 8))),
        "h0: expected [layers * D, features], got [1, 1, 8]",
    ),
    "lengths without a batch": (
        lambda: run(x=PROBLEM.x[:, 0], lengths=np.array([3])),
        "lengths: expected None without a batch",
    ),
    "too many axes": (
        lambda: run(x=PROBLEM.x[None]),
        "x: expected [T, N, I], or [T, I] without a batch, got [1, 3, 2, 5]",
    ),
    "no step": (
        lambda: run(x=np.zeros((0, 2, 5))),
        "batch: expected at least one step and one sequence, got [0, 2]",
    ),
    "gradient of the wrong shape": (
        lambda: lstm_backward(np.zeros((3, 2, 9)), run()[1]),
        "dy: expected the shape of y, [3, 2, 8], got [3, 2, 9]",
    ),
    "target out of range": (
        lambda: language_model_forward(
            LanguageModel(5, 8),
            random_parameters(
                LanguageModel(5, 8).parameter_shapes(), np.random.default_rng(0), float
            ),
            np.zeros((3, 2), int),
            np.full((3, 2), 5),
        ),
        "targets: expected 0 to V - 1 = 4, got 5 to 5",
    ),
    "input size 0": (
        lambda: LSTM(0, 3),
        "input_size: expected an integer of at least 1, got 0",
    ),
    "no layer": (
        lambda: LSTM(3, 4, 0),
        "num_layers: expected an integer of at least 1, got 0",
    ),
    "no symbol": (
        lambda: LanguageModel(0, 8),
        "vocab_size: expected an integer of at least 1, got 0",
    ),
    "model of hidden size 0": (
        lambda: LanguageModel(5, 0),
        "hidden_size: expected an integer of at least 1, got 0",
    ),
    "model without a layer": (
        lambda: LanguageModel(5, 8, 0),
        "num_layers: expected an integer of at least 1, got 0",
    ),
    "input weight": (
        lambda: run({"weight_ih_l0": W_ih[:, :4]}),
        "weight_ih_l0: expected [4H, I] = [32, 5], got [32, 4]",
    ),
    "input weight of two projected directions": (
        lambda: run_wide({"weight_ih_l1": np.ones((32, 5))}),
        "weight_ih_l1: expected [4H, 2P] = [32, 6], got [32, 5]",
    ),
    "peephole": (
        lambda: run_wide({"weight_ch_l0": np.ones((2, 8))}),
        "weight_ch_l0: expected [3, H] = [3, 8], got [2, 8]",
    ),
    "projection of the language model": (
        lambda: run_model({"projection.weight": np.ones((5, 7))}),
        "projection.weight: expected [V, H] = [5, 8], got [5, 7]",
    ),
    "projected state": (
        lambda: run_wide(h0=np.ones((4, 2, 8))),
        "h0: expected [layers * D, N, P] = [4, 2, 3], got [4, 2, 8]",
    ),
    "a state without a batch where x has one": (
        lambda: run(c0=np.zeros((1, 8))),
        "c0: expected [layers * D, N, features], got [1, 8]",
    ),
    "final hidden gradient without a batch": (
        lambda: run_backward(dh_n=np.zeros((1, 8))),
        "dh_n: expected [layers * D, N, features], got [1, 8]",
    ),
    "final cell gradient without a batch": (
        lambda: run_backward(dc_n=np.zeros((1, 8))),
        "dc_n: expected [layers * D, N, features], got [1, 8]",
    ),
    "final hidden gradient of the wrong shape": (
        lambda: run_backward(dh_n=np.zeros((1, 2, 9))),
        "dh_n: expected [layers * D, N, H] = [1, 2, 8], got [1, 2, 9]",
    ),
    "final cell gradient of the wrong shape": (
        lambda: run_backward(dc_n=np.zeros((1, 2, 9))),
        "dc_n: expected [layers * D, N, H] = [1, 2, 8], got [1, 2, 9]",
    ),
    "gradient of another dtype": (
        lambda: run_backward(np.ones((3, 2, 8), np.float32)),
        "dy: expected dtype float64, got float32; convert it with .astype('float64')",
    ),
    "mask of the wrong shape": (
        lambda: lstm_forward(DEEP.config, DEEP.parameters, DEEP.x, masks=[np.ones((3, 2, 7))]),
        "masks[0]: expected [T, N, D P] = [3, 2, 8], got [3, 2, 7]",
    ),
    "too many axes, batch first": (
        lambda: lstm_forward(
            replace(PROBLEM.config, batch_first=True), PROBLEM.parameters, PROBLEM.x[None]
        ),
        "x: expected [N, T, I], or [T, I] without a batch, got [1, 3, 2, 5]",
    ),
    "integers with too many axes": (
        lambda: run(x=np.zeros((3, 2, 5), int)),
        "x: expected integers [T, N], or [T] without a batch, got [3, 2, 5]",
    ),
    "input of text": (
        lambda: run(x=np.array(["a"])),
        "x: expected a NumPy array of numbers, got <U1; convert it with np.asarray",
    ),
    "gradient of text": (
        lambda: run_backward(np.array(["a"])),
        "dy: expected a NumPy array of numbers, got <U1; convert it with np.asarray",
    ),
    "state of text": (
        lambda: run(h0=np.array(["a"])),
        "h0: expected a NumPy array of numbers, got <U1; convert it with np.asarray",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_does_not_fit_is_refused_in_one_exact_sentence(case):
    call, message = REFUSALS[case]
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value) == message


UNTYPED = {
    "flag that is a number": (
        lambda: LSTM(3, 4, bidirectional=1),
        "bidirectional: expected True or False, got 1",
    ),
    "tokens in a list": (
        lambda: predict(MODEL.config, MODEL.parameters, MODEL.x.tolist()),
        "tokens: expected an array of integers, got list",
    ),
    "tokens that are no integers": (
        lambda: run_model(tokens=MODEL.x / 2),
        "tokens: expected an array of integers, got float64",
    ),
    "targets in a list": (
        lambda: run_model(targets=MODEL.targets.tolist()),
        "targets: expected an array of integers, got list",
    ),
    "tokens without a batch": (
        lambda: predict(MODEL.config, MODEL.parameters, MODEL.x[:, 0]),
        "tokens: expected [T, N], got [3]",
    ),
    "fewer targets than tokens": (
        lambda: run_model(targets=MODEL.targets[:2]),
        "targets: expected the shape of tokens [3, 2], got [2, 2]",
    ),
}


@pytest.mark.parametrize("case", UNTYPED)
def test_what_the_annotations_forbid_is_refused_where_nothing_checks_them(case, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    call, message = UNTYPED[case]
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value) == message
