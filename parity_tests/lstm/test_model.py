"""The layer and the language model: purity, invariances, dtypes, and refusals."""

from dataclasses import replace

import jaxtyping
import numpy as np
import pytest

from numpy_lstm.errors import InputError
from numpy_lstm.initialization import init_lstm
from numpy_lstm.language_model import (
    LanguageModel,
    language_model_backward,
    language_model_forward,
    predict,
)
from numpy_lstm.lstm import LSTM, lstm_backward, lstm_forward, packed_backward
from numpy_lstm.roundoff import K, distance
from numpy_lstm.training.batching import pad
from parity_tests.lstm.test_cell import OPTIONS
from parity_tests.support.problems import random_parameters, random_problem


def model_and_sequences(dtype=np.float64):
    rng = np.random.default_rng(0)
    model = LanguageModel(6, 9)
    parameters = random_parameters(model.parameter_shapes(), rng, dtype)
    sequences = [rng.integers(0, 6, length) for length in (5, 2, 9, 5, 3, 12, 7)]
    return model, parameters, sequences


def loss_and_gradients(model, parameters, batches):
    """Summed loss and gradients over batches."""
    total, sums = 0.0, dict.fromkeys(parameters, 0.0)
    for batch in batches:
        outputs, cache = language_model_forward(
            model, parameters, batch.inputs, batch.targets, batch.lengths
        )
        gradients = language_model_backward(1.0, cache).parameters
        total += outputs.losses.sum()
        sums = {name: sums[name] + gradients[name] for name in sums}
    return total, sums


def padded_further(batch, steps, filler):
    def grow(array):
        return np.concatenate([array, np.full((steps, array.shape[1]), filler)])

    return replace(batch, inputs=grow(batch.inputs), targets=grow(batch.targets))


@pytest.mark.parametrize(
    "partition",
    [
        [[0], [1], [2], [3], [4], [5], [6]],
        [[6, 5, 4, 3, 2, 1, 0]],
        [[5, 0, 3], [1, 2], [4, 6]],
    ],
    ids=["one by one", "reversed", "three batches"],
)
def test_loss_and_gradients_do_not_depend_on_the_batching(partition):
    model, parameters, sequences = model_and_sequences()
    loss, gradients = loss_and_gradients(model, parameters, [pad(sequences)])
    batches = [pad([sequences[k] for k in part]) for part in partition]
    other_loss, other = loss_and_gradients(model, parameters, batches)
    assert abs(other_loss - loss) <= 1e-12 * loss
    for name, gradient in gradients.items():
        largest = np.abs(gradient).max()
        assert np.abs(other[name] - gradient).max() <= 1e-12 * largest, name


@pytest.mark.parametrize("filler", [0, 5, -7])
def test_loss_and_gradients_do_not_depend_on_padding_whatever_it_holds(filler):
    model, parameters, sequences = model_and_sequences()
    batch = pad(sequences)
    loss, gradients = loss_and_gradients(model, parameters, [batch])
    padded = padded_further(batch, 4, filler)
    beyond = np.arange(len(padded.inputs))[:, None] >= padded.lengths
    padded.inputs[beyond] = filler
    padded.targets[beyond] = filler
    other_loss, other = loss_and_gradients(model, parameters, [padded])
    assert other_loss == loss
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(other[name], gradient)


@pytest.mark.parametrize("lengths", [None, [6, 2, 5]])
def test_outputs_share_no_memory_with_the_cache(lengths):
    problem = random_problem(0, sizes=(6, 3, 4, 5))
    lengths = None if lengths is None else np.array(lengths)
    outputs, cache = lstm_forward(problem.config, problem.parameters, problem.x, lengths=lengths)
    (layer,) = cache.layers
    kept = [array for s in layer.segments for array in (s.h, *(r.c for r in s.runs))]
    assert kept
    assert not any(np.shares_memory(output, array) for output in outputs for array in kept)


def test_padding_of_a_dense_input_may_even_be_nan():
    problem = random_problem(0)
    layer, lengths = (problem.config, problem.parameters), problem.lengths
    (y, *_), _ = lstm_forward(*layer, problem.x, lengths=lengths)
    beyond = np.arange(len(problem.x))[:, None] >= problem.lengths
    assert beyond.any()
    spoilt = problem.x.copy()
    spoilt[beyond] = np.nan
    (other, *_), _ = lstm_forward(*layer, spoilt, lengths=lengths)
    np.testing.assert_array_equal(other, y)
    assert (y[beyond] == 0).all()


