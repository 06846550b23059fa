"""``pytest --verify-lstm package.module:adapter``: every tensor of every case is a test.

What an adapter is, `torch_oracle.adapters` says. The tests stand in the file of the adapter, as if
they were a parametrised function of its name, so that node ids, ``--lf``, ``-k`` and reports work
as usual. Without the option, nothing is imported.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torch_oracle.pytest_nodes import AdapterNode

SELECTED = pytest.StashKey[list[str]]()
"""The arguments of the command line that are node ids of adapters' tests; empty for all tests."""
NODES = pytest.StashKey[list["AdapterNode"]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that name an LSTM to judge."""
    group = parser.getgroup("verify-lstm", "an LSTM of your own, judged by PyTorch")
    group.addoption(
        "--verify-lstm",
        metavar="PACKAGE.MODULE:ADAPTER",
        action="append",
        default=[],
        help="compare this adapter, or torch.nn.Module, with torch's nn.LSTMCell; may be repeated,"
        " and file.py:adapter will do",
    )
    group.addoption(
        "--verify-lstm-full",
        action="store_true",
        help="more seeds and larger sizes: about half a minute instead of seconds",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to start where an adapter is named and torch, which judges it, is not installed."""
    if not config.option.verify_lstm:
        return
    from numpy_lstm.errors import MissingPackage, require

    try:
        require("torch")
    except MissingPackage as error:
        raise pytest.UsageError(f"--verify-lstm: {error}") from error


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Load the adapters, and keep the node ids of their tests from pytest's own collection."""
    config = session.config
    if not config.option.verify_lstm or config.pluginmanager.hasplugin("dsession"):
        return  # the processes of pytest-xdist collect, and the one that starts them does not
    from torch_oracle.pytest_nodes import AdapterNode

    nodes = [AdapterNode.from_parent(session, spec=spec) for spec in config.option.verify_lstm]
    selected = [each for each in config.args if any(node.owns(each) for node in nodes)]
    config.args = [each for each in config.args if each not in selected]
    config.stash[NODES], config.stash[SELECTED] = nodes, selected


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the tests of each adapter, or those that the command line names."""
    selected = config.stash.get(SELECTED, [])
    found = set()
    for node in config.stash.get(NODES, []):
        for item in session.genitems(node):
            naming = [each for each in selected if node.names(each, item)]
            found |= set(naming)
            if naming or not selected:
                items.append(item)
    for argument in selected:
        if argument not in found:
            raise pytest.UsageError(f"not found: {argument}")
