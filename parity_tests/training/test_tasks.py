"""Vocabulary, batches, the counting language and text streams."""

import math
from collections import Counter

import numpy as np
import pytest

from numpy_lstm.errors import InputError, check_choice
from numpy_lstm.fast.packing import make_packing
from numpy_lstm.training.batching import batches, pad, stream_batches
from numpy_lstm.training.experiment import CountingExperiment
from numpy_lstm.training.loop import Validation, train
from numpy_lstm.training.optimizers import Schedule
from numpy_lstm.training.sampling import generate
from numpy_lstm.training.tasks.counting import CountingTask, counting_sequence, longest_solved
from numpy_lstm.training.tasks.text import TextTask, read_text
from numpy_lstm.training.vocabulary import UNK, Vocabulary


def test_vocabulary_orders_by_frequency_with_unk_last_and_maps_both_ways():
    vocabulary = Vocabulary.from_sequences([["b", "b", "c"], ["b", "a", "c"]])
    assert vocabulary.tokens == ("b", "c", "a", UNK)
    assert vocabulary.encode(["a", "b", "?", "c"]).tolist() == [2, 0, 3, 1]
    assert vocabulary.decode([2, 0, 3, 1]) == ["a", "b", UNK, "c"]
    assert vocabulary.unknown("abxyxc") == ["x", "y"]
    assert len(vocabulary) == 4


def test_splits_are_80_10_10_and_every_sequence_is_in_exactly_one():
    task = CountingTask(num_sequences=137, seed=5)
    splits = [task.split(name) for name in ("train", "validation", "test")]
    assert [len(split) for split in splits] == [109, 14, 14]
    np.testing.assert_array_equal(np.concatenate(splits), task.lengths)
    assert task.vocabulary.tokens == ("a", "b", "EOS", UNK)


def test_n_is_uniform_on_the_range_and_the_seed_decides():
    task = CountingTask(num_sequences=11000, n_min=1, n_max=11, seed=1)
    counts = Counter(task.lengths.tolist())
    assert sorted(counts) == list(range(1, 12))
    # Each count is binomial (11000, 1/11): standard deviation 30.2; six of them.
    assert max(abs(count - 1000) for count in counts.values()) < 6 * 30.2
    same, other = CountingTask(11000, seed=1), CountingTask(11000, seed=2)
    np.testing.assert_array_equal(task.lengths, same.lengths)
    assert (task.lengths != other.lengths).any()


def test_inputs_drop_the_last_token_and_targets_the_first():
    task = CountingTask(num_sequences=10)
    (batch,) = [pad(task.encoded([2, 1]))]
    decoded = [task.vocabulary.decode(column) for column in batch.inputs.T]
    assert decoded[0] == ["a", "a", "b", "b"]
    assert decoded[1][:2] == ["a", "b"]
    assert task.vocabulary.decode(batch.targets[:, 0]) == ["a", "b", "b", "EOS"]
    assert task.vocabulary.decode(batch.targets[:2, 1]) == ["b", "EOS"]
    assert batch.lengths.tolist() == [4, 2]
    assert batch.tokens == 6


