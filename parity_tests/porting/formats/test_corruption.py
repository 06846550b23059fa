"""A small part of the campaign of damaged and malicious files, and proof that it would notice."""

import json
import subprocess
import sys
from collections import Counter

import pytest

from parity_tests.campaigns.corruption.__main__ import Settings, attacks, main, report, run
from parity_tests.campaigns.corruption.attack import CANARY, Attack
from parity_tests.campaigns.corruption.cases import DESTINATION, Case, Outcome, trespass, try_case
from parity_tests.campaigns.corruption.samples import samples
from parity_tests.campaigns.corruption.watched_process import Worker

FILES = 50


def test_damaged_and_malicious_files_are_refused_or_read_and_never_do_harm(tmp_path):
    outcomes = list(run(Settings(files=FILES), tmp_path))
    assert [(o.kind, o.name, o.failure) for o in outcomes if o.failure] == []
    kinds = Counter(outcome.kind for outcome in outcomes)
    known = [sample.kind for sample in samples()]
    assert kinds == {kind: FILES // len(known) for kind in known} | {
        "attacks": len(attacks(Settings()))
    }
    reads = Counter(outcome.read for outcome in outcomes)
    assert min(reads["refused"], reads["identical"], reads["different"]) > 2
    assert report(outcomes).row_count == len(known) + 2


def case(checked=False, attack=None):
    return Case("kind", "name", attack or {}, {}, whole="digest", checked=checked)


def answer(read="refused", convert="refused", wrong=""):
    return {"read": read, "convert": convert, "wrong": wrong}


@pytest.mark.parametrize(
    ("tried", "answered", "failure"),
    [
        (case(), answer(), ""),
        (case(), answer("another digest", "done"), ""),
        (case(checked=True), answer("digest", "done"), ""),
        (case(checked=True), answer("another digest"), "read as other tensors, despite its check"),
        (case(), answer(wrong="Traceback"), "Traceback"),
        (case(attack=Attack("", lambda folder: folder)), answer("digest"), "not refused by read"),
        (case(attack=Attack("", lambda folder: folder, "convert")), answer("digest"), ""),
        (
            case(attack=Attack("", lambda folder: folder, "convert")),
            answer("digest", "done"),
            "not refused by convert",
        ),
    ],
)
def test_an_answer_is_judged(tried, answered, failure):
    outcome = tried.judge(answered)
    assert outcome.failure[: len(failure) or None] == failure
    assert outcome.unnoticed == failure.startswith("read as")


def test_what_happens_in_the_folder_is_noticed():
    before = {"a": b"1", DESTINATION: b"2"}
    proof = {f"{DESTINATION}.proof.json": b"4"}
    converted = before | {DESTINATION: b"3"} | proof
    assert trespass(before, before, converted=False) == ""
    assert trespass(before, converted, converted=True) == ""
    assert trespass(before, converted, converted=False).startswith("changed or left behind")
    assert trespass(before, before | {".tmp": b""}, converted=False).endswith(": .tmp")
    assert trespass(before, converted | {"a": b""}, converted=True).endswith(": a")
    assert trespass(before, {DESTINATION: b"2"}, converted=False).endswith(": a")
    assert trespass(before, before, converted=True) == "converted, but no file is there"
    assert trespass(before, before | {CANARY: b""}, converted=False) == "code of the file was run"


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("input(); os.abort()", "the process died with status -6"),
        ("input(); sys.exit(3)", "the process died with status 3"),
        ("time.sleep(60)", "hangs"),
        ("while True: pass", "hangs"),
    ],
)
def test_a_process_that_crashes_or_hangs_is_noticed_and_another_started(code, wrong):
    script = f"import os, resource, sys, time; print('ready', flush=True)\n{code}"
    worker = Worker(0.1, (sys.executable, "-c", script))
    for _ in range(2):
        assert worker.ask({})["wrong"] == wrong
    assert worker.process is None


def test_a_worker_may_not_use_more_than_a_gibibyte():
    script = (
        "from parity_tests.campaigns.corruption.worker import limit_memory; limit_memory();"
        "a = bytearray(900 << 20); del a; print('enough', flush=True); bytearray(1100 << 20)"
    )
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout == "enough\n"
    assert result.stderr.endswith("MemoryError\n")


ANSWERS = """import sys
print("ready", flush=True)
for line in sys.stdin:
    print({answer!r}, flush=True)
"""


def test_a_failing_file_is_kept_and_any_other_removed(tmp_path):
    for wrong in ("", "Traceback"):
        script = ANSWERS.format(answer=json.dumps(answer(wrong=wrong)))
        worker = Worker(60, (sys.executable, "-c", script))
        tried = Case("json", "name", {"a.json": b"{}"}, {})
        outcome, _ = try_case(tried, worker, tmp_path / "case")
        worker.stop()
        assert outcome.failure == wrong
        assert (tmp_path / "case" / "a.json").exists() == bool(wrong)


@pytest.mark.parametrize("failure", ["", "crashed"])
def test_a_failure_is_printed_and_decides_the_exit_status(tmp_path, monkeypatch, capsys, failure):
    def one(settings, scratch):
        yield Outcome("json", "number 7", "refused", False, failure=failure)

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("parity_tests.campaigns.corruption.__main__.run", one)
    assert main(Settings(files=1, containers=("json",))) == bool(failure)
    printed = capsys.readouterr().out
    assert ("json, number 7: crashed" in printed) == bool(failure)
    assert ("1 failures; their files are in" in printed) == bool(failure)
    assert len(list(tmp_path.iterdir())) == bool(failure)
