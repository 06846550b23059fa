"""What stands for an LSTM on a command line: `package.module:name` and `file.py:name`."""

import re
import sys

import pytest

from numpy_lstm.errors import InputError
from torch_oracle.adapters import load
from torch_oracle.verification.spec import import_object

SOURCE = """
from pathlib import Path

def good(weights, x):
    pass

def model(weights, tokens, targets):
    pass

def helper(a):
    pass
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory, with adapters in a file and in a package."""
    package = tmp_path / "package_of_a_user" / "inner"
    package.mkdir(parents=True)
    for each in (package, package.parent):
        (each / "__init__.py").touch()
    (package / "adapters_in_it.py").write_text("from . import __name__ as place\n" + SOURCE)
    (tmp_path / "code.py").write_text(SOURCE)
    (tmp_path / "adapters_in_a_file.py").write_text(SOURCE)
    (tmp_path / "helpers_alone.py").write_text("def helper(a):\n    pass\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "adapters_elsewhere.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("package_of_a_user", "adapters_in_a_file", "adapters_elsewhere"):
            del sys.modules[name]


@pytest.mark.parametrize(
    "spec",
    [
        "adapters_in_a_file.py:good",
        "./adapters_in_a_file.py:good",
        "elsewhere/adapters_elsewhere.py:good",
        "{}/elsewhere/adapters_elsewhere.py:good",
        "package_of_a_user/inner/adapters_in_it.py:good",
    ],
)
def test_a_file_is_named_by_its_path(spec, folder):
    adapter = load(spec.format(folder))
    assert adapter.function.__name__ == "good"


def test_a_file_in_a_package_is_the_packages_module(folder):
    by_path = import_object("package_of_a_user/inner/adapters_in_it.py:good")
    assert import_object("package_of_a_user.inner.adapters_in_it:good") is by_path


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "adapters_in_a_file.py",
            "adapters_in_a_file.py: expected a name after it, such as adapters_in_a_file.py:adapter"
            "; adapters_in_a_file.py has good, model",
        ),
        (
            "./adapters_in_a_file.py:other",
            "./adapters_in_a_file.py has no 'other'; ./adapters_in_a_file.py has good, model",
        ),
        ("helpers_alone.py", "such as helpers_alone.py:adapter; helpers_alone.py has none"),
        ("absent.py:good", "absent.py:good: there is no file absent.py"),
        ("./elsewhere:good", "./elsewhere:good: there is no file elsewhere"),
        ("code.py:good", "code.py:good: another module is called 'code' ("),
        ("adapters_in_a_file:", "expected package.module:name or file.py:name"),
        (":good", "expected package.module:name or file.py:name"),
    ],
)
def test_what_cannot_be_found_is_told_in_a_sentence(spec, message, folder):
    import code  # Python's own, which is loaded already

    assert code
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        load(spec)
    assert "\n" not in str(caught.value)
