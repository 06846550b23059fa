"""Training code is judged stage by stage, and what is wrong with it is named."""

import json
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from numpy_lstm.errors import InputError
from numpy_lstm.roundoff import K
from numpy_lstm.training import optimizers
from numpy_lstm.training.clipping import global_norm
from numpy_lstm.training.optimizers import SGD, Adam
from parity_tests.campaigns.training_faults import (
    faulty_adapter,
    outcome,
    telling_cases,
)
from parity_tests.support.planting import planted
from torch_oracle.commands.training import Training
from torch_oracle.diagnosis.faults.catalogue import TRAINING_FAULTS
from torch_oracle.diagnosis.faults.fault import faulty
from torch_oracle.training.adapter import QUANTITIES, numpy_training, replay
from torch_oracle.training.cases import training_cases
from torch_oracle.training.diagnosis import NAMING, diagnose_training, report_distances
from torch_oracle.training.stages import judge_training

pytestmark = pytest.mark.usefixtures("without_type_checks")

BY_ID = {fault.id: fault for fault in TRAINING_FAULTS}
CASES = {case.name: case for case in training_cases()}
RIGHT = faulty_adapter([])


def test_clipping_is_active_in_some_steps_and_not_in_others():
    for case in training_cases():
        if case.recipe.max_norm is None:
            continue
        norms = []
        for report in numpy_training(case.weights, case.batches, case.recipe):
            each = [np.linalg.norm(g) for g in report["gradients"].values()]
            per_tensor = case.recipe.clipping == "per_tensor"
            norms += each if per_tensor else [global_norm(report["gradients"])]
        assert norms[0] > case.recipe.max_norm or per_tensor
        always = case.name == "momentum-float32"
        assert (min(norms) > case.recipe.max_norm) == always
        assert max(norms) > case.recipe.max_norm


@pytest.mark.parametrize(
    ("quantities", "unjudged"),
    [
        (QUANTITIES, set()),
        (("loss", "weights"), {"gradient", "clip", "moment"}),
        (("gradients", "weights"), {"loss", "clip", "moment"}),
        (("clipped", "weights"), {"state", "loss", "gradient", "moment"}),
        (("weights",), {"state", "loss", "gradient", "clip", "moment"}),
    ],
    ids=lambda value: "-".join(sorted(value)),
)
def test_our_own_training_passes_however_much_of_it_is_reported(quantities, unjudged):
    judgement = judge_training(faulty_adapter([], quantities))
    assert judgement.passed, judgement.first
    for case in judgement.cases:
        assert max(case.distances.values()) <= K
        absent = {"clip"} if CASES[case.case].recipe.max_norm is None else set()
        absent |= {"moment"} if case.case == "sgd" else set()
        assert set(case.unjudged) == unjudged - absent


class TorchTraining(nn.Module):
    """A training program as torch's users write it."""

    def __init__(self, weights, *, zero_grad=True, clip_first=True, ignore_padding=True):
        super().__init__()
        V, H = weights["projection.weight"].shape
        self.zero_grad_first, self.clip_first = zero_grad, clip_first
        self.ignore_padding = ignore_padding
        layers = sum(name.startswith("lstm.weight_hh") for name in weights)
        dtype = torch.from_numpy(weights["projection.weight"]).dtype
        self.lstm = nn.LSTM(V, H, layers, dtype=dtype)
        self.projection = nn.Linear(H, V, dtype=dtype)
        self.own = {}
        for name in weights:
            theirs = name.replace("lstm.bias_l", "lstm.bias_ih_l")
            self.own[name] = self.get_parameter(theirs)
            if theirs != name:
                silent = self.get_parameter(name.replace("lstm.bias_l", "lstm.bias_hh_l"))
                nn.init.zeros_(silent).requires_grad_(False)
            self.own[name].data.copy_(torch.from_numpy(weights[name]))

    def optimizer(self, recipe):
        o, parameters = recipe.optimizer, list(self.own.values())
        if isinstance(o, SGD):
            return torch.optim.SGD(parameters, o.lr, o.momentum, weight_decay=o.weight_decay)
        kind = torch.optim.Adam if isinstance(o, Adam) else torch.optim.AdamW
        return kind(parameters, o.lr, o.betas, o.eps, weight_decay=o.weight_decay)

    def mean_loss(self, batch, state):
        lengths, T = torch.from_numpy(batch.lengths), len(batch.inputs)
        x = functional.one_hot(torch.from_numpy(batch.inputs), self.projection.out_features)
        y, state = self.lstm(x.to(self.projection.weight.dtype), state)
        targets = torch.from_numpy(batch.targets.copy())
        if self.ignore_padding:
            targets[torch.arange(T)[:, None] >= lengths] = -100
        logits = self.projection(y).flatten(0, 1)
        return functional.cross_entropy(logits, targets.flatten()), state

    def clip(self, recipe):
        parameters = list(self.own.values())
        groups = [parameters] if recipe.clipping == "global" else [[p] for p in parameters]
        for group in groups if recipe.max_norm is not None else []:
            nn.utils.clip_grad_norm_(group, recipe.max_norm)

    def train_on(self, batches, recipe):
        optimizer, state, schedule = self.optimizer(recipe), None, None
        if recipe.schedule == "cosine":
            kind = torch.optim.lr_scheduler.CosineAnnealingLR
            schedule = kind(optimizer, len(batches) - 1, recipe.optimizer.lr / 10)
        for batch in batches:
            if self.zero_grad_first:
                optimizer.zero_grad()
            state = tuple(s.detach() for s in state) if batch.continues else None
            loss, state = self.mean_loss(batch, state)
            tokens = recipe.divisor == "tokens"
            (loss if tokens else loss * batch.tokens / len(batch.lengths)).backward()
            gradients = self.copies(lambda p: p.grad)
            if self.clip_first:
                self.clip(recipe)
            clipped = self.copies(lambda p: p.grad)
            optimizer.step()
            if not self.clip_first:
                self.clip(recipe)
            if schedule is not None:
                schedule.step()
            report = {"loss": loss.item(), "gradients": gradients, "clipped": clipped}
            yield report | {"weights": self.copies(lambda p: p)}

    def copies(self, of):
        return {name: of(p).detach().numpy().copy() for name, p in self.own.items()}


