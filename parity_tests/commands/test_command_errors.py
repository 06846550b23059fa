"""What every command does where it cannot go on: one sentence, and no verdict's exit status."""

import subprocess
import sys
from pathlib import Path

import pytest

from numpy_lstm.commands.reporting import one_line_errors
from numpy_lstm.errors import EXTRAS, InputError, MissingPackage, require
from parity_tests.campaigns import (
    faults,
    porting_mutants,
    random_problems,
    sensitivity,
    training_faults,
)
from parity_tests.campaigns.corruption import __main__ as corruption
from parity_tests.support.commands import MODULES, Result, run_script_here

ROOT = Path(__file__).parents[2]
HIDE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
from {module}.__main__ import main
raise SystemExit(main())
"""
PAIR = ("parity_tests.support.handwritten:pairs",)


def run_without(package: str, program: str, *arguments: object) -> Result:
    """Run a program as if a package were not installed."""
    code = HIDE.format(package=package, module=MODULES[program])
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )


@pytest.mark.parametrize(
    ("package", "extra", "program", "arguments"),
    [
        ("tyro", "train", "numpy-lstm", ("train", "counting")),
        ("rich", "train", "numpy-lstm", ("train", "counting")),
        ("matplotlib", "train", "numpy-lstm", ("train", "counting")),
        ("tyro", "train", "numpy-lstm", ("sample", "none")),
        ("tyro", "port", "numpy-lstm", ("port", "layouts")),
        ("rich", "port", "numpy-lstm", ("port", "layouts")),
        ("torch", "verify", "numpy-lstm", ("port", "check", "a.npz", "mine:module")),
        ("torch", "verify", "lstm-oracle", ("verify", *PAIR)),
        ("tyro", "verify", "lstm-oracle", ("verify", *PAIR)),
        ("rich", "verify", "lstm-oracle", ("diagnose", *PAIR)),
        ("jinja2", "verify", "lstm-oracle", ("verify", *PAIR, "--html", "page.html")),
        ("torch", "verify", "lstm-oracle", ("training", *PAIR)),
        ("torch", "verify", "lstm-oracle", ("lockstep", "counting")),
        ("matplotlib", "verify", "lstm-oracle", ("lockstep", "counting")),
        ("tyro", "verify", "lstm-oracle", ("faults",)),
    ],
)
def test_a_missing_package_is_one_sentence_with_the_line_that_installs_it(
    package, extra, program, arguments
):
    result = run_without(package, program, *arguments)
    assert (result.returncode, result.stdout, result.stderr) == (
        2,
        "",
        f"error: this needs the package {package}, which is not installed;"
        f" pip install 'numpy-lstm[{extra}]'\n",
    )


@pytest.mark.parametrize(
    ("package", "script"),
    [("tyro", "reproduce.py"), ("tyro", "benchmark.py"), ("torch", "benchmark.py")],
)
def test_so_it_is_for_the_scripts_of_a_checkout(package, script, monkeypatch):
    loaded = [name for name in sys.modules if name.partition(".")[0] == package]
    for name in {package, *loaded}:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "benchmark", raising=False)
    result = run_script_here(ROOT / "scripts" / script)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: this needs the package {package}, which is not ins")


def test_a_module_of_no_extra_that_is_missing_stays_a_mistake_of_the_program():
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), one_line_errors():
        import no_such_module  # pyright: ignore[reportMissingImports] # noqa: F401


def test_require_raises_for_a_missing_package_only(monkeypatch):
    require("rich")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingPackage) as caught:
        require("h5py")
    assert isinstance(caught.value, InputError)
    assert str(caught.value) == (
        "this needs the package h5py, which is not installed; pip install 'numpy-lstm[port]'"
    )


VACUOUS = [
    (random_problems, {"problems": 0}, "problems: expected an integer of at least 1, got 0"),
    (corruption, {"files": 0}, "files: expected an integer of at least 1, got 0"),
    (corruption, {"containers": ("no",)}, "containers: expected some of"),
    (faults, {"combinations": 0}, "combinations: expected an integer of at least 1, got 0"),
    (faults, {"sources": ()}, "sources: expected some of"),
    (training_faults, {"pairs": 0}, "pairs: expected an integer of at least 1, got 0"),
    (training_faults, {"levels": ()}, "levels: expected some of"),
    (sensitivity, {"steps": 0}, "steps: expected an integer of at least 1, got 0"),
]


@pytest.mark.parametrize(("campaign", "settings", "message"), VACUOUS)
def test_a_campaign_that_would_try_nothing_is_refused(campaign, settings, message):
    with pytest.raises(InputError, match=message):
        campaign.main(campaign.Settings(**settings))


def test_a_campaign_of_no_test_vectors_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(porting_mutants, "FOLDER", tmp_path)
    with pytest.raises(InputError, match="expected test vectors"):
        porting_mutants.main()


IMPORTED = {"google-crc32c": "google_crc32c", "protobuf": "google.protobuf"}


def test_the_extras_named_in_messages_install_the_packages():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for package, extras in EXTRAS.items():
        for extra in extras:
            names = [line.partition(">")[0] for line in project["optional-dependencies"][extra]]
            assert package in [IMPORTED.get(name, name) for name in names]
