"""Equation by number: each formula of a docstring, evaluated by itself, is what the code computes.

From (11) in docs/derivation.md to the line that ends in `# (11)` to the test that
`pytest parity_tests/lstm -k equation_11_of_cell` runs.
"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from numpy_lstm import cell, language_model, loss, unrolled
from numpy_lstm.config import LSTM
from numpy_lstm.language_model import head_backward, head_forward
from numpy_lstm.roundoff import K, distance
from numpy_lstm.unrolled import unrolled_lstm_backward, unrolled_lstm_forward
from numpy_lstm.variants import layer_norm
from parity_tests.support.equations import MODULES, Equation, equations_of
from parity_tests.support.planting import planted
from parity_tests.support.problems import random_problem
from torch_oracle.diagnosis.faults.catalogue import CELL_FAULTS
from torch_oracle.diagnosis.faults.fault import Fault, faulty
from torch_oracle.proof.numpy_trace import plain_trace
from torch_oracle.proof.random_problems import loud
from torch_oracle.proof.trace import Problem

SIZES = (4, 3, 5, 6)
ROOT = Path(__file__).parents[2]

EVERY = [
    (module, number)
    for module in MODULES
    for number in dict.fromkeys(equation.number for equation in equations_of(module))
]
NUMBERED = [(module, number) for module, number in EVERY if number not in (31, 32)]
"""All but those of functions, which have a test of their own."""
IDS = [f"equation_{number}_of_{module.__name__.rpartition('.')[2]}" for module, number in NUMBERED]

Values = dict[str, Any]


def lstm_problem(module: ModuleType) -> Problem:
    """Random weights, states and gradients; two biases where the cell has one, and no padding."""
    variant = module if module.__name__.startswith("numpy_lstm.variants") else None
    projected = {"proj_size": 2} if module is unrolled else {}
    bias_pair = variant is None or "b" in module.WEIGHTS
    p = random_problem(3, sizes=SIZES, variant=variant, bias_pair=bias_pair, **projected)
    p.lengths[...] = SIZES[0]
    return p


def weights_by_name(p: Problem) -> Values:
    """The weights as the equations call them; b is what the problem's own biases add up to."""
    values: Values = {}
    for name in p.lstm.cell.WEIGHTS:
        if name == "b":
            values["b"] = p.parameters["bias_ih_l0"] + p.parameters["bias_hh_l0"]
        else:
            (parameter,) = p.lstm.parameter_names(name)
            values[name] = p.parameters[f"{parameter}_l0"]
    peepholes = "io" if p.lstm.coupled else "ifo"
    if "W_ch" in values:
        values |= {f"p_{k}": row for k, row in zip(peepholes, values["W_ch"], strict=True)}
    if "gain" in values:
        for name in ("gain", "shift"):
            values |= {f"{name}_{k}": row for k, row in zip("ifgoc", values[name], strict=True)}
    if p.lstm.proj_size:
        values["W_hr"] = p.parameters["weight_hr_l0"]
    return values


def steps_of_an_lstm(p: Problem) -> Iterator[Values]:
    """What each step reads and computes, last to first; states and carries are the loop's own.

    So a formula also fails where the loop hands a step something else than it should.
    """
    (_, _, _), whole = unrolled_lstm_forward(p.lstm, p.parameters, p.x, p.h0, p.c0, p.lengths)
    gradients = unrolled_lstm_backward(p.dy, whole, p.dh_n, p.dc_n)
    cache, backward = whole.directions[0], gradients.directions[0]
    dh_next, dc_next = p.dh_n[0], p.dc_n[0]
    for t in reversed(range(len(p.x))):
        forward_step, step = cache.steps[t], backward.steps[t]
        values = weights_by_name(p) | {"x": p.x[t]}
        values |= {"h_prev": cache.h[t], "c_prev": cache.c[t], "dc_next": dc_next}
        values |= {name: getattr(forward_step, name) for name in p.lstm.step_values}
        values |= {name: getattr(step, name) for name in p.lstm.step_gradients}
        values |= {"h": cache.h[t + 1], "c": cache.c[t + 1], "dh": p.dy[t] + dh_next}
        values |= {"dx": step.dx, "dh_prev": step.dh_prev, "dc_prev": step.dc_prev}
        values |= {"m": cache.m[t], "dh_of_the_loop": backward.dh[t]}
        for name, parts in backward.by_step.items():
            values["d" + name] = parts[t]
        for name in ("a", "z"):
            values |= joined(p, name, values)
            values |= joined(p, f"d{name}", values | gradients_by_formula(p, name, values))
        for name in ("dW_ch", "dgain", "dshift"):
            rows = "io" if p.lstm.coupled else "ifo"
            if name in values:
                letters = rows if name == "dW_ch" else "ifgoc"
                prefix = "dp" if name == "dW_ch" else name
                values |= {
                    f"{prefix}_{k}": row for k, row in zip(letters, values[name], strict=True)
                }
        values["totals"] = gradients.parameters
        yield values
        dh_next, dc_next = step.dh_prev, step.dc_prev


