"""Training both at once: torch stays within the noise floor, and training bugs do not."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from numpy_lstm.roundoff import K
from numpy_lstm.training.experiment import CountingExperiment
from numpy_lstm.training.loop import TrainingStep, Validation, train
from numpy_lstm.training.optimizers import Adam
from numpy_lstm.training.tasks.text import TextTask
from parity_tests.support.planting import planted
from torch_oracle.diagnose.faults.fault import faulty
from torch_oracle.diagnose.faults.training_faults import TRAINING_FAULTS
from torch_oracle.lockstep.follow import FACTOR, Agreement, lockstep
from torch_oracle.lockstep.report import LockstepSummary

SMALL = CountingExperiment(
    hidden_size=20, n_max=6, num_sequences=100, batch_size=8, schedule="constant"
)


def follow(experiment, *, task=None, recipe=None, twins=8, parity_every=0):
    """The records of a run with their agreements."""
    task = experiment.task() if task is None else task
    recipe = experiment.recipe if recipe is None else recipe
    model = experiment.model(len(task.vocabulary))
    records = train(model, experiment.parameters(model), task, recipe)
    return lockstep(records, model, recipe, task, twins=twins, parity_every=parity_every)


def first_excess(pairs) -> tuple[int, str] | None:
    """Step and quantity that first leave the noise floor."""
    for record, agreement in pairs:
        for name, ratio in agreement.ratios.items():
            if ratio > FACTOR:
                return (record.index if isinstance(record, TrainingStep) else record.step), name
    return None


def test_every_quantity_is_compared():
    summary = LockstepSummary()
    for record, agreement in islice(follow(SMALL), 3):
        summary.add(record, agreement)
    compared = {"loss", "clip coefficient", "validation loss"}
    names = SMALL.model(4).parameter_shapes()
    assert set(summary.ratios) == compared | set(names) | {f"d {name}" for name in names}


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw", "weight_decay": 0.1},
        {"optimizer": "adam", "weight_decay": 0.1},
        {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
        {"clipping": "per_tensor", "divisor": "tokens"},
        {"max_norm": None, "schedule": "cosine"},
        {"bias_pair": True, "input_init": "scaled"},
        {"batch_size": 1, "optimizer": "sgd", "lr": 0.1},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_every_setting_stays_within_the_noise_floor_and_in_parity(changes):
    experiment = replace(SMALL, epochs=3, **changes)
    summary = LockstepSummary()
    for record, agreement in follow(experiment, parity_every=3):
        summary.add(record, agreement)
    assert summary.parity_steps > 0
    assert all(verdict.holds for verdict in summary.verdicts()), summary.verdicts()


def test_streams_of_text_with_carried_state_stay_within_the_noise_floor_and_in_parity():
    text = "to be or not to be, that is the question: whether 'tis nobler in the mind. " * 8
    experiment = replace(SMALL, epochs=2, hidden_size=11)
    summary = LockstepSummary()
    for record, agreement in follow(experiment, task=TextTask(text, 5, 9), parity_every=1):
        summary.add(record, agreement)
    assert summary.parity_steps == summary.steps > 10
    assert all(verdict.holds for verdict in summary.verdicts()), summary.verdicts()


TRAINING_BUGS = {
    "adam-bias-correction-of-m-only": {"optimizer": "adam"},
    "adam-t-off-by-one": {"optimizer": "adam"},
    "adam-eps-inside-the-root": {"optimizer": "adam"},
    "adam-eps-before-the-correction": {"optimizer": "adam"},
    "L2-for-decoupled-decay": {"optimizer": "adamw", "weight_decay": 0.1},
    "decay-not-times-lr": {"optimizer": "adamw", "weight_decay": 0.1},
    "momentum-dampened": {"optimizer": "sgd", "momentum": 0.9},
    "clip-without-1e-6": {"optimizer": "sgd", "momentum": 0.9},
    "clip-scales-up": {"optimizer": "sgd", "momentum": 0.9, "max_norm": 100.0},
    "step-per-token": {"optimizer": "sgd", "momentum": 0.9},
    "clip-per-tensor-for-global": {"optimizer": "sgd", "momentum": 0.9},
}
"""Faults of the catalogue, and an experiment in which they are active."""


@pytest.mark.parametrize("id", TRAINING_BUGS)
def test_a_training_bug_leaves_the_noise_floor_within_twenty_steps(id):
    (fault,) = (fault for fault in TRAINING_FAULTS if fault.id == id)
    experiment = replace(SMALL, lr=0.01, **TRAINING_BUGS[id])
    assert first_excess(islice(follow(experiment), 22)) is None
    with faulty([fault]):
        excess = first_excess(islice(follow(experiment), 22))
    assert excess is not None
    assert excess[0] <= 20


def test_the_floor_never_falls_below_one_spacing_or_its_past():
    pairs = list(islice(follow(SMALL, twins=2), 12))
    steps = [
        (record, agreement.floor) for record, agreement in pairs if isinstance(record, TrainingStep)
    ]
    for name in steps[0][0].after.parameters:
        course = [floor[name] for _, floor in steps]
        assert course == sorted(course)
        for record, floor in steps:
            assert floor[name] >= np.spacing(np.abs(record.after.parameters[name]).max())


def test_a_late_training_bug_is_found_however_high_the_noise_floor():
    """From step 30 on; the update from our own state is judged at every step by the rule K."""

    def worst_updates():
        pairs = islice(follow(replace(SMALL, dtype="float32"), twins=1), 45)
        return [
            (record.index, max(agreement.update.values()))
            for record, agreement in pairs
            if isinstance(record, TrainingStep)
        ]

    assert max(far for _, far in worst_updates()) <= K
    with planted(Adam.update, "(g * g)", "(g * g) * (1.5 if t > 30 else 1.0)"):
        found = [index for index, far in worst_updates() if far > K]
    assert found[0] == 30


@pytest.mark.parametrize(("far", "floor"), [(np.inf, np.inf), (np.nan, 1.0), (1.0, np.inf)])
def test_what_is_not_finite_never_agrees(far, floor):
    summary = LockstepSummary()
    record = Validation(0, 0, None, 1.0, {})
    summary.add(record, Agreement(1.0, {"validation loss": far}, {"validation loss": floor}))
    assert not summary.verdicts()[0].holds


def test_a_gradient_of_zero_raises_no_alarm_under_clipping():
    experiment = replace(SMALL, epochs=1, hidden_size=8, max_norm=0.01, divisor="tokens")
    summary = LockstepSummary()
    for record, agreement in follow(experiment, task=TextTask("ab cd " * 60, 100, 1)):
        summary.add(record, agreement)
    assert all(verdict.holds for verdict in summary.verdicts()), summary.verdicts()


def test_the_summary_reports_what_failed():
    record = Validation(0, 0, None, 1.0, {})
    summary = LockstepSummary()
    summary.add(record, Agreement(1.0, {"validation loss": 5e-16}, {"validation loss": 1e-16}))
    (verdict,) = summary.verdicts()
    assert not verdict.holds
    assert "5.00 in validation loss" in verdict.figure
