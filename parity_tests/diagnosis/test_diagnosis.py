"""Faults are named, by a diagnosis that sees other people's code or ours; the unknown stays so."""

import json
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

from examples import adapters
from numpy_lstm.cell import cell_backward
from numpy_lstm.language_model import language_model_backward, language_model_forward
from numpy_lstm.lstm import LSTM
from numpy_lstm.unrolled import unrolled_lstm_backward, unrolled_lstm_forward
from parity_tests.campaigns.faults import (
    NOVEL,
    Plain,
    active_form,
    differ,
    faulty_trace,
    novel_fault,
    verdict,
)
from torch_oracle.diagnosis.diagnose import SIZES, diagnose
from torch_oracle.diagnosis.faults.catalogue import ALIASING, CELL_FAULTS
from torch_oracle.diagnosis.faults.fault import faulty
from torch_oracle.diagnosis.probe import NAMING
from torch_oracle.proof.random_problems import random_problem
from torch_oracle.proof.trace import Trace
from torch_oracle.verification.loading import adapter_of
from torch_oracle.verification.verify import verify

pytestmark = pytest.mark.usefixtures("without_type_checks")

BY_ID = {fault.id: fault for fault in CELL_FAULTS}


def names(diagnosis) -> set[str]:
    return {finding.fault.id for finding in diagnosis.findings}


@pytest.mark.parametrize(
    "ids",
    [
        ("b-hh-dropped",),
        ("mask-without-pass-through",),
        ("c-prev-shifted",),
        ("slope-of-f-is-sigmoid",),
        ("embedding-gradient-assigned",),
        ("gradients-joined-as-ogif",),
        ("dc-assigned", "slope-of-g-missing"),
        ("c-shifted", "dg-from-g", "bias-gradient-doubled"),
    ],
    ids=" + ".join,
)
def test_faults_are_named_from_the_gradients_of_the_weights_alone(ids):
    """All of them, from more and from less, in the campaign."""
    faults = tuple(BY_ID[id] for id in ids)
    form = active_form(faults, gradients_alone=True)
    assert form is not None
    subject = Plain(faults, form, gradients_alone=True)
    assert verdict(subject, diagnose(subject)) in ("named", "equivalent")


class OutputsAlone:
    """The plain code with faults in it, as a layer that returns its outputs and nothing else."""

    def __init__(self, faults):
        self.plain = Plain(faults, "layer", False)
        self.problem = self.plain.problem

    def run(self, problem):
        trace = self.plain.run(problem)
        return Trace({}, {name: trace.totals[name] for name in ("y", "h_n", "c_n")})


@pytest.mark.parametrize("other", ["g-through-sigmoid", "c-with-i-and-f-exchanged"])
def test_two_faults_that_leave_no_number_right_are_named(other):
    diagnosis = diagnose(OutputsAlone((BY_ID[other], BY_ID["input-gate-coupled"])))
    assert diagnosis.status == "explained"
    assert names(diagnosis) == {other, "input-gate-coupled"}


def test_what_is_right_is_called_correct():
    for form in ("layer", "language model", "layer with two biases"):
        assert diagnose(Plain((), form, False)).status == "correct"
    assert diagnose(adapter_of(adapters.fixed, "fixed")).status == "correct"


