"""Each record of the catalogue is whole, speaks of an equation that exists, and is caught."""

import re
from collections import Counter

import pytest

from parity_tests.campaigns.faults import active_form, at_the_right_place, checked
from parity_tests.support.equations import MODULES, equations_of
from torch_oracle.diagnosis.faults.catalogue import ALIASING, CELL_FAULTS, FAULTS, TRAINING_FAULTS
from torch_oracle.diagnosis.faults.fault import RULES, Fault
from torch_oracle.diagnosis.faults.records import FaultRecordError, faults_from
from torch_oracle.diagnosis.injection import injected
from torch_oracle.training.cases import training_cases
from torch_oracle.training.stages import STAGES

pytestmark = pytest.mark.usefixtures("without_type_checks")

EQUATIONS = [equation for module in MODULES for equation in equations_of(module)]
NUMBERS = {f"({equation.number})" for equation in EQUATIONS}
FORMULAS = {f"{equation.name} = {equation.expression}" for equation in EQUATIONS}
NAMES = {(f"({equation.number})", equation.name) for equation in EQUATIONS if equation.name != "dh"}

RECORD = """
stage = "backward"
[[fault]]
id = "c-for-c-prev"
equation = "(11)"
wrong = "da_f = dc * c * f (1 - f)"
right = "da_f = dc * c_prev * f (1 - f)"
first = { tensor = "da_f", step = -1 }
fix = "The forget gate multiplied the state before."
[[fault.edits]]
function = "numpy_lstm.cell:cell_backward"
right = "da_f = dc * c_prev"
wrong = "da_f = dc * c"
"""


def whole_equations(fault: Fault) -> list[str]:
    """The parts of the right formula that define what the equation of its number defines."""
    parts = re.split(r", (?=\w+ \+?= )", fault.right)
    return [part for part in parts if (fault.equation, part.partition(" = ")[0]) in NAMES]


@pytest.mark.parametrize("fault", CELL_FAULTS, ids=lambda fault: fault.id)
def test_a_fault_of_the_lstm_is_caught_at_the_tensor_and_the_step_of_its_record(fault):
    form = active_form([fault])
    assert form is not None
    assert at_the_right_place(fault, checked(fault, form))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_a_record_fits_the_equations_and_the_code(fault):
    """Number or rule exist; the right formula is the docstring's; edits find their lines."""
    assert fault.equation in NUMBERS | set(RULES)
    assert set(whole_equations(fault)) <= FORMULAS
    assert fault.wrong != fault.right
    with injected(fault.edits):
        pass


def test_most_right_formulas_are_whole_equations():
    """So the test above is about something; the others speak of carries, lengths and orders."""
    numbered = [fault for fault in CELL_FAULTS if fault.equation.startswith("(")]
    whole = [fault for fault in numbered if whole_equations(fault)]
    seen = {fault.equation for fault in whole}
    assert seen == {f"({number})" for number in (*range(1, 5), *range(6, 19))}
    assert len(whole) > len([fault for fault in numbered if "-as-" not in fault.id]) // 2


def test_a_formula_that_is_not_the_docstring_s_would_be_noticed():
    (fault,) = faults_from(RECORD.replace("c_prev * f (1 - f)", "c_prev * f"), "mine.toml")
    assert not set(whole_equations(fault)) <= FORMULAS


def test_no_id_is_used_twice():
    assert [id for id, count in Counter(fault.id for fault in FAULTS).items() if count > 1] == []


def test_the_catalogue_has_at_least_eighty_faults_beside_gate_orders():
    assert len([fault for fault in CELL_FAULTS if "-as-" not in fault.id]) >= 80
    assert ALIASING


@pytest.mark.parametrize("fault", TRAINING_FAULTS, ids=lambda fault: fault.id)
def test_a_training_record_names_a_case_and_a_stage_that_exist(fault):
    assert fault.case in {case.name for case in training_cases()}
    assert fault.first[0] in STAGES
    assert fault.equation in RULES


def test_a_record_is_read_as_it_stands():
    (fault,) = faults_from(RECORD, "mine.toml")
    (original,) = [fault for fault in CELL_FAULTS if fault.id == "c-for-c-prev"]
    assert fault.edits == original.edits
    assert (fault.stage, fault.first, fault.seen) == ("backward", ("da_f", -1), "")


def test_a_family_is_one_record_with_a_list_of_its_members():
    family = RECORD.replace("c-for-c-prev", "{gate}-wrong").replace(
        'tensor = "da_f"', 'tensor = "{t}"'
    )
    each = 'each = [{ gate = "i", t = "da_i" }, { gate = "o", t = "da_o" }]\n[[fault.edits]]'
    faults = faults_from(family.replace("[[fault.edits]]", each), "mine.toml")
    assert [(fault.id, fault.first) for fault in faults] == [
        ("i-wrong", ("da_i", -1)),
        ("o-wrong", ("da_o", -1)),
    ]


@pytest.mark.parametrize(
    ("right", "wrong", "sentence"),
    [
        ("fix =", "fx =", r"^mine.toml, c-for-c-prev: expected the fields .* lacks \['fix'\]$"),
        ("fix =", 'odd = ""\nfix =', r"^mine.toml, c-for-c-prev: .* got also \['odd'\]$"),
        ("tensor =", "tenor =", r"^mine.toml, c-for-c-prev, first: .* lacks \['tensor'\]$"),
        ("function =", "place =", r"^mine.toml, c-for-c-prev, edits: .* lacks \['function'\]$"),
        ('id = "c-for-c-prev"', "", r"^mine.toml, a record without id: .* lacks \['id'\]$"),
        ("first = {", "last = {", r"^mine.toml, c-for-c-prev: .* lacks \['first'\]$"),
    ],
)
def test_a_record_that_is_not_whole_is_refused(right, wrong, sentence):
    with pytest.raises(FaultRecordError, match=sentence):
        faults_from(RECORD.replace(right, wrong), "mine.toml")
