"""The report on somebody's LSTM, at the terminal, as JSON and as a page; and the catalogue."""

import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from numpy_lstm.errors import InputError
from numpy_lstm.roundoff import K
from parity_tests.support import handwritten
from torch_oracle.commands import judging
from torch_oracle.commands.diagnose import Diagnose
from torch_oracle.commands.main import main
from torch_oracle.commands.verify import Verify
from torch_oracle.diagnosis.diagnose import diagnose
from torch_oracle.diagnosis.faults.catalogue import CELL_FAULTS, FAULTS
from torch_oracle.diagnosis.results import Diagnosis, NamedFault
from torch_oracle.diagnosis.terminal import AUTOGRAD, diagnosis_json, print_diagnosis
from torch_oracle.html_report.figures import HeatCell, heat_map
from torch_oracle.html_report.page import page, summary, telling
from torch_oracle.verification import cases
from torch_oracle.verification.cases import Case
from torch_oracle.verification.loading import adapter_of
from torch_oracle.verification.outputs import AdapterError
from torch_oracle.verification.verify import collect, verify, verify_case

pytestmark = pytest.mark.usefixtures("without_type_checks")

BY_ID = {fault.id: fault for fault in CELL_FAULTS}


def doubled(weights, x, h0, c0, dy, dh_n, dc_n, lengths):
    """Our own LSTM; the gradients of its biases are twice what they should be."""
    result = handwritten.our_layer(weights, x, h0, c0, dy, dh_n, dc_n, lengths)
    return result | {name: 2 * result[name] for name in ("bias_ih_l0", "bias_hh_l0")}


def off(weights, x, h0, c0, dy, dh_n, dc_n, lengths):
    """As no known fault does it."""
    result = handwritten.our_layer(weights, x, h0, c0, dy, dh_n, dc_n, lengths)
    return result | {"dx": result["dx"] * 1.01}


def broken(weights, x):
    """An adapter that always raises."""
    raise ValueError("<b>no</b>")


def correct(weights, x, dy):
    """An adapter in which nothing is wrong."""
    return handwritten.pairs(weights, x, dy)


@pytest.fixture(scope="module", autouse=True)
def _few_cases():
    """The page is the same for three as for twelve."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cases, "QUICK", tuple(cases.QUICK[k] for k in (0, 1, 11)))
        yield


@pytest.fixture(scope="module")
def doubled_once():
    """The adapter, its verdict and its diagnosis."""
    adapter = adapter_of(doubled, "<script>alert(1)</script>:doubled")
    return adapter, verify(adapter), diagnose(adapter)


class Reader(HTMLParser):
    """Checks that what is opened is closed, and keeps text, tags and ids."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.ids, self.text = [], [], [], ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data

    def cells(self, name):
        return [a["class"] for tag, a in self.tags if a.get("title", "").startswith(name)]


def printed(diagnosis):
    stream = io.StringIO()
    print_diagnosis("users:mine", diagnosis, Console(file=stream, width=80))
    return stream.getvalue()


def test_the_page_says_what_is_wrong_where_and_how_to_mend_it(doubled_once):
    _, verified, found = doubled_once
    reader = Reader(page(verified, found))
    n = len(verified.divergences)
    assert f"Wrong: {n} of 4 cases differ from PyTorch; 1 known fault explains all" in reader.text
    case, divergence = verified.divergences[0]
    assert case.name in reader.text
    assert str(divergence) in reader.text
    assert "1. bias-gradient-doubled" in reader.text
    assert "wrong  db = 2 * sum of da" in reader.text
    assert "right  db = sum of da" in reader.text
    assert f"largest distance without it: {found.findings[0].without:.1e} roundoffs" in reader.text
    assert BY_ID["bias-gradient-doubled"].fix in reader.text
    for tensor, (far, _) in verified.worst.items():
        assert tensor in reader.text
        assert (f"{far:.2f}" if far < 1e4 else f"{far:.1e}") in reader.text
    assert "returned as bias_ih_l0" in reader.text
    for name in ("numpy-lstm", "numpy", "torch", np.__version__):
        assert name in reader.text


def test_the_heat_map_holds_every_distance_of_the_telling_case(doubled_once):
    _, verified, found = doubled_once
    chosen = telling(verified.results)
    assert (chosen.case.dtype, chosen.case.sizes) == ("float64", (12, 4, 3, 7))
    assert chosen.first is not None
    reader = Reader(page(verified, found))
    assert len(reader.cells("h at step")) == 12
    assert all(c in ("l0", "l1") for c in reader.cells("h at step"))
    (bias,) = reader.cells("db_ih, total")
    assert int(bias[-1]) > 4
    names = [row.name for row in heat_map(chosen.comparison)]
    assert names.index("h") < names.index("y") < names.index("dx") < names.index("db_ih")
    assert len(names) == len(chosen.comparison.by_tensor())


