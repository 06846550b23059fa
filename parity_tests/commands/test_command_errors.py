"""What every command does where it cannot go on: one sentence, and no verdict's exit status."""

import subprocess
import sys
from pathlib import Path

import pytest

from numpy_lstm.errors import EXTRAS, InputError, MissingPackage, one_line_errors, require
from parity_tests.campaigns import (
    faults,
    porting_mutants,
    random_problems,
    sensitivity,
    training_faults,
)
from parity_tests.campaigns.corruption import __main__ as corruption

ROOT = Path(__file__).parents[2]
HIDE = """
import runpy, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
sys.argv = {arguments!r}
sys.path.insert(0, {folder!r})
runpy.run_path({script!r}, run_name="__main__")
"""


def run_without(package: str, script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script as if a package were not installed."""
    path = ROOT / "scripts" / script
    code = HIDE.format(
        package=package,
        arguments=[script, *map(str, arguments)],
        folder=str(path.parent),
        script=str(path),
    )
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT
    )


@pytest.mark.parametrize(
    ("package", "script", "arguments"),
    [
        ("tyro", "train.py", ()),
        ("rich", "train.py", ()),
        ("matplotlib", "train.py", ("counting",)),
        ("torch", "train.py", ("counting", "--oracle")),
        ("tyro", "sample.py", ()),
        ("tyro", "reproduce.py", ()),
        ("tyro", "benchmark.py", ()),
        ("torch", "benchmark.py", ()),
        ("tyro", "scaling.py", ()),
        ("rich", "mutants.py", ()),
        ("rich", "port.py", ()),
    ],
)
def test_a_missing_package_is_one_sentence_and_exit_status_2(package, script, arguments, tmp_path):
    if script == "train.py" and arguments:
        arguments = (*arguments, "--out", tmp_path / "run")
    result = run_without(package, script, *arguments)
    extra = EXTRAS[package]
    assert (result.returncode, result.stdout, result.stderr) == (
        2,
        "",
        f"error: this needs the package {package}, which is not installed;"
        f" pip install 'numpy-lstm[{extra}]'\n",
    )
    assert not (tmp_path / "run").exists()


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
        "this needs the package h5py, which is not installed; pip install 'numpy-lstm[porting]'"
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


def test_every_extra_is_one_of_the_distribution():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for package, extra in EXTRAS.items():
        names = [line.partition(">")[0] for line in project["optional-dependencies"][extra]]
        imported = {"google-crc32c": "google_crc32c", "protobuf": "google.protobuf"}
        assert package in [imported.get(name, name) for name in names]