def assert_untouched(problem, untouched):
    for name, parameter in untouched.parameters.items():
        np.testing.assert_array_equal(parameter, problem.parameters[name])
    for name in ("x", "h0", "c0", "dh_n", "dc_n"):
        np.testing.assert_array_equal(getattr(untouched, name), getattr(problem, name))


def test_language_model_backward_twice_is_bit_identical_and_changes_nothing():
    problem = random_problem(1, model=True)
    _, cache = language_model_forward(
        problem.config, problem.parameters, problem.x, problem.targets, problem.lengths
    )
    first, second = (
        language_model_backward(0.5, cache, problem.dh_n, problem.dc_n) for _ in range(2)
    )
    assert first.parameters.keys() == problem.parameters.keys()
    for name, gradient in first.parameters.items():
        np.testing.assert_array_equal(gradient, second.parameters[name])
    np.testing.assert_array_equal(first.dh0, second.dh0)
    np.testing.assert_array_equal(first.dc0, second.dc0)
    assert_untouched(problem, random_problem(1, model=True))


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_backward_twice_is_bit_identical_and_changes_nothing(options, recompute):
    p = random_problem(1, **options)
    arguments = (p.config, p.parameters, p.x, p.h0, p.c0, p.lengths)
    _, cache = lstm_forward(*arguments, masks=p.masks, recompute=recompute)
    first, second = (lstm_backward(p.dy, cache, p.dh_n, p.dc_n) for _ in range(2))
    assert first.parameters.keys() == p.parameters.keys()
    for name, gradient in first.parameters.items():
        np.testing.assert_array_equal(gradient, second.parameters[name])
    for name in ("dx", "dh0", "dc0"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    untouched = random_problem(1, **options)
    assert_untouched(p, untouched)
    np.testing.assert_array_equal(p.dy, untouched.dy)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_initial_weights_are_orthogonal_with_open_forget_gates(options):
    config = LSTM(4, 6, **options)
    weights = init_lstm(config, rng=np.random.default_rng(0), forget_bias=1.5)
    assert list(weights) == list(config.parameter_shapes())
    gates = 3 if config.coupled else 4
    for name, weight in weights.items():
        kind, suffix = name.partition("_l")[0], name[name.index("_l") :]
        if kind == "weight_ch":
            assert not weight.any()
        elif kind.startswith("weight"):
            for block in np.split(weight, 1 if kind == "weight_hr" else gates):
                small = block @ block.T if len(block) <= block.shape[1] else block.T @ block
                assert distance(small, np.eye(len(small))) <= K
        elif kind == config.bias_names[0]:
            total = sum(weights[other + suffix] for other in config.bias_names)
            forget, sign = (0, -1) if config.coupled else (1, 1)
            for k, block in enumerate(np.split(total, gates)):
                assert (block == (sign * 1.5 if k == forget else 0)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble, np.complex128])
def test_the_dtype_of_the_parameters_decides_all_arithmetic(dtype):
    model, parameters, sequences = model_and_sequences(dtype)
    batch = pad(sequences)
    outputs, cache = language_model_forward(
        model, parameters, batch.inputs, batch.targets, batch.lengths
    )
    gradients = language_model_backward(1.0, cache)
    arrays = [outputs.losses, outputs.h_n, outputs.logits, gradients.dh0, gradients.dlogits]
    assert {array.dtype for array in (*arrays, *gradients.parameters.values())} == {np.dtype(dtype)}


def test_the_factor_of_the_loss_is_rounded_to_the_dtype_of_the_weights():
    model, parameters, sequences = model_and_sequences(np.float32)
    batch = pad(sequences)
    _, cache = language_model_forward(model, parameters, batch.inputs, batch.targets, batch.lengths)
    exact, rounded = (language_model_backward(d, cache) for d in (1 / 3, float(np.float32(1 / 3))))
    np.testing.assert_array_equal(exact.dlogits, rounded.dlogits)


def test_keeping_every_step_for_inspection_changes_no_gradient():
    p = random_problem(1, model=True, num_layers=3)
    _, cache = language_model_forward(p.config, p.parameters, p.x, p.targets, p.lengths)
    plain, kept = (language_model_backward(1.0, cache, keep_steps=keep) for keep in (False, True))
    for name, gradient in kept.parameters.items():
        np.testing.assert_array_equal(plain.parameters[name], gradient, err_msg=name)


