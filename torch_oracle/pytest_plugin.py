"""``pytest --verify-lstm package.module:adapter``: every tensor of every case is a test.

What an adapter is, torch_oracle/adapters.py says. Without the option, nothing is imported.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torch_oracle.verify.adapters import Adapter
    from torch_oracle.verify.verification import Case, Result


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("verify-lstm", "an LSTM of your own, judged by PyTorch")
    group.addoption(
        "--verify-lstm",
        metavar="PACKAGE.MODULE:ADAPTER",
        action="append",
        default=[],
        help="compare this adapter, or torch.nn.Module, with torch's nn.LSTMCell; may be repeated",
    )
    group.addoption(
        "--verify-lstm-full",
        action="store_true",
        help="more seeds and larger sizes: about half a minute instead of seconds",
    )


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the tests of each adapter."""
    for spec in config.option.verify_lstm:
        items += session.genitems(AdapterNode.from_parent(session, name=spec, nodeid=spec))


class Wrong(Exception):
    """A test's failure, in one sentence."""


class AdapterNode(pytest.Collector):
    """All tests of one adapter. Cases are judged when first needed, once in each process."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._adapter: Adapter | None = None
        self._results: dict[Case, Result] = {}

    def collect(self) -> list["TensorItem"]:
        """A test for each tensor of each case, and for each call; or one, if loading fails."""
        return list(self._items())

    def _items(self) -> Iterator["TensorItem"]:
        from numpy_lstm.errors import InputError
        from torch_oracle.verify.adapters import load
        from torch_oracle.verify.results import Complaint
        from torch_oracle.verify.verification import cases

        try:
            self._adapter = load(self.name)
        except InputError as error:
            yield TensorItem.from_parent(self, name="load", refusal=str(error))
            return
        drawn = cases(self._adapter, "full" if self.config.option.verify_lstm_full else "quick")
        try:
            names = self._adapter.call(drawn[0].problem(self._adapter)).names
        except Complaint:
            names = {}
        for case in drawn:
            yield TensorItem.from_parent(self, name=f"{case.name}::call", case=case)
            for tensor, own in names.items():
                item = TensorItem.from_parent(
                    self, name=f"{case.name}::{tensor}", case=case, tensor=tensor
                )
                item.extra_keyword_matches.add(own)
                yield item

    def result(self, case: "Case") -> "Result":
        """What came of the case."""
        from torch_oracle.verify.verification import judge

        assert self._adapter is not None
        if case not in self._results:
            self._results[case] = judge(self._adapter, case)
        return self._results[case]


class TensorItem(pytest.Item):
    """One tensor of one case; without a tensor, whether the calls themselves were in order."""

    parent: AdapterNode

    def __init__(
        self,
        *,
        case: "Case | None" = None,
        tensor: str | None = None,
        refusal: str | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self._case, self._tensor, self._refusal = case, tensor, refusal

    def runtest(self) -> None:
        """Raise `Wrong` with the sentence of the divergence, or of the complaint."""
        if self._case is None:
            raise Wrong(self._refusal)
        from torch_oracle.verify.verification import sentence

        result, tensor = self.parent.result(self._case), self._tensor
        complained = f"{self.parent.name} {result.complaint}"
        if result.comparison is None:
            raise Wrong(complained)
        if tensor is None:
            if result.complaint is not None:
                raise Wrong(complained)
            return
        if tensor not in dict(result.names):
            raise Wrong(f"{self.parent.name} returned {tensor} before, but not in this case")
        divergence, first = result.comparison.divergences.get(tensor), result.first
        if divergence is None or first is None:
            return
        earlier = "" if first.tensor == tensor else f"; the first to diverge here is {first.tensor}"
        raise Wrong(f"{sentence(divergence, dict(result.names))}{earlier}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The sentence alone."""
        if isinstance(excinfo.value, Wrong):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, None, str]:
        """Where the test is said to stand."""
        return self.path, None, f"{self.parent.name}::{self.name}"
