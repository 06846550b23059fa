"""Every layout there and back, bit for bit or refused by name; and what objects to wrong ones."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from numpy_lstm.errors import InputError
from numpy_lstm.lstm import LSTM
from numpy_lstm.porting.layouts.all_frameworks import ROWS, TABLE
from numpy_lstm.porting.layouts.arrangement import to_canonical, to_layout
from numpy_lstm.porting.layouts.canonical import CanonicalLSTM, RuntimeFacts, digest
from numpy_lstm.porting.layouts.fitting import fit_to_layout
from numpy_lstm.porting.layouts.layout import Tensor
from numpy_lstm.porting.layouts.named_activations import activation
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM
from numpy_lstm.porting.proof.proof import OUTPUT_NAMES, RandomInputs, prove, run_canonical, verdict
from numpy_lstm.porting.proof.run_as_placed import moves_of_twins, run_as_placed
from numpy_lstm.roundoff import K, distance
from parity_tests.campaigns.porting_mutants import FLOAT64, equivalent, killed
from parity_tests.campaigns.porting_samples import there_and_back, went_to_every_layout
from parity_tests.campaigns.wrong_readings import Mutant, mutants
from parity_tests.support.conformance import FOLDER, load_vector, vector_of
from parity_tests.support.problems import random_parameters
from parity_tests.support.random_lstms import rich_model

pytestmark = pytest.mark.usefixtures("without_type_checks")

PAIR_SEEDS = 1
"""LSTMs of each layout; the campaign `porting_samples` takes 4."""
VECTORS = sorted(FOLDER.glob("*.safetensors"))


def model(dtype=np.float32, seed=0, facts=None, **options) -> CanonicalLSTM:
    config = LSTM(3, 5, **options)
    parameters = random_parameters(config.parameter_shapes(), np.random.default_rng(seed), dtype)
    return CanonicalLSTM(config, parameters, facts or RuntimeFacts())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_every_pair_of_layouts_is_byte_identical_there_and_back_or_refused_by_name(row):
    went = went_to_every_layout(row, PAIR_SEEDS)
    assert went.keys() == TABLE.keys()
    assert went[row.key] == PAIR_SEEDS


def test_a_plain_lstm_goes_from_every_layout_to_every_other_but_for_haikus_forget_bias():
    refused = set()
    for row in ROWS:
        plain = model(bias_pair=row.bias_pair, facts=RuntimeFacts(row.fixed_forget_bias))
        for name, bias in plain.parameters.items():
            if name.startswith("bias_hh"):
                bias[...] = 0
        source = to_layout(fit_to_layout(plain, row)[0], row)
        refused |= {(row.key, other.key) for other in ROWS if not there_and_back(source, other)}
    stored = {row.key for row in ROWS if row.forget_bias == "stored" and not row.bias_pair}
    to_haiku = {(key, "haiku") for key in TABLE if key != "haiku"}
    assert refused == to_haiku | {("haiku", key) for key in stored}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_lstms_run_in_their_own_layout_as_lstm_forward_runs_their_canonical_form(row):
    for seed in range(2):
        source = to_layout(fit_to_layout(rich_model(row, seed), row)[0], row)
        if source.facts.activations != ("sigmoid", "tanh", "tanh"):
            continue
        source = replace(source, tensors={n: a.astype(float) for n, a in source.tensors.items()})
        inputs = RandomInputs(seed=seed).draw(to_canonical(source))
        own = run_as_placed(source, *inputs)
        ours = run_canonical(to_canonical(source), *inputs)
        noise = moves_of_twins(source, inputs, own, FLOAT64, seed=5)
        for name, a, b, moves in zip(OUTPUT_NAMES, ours, own, noise, strict=True):
            assert distance(a, b, moves) <= K, (name, seed)


def test_rows_are_distinct_and_give_every_tensor_a_name_of_its_own():
    assert len(ROWS) == len(TABLE) >= 20
    for row in ROWS:
        several = row.prefixes(3) if row.stacked or row.layers_in_names else row.prefixes(1)
        directions = 2 if row.directions else 1
        names = [place.name for place in PlacedLSTM(row, {}, several, directions).places]
        assert len(names) == len(set(names)), row.key
        assert sorted(row.gates) == sorted("ifgo")
        assert sorted(row.peepholes) == sorted("ifo")
        assert row.source


# --- what is lost -----------------------------------------------------------------------------


def refusal(model: CanonicalLSTM, key: str) -> str:
    with pytest.raises(InputError) as caught:
        fit_to_layout(model, TABLE[key])
    return str(caught.value)


def test_what_has_no_place_is_named_all_at_once():
    assert refusal(model(bidirectional=True, proj_size=2), "equinox") == (
        "equinox has no place for: bidirectional (one direction only); proj_size = 2 (no"
        " projection)"
    )
    assert refusal(model(variant="coupled_peephole"), "torch") == (
        "torch has no place for: peephole (no peepholes); coupled (f = 1 - i is unknown)"
    )
    facts = RuntimeFacts(activations=("hard_sigmoid(0.2, 0.5)", "tanh", "tanh"))
    assert refusal(model(facts=facts), "torch") == (
        "torch has no place for: activations = hard_sigmoid(0.2, 0.5), tanh, tanh"
        " (always sigmoid, tanh, tanh)"
    )
    assert refusal(model(bias_pair=True), "keras") == (
        "keras cannot hold everything: bias_hh: the two biases would be summed, which cannot be"
        " undone; allow it with allow_lossy"
    )
    assert refusal(model(bias=False), "chainer") == (
        "chainer cannot hold everything: bias: none would be zeros, which act the same; allow it"
        " with allow_lossy"
    )
    assert refusal(model(facts=RuntimeFacts(forget_bias=1.0)), "keras") == (
        "keras cannot hold everything: forget_bias: 1 would be added to the bias, which rounding"
        " cannot undo; allow it with allow_lossy"
    )
    learned = replace(model(float), initial_h=np.ones((1, 5)), initial_c=np.ones((1, 5)))
    assert refusal(learned, "torch") == (
        "torch cannot hold everything: initial_h, initial_c: learned initial states would be"
        " dropped; allow it with allow_lossy"
    )


@pytest.mark.parametrize("key", ["keras", "torch", "haiku", "tf-basic", "onnx"])
@pytest.mark.parametrize(
    "options", [{"bias_pair": True}, {"bias": False}, {"facts": RuntimeFacts(forget_bias=1.0)}]
)
def test_what_is_given_up_when_allowed_leaves_the_outputs_as_they_were(key, options):
    before = model(**options)
    source = to_layout(*(before, TABLE["torch" if before.config.bias_pair else "tf-basic"]))
    source = replace(source, facts=before.facts)
    after, lost = fit_to_layout(before, TABLE[key], allow_lossy=True)
    assert all("were" in s or "was" in s for s in lost) or "none" in lost[0]
    assert prove(source, to_layout(after, TABLE[key])).passed


def test_a_forget_bias_of_run_time_goes_into_a_second_bias_and_comes_back_bit_for_bit():
    source = to_layout(model(facts=RuntimeFacts(forget_bias=1.0)), TABLE["tf-basic"])
    there, lost = fit_to_layout(to_canonical(source), TABLE["torch"])
    assert lost == []
    expected = np.zeros(20, np.float32)
    expected[5:10] = 1
    np.testing.assert_array_equal(there.parameters["bias_hh_l0"], expected)
    back, _ = fit_to_layout(there, TABLE["tf-basic"])
    assert back.facts.forget_bias == 1.0
    assert digest(to_layout(back, TABLE["tf-basic"]).tensors) == digest(source.tensors)


def test_a_second_bias_of_negative_zeros_is_not_taken_for_nothing():
    m = model(bias_pair=True)
    m.parameters["bias_hh_l0"][...] = -0.0
    assert "bias_hh" in refusal(m, "keras")
    m.parameters["bias_hh_l0"][...] = 0.0
    assert fit_to_layout(m, TABLE["keras"])[1] == []


def test_activations_are_named_with_their_numbers():
    a = np.array([-4.0, -0.5, 0.0, 0.5, 4.0])
    np.testing.assert_array_equal(activation("hard_sigmoid(0.2, 0.5)")(a), [0, 0.4, 0.5, 0.6, 1])
    np.testing.assert_array_equal(activation("scaled_tanh(2, 3)")(a), 2 * np.tanh(3 * a))
    for wrong in ("gelu", "hard_sigmoid", "hard_sigmoid(1)", "tanh(2)", "", "hard_sigmoid(a, b)"):
        with pytest.raises(InputError, match="activation: expected one of sigmoid, tanh"):
            activation(wrong)


def test_scrambled_memory_is_only_known_for_input_by_gate_and_unit():
    with pytest.raises(ValueError, match="scrambled: expected axes such as"):
        Tensor("W_ih", "kernel", "(g u) i", scrambled=True)


# --- vectors and mutants ------------------------------------------------------------------------


def test_there_is_a_vector_for_every_layout_and_it_is_what_its_generator_writes(tmp_path):
    assert {path.stem for path in VECTORS} == set(TABLE)
    for row in ROWS:
        ((path, data),) = vector_of(row).items()
        fresh = tmp_path / path.name
        fresh.write_bytes(data)
        (made, given, _), (shipped, inputs, _) = load_vector(fresh), load_vector(path)
        assert digest(made.tensors) == digest(shipped.tensors), row.key
        assert (made.prefixes, made.facts) == (shipped.prefixes, shipped.facts)
        assert all(map(np.array_equal, given, inputs))


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_every_layout_gives_its_vectors_outputs(path):
    lstm, inputs, outputs = load_vector(path)
    noise = moves_of_twins(lstm, inputs, outputs, FLOAT64, seed=5)
    for got in (run_as_placed(lstm, *inputs), run_canonical(to_canonical(lstm), *inputs)):
        for name, a, b, moves in zip(OUTPUT_NAMES, got, outputs, noise, strict=True):
            assert distance(a, b, moves) <= K, name


def test_every_porting_mutant_is_killed_or_reads_the_very_same_weights():
    """As a command, since checks of types at run time would take most of the time here."""
    command = [sys.executable, "-m", "parity_tests.campaigns.porting_mutants"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER.parents[1])
    assert result.returncode == 0, result.stdout
    dead, active, same = map(int, re.findall(r"\d+", result.stdout.splitlines()[-1])[:3])
    assert dead == active >= 300
    # The two biases of a pair may be swapped, in every row that has them apart.
    assert same == sum(row.holds("b_ih") for row in ROWS)


def test_a_vector_with_zero_states_and_one_step_would_let_mutants_live():
    """So the inputs matter: this is the test that the campaign can fail."""
    lstm, (x, h0, c0), _ = load_vector(FOLDER / "torch.safetensors")
    inputs = (x[:1], np.zeros_like(h0), np.zeros_like(c0))
    outputs = run_as_placed(lstm, *inputs)
    noise = moves_of_twins(lstm, inputs, outputs, FLOAT64, seed=5)
    alive = [
        mutant
        for mutant in mutants(lstm, inputs)
        if not killed(mutant, outputs, noise) and not equivalent(mutant, lstm, inputs)
    ]
    assert {"gate order of U", "interleaving"} <= {mutant.kind for mutant in alive}


def test_equivalence_is_decided_by_weights_and_not_by_outputs():
    lstm, inputs, _ = load_vector(FOLDER / "torch.safetensors")
    assert equivalent(Mutant("", "", lstm, inputs), lstm, inputs)
    moved = {n: np.nextafter(a, 9) if "hh" in n else a for n, a in lstm.tensors.items()}
    near = Mutant("", "", replace(lstm, tensors=moved), inputs)
    assert not equivalent(near, lstm, inputs)


def test_weights_that_overflow_or_cancel_prove_nothing():
    """They would pass any comparison, since any outputs are as good as any others."""
    lstm = to_layout(model(np.float64), TABLE["equinox"])
    tensors = {n: np.sign(a) * 1.7e308 for n, a in lstm.tensors.items()}
    large = replace(lstm, tensors=tensors)
    proof = prove(large, large)
    assert not proof.passed
    assert verdict(proof) == "these weights overflow, so that no outputs can be compared"
    lstm = to_layout(model(bias_pair=True), TABLE["torch"])
    cancelling = dict(lstm.tensors)
    cancelling["bias_ih_l0"] = cancelling["bias_ih_l0"] + np.float32(1e8)
    cancelling["bias_hh_l0"] = cancelling["bias_hh_l0"] - np.float32(1e8)
    proof = prove(*[replace(lstm, tensors=cancelling)] * 2)
    assert not proof.passed
    assert "these weights leave too few digits to tell: an error of" in verdict(proof)


def test_the_digest_of_a_record_is_the_one_that_the_first_records_have():
    """Written by the first version that wrote records, of the vector of PyTorch's layout."""
    lstm, _, _ = load_vector(FOLDER / "torch.safetensors")
    assert to_canonical(lstm).digest() == (
        "6e301fcafd00bf8eb5d5dd6a0df9dcf6741625850d0d39f5512ca28c3bf717c6"
    )