def test_nothing_is_kept_for_inspection_unless_asked_for():
    p = random_problem(1, model=True, num_layers=2)
    _, cache = language_model_forward(p.config, p.parameters, p.x, p.targets)
    gradients = language_model_backward(1.0, cache)
    tokens = {k.removeprefix("lstm."): v for k, v in p.parameters.items() if k.startswith("lstm.")}
    (y, *_), dense = lstm_forward(p.config.lstm, tokens, p.x)
    caches = (cache.lstm, dense.run)
    segments = [s for one in caches for layer in one.layers for s in layer.segments]
    assert [b.a for segment in segments for b in segment.blocks] == [None] * len(segments)
    packed = packed_backward(dense.packing.pack(y), dense.run)
    layers = (*gradients.layers, *packed.layers)
    assert [layer.steps for layer in layers] == [None] * 4
    assert gradients.layers[0].dx is None
    assert packed_backward(cache.head.y, cache.lstm, need_dx=False).dx is None


def test_gradients_of_each_layer_and_direction_are_returned_in_the_order_of_the_states():
    p = random_problem(1, num_layers=2, bidirectional=True)
    _, cache = lstm_forward(p.config, p.parameters, p.x, p.h0, p.c0, p.lengths)
    gradients = lstm_backward(p.dy, cache)
    assert len(gradients.layers) == 4
    for layer, dh0 in zip(gradients.layers, gradients.dh0, strict=True):
        np.testing.assert_array_equal(layer.dh0, dh0[cache.packing.order])


def test_one_sequence_of_integers_without_a_batch_is_a_batch_of_one():
    p = random_problem(2, sizes=(5, 1, 3, 4))
    tokens = np.array([2, 0, 1, 1, 2])
    (y, *_), cache = lstm_forward(p.config, p.parameters, tokens)
    (batched, *_), reference = lstm_forward(p.config, p.parameters, tokens[:, None])
    np.testing.assert_array_equal(y, batched[:, 0])
    dx, expected = lstm_backward(y, cache).dx, lstm_backward(batched, reference).dx
    np.testing.assert_array_equal(dx, expected[:, 0])


def test_integer_input_stands_for_one_hot_vectors():
    problem = random_problem(2, model=True)
    config = problem.config.lstm
    parameters = {
        k.removeprefix("lstm."): v for k, v in problem.parameters.items() if k.startswith("lstm.")
    }
    one_hot = np.eye(config.input_size)[problem.x]
    dy = np.random.default_rng(0).standard_normal((*problem.x.shape, config.hidden_size))
    results = []
    for x in (problem.x, one_hot):
        (y, h_n, c_n), cache = lstm_forward(
            config, parameters, x, problem.h0, problem.c0, problem.lengths
        )
        gradients = lstm_backward(dy, cache, problem.dh_n, problem.dc_n)
        results.append({"y": y, "h_n": h_n, "c_n": c_n, "dx": gradients.dx} | gradients.parameters)
    for name, value in results[0].items():
        assert distance(value, results[1][name]) <= K, name


def test_no_bias_is_a_bias_of_zero():
    problem = random_problem(3)
    config = replace(problem.config, bias=False)
    zero = problem.parameters | {"bias_l0": np.zeros_like(problem.parameters["bias_l0"])}
    bare = {name: p for name, p in problem.parameters.items() if "bias" not in name}
    (y, *_), cache = lstm_forward(config, bare, problem.x)
    (expected, *_), reference = lstm_forward(problem.config, zero, problem.x)
    np.testing.assert_array_equal(y, expected)
    gradients, expected = (lstm_backward(problem.dy, c).parameters for c in (cache, reference))
    assert gradients.keys() == bare.keys()
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(gradient, expected[name])


def test_state_carried_over_a_cut_is_the_uncut_run():
    model, parameters, _ = model_and_sequences()
    tokens = np.random.default_rng(1).integers(0, 6, (10, 3))
    whole = predict(model, parameters, tokens)
    first, _ = language_model_forward(model, parameters, tokens[:4], tokens[:4])
    second = predict(model, parameters, tokens[4:], state=(first.h_n, first.c_n))
    np.testing.assert_array_equal(second.logits, whole.logits[4 * 3 :])


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
    "backward without targets": (
        lambda: language_model_backward(
            1.0,
            predict(
                LanguageModel(5, 8),
                random_parameters(
                    LanguageModel(5, 8).parameter_shapes(), np.random.default_rng(0), float
                ),
                np.zeros((3, 2), int),
            ),
        ),
        "cache: expected that of language_model_forward, with targets",
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
        lambda: LSTM(3, 4, variant="coupled_gates"),
        "coupled: expected True or False, got 1",
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