def test_all_twelve_faults_of_the_seed_script_are_named(tmp_path):
    command = [sys.executable, "-W", "ignore", "-m", "torch_oracle", "diagnose"]
    command += ["examples.adapters:seed", "--json", str(tmp_path / "found.json")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 1, run.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["status"] == "explained"
    equal = {finding["id"]: finding["equivalents"] for finding in found["findings"]}
    assert "dc-never-carried" in equal.pop("dc-assigned")
    assert set(equal) == {
        "loss-mean-over-vocabulary",
        "log-of-softmax",
        "W-v-gradient-from-h-prev",
        "c-prev-shifted",
        "c-shifted",
        "tanh-twice-in-dc",
        "slope-of-i-of-the-output",
        "slope-of-f-is-sigmoid",
        "slope-of-o-of-the-output",
        "slope-of-g-of-the-output",
        "dh-never-carried",
    }


class Wrong(nn.Module):
    """A torch module of one's own, whose forward pass may be wrong: autograd follows it."""

    def __init__(self, *faults: str) -> None:
        super().__init__()
        self.faults = faults
        generator = torch.Generator().manual_seed(0)
        shapes = {"weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4), "bias_ih_l0": (16,)}
        for name, shape in (shapes | {"bias_hh_l0": (16,)}).items():
            values = torch.randn(shape, generator=generator, dtype=torch.float64)
            self.register_parameter(name, nn.Parameter(values))

    def forward(self, x, state):
        h, c = (s[0] for s in state)
        outputs = []
        for x_t in x:
            a = x_t @ self.weight_ih_l0.T + h @ self.weight_hh_l0.T + self.bias_ih_l0
            if "bias" not in self.faults:
                a = a + self.bias_hh_l0
            i, f, g, o = a.chunk(4, dim=-1)
            if "order" in self.faults:
                g, o = o, g
            f = f + 1 if "forget" in self.faults else f
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * (c if "tanh" in self.faults else c.tanh())
            outputs.append(h)
        return torch.stack(outputs), (h[None], c[None])


@pytest.mark.parametrize(
    ("faults", "expected", "autograd"),
    [
        ((), set(), False),
        (("tanh",), {"h-without-tanh"}, True),
        (("bias",), {"b-hh-dropped"}, True),
        (("tanh", "forget"), {"h-without-tanh", "forget-bias-added-again"}, True),
        (("order",), {"gates-and-gradients-as-ifog"}, False),
    ],
)
def test_a_torch_module_with_a_wrong_forward_pass_is_told_that_nothing_else_is_wrong(
    faults, expected, autograd
):
    diagnosis = diagnose(adapter_of(Wrong(*faults), "wrong"))
    assert diagnosis.status == ("explained" if faults else "correct")
    assert names(diagnosis) == expected
    assert diagnosis.autograd == autograd


@pytest.mark.parametrize("novel", NOVEL[:2], ids=lambda fault: fault.id)
def test_a_fault_that_is_in_no_catalogue_is_called_unknown(novel):
    """More of them in the campaign."""
    diagnosis = diagnose(Plain((novel,), "layer", True))
    assert diagnosis.status == "unknown"
    assert names(diagnosis) == set()
    assert diagnosis.unexplained


def test_a_constant_factor_is_told():
    novel = novel_fault(cell_backward, "da_o = dh * tanh(c)", "da_o = -3 * dh * tanh(c)")
    diagnosis = diagnose(Plain((novel,), "layer", True))
    assert "db of gate o (-3 times torch's)" in diagnosis.unexplained


def test_a_known_fault_is_named_beside_an_unknown_one():
    novel = novel_fault(cell_backward, "da_i = dc * g", "da_i = 1.01 * dc * g")
    diagnosis = diagnose(Plain((novel, BY_ID["slope-of-f-missing"]), "layer", True))
    assert diagnosis.status == "partly explained"
    assert names(diagnosis) == {"slope-of-f-missing"}
    assert diagnosis.unexplained[0].startswith("dW_ih of gate i")


def test_the_evidence_is_the_distance_with_and_without_each_fault():
    ids = ("slope-of-f-missing", "tanh-twice-in-dc")
    diagnosis = diagnose(Plain(tuple(BY_ID[id] for id in ids), "layer", False))
    assert names(diagnosis) == set(ids)
    assert diagnosis.distance <= NAMING < min(f.without for f in diagnosis.findings)
    assert diagnosis.before > NAMING


def test_a_fault_that_changes_nothing_is_inactive():
    assert active_form([BY_ID["dc-prev-with-i"]]) == "layer"
    same = novel_fault(cell_backward, "dc_prev = dc * f", "dc_prev = f * dc")
    assert active_form([same]) is None


def test_faults_that_are_told_apart_differ_by_far_more_than_the_naming_distance():
    """In float32 too: NAMING of its roundoffs are 1e12 of float64's."""
    problem = random_problem(7, sizes=SIZES[-1])
    traces = [faulty_trace(problem, [fault]) for fault in CELL_FAULTS]
    right = faulty_trace(problem, [])
    active = [trace for trace in traces if differ(trace, right)]
    nearest = min(farthest(a, b) for a, b in combinations(active, 2))
    assert nearest > 100 * NAMING * np.finfo(np.float32).eps


def farthest(a, b) -> float:
    """Largest difference of two traces, relative to the tensor's largest magnitude."""
    pairs = [(a.totals[n], b.totals[n]) for n in a.totals] + [
        (a.steps[n], b.steps[n]) for n in a.steps
    ]
    return max(np.abs(x - y).max() / max(np.abs(y).max(), 1e-300) for x, y in pairs)


def test_overwritten_arguments_and_caches_show_afterwards_and_in_no_number():
    overwritten, damaged = ALIASING
    layer, model = random_problem(2), random_problem(2, model=True)
    for problem, fault in ((layer, overwritten), (model, damaged)):
        assert not differ(faulty_trace(problem, [fault]), faulty_trace(problem, []))

    def adapter(weights, x, h0, c0, dy):
        config, L = LSTM(x.shape[2], h0.shape[1], bias_pair=True), len(x)
        with faulty([overwritten]):
            (y, _, _), cache = unrolled_lstm_forward(
                config, weights, x, h0[None], c0[None], np.full(len(h0), L)
            )
            zero = np.zeros((1, *h0.shape), x.dtype)
            unrolled_lstm_backward(dy, cache, zero, zero)
        return {"y": y}

    (complaint, *_) = verify(adapter_of(adapter, "mine")).complaints
    assert complaint.startswith("changes its input dy, first at index")

    p = model
    _, cache = language_model_forward(p.config, p.parameters, p.x, p.targets, p.lengths)
    first = language_model_backward(1.0, cache).parameters
    with faulty([damaged]):
        language_model_backward(1.0, cache)
    again = language_model_backward(1.0, cache).parameters
    assert all(not np.array_equal(again[name], gradient) for name, gradient in first.items())


def test_a_gradient_of_zeros_is_not_taken_for_the_exact_one():
    """A wrong forward pass beside gradients that are not computed: the second must not pass."""

    class Half(Plain):
        def run(self, problem):
            trace = super().run(problem)
            zeros = {n: np.zeros_like(trace.totals[n]) for n in ("dW_hh", "dh0", "dc0")}
            return Trace({}, {"y": trace.totals["y"]} | zeros)

    diagnosis = diagnose(Half((BY_ID["h-without-tanh"],), "layer", False), sizes=SIZES[:2])
    assert diagnosis.status != "explained"
    assert not diagnosis.autograd