def test_curves_have_a_point_for_each_step_and_the_line_of_K(doubled_once):
    _, verified, found = doubled_once
    html = page(verified, found)
    curves = re.findall(r'<g class="s\d"><polyline points="([^"]*)"/>', html)
    assert [len(points.split()) for points in curves] == [12, 12]  # h and dx
    assert html.count(f"K = {K:g}</text>") == 2
    labels = [a["aria-label"] for tag, a in Reader(html).tags if a.get("role") == "img"]
    assert [label.partition(":")[0] for label in labels] == [
        "Values, forward",
        "Gradients, backward",
    ]


def test_the_page_needs_nothing_but_itself_and_is_the_same_every_time(doubled_once):
    _, verified, found = doubled_once
    html = page(verified, found)
    assert html == page(verified, found)
    assert not re.search(r"https?:|url\(|@import|<script|<link|\ssrc=", html)
    reader = Reader(html)
    assert len(reader.ids) == len(set(reader.ids))
    targets = {a["href"] for tag, a in reader.tags if tag == "a"}
    assert targets == {f"#{name}" for name in reader.ids}
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in (
        reader.tags
    )
    assert "prefers-color-scheme: dark" in html


def test_what_the_user_wrote_is_escaped(doubled_once):
    _, verified, found = doubled_once
    html = page(verified, found)
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;:doubled" in html
    adapter = adapter_of(broken, "broken")
    with pytest.raises(AdapterError) as complaint:
        diagnose(adapter)
    html = page(verify(adapter), complaint.value)
    assert "<b>" not in html
    text = Reader(html).text
    assert "Wrong: in none of 4 cases did it return numbers to compare." in text
    assert "on the problems of the diagnosis it raises ValueError: <b>no</b>" in text


def test_a_correct_lstm_has_a_page_that_says_so():
    adapter = adapter_of(correct, "correct")
    verified, found = verify(adapter), diagnose(adapter)
    text = Reader(page(verified, found)).text
    assert "Right: all 4 cases agree with PyTorch." in text
    assert "Nothing wrong was found" in text
    assert "Not returned: h_n, c_n, dh0, dc0." in text
    assert Reader(page(verified, None)).text.count("Nothing wrong was found") == 0
    case = telling(verified.results).case
    assert (case.sizes, case.dtype) == ((12, 4, 3, 7), "float64")


def test_layers_and_directions_are_shown_without_steps():
    adapter = adapter_of(handwritten.torch_layers, "layers")
    verified = collect(
        adapter, "quick", [verify_case(adapter, Case((3, 2, 3, 5), "float64", 1.0, 0))]
    )
    reader = Reader(page(verified, None))
    assert reader.cells("dW_hh_l1_reverse, total") in (["total l0"], ["total l1"])
    assert "#curves" not in {a.get("href") for _, a in reader.tags}


@pytest.mark.parametrize(
    ("far", "text", "level"),
    [
        (0.0, "0", 0),
        (0.25, "0.2", 0),
        (K, "16", 1),
        (17.0, "17", 2),
        (999.4, "999", 2),
        (5e5, "5e5", 3),
        (2.26e13, "2e13", 5),
        (4e16, "4e16", 7),
        (np.inf, "∞", 7),
    ],
)
def test_cells_of_the_heat_map(far, text, level):
    assert (HeatCell(far).text, HeatCell(far).level) == (text, level)


def test_the_terminal_shows_formulas_evidence_equivalents_and_source():
    finding = NamedFault(BY_ID["dc-assigned"], 3e15, (BY_ID["dc-never-carried"],))
    second = NamedFault(BY_ID["h-without-tanh"], 2e15, ())
    text = printed(Diagnosis("explained", (finding, second), np.inf, 1.5, "dc at step 0", (), True))
    assert text.startswith("first to be wrong: dc at step 0\nusers:mine: Everything that is wrong")
    assert AUTOGRAD in text
    assert "1. dc-assigned, equation (9)\n   wrong  dc = dh * o * (1 - tanh(c)^2)\n" in text
    assert "   right  dc = dc_next + dh * o * (1 - tanh(c)^2)\n" in text
    assert "if this one alone is left out: 3.0e+15 roundoffs; with all 2: 1.50 roundoffs" in text
    assert "   gives the same numbers: dc-never-carried\n" in text
    assert "   seen in: apache/mxnet issue 4057\n" in text


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("correct", "Nothing wrong was found"),
        ("explained", "Everything that is wrong is explained"),
        ("partly explained", "A part of what is wrong is explained"),
        ("unknown", "Some numbers are wrong, and no known fault"),
    ],
)
def test_each_status_has_its_sentence(status, said):
    facts = () if status in ("correct", "explained") else ("dx at step 1 [odd]",)
    findings = (NamedFault(BY_ID["dc-assigned"], 3e15, ()),) if status.endswith("explained") else ()
    text = printed(Diagnosis(status, findings, 1.0, 1.0, "", facts))
    assert said in text
    assert ("  dx at step 1 [odd]\n" in text) == bool(facts)
    assert ("dc-assigned" in text) == bool(findings)