def torch_adapter(**slips):
    def adapter(weights, batches, recipe):
        return list(TorchTraining(weights, **slips).train_on(batches, recipe))

    return adapter


def test_a_training_program_in_torch_passes():
    diagnosis = diagnose_training(torch_adapter())
    assert diagnosis.status == "correct", diagnosis.judgement.first


@pytest.mark.parametrize(
    ("slip", "id"),
    [
        ("zero_grad", "gradients-not-zeroed"),
        ("clip_first", "clip-never"),
        ("ignore_padding", "padding-counted-as-tokens"),
    ],
)
def test_slips_of_a_training_program_in_torch_are_named(slip, id):
    cases = [case for case in training_cases() if case.recipe.divisor == "tokens"]
    diagnosis = diagnose_training(torch_adapter(**{slip: False}), cases=cases)
    assert [finding.fault.id for finding in diagnosis.findings] == [id], diagnosis
    assert diagnosis.distance <= NAMING < diagnosis.findings[0].without


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("fault", TRAINING_FAULTS[::4], ids=lambda fault: fault.id)
def test_a_training_fault_is_caught_at_its_stage_and_named(fault):
    """One in four; all of them, in all cases and in pairs, in the campaign."""
    seen = outcome(fault, "everything", telling_cases(fault))
    assert seen.active
    assert seen.caught
    assert seen.stage, seen.diagnosis.judgement.first
    assert seen.named, seen.diagnosis


