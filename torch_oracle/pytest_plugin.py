"""``pytest --verify-lstm package.module:adapter``: every tensor of every case is a test.

What an adapter is, torch_oracle/adapters.py says. Without the option, nothing is imported.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torch_oracle.verification.adapters import Adapter
    from torch_oracle.verification.cases import Case
    from torch_oracle.verification.results import CaseResult


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that name an LSTM to judge."""
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


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to start where an adapter is named and torch, which judges it, is not installed."""
    if not config.option.verify_lstm:
        return
    from numpy_lstm.errors import MissingPackage, require

    try:
        require("torch")
    except MissingPackage as error:
        raise pytest.UsageError(f"--verify-lstm: {error}") from error


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the tests of each adapter."""
    for spec in config.option.verify_lstm:
        items += session.genitems(AdapterNode.from_parent(session, name=spec, nodeid=spec))


class VerificationFailure(Exception):
    """What makes a test fail, in one sentence."""


class AdapterNode(pytest.Collector):
    """All tests of one adapter. Cases are judged when first needed, once in each process."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._adapter: Adapter | None = None
        self._results: dict[Case, CaseResult] = {}

    def collect(self) -> list["TensorItem"]:
        """A test for each tensor of each case, and for each call; or one, if loading fails."""
        return list(self._items())

    def _items(self) -> Iterator["TensorItem"]:
        from numpy_lstm.errors import InputError
        from torch_oracle.verification.cases import verification_cases
        from torch_oracle.verification.loading import load
        from torch_oracle.verification.outputs import AdapterError

        try:
            self._adapter = load(self.name)
        except InputError as error:
            yield TensorItem.from_parent(self, name="load", refusal=str(error))
            return
        mode = "full" if self.config.option.verify_lstm_full else "quick"
        cases = verification_cases(self._adapter, mode)
        try:
            names = self._adapter.call(cases[0].problem(self._adapter)).names
        except AdapterError:
            names = {}
        for case in cases:
            yield TensorItem.from_parent(self, name=f"{case.name}::call", case=case)
            for tensor, adapters_name in names.items():
                item = TensorItem.from_parent(
                    self, name=f"{case.name}::{tensor}", case=case, tensor=tensor
                )
                item.extra_keyword_matches.add(adapters_name)
                yield item

    def result(self, case: "Case") -> "CaseResult":
        """What came of the case, which is run when it is first asked for."""
        from torch_oracle.verification.verify import verify_case

        assert self._adapter is not None
        if case not in self._results:
            self._results[case] = verify_case(self._adapter, case)
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
        """Raise `VerificationFailure` with the sentence of the divergence, or of the complaint."""
        if self._case is None:
            raise VerificationFailure(self._refusal)
        from torch_oracle.verification.results import divergence_sentence

        result, tensor = self.parent.result(self._case), self._tensor
        complaint = f"{self.parent.name} {result.complaint}"
        if result.comparison is None:
            raise VerificationFailure(complaint)
        if tensor is None:
            if result.complaint is not None:
                raise VerificationFailure(complaint)
            return
        names = dict(result.names)
        if tensor not in names:
            raise VerificationFailure(
                f"{self.parent.name} returned {tensor} before, but not in this case"
            )
        divergence, first = result.comparison.divergences.get(tensor), result.first
        if divergence is None or first is None:
            return
        sentence = divergence_sentence(divergence, names)
        if first.tensor != tensor:
            sentence += f"; the first to diverge here is {first.tensor}"
        raise VerificationFailure(sentence)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The sentence of a failed verification, without a traceback."""
        if isinstance(excinfo.value, VerificationFailure):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, None, str]:
        """The place and the name under which pytest reports the test."""
        return self.path, None, f"{self.parent.name}::{self.name}"
