"""What changes nothing: batching, padding, one-hot or integers, a bias of zero, a cut sequence."""

from dataclasses import replace

import numpy as np
import pytest

from numpy_lstm.language_model import (
    language_model_backward,
    language_model_forward,
    predict,
)
from numpy_lstm.lstm import lstm_backward, lstm_forward
from numpy_lstm.roundoff import K, distance
from numpy_lstm.training.batching import pad
from parity_tests.support.problems import (
    random_language_model,
    random_problem,
)


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
    model, parameters, sequences = random_language_model()
    loss, gradients = loss_and_gradients(model, parameters, [pad(sequences)])
    batches = [pad([sequences[k] for k in part]) for part in partition]
    other_loss, other = loss_and_gradients(model, parameters, batches)
    assert abs(other_loss - loss) <= 1e-12 * loss
    for name, gradient in gradients.items():
        largest = np.abs(gradient).max()
        assert np.abs(other[name] - gradient).max() <= 1e-12 * largest, name


@pytest.mark.parametrize("filler", [0, 5, -7])
def test_loss_and_gradients_do_not_depend_on_padding_whatever_it_holds(filler):
    model, parameters, sequences = random_language_model()
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
    model, parameters, _ = random_language_model()
    tokens = np.random.default_rng(1).integers(0, 6, (10, 3))
    whole = predict(model, parameters, tokens)
    first, _ = language_model_forward(model, parameters, tokens[:4], tokens[:4])
    second = predict(model, parameters, tokens[4:], state=(first.h_n, first.c_n))
    np.testing.assert_array_equal(second.logits, whole.logits[4 * 3 :])