@pytest.mark.proof
def test_the_campaign_names_every_training_fault():
    """It exits with 1 where less than the claim holds."""
    command = [sys.executable, "-m", "parity_tests.campaigns.training_faults"]
    command += ["--levels", "everything", "--few-cases", "--pairs", "1"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert run.returncode == 0, run.stdout + run.stderr
    n = len(TRAINING_FAULTS)
    counts = f"{n} faults, {n} active, {n} caught, {n} right stage, {n} named"
    assert counts in " ".join(run.stdout.split())


@pytest.mark.parametrize("id", ["clip-never", "adam-eps-1e-7", "loss-of-the-sum"])
def test_from_weights_alone_an_active_training_fault_is_caught_and_named(id):
    """All of them in the campaign."""
    seen = outcome(BY_ID[id], "weights", telling_cases(BY_ID[id]))
    if not seen.active:
        assert not seen.caught
        assert BY_ID[id] in seen.diagnosis.inactive
        return
    assert seen.caught
    assert seen.stage, seen.diagnosis.judgement.first
    assert seen.named


def test_of_weights_alone_five_faults_leave_no_trace():
    diagnosis = diagnose_training(faulty_adapter([], ("weights",)))
    assert {fault.id for fault in diagnosis.inactive} == SILENT


def test_an_inactive_fault_is_not_taken_for_an_error():
    fault = BY_ID["decay-not-times-lr"]
    diagnosis = diagnose_training(faulty_adapter([fault]), cases=[CASES["sgd"]])
    assert diagnosis.status == "correct"
    assert fault in diagnosis.inactive
    assert diagnosis.to_json()["inactive"][fault.id] == "AdamW; weight decay above zero"


SILENT = {
    "loss-divided-by-padded-tokens",
    "loss-per-sequence",
    "loss-per-T-twice",
    "loss-of-the-sum",
    "adam-beta2-rounded-to-float32",
}
"""They move no weight: the first four report a wrong loss; the last moves less than a roundoff."""


def replays(faults, cases):
    """For each fault the reports of these cases, from the positions of our own training."""
    correct = {
        case: list(replay(case.model, case.weights, case.batches, case.recipe)) for case in cases
    }
    runs = {}
    for fault in faults:
        with faulty([fault]), np.errstate(all="ignore"):
            runs[fault.id] = [
                step
                for case, reports in correct.items()
                for step in replay(case.model, case.weights, case.batches, case.recipe, reports)
            ]
    return runs


@pytest.mark.parametrize("name", sorted({fault.case for fault in TRAINING_FAULTS}))
def test_faults_that_are_shown_by_one_case_differ(name):
    """By far more than naming allows, in that case or in two more; `make proof` has all."""
    cases = [CASES[each] for each in dict.fromkeys((name, "momentum", "momentum-float32"))]
    faults = [fault for fault in TRAINING_FAULTS if fault.case == name]
    for (a, run), (b, other) in combinations(replays(faults, cases).items(), 2):
        steps = zip(run, other, strict=True)
        assert max(max(report_distances(x, y).values()) for x, y in steps) > 1e6 * NAMING, (a, b)


@pytest.mark.proof
def test_different_faults_differ_by_far_more_than_naming_allows():
    """But from weights alone, clipping after the update is no clipping."""
    for (a, run), (b, other) in combinations(replays(TRAINING_FAULTS, CASES.values()).items(), 2):
        apart = [0.0, 0.0]
        for x, y in zip(run, other, strict=True):
            far = report_distances(x, y)
            apart = [max(apart[0], *far.values()), max(apart[1], far["weights"])]
            if min(apart) > 1e6 * NAMING:
                break
        assert apart[0] > 1e6 * NAMING, (a, b)
        alike = {a, b} <= SILENT or {a, b} == {"clip-never", "clip-after-the-update"}
        assert (apart[1] < NAMING) == alike, (a, b)
        assert alike or apart[1] > 1e6 * NAMING, (a, b)


def test_what_no_fault_explains_is_unknown():
    def adapter(weights, batches, recipe):
        with planted(optimizers.learning_rate, "return lr\n", "return 1.01 * lr\n"):
            return RIGHT(weights, batches, recipe)

    diagnosis = diagnose_training(adapter, cases=[CASES["sgd"], CASES["adam"]])
    assert diagnosis.status == "unknown"
    assert not diagnosis.findings
    assert diagnosis.judgement.first.stage == "update"
    assert "step 0: update" in str(diagnosis.judgement.first)


def test_without_gradients_the_stages_that_remain_possible_are_said():
    fault = BY_ID["clip-never"]
    first = judge_training(faulty_adapter([fault], ("loss", "weights"))).first
    assert first.stage == "update"
    assert first.possible == ("gradient", "clip", "update")
    assert "sgd: step 0: update (not reported, and possible too: gradient, clip)" in str(first)
    first = judge_training(faulty_adapter([fault], ("weights",)), cases=[CASES["adam"]]).first
    assert first.possible == ("state", "gradient", "clip", "moment", "update")


def test_the_first_wrong_stage_is_named_however_many_are_wrong():
    ids = ("adam-eps-1e-7", "clip-never", "step-of-the-sum")
    faults = [BY_ID[id] for id in ids]
    first = judge_training(faulty_adapter(faults), cases=[CASES["adam"]]).first
    assert (first.stage, first.step) == ("gradient", 0)
    first = judge_training(faulty_adapter(faults[:2]), cases=[CASES["adam"]]).first
    assert (first.stage, first.step) == ("clip", 0)


def test_what_is_not_finite_is_a_divergence():
    def adapter(weights, batches, recipe):
        reports = RIGHT(weights, batches, recipe)
        reports[2]["weights"]["projection.bias"][1] = np.nan
        return reports

    diagnosis = diagnose_training(adapter, cases=[CASES["sgd"]])
    first = diagnosis.judgement.first
    assert (first.step, first.stage, first.tensor, first.index) == (
        2,
        "update",
        "projection.bias",
        (1,),
    )
    assert diagnosis.status == "unknown"
    json.dumps(diagnosis.to_json(), allow_nan=False)


def test_a_diagnosis_becomes_json():
    fault = BY_ID["sequences-averaged-for-tokens"]
    case = CASES[fault.case]
    written = json.loads(
        json.dumps(diagnose_training(faulty_adapter([fault]), cases=[case]).to_json())
    )
    assert written["status"] == "explained"
    assert written["findings"][0]["fault"] == fault.id
    assert written["findings"][0]["seen"] == "facebookresearch/ParlAI issue 623"
    assert written["judgement"]["cases"][0]["first"]["stage"] == "loss"


def nothing(weights, batches):
    return []


def raising(weights, batches, recipe):
    raise KeyError("gamma")


def empty(weights, batches, recipe):
    return []


def misspelt(weights, batches, recipe):
    return [{"weight": weights} for _ in batches]


def loss_alone(weights, batches, recipe):
    return [{"loss": 1.0} for _ in batches]


def transposed(weights, batches, recipe):
    return [{"weights": {name: array.T for name, array in weights.items()}} for _ in batches]


def shared(weights, batches, recipe):
    return [{"weights": weights} for _ in batches]


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (
            nothing,
            "expected the parameters weights, batches, recipe, and learning_rates if you like, got",
        ),
        (raising, "sgd: the training adapter raises KeyError: 'gamma'"),
        (empty, "sgd: expected a list of 8 dicts, one for each batch, got 0 of them"),
        (misspelt, "sgd: step 0: got 'weight'; known are loss, gradients, clipped, weights"),
        (loss_alone, "sgd: step 0: expected at least the weights after the step"),
        (
            transposed,
            r"sgd: step 0: weights\['lstm.weight_ih_l0'\]: expected an array \[16, 5\] of float64,"
            r" got \[5, 16\] of float64",
        ),
        (
            shared,
            r"sgd: steps 0 and 1: weights\['lstm.weight_ih_l0'\] is the same memory; report copies",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_reports_of_another_form_are_refused_in_a_sentence(adapter, message):
    with pytest.raises(InputError, match=message):
        judge_training(adapter)


@pytest.mark.parametrize(("loss", "got"), [({}, "dict"), ([1.0], r"\[1\]"), (None, "NoneType")])
def test_a_loss_that_is_no_number_is_refused(loss, got):
    def adapter(weights, batches, recipe):
        return [report | {"loss": loss} for report in numpy_training(weights, batches, recipe)]

    with pytest.raises(
        InputError, match=f"sgd: step 0: loss: expected a floating number, got {got}"
    ):
        judge_training(adapter, cases=[CASES["sgd"]])


LATE = """
from parity_tests.campaigns.training_faults import faulty_adapter
from torch_oracle.diagnosis.faults.catalogue import TRAINING_FAULTS
late = faulty_adapter([f for f in TRAINING_FAULTS if f.id == "clip-after-the-update"])
"""


def test_the_command_names_what_is_wrong_with_a_training_program(tmp_path):
    (tmp_path / "mine.py").write_text(LATE)
    root = str(Path(__file__).parents[2])
    command = [
        sys.executable,
        "-m",
        "torch_oracle",
        "training",
        "mine:late",
        "--json",
        "found.json",
    ]
    run = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": root}
    )
    assert run.returncode == 1, run.stderr
    assert "1. clip-after-the-update" in run.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["status"] == "explained"


def test_the_command_finds_nothing_wrong_with_our_own_training(tmp_path, capsys):
    file = tmp_path / "found.json"
    assert Training("torch_oracle.training.adapter:numpy_training", file).run() == 0
    assert "Nothing wrong was found" in capsys.readouterr().out
    assert json.loads(file.read_text())["status"] == "correct"


def test_the_command_says_that_there_is_no_such_training_program():
    spec = "torch_oracle.training.adapter:absent"
    with pytest.raises(InputError, match=f"{spec}: torch_oracle.training.adapter has no 'absent'"):
        Training(spec).run()


def leaving(weights, batches, recipe):
    raise SystemExit(0)


def clipping_in_place(weights, batches, recipe):
    reports = numpy_training(weights, batches, recipe)
    return [report | {"gradients": report["clipped"]} for report in reports]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (leaving, "sgd: the training adapter raises SystemExit: 0"),
        (
            clipping_in_place,
            r"sgd: step 0: gradients\['lstm.weight_ih_l0'\] and"
            r" clipped\['lstm.weight_ih_l0'\] are the same memory",
        ),
        (max, "training adapter: expected a function"),
    ],
)
def test_more_that_a_training_adapter_must_not_do(function, said):
    with pytest.raises(InputError, match=said):
        judge_training(function, cases=[CASES["sgd"]])
