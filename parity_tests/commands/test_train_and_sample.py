"""The commands as a user runs them: results, files, and one clear sentence for bad input."""

import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from numpy_lstm import (
    Checkpoint,
    LanguageModel,
    Vocabulary,
    init_language_model,
    load_checkpoint,
    save_checkpoint,
)
from parity_tests.support.commands import (
    Result,
    command_line,
    interruptible,
    run_here,
    run_in_a_process,
    run_script_here,
)
from torch_oracle.lockstep.free_run import FACTOR

pytestmark = pytest.mark.usefixtures("without_type_checks")
SCRIPTS = Path(__file__).parents[2] / "scripts"
TINY = ("--hidden-size", "8", "--num-sequences", "50", "--n-max", "4")


def run_script(script: str, *arguments: object, timeout: float = 120) -> Result:
    """Run a script in a process of its own."""
    command = [sys.executable, str(SCRIPTS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


def train(*arguments: object) -> Result:
    """Run `numpy-lstm train` in this process."""
    return run_here("numpy-lstm", "train", *arguments)


def sample(*arguments: object) -> Result:
    """Run `numpy-lstm sample` in this process."""
    return run_here("numpy-lstm", "sample", *arguments)


def lockstep(*arguments: object, timeout: float = 120) -> Result:
    """Run `lstm-oracle lockstep` in a process of its own, where no annotation is checked."""
    return run_in_a_process("lstm-oracle", "lockstep", *arguments, timeout=timeout)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def log_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def counting(tmp_path_factory):
    """A short run with the oracle."""
    out = tmp_path_factory.mktemp("counting")
    result = lockstep(
        "counting", *TINY, "--epochs", 3, "--target-excess", 9, "--tables", "--out", out
    )
    return out, result


def test_training_with_the_oracle_prints_the_verdicts_and_exits_0(counting):
    _, result = counting
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("holds") == 6
    assert "FAILS" not in result.stdout
    for name in ("longest n solved", "da_f", "dW_hh", "clip coefficient", "validation loss"):
        assert name in result.stdout


def test_training_writes_log_curves_and_the_best_weights(counting):
    out, _ = counting
    log = log_of(out)
    steps = [record for record in log if "loss" in record]
    validations = [record for record in log if "validation_loss" in record]
    assert [record["step"] for record in steps] == list(range(6))
    assert [record["epoch"] for record in validations] == [0, 1, 2, 3]
    assert all(abs(r["torch_loss"] - r["loss"]) <= r["noise_floor"] for r in steps)
    assert all(record["largest_separation"] <= FACTOR for record in log)
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    checkpoint = load_checkpoint(out / "best.safetensors")
    best = min(record["validation_loss"] for record in validations)
    assert checkpoint.notes["validation_loss"] == best
    assert checkpoint.model.hidden_size == 8


RATES = {"sgd": 0.1, "adam": 0.01}
THOUSAND = [
    pytest.param(optimizer, dtype, 1000, marks=pytest.mark.proof)
    for optimizer in RATES
    for dtype in ("float32", "float64")
]


@pytest.mark.parametrize(("optimizer", "dtype", "count"), [("adam", "float32", 10), *THOUSAND])
def test_a_long_run_with_clipping_passes(optimizer, dtype, count, tmp_path):
    """As a command, since the checks of shapes at run time would take most of the time here."""
    result = lockstep(
        "counting", "--parity-every", 0, "--target-excess", 9,
        "--hidden-size", 20, "--n-max", 6, "--num-sequences", 100, "--batch-size", 8,
        "--epochs", count // 10, "--schedule", "constant", "--optimizer", optimizer,
        "--lr", RATES[optimizer],
        "--dtype", dtype, "--free-run-steps", min(60, count // 2), "--out", tmp_path, timeout=600,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    log = log_of(tmp_path)
    steps = [record for record in log if "loss" in record]
    assert len(steps) == count
    assert sum(record["clip_coefficient"] < 1 for record in steps) > 0.9 * count
    judged = [r["largest_separation"] for r in steps if "largest_separation" in r]
    assert len(judged) == min(60, count // 2)
    assert max(judged) <= FACTOR


def test_the_benchmark_prints_a_table_and_writes_every_figure(tmp_path):
    out = tmp_path / "benchmark.json"
    result = run_script(
        "benchmark.py", "--only", "N=1 T=", "--threads", 1, "--dtypes", "float32",
        "--rounds", 1, "--out", out,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    rows = [line.split("|")[1].strip() for line in result.stdout.splitlines() if "N=1 " in line]
    assert rows == [
        "layer N=1 T=24 I=4 H=50",
        "layer N=1 T=512 I=64 H=64",
        "generation N=1 T=100 I=65 H=128 (a token)",
    ]
    written = json.loads(out.read_text())
    assert {"processor", "numpy", "torch"} <= written["machine"].keys()
    assert all(record["seconds"] for record in written["records"])
    names = [record["implementation"] for record in written["records"]]
    assert names == [*["numpy", "nn.LSTM", "LSTMCell", "products"] * 2, "numpy", "LSTMCell"]


def test_the_scaling_table_and_a_long_sequence():
    result = run_script("scaling.py", "--repetitions", 1, "--steps", 3000)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("exponents over") == 2
    assert "gradients identical to the last bit: True" in result.stdout


def test_a_verdict_that_fails_gives_exit_status_1(tmp_path):
    arguments = ("--epochs", 1, "--target-excess", 1e-9, "--out", tmp_path)
    result = lockstep("counting", *TINY, *arguments)
    assert result.returncode == 1
    assert "FAILS" in result.stdout


def test_sampling_continues_the_prompt_and_reports_the_longest_n(counting):
    out, _ = counting
    result = sample(out / "best.safetensors", "--prompt", "aab", "--greedy")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("aab")
    assert "longest n" in result.stdout
    unknown = sample(out / "best.safetensors", "--prompt", "axb")
    assert unknown.returncode == 0
    assert "not in the vocabulary, read as UNK: ['x']" in unknown.stderr


def test_text_runs_from_the_same_command_and_can_be_sampled(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("In the beginning was the word. " * 60, encoding="utf-8")
    small = ("--hidden-size", 16, "--epochs", 2, "--streams", 5, "--steps", 20)
    result = train("text", text, *small, "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    losses = [r["validation_loss"] for r in log_of(tmp_path / "out") if "validation_loss" in r]
    assert losses[-1] < losses[0]
    arguments = (tmp_path / "out" / "best.safetensors", "--length", 30, "--prompt", "the")
    first, second = sample(*arguments), sample(*arguments)
    assert len(first.stdout) >= len("the") + 30
    assert first.stdout == second.stdout


def test_ctrl_c_leaves_the_log_and_the_best_weights(tmp_path):
    arguments = ("counting", "--epochs", 1000, "--out", tmp_path)
    with interruptible(command_line("lstm-oracle", "lockstep", *arguments)) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "best.safetensors").exists() or len(log_of(tmp_path)) < 3:
            assert time.monotonic() < deadline, "nothing was written"
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert "interrupted" in stdout
    assert "Traceback" not in stderr
    assert len(log_of(tmp_path)) >= 3
    assert load_checkpoint(tmp_path / "best.safetensors").model.hidden_size == 50
    assert (tmp_path / "curves.png").exists()


@pytest.mark.parametrize("script", ["reproduce.py", "benchmark.py", "scaling.py"])
def test_help_explains_itself(script):
    result = run_script_here(SCRIPTS / script, "--help")
    assert result.returncode == 0
    assert "usage" in result.stdout


def bad_inputs(tmp_path: Path) -> dict[str, tuple[tuple[object, ...], str]]:
    empty, one, latin = tmp_path / "empty", tmp_path / "one", tmp_path / "latin"
    empty.write_bytes(b"")
    one.write_bytes(b"a")
    latin.write_bytes(b"caf\xe9")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x10")
    whole = tmp_path / "whole.safetensors"
    model = LanguageModel(4, 2)
    parameters = init_language_model(model, rng=np.random.default_rng(0))
    save_checkpoint(whole, Checkpoint(model, Vocabulary(("a", "b", "EOS", "UNK")), parameters, {}))
    out = ("--out", tmp_path / "out")
    return {
        "empty text": (("train", "text", empty, *out), "got an empty text"),
        "one character": (("train", "text", one, *out), "give a longer text"),
        "not UTF-8": (("train", "text", latin, *out), "got byte 0xe9 at offset 3"),
        "no text": (("train", "text", tmp_path / "no", *out), "cannot be read (No such file"),
        "n range": (("train", "counting", "--n-min", 5, "--n-max", 2, *out), "swap them"),
        "hidden size": (
            ("train", "counting", "--hidden-size", 0, *out),
            "--hidden-size: expected an integer of at least 1, got 0",
        ),
        "learning rate": (("train", "counting", "--lr", -1, *out), "--lr: expected a finite"),
        "epochs": (("train", "counting", "--epochs", 0, *out), "--epochs: expected an integer"),
        "threads": (
            ("train", "counting", "--threads", 0, *out),
            "--threads: expected an integer of at least 1, got 0",
        ),
        "too many threads": (
            ("train", "counting", "--threads", 10**20, *out),
            "--threads: expected at most",
        ),
        "too large a model": (
            ("train", "counting", "--hidden-size", 10**9, *out),
            "--hidden-size: 1 layers of this size and their gradients need at least 6.4e+10 GB",
        ),
        "too many sequences": (
            ("train", "counting", "--num-sequences", 10**20, *out),
            "--num-sequences: sequences of this number and length need at least",
        ),
        "out is a file": (("train", "counting", "--out", one), "cannot be written to"),
        "missing checkpoint": (("sample", tmp_path / "no"), "no such file"),
        "truncated checkpoint": (("sample", broken), "was it truncated?"),
        "length": (
            ("sample", broken, "--length", 0),
            "--length: expected an integer of at least 1, got 0",
        ),
        "endless": (
            ("sample", whole, "--length", 10**20),
            "--length: expected at most 9223372036854775807",
        ),
        "out is a folder": (("reproduce.py", "--out", tmp_path), "got that of a folder"),
        "figures exist": (("reproduce.py", "--out", one), "exists already; choose another, or"),
        "seeds": (("reproduce.py", "--seeds", 0), "--seeds: expected an integer of at least 1"),
        "rounds": (("benchmark.py", "--rounds", 0), "--rounds: expected an integer of at least 1"),
        "workload": (
            ("benchmark.py", "--only", "x"),
            "--only: no workload contains 'x'; there are:",
        ),
        "steps": (("scaling.py", "--steps", 0), "--steps: expected an integer of at least 1"),
    }


CASES = list(bad_inputs(Path(tempfile.mkdtemp())))


@pytest.mark.parametrize("case", CASES)
def test_bad_input_gets_one_sentence_and_exit_status_2(case, tmp_path):
    (name, *arguments), message = bad_inputs(tmp_path)[case]
    before = contents(tmp_path)
    if str(name).endswith(".py"):
        result = run_script_here(SCRIPTS / str(name), *arguments)
    else:
        result = run_here("numpy-lstm", name, *arguments)
    assert contents(tmp_path) == before
    assert result.returncode == 2, result.stdout + result.stderr
    errors = result.stderr.strip().splitlines()
    assert len(errors) == 1, result.stderr
    assert errors[0].startswith("error: ")
    assert message in errors[0]


def test_an_empty_prompt_is_refused(counting):
    out, _ = counting
    result = sample(out / "best.safetensors", "--prompt", "")
    assert (result.returncode, result.stderr) == (
        2,
        "error: --prompt: expected at least one token, got none\n",
    )


def test_tinyshakespeare_reads_as_documented(tinyshakespeare, tmp_path):
    small = ("--hidden-size", 4, "--epochs", 1, "--streams", 1000, "--steps", 500)
    result = train("text", tinyshakespeare, *small, "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    assert load_checkpoint(tmp_path / "best.safetensors").model.vocab_size == 66


def test_a_folder_that_holds_a_run_is_kept_unless_it_may_be_overwritten(tmp_path):
    command = ("counting", *TINY, "--epochs", 1, "--out", tmp_path / "run")
    assert train(*command).returncode == 0
    before = contents(tmp_path / "run")
    result = train(*command)
    assert (result.returncode, result.stdout) == (2, "")
    assert "holds a run already (log.jsonl, best.safetensors, curves.png)" in result.stderr
    assert contents(tmp_path / "run") == before
    refused = train(*command, "--overwrite", "--max-norm", -1)
    assert refused.returncode == 2
    assert contents(tmp_path / "run") == before
    assert train(*command, "--overwrite", "--seed", 1).returncode == 0
    after = contents(tmp_path / "run")
    assert all(after[name] != before[name] for name in before)
    assert len(log_of(tmp_path / "run")) == len(before["log.jsonl"].splitlines())


def test_without_a_folder_each_run_gets_a_new_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert train("counting", *TINY, "--epochs", 1).returncode == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["counting-1", "counting-2"]


DIVERGING = {
    "not finite": ("--lr", 1e308, "--max-norm", "None", "--momentum", 9),
    "worse than a guess": ("--lr", 1e3, "--epochs", 3),
}


@pytest.mark.parametrize("case", DIVERGING)
def test_a_diverged_run_says_at_which_step_and_exits_1(case, tmp_path):
    command = ("counting", *TINY, "--optimizer", "sgd", *DIVERGING[case])
    result = train(*command, "--out", tmp_path / "run")
    assert result.returncode == 1
    (sentence,) = result.stderr.splitlines()
    assert sentence.startswith("error: training diverged at step 1: ")
    assert {*contents(tmp_path / "run")} == {"log.jsonl", "best.safetensors", "curves.png"}


def run_with_file_limit(size: int, *command: object) -> Result:
    """Run a command that can write no file beyond this size, as if the disk were full then."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return subprocess.run(
        command_line("numpy-lstm", "train", *command),
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=limit,
    )


def test_a_disk_that_is_full_at_once_keeps_the_old_run_and_leaves_no_new_folder(tmp_path):
    command = ("counting", *TINY, "--epochs", 1)
    assert train(*command, "--out", tmp_path / "old").returncode == 0
    before = contents(tmp_path / "old")
    for folder in ("old", "new"):
        result = run_with_file_limit(0, *command, "--overwrite", "--out", tmp_path / folder)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr == (
            f"error: {tmp_path / folder}: cannot be written to (File too large)\n"
        )
    assert contents(tmp_path / "old") == before
    assert not (tmp_path / "new").exists()


def test_a_disk_that_fills_up_keeps_the_weights_and_whole_lines_of_the_log(tmp_path):
    command = ("counting", *TINY, "--epochs", 20, "--out", tmp_path / "run")
    result = run_with_file_limit(6000, *command)
    assert result.returncode == 2, result.stdout
    (sentence,) = result.stderr.splitlines()
    assert sentence == (
        f"error: {tmp_path / 'run'}: could not write log.jsonl (File too large),"
        " curves.png (File too large); the rest is saved"
    )
    log = log_of(tmp_path / "run")  # every line of it is whole
    kept = len(json.dumps(log)) // len(log)
    assert 6000 - 2 * kept < (tmp_path / "run" / "log.jsonl").stat().st_size <= 6000
    best = load_checkpoint(tmp_path / "run" / "best.safetensors")
    assert best.notes["epoch"] > max(record["epoch"] for record in log)


def test_a_full_standard_output_costs_nothing_on_disk(tmp_path):
    arguments = ("counting", *TINY, "--epochs", 2, "--out", tmp_path)
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            command_line("numpy-lstm", "train", *arguments),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert result.returncode == 2
    assert result.stderr == (
        f"error: {tmp_path}: could not write standard output (No space left on device);"
        " the rest is saved\n"
    )
    assert {*contents(tmp_path)} == {"log.jsonl", "best.safetensors", "curves.png"}
    assert len([record for record in log_of(tmp_path) if "validation_loss" in record]) == 3


def test_a_reader_that_goes_away_is_no_verdict_and_no_traceback(counting):
    out, _ = counting
    arguments = f"sample {out / 'best.safetensors'}", "train --help", "--help"
    for line in arguments:
        command = f"{sys.executable} -m numpy_lstm {line} | true; exit ${{PIPESTATUS[0]}}"
        result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
        assert (result.returncode, result.stdout, result.stderr) == (141, "", "")


def test_ctrl_c_before_the_first_validation_leaves_no_trace(tmp_path):
    from numpy_lstm.training import loop

    with mock.patch.object(loop, "evaluate", side_effect=KeyboardInterrupt):
        result = train("counting", *TINY, "--out", tmp_path / "run")
    assert result.returncode == 130
    assert "interrupted before the first validation; nothing was written" in result.stdout
    assert not (tmp_path / "run").exists()


def test_an_ascii_terminal_sees_other_characters_as_escapes(counting, monkeypatch):
    out, _ = counting
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    result = run_in_a_process(
        "numpy-lstm", "sample", out / "best.safetensors", "--prompt", "\u00e9", "--length", 1
    )
    assert (result.returncode, result.stdout[:4]) == (0, "\\xe9")


def test_reproduce_saves_after_every_run_and_says_so(tmp_path):
    out = tmp_path / "figures.json"
    code = f"""
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, {str(SCRIPTS)!r})
import reproduce

for name, recipe in reproduce.RECIPES.items():
    reproduce.RECIPES[name] = replace(recipe, epochs=1, num_sequences=200)
with reproduce.one_line_errors():
    reproduce.main(reproduce.Settings(seeds=100, out=Path({str(out)!r})))
"""
    command = [sys.executable, "-u", "-c", code]
    with interruptible(command) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=120)
    assert first.startswith("1 of 200: recommended")
    assert (process.returncode, stderr) == (130, "interrupted\n")
    assert json.loads(out.read_text())["runs"][0]["seed"] == 0