def joined(p: Problem, name: str, values: Values) -> Values:
    """The blocks of all gates side by side, in the order in which the weights have them."""
    gates = [gate for gate in "ifgo" if f"da_{gate}" in p.lstm.step_gradients]
    blocks = [values.get(f"{name}_{gate}") for gate in gates]
    if any(block is None for block in blocks):
        return {}
    return {name: np.concatenate(blocks, axis=1)}


def gradients_by_formula(p: Problem, name: str, values: Values) -> Values:
    """da_i, da_f, ... (or dz_i, ...) as their own equations say, whatever the code joins."""
    if "W_hr" in values:
        values = values | {"dh": values["dh"] @ values["W_hr"]}  # (20): what the cell gets
    names = [f"d{name}_{gate}" for gate in "ifgo"]
    return {e.name: e.evaluate(values) for e in equations_of(p.lstm.cell) if e.name in names}


def steps_of_a_model(p: Problem) -> Iterator[Values]:
    """What each step of a language model's head reads and computes, of the real tokens."""
    trace = plain_trace(p)
    W_v, b_v = p.parameters["projection.weight"], p.parameters["projection.bias"]
    assert p.targets is not None
    for t, alive in enumerate(p.alive):
        values: Values = {"W_v": W_v, "b_v": b_v, "dloss": p.dloss, "target": p.targets[t][alive]}
        values |= {name: trace.steps[name][t][alive] for name in ("h", "logits", "loss", "dlogits")}
        values |= {name: trace.steps[name][t] for name in ("dW_v", "db_v")}
        _, head = head_forward(p.parameters, values["h"], values["target"])
        values["dlogits_of_the_head"], values["dy"] = head_backward(p.dloss, p.parameters, head)
        values["one_hot"] = np.eye(len(b_v), dtype=np.longdouble).__getitem__
        values["totals"] = {"dW_v": trace.totals["dW_v"], "db_v": trace.totals["db_v"]}
        yield values


def violations(module: ModuleType, number: int) -> list[str]:
    """Where what the code computes is not what the equations of this number say."""
    if module in (loss, language_model):
        problem = random_problem(3, model=True, sizes=SIZES)
        found = _violations(module, number, list(steps_of_a_model(problem)))
        if number == 16:
            found += _violations(module, number, list(steps_of_a_model(overflowing(problem))))
        return found
    return _violations(module, number, list(steps_of_an_lstm(lstm_problem(module))))


def overflowing(problem: Problem) -> Problem:
    """The same with logits of both signs and beyond 709, the largest number that exp can take."""
    scaled = loud(problem)
    signs = np.where(np.arange(problem.lstm.input_size) % 2, -1, 1)
    bias = signs * np.abs(scaled.parameters["projection.bias"])
    return replace(scaled, parameters={**scaled.parameters, "projection.bias": bias})


def _violations(module: ModuleType, number: int, steps: list[Values]) -> list[str]:
    every = equations_of(module)
    equations = [equation for equation in every if equation.number == number]
    found, totals = [], {}
    for values in steps:
        for equation in equations:
            checked, given = [equation], values
            if equation.name == "dm":  # the cell takes it for its dh
                given = values | {"dh": equation.evaluate(values)}
                checked = [e for e in equations_of(cell) if e.number in (8, 9)]
            elif equation.name == "z" and "z" not in values:  # read by the peepholes' equations
                checked = [e for e in every if e.number in (22, 28)]
            if any("z_" in e.expression for e in checked) and "z_i" not in values:
                z = next(e for e in every if e.name == "z")
                given = values | blocks_of(z.evaluate(values), values)
            for each in checked:
                found += disagreement(each, given)
                totals.setdefault(each.name, []).append(each.evaluate(given))
    found += wrong_totals(totals, steps)
    if number in (14, 25, 30, 43):
        found += wrong_carries(module, steps)
    return found


def blocks_of(z: np.ndarray, values: Values) -> Values:
    """The gates' blocks of z, of a cell that does not keep z itself."""
    gates = [gate for gate in "ifgo" if f"a_{gate}" in values]
    return {f"z_{k}": block for k, block in zip(gates, np.split(z, len(gates), 1), strict=True)}


def disagreement(equation: Equation, values: Values) -> list[str]:
    """The name, if what the code has is further than K roundoffs from the formula."""
    return differ(equation.name, values[equation.name], equation.evaluate(values))


def differ(name: str, actual: np.ndarray, expected: np.ndarray) -> list[str]:
    far = distance(np.asarray(actual), np.asarray(expected).astype(np.float64))
    return [] if far <= K else [f"{name}: {far:.3g}"]