def test_an_epoch_has_every_training_sequence_once_and_each_epoch_another_order():
    task = CountingTask(num_sequences=100, batch_size=32, seed=3)
    orders = []
    for epoch in (0, 1, 1):
        epoch_batches = task.training_batches(epoch)
        assert [len(batch.lengths) for batch in epoch_batches] == [32, 32, 16]
        orders.append(np.concatenate([batch.lengths for batch in epoch_batches]) // 2)
        assert Counter(orders[-1].tolist()) == Counter(task.split("train").tolist())
    assert (orders[0] != orders[1]).any()
    np.testing.assert_array_equal(orders[1], orders[2])


def true_loss(task, ns):
    """Nats per token of the true distribution, by the chain rule over next tokens."""
    total = 0.0
    for n in ns:
        for k in range(1, n + 1):  # after a^k: another a if n > k
            left = task.n_max - max(k, task.n_min) + 1
            if k >= task.n_min:
                total -= math.log((left - 1) / left if n > k else 1 / left)
    return total / sum(2 * n for n in ns)


@pytest.mark.parametrize(("n_min", "n_max"), [(1, 11), (3, 7), (4, 4)])
def test_the_floor_is_the_loss_of_the_true_distribution(n_min, n_max):
    task = CountingTask(num_sequences=50, n_min=n_min, n_max=n_max)
    assert task.language_floor == pytest.approx(
        math.log(n_max - n_min + 1) / (n_min + n_max), abs=1e-15
    )
    assert task.floor == pytest.approx(true_loss(task, task.split("validation")), abs=1e-14)


def test_the_documented_floor_is_0_199825():
    assert round(CountingTask().language_floor, 6) == 0.199825


def test_streams_are_contiguous_continue_and_never_wrap():
    tokens = np.arange(23)
    stream = stream_batches(tokens, 3, 3)
    inputs = np.concatenate([batch.inputs for batch in stream])
    np.testing.assert_array_equal(inputs.T, np.arange(21).reshape(3, 7))
    for batch in stream:
        np.testing.assert_array_equal(batch.targets, batch.inputs + 1)
    assert [batch.continues for batch in stream] == [False, True, True]
    assert [batch.lengths.tolist() for batch in stream] == [[3] * 3, [3] * 3, [1] * 3]


def test_text_validation_is_the_last_tenth_and_its_unseen_characters_are_unk():
    text = "abab" * 25 + "abcdabcdab" + "b"
    task = TextTask(text, streams=2, steps=5)
    train_part, validation = text[: len(text) * 9 // 10], text[len(text) * 9 // 10 :]
    assert set(train_part) == {"a", "b"}
    assert task.vocabulary.tokens == ("a", "b", UNK)
    (batch,) = task.validation_batches()
    read = [*batch.inputs[:, 0].tolist(), int(batch.targets[-1, 0])]
    decoded = task.vocabulary.decode(read)
    assert decoded == [c if c in "ab" else UNK for c in validation]


def test_packing_round_trip_reversal_and_cuts():
    lengths = np.array([2, 4, 1, 4, 3])
    padded = np.arange(5 * 5).reshape(5, 5) + 1
    packing = make_packing(5, 5, lengths)
    assert packing.batch_sizes == (5, 4, 3, 2)
    beyond = np.arange(5)[:, None] >= lengths
    np.testing.assert_array_equal(packing.unpack(packing.pack(padded)), np.where(beyond, 0, padded))
    mirrored = packing.unpack(packing.pack(padded)[packing.reversal])
    for n, length in enumerate(lengths):
        np.testing.assert_array_equal(mirrored[:length, n], padded[:length, n][::-1])
    assert list(packing.segments(9)) == [range(0, 2), range(2, 4)]
    assert list(packing.segments(1)) == [range(t, t + 1) for t in range(4)]
    assert list(packing.blocks(range(4), 100)) == [range(t, t + 1) for t in range(4)]
    full = make_packing(5, 3, np.full(3, 5))
    assert list(full.segments(7)) == [range(0, 2), range(2, 4), range(4, 5)]
    assert list(full.blocks(range(1, 5), 9)) == [range(1, 4), range(4, 5)]
    assert [full.alive_after(range(2, 4)), full.alive_after(range(2, 5))] == [3, 0]


@pytest.fixture(scope="module")
def trained():
    """A small model that has learnt to count a little."""
    experiment = CountingExperiment(hidden_size=20, n_max=5, num_sequences=200, epochs=60)
    task = experiment.task()
    model = experiment.model(len(task.vocabulary))
    *_, last = train(model, experiment.parameters(model), task, experiment.recipe)
    assert isinstance(last, Validation)
    return task, model, last


def test_training_reaches_the_floor(trained):
    task, _, last = trained
    assert abs(last.loss - task.floor) < 0.02


def test_longest_solved_is_what_greedy_generation_continues_rightly(trained):
    task, model, last = trained

    def solved(n):
        prompt = task.vocabulary.encode([*"a" * n, "b"])
        tokens = generate(model, last.parameters, prompt, temperature=0.0)
        continuation = task.vocabulary.decode([next(tokens) for _ in range(n)])
        return continuation == [*"b" * (n - 1), "EOS"]

    longest = next(n for n in range(50) if not solved(n + 1))
    assert longest >= 5
    assert longest_solved(model, last.parameters, task.vocabulary, 50) == longest
    assert longest_solved(model, last.parameters, task.vocabulary, 3) == 3


def test_sampling_is_seeded_and_follows_the_distribution(trained):
    task, model, last = trained
    prompt = task.vocabulary.encode(["a"])

    def draw(seed, temperature=1.0):
        rng = np.random.default_rng(seed)
        return next(generate(model, last.parameters, prompt, temperature=temperature, rng=rng))

    draws = [draw(seed) for seed in range(400)]
    assert draws == [draw(seed) for seed in range(400)]
    # After one a the next is b with probability 1/5: standard deviation 8 in 400.
    b = task.vocabulary.encode(["b"])[0]
    assert abs(draws.count(b) - 80) < 5 * 8
    assert {draw(seed, 0.01) for seed in range(20)} == {task.vocabulary.encode(["a"])[0]}


def test_the_smallest_temperature_is_greedy(trained):
    task, model, last = trained
    prompt = task.vocabulary.encode(["a"])
    rng = np.random.default_rng(0)
    cold = generate(model, last.parameters, prompt, temperature=1e-310, rng=rng)
    greedy = generate(model, last.parameters, prompt, temperature=0.0)
    assert [next(cold) for _ in range(12)] == [next(greedy) for _ in range(12)]


def test_longest_solved_begins_at_n_min():
    experiment = CountingExperiment(hidden_size=20, n_min=3, n_max=5, num_sequences=200, epochs=60)
    task = experiment.task()
    model = experiment.model(len(task.vocabulary))
    *_, last = train(model, experiment.parameters(model), task, experiment.recipe)
    assert isinstance(last, Validation)
    assert longest_solved(model, last.parameters, task.vocabulary, 50, n_min=3) >= 5


REFUSALS = {
    "unknown schedule": (
        lambda: check_choice("schedule", "linear", Schedule),
        "schedule: expected one of ['constant', 'cosine'], got 'linear'",
    ),
    "n range reversed": (
        lambda: CountingTask(n_min=5, n_max=3),
        "n range: expected n_min <= n_max, got 5 to 3; swap them",
    ),
    "n_min 0": (
        lambda: CountingTask(n_min=0),
        "n_min: expected an integer of at least 1, got 0",
    ),
    "too few sequences": (
        lambda: CountingTask(num_sequences=9),
        "num_sequences: expected at least 10, so that no split of 80/10/10 is empty, got 9",
    ),
    "batch size 0": (
        lambda: batches([np.arange(3)], 0, rng=np.random.default_rng(0)),
        "batch_size: expected an integer of at least 1, got 0",
    ),
    "empty vocabulary": (
        lambda: Vocabulary.from_sequences([]),
        "vocabulary: expected a token besides UNK, got none",
    ),
    "UNK in the data": (
        lambda: Vocabulary.from_sequences([["a", "UNK"]]),
        "vocabulary: expected 'UNK' once and last, got it elsewhere; rename that token in the data",
    ),
    "token twice": (
        lambda: Vocabulary(("a", "b", "a", "UNK")),
        "vocabulary: expected distinct tokens, got ['a'] more than once",
    ),
    "empty text": (
        lambda: TextTask(""),
        "text: expected characters, got an empty text",
    ),
    "one-character text": (
        lambda: TextTask("a", streams=1),
        "text: expected more than 1 characters for training in 1 streams and at least 2 for"
        " validation, got 0 and 1; give a longer text or fewer streams",
    ),
    "no sequence": (
        lambda: pad([]),
        "batch: expected at least one sequence, got none",
    ),
    "sequence of one token": (
        lambda: pad([np.arange(3), np.arange(1)]),
        "sequence [1]: expected at least two tokens (an input and its target)",
    ),
    "negative seed": (
        lambda: CountingTask(seed=-1),
        "seed: expected an integer of at least 0, got -1",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_used_is_refused_in_one_exact_sentence(case):
    call, message = REFUSALS[case]
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value) == message


def test_a_file_that_is_not_utf8_is_refused_with_the_place(tmp_path):
    path = tmp_path / "latin1.txt"
    path.write_bytes("caf\u00e9 au lait".encode("latin-1"))
    with pytest.raises(InputError) as caught:
        read_text(path)
    assert str(caught.value) == (
        f"{path}: expected UTF-8 text, got byte 0xe9 at offset 3; convert the file to UTF-8"
    )


def test_counting_sequence():
    assert counting_sequence(2) == ["a", "a", "b", "b", "EOS"]