def test_json_holds_the_same_and_only_what_json_knows(doubled_once):
    _, _, found = doubled_once
    result = diagnosis_json("mine", found)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert (result["status"], result["adapter"]) == ("explained", "mine")
    (finding,) = result["findings"]
    assert finding["id"] == "bias-gradient-doubled"
    assert (finding["wrong"], finding["right"]) == ("db = 2 * sum of da", "db = sum of da")
    assert finding["distance_without"] == found.findings[0].without > 1e10
    infinite = diagnosis_json("mine", Diagnosis("unknown", (), np.inf, np.nan, "y", ("y",)))
    assert infinite["distance_without_findings"] == "inf"
    assert infinite["distance_with_findings"] == "nan"
    assert infinite["unexplained"] == ["y"]


def test_a_passing_verification_with_a_fault_in_the_diagnosis_is_no_success():
    adapter = adapter_of(correct, "correct")
    verified = collect(
        adapter, "quick", [verify_case(adapter, Case((2, 2, 3, 4), "float64", 1.0, 0))]
    )
    found = Diagnosis("unknown", (), 1e9, 1e9, "loss", ("loss",))
    assert summary(verified, found).startswith("All 1 cases agree with PyTorch, but")
    assert ("p", {"class": "verdict bad"}) in Reader(page(verified, found)).tags


@pytest.mark.parametrize(
    ("name", "status", "word"),
    [
        ("doubled", 1, "explained"),
        ("correct", 0, "correct"),
        ("broken", 1, "failed"),
        ("off", 1, "unknown"),
    ],
)
def test_diagnose_prints_writes_and_exits(name, status, word, tmp_path, capsys):
    json_file, html = tmp_path / "d.json", tmp_path / "d.html"
    spec = f"{__name__}:{name}"
    assert Diagnose(spec, json_file, html).run() == status
    assert json.loads(json_file.read_text())["status"] == word
    assert spec in capsys.readouterr().out
    assert 'id="diagnosis"' in html.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.html", "d.json"]


@pytest.mark.parametrize(("name", "status"), [("doubled", 1), ("correct", 0)])
def test_verify_writes_the_page_with_a_diagnosis_if_it_failed(
    name, status, tmp_path, capsys, doubled_once, monkeypatch
):
    monkeypatch.setattr(judging, "diagnose", lambda adapter: doubled_once[2])
    html = tmp_path / "v.html"
    assert Verify(f"{__name__}:{name}", html=html).run() == status
    assert ("bias-gradient-doubled" in html.read_text()) == (status == 1)
    assert f":{name}: {'FAILED' if status else 'passed'} (4 cases" in capsys.readouterr().out


def test_a_page_that_cannot_be_written_is_told_in_one_line(tmp_path, capsys):
    absent = tmp_path / "no" / "x.html"
    with pytest.raises(InputError, match=r"cannot be written \(there is no folder"):
        Diagnose("parity_tests.support.handwritten:pairs", html=absent).run()
    with pytest.raises(InputError, match="expected the name of a file, got that of a folder"):
        Verify("parity_tests.support.handwritten:pairs", html=tmp_path).run()
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_the_catalogue_prints_every_fault_with_its_formulas(capsys):
    assert main(["faults"]) == 0
    text = capsys.readouterr().out
    titles = re.findall("^### (.*)$", text, re.MULTILINE)
    assert sorted(titles) == sorted(fault.id for fault in FAULTS)
    entries = dict(zip(titles, text.split("\n### ")[1:], strict=True))
    for fault in FAULTS:
        for part in (f"\n- {fault.wrong}\n", f"\n+ {fault.right}\n", fault.fix, fault.seen):
            assert part in entries[fault.id]
    entry = entries["dc-assigned"]
    assert "Breaks equation (9); first shown by `dc` at step T - 1." in entry
    assert "Seen in: apache/mxnet issue 4057." in entry