def wrong_totals(by_name: dict[str, list[np.ndarray]], steps: list[Values]) -> list[str]:
    """Gradients of weights: the sum over time, under every name that a parameter has."""
    found = []
    totals = steps[0]["totals"]
    names = {"db": ("bias_ih_l0", "bias_hh_l0"), "dW_ih": ("weight_ih_l0",)}
    names |= {"dW_hh": ("weight_hh_l0",), "dW_hr": ("weight_hr_l0",)}
    for name, parts in by_name.items():
        for parameter in names.get(name, (name,)):
            if parameter in totals:
                found += differ(f"{parameter}, total", totals[parameter], np.sum(parts, axis=0))
    return found


def wrong_carries(module: ModuleType, steps: list[Values]) -> list[str]:
    """dh_prev and dc_prev are what the step before takes for dh_next and dc_next."""
    found = []
    (of_dc,) = [e for e in equations_of(module) if e.name == "dc"]
    for values in steps:
        found += differ("dh with the carry", values["dh_of_the_loop"], values["dh"])
        found += differ("dc with the carry", values["dc"], of_dc.evaluate(values))
    return found


@pytest.mark.parametrize(("module", "number"), NUMBERED, ids=IDS)
def test_the_code_computes_the_equation(module, number):
    assert violations(module, number) == []


MODULE_OF = {number: module for module, number in reversed(NUMBERED)}
"""The first module that has an equation of this number."""
NUMBERED_FAULTS = [fault for fault in CELL_FAULTS if fault.equation.startswith("(")]


@pytest.mark.parametrize("fault", NUMBERED_FAULTS, ids=lambda fault: fault.id)
def test_every_fault_of_an_equation_is_seen_by_the_test_of_that_number(fault: Fault):
    number = int(fault.equation.strip("()"))
    with faulty([fault]), np.errstate(all="ignore"):
        assert violations(MODULE_OF[number], number) != []


@pytest.mark.parametrize(
    ("line", "without", "number"),
    [
        ("dc * c_prev * (f * (1 - f))", "dc * c_prev * f", 11),
        ("dc * c_prev * (f * (1 - f))", "dc * (f * (1 - f))", 11),
        ("dc_next + dh * o", "dh * o", 9),
    ],
)
def test_leaving_a_factor_or_a_term_out_turns_that_number_red(line, without, number):
    with planted(cell.cell_backward, line, without):
        red = [n for module, n in NUMBERED if module is cell and violations(module, n)]
    assert number in red


def test_layer_normalisation_and_its_derivative_are_equations_31_and_32():
    rng = np.random.default_rng(0)
    v, dn = rng.standard_normal((2, 3, 7))
    standardised, derivative = equations_of(layer_norm)[:2]
    assert (standardised.number, derivative.number) == (31, 32)
    n = standardised.evaluate({"v": v})
    assert not differ("n", layer_norm.standardised(v), n)
    expected = derivative.evaluate({"v": v, "dn": dn, "n": n})
    assert not differ("dv", layer_norm.standardised_backward(dn, v), expected)


def test_numbers_run_in_the_order_of_the_files_and_mean_one_thing():
    formulas: dict[int, set[str]] = {}
    for module in MODULES:
        for equation in equations_of(module):
            formulas.setdefault(equation.number, set()).add(equation.name)
    of_the_model = [e.number for module in (language_model, loss) for e in equations_of(module)]
    assert sorted(set(of_the_model)) == [15, 16, 17, 18]
    first_seen = [n for n in dict.fromkeys(n for _, n in EVERY) if n not in of_the_model]
    assert first_seen == [*range(1, 15), *range(19, max(formulas) + 1)]
    for module, number in EVERY:
        names = {e.name for e in equations_of(module) if e.number == number}
        assert names == formulas[number], (module, number)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_equation_has_a_line_with_its_number(module):
    source = inspect.getsource(module)
    commented = {
        int(n) for line in re.findall(r"#.*", source) for n in re.findall(r"\((\d+)\)", line)
    }
    written = {equation.number for equation in equations_of(module)}
    assert written <= commented
    if module is cell:
        assert written == set(range(1, 15))


def test_the_derivation_has_every_equation_as_the_code_has_it():
    page = " ".join((ROOT / "docs/derivation.md").read_text().split())
    missing = []
    for module in MODULES:
        for e in equations_of(module):
            if f"{e.name} = {e.expression}" not in page:
                missing.append(f"({e.number}) {e.name} = {e.expression}")
    assert missing == []


def test_a_cell_of_ones_own_is_run_by_the_plain_loop():
    p = random_problem(1, sizes=SIZES)
    own = LSTM(p.lstm.input_size, p.lstm.hidden_size, variant=cell)
    (expected, _, _), _ = unrolled_lstm_forward(p.lstm, p.parameters, p.x, p.h0, p.c0, p.lengths)
    (y, _, _), _ = unrolled_lstm_forward(own, p.parameters, p.x, p.h0, p.c0, p.lengths)
    np.testing.assert_array_equal(y, expected)
