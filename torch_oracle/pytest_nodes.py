"""The tests that `pytest --verify-lstm` adds, as pytest's nodes: an adapter, and its tensors."""

import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from numpy_lstm.errors import InputError
from torch_oracle.verification.adapters import Adapter
from torch_oracle.verification.cases import Case, verification_cases
from torch_oracle.verification.loading import load
from torch_oracle.verification.outputs import AdapterError
from torch_oracle.verification.results import CaseResult, divergence_sentence
from torch_oracle.verification.spec import place_of
from torch_oracle.verification.terminal import distance_text
from torch_oracle.verification.verify import verify_case


class VerificationFailure(Exception):
    """What makes a test fail: a few words for the summary, and all of it."""

    def __init__(self, summary: str, text: str) -> None:
        super().__init__(text)
        self.summary = summary


class AdapterNode(pytest.Collector):
    """All tests of one adapter. Cases are judged when first needed, once in each process."""

    def __init__(self, *, parent: pytest.Session, spec: str, **arguments: Any) -> None:
        self.spec = spec
        self.refusal: str | None = None
        self.line: int | None = None
        self._results: dict[Case, CaseResult] = {}
        path = parent.path
        try:
            self._adapter: Adapter = load(spec)
            path, self.line = place_of(spec)
        except InputError as error:
            self.refusal = str(error)
        nodeid = spec
        if path.is_relative_to(parent.config.rootpath) and self.refusal is None:
            nodeid = path.relative_to(parent.config.rootpath).as_posix()
        super().__init__(name=spec, parent=parent, path=path, nodeid=nodeid, **arguments)
        self.function = spec.rpartition(":")[2]

    def owns(self, argument: str) -> bool:
        """Whether an argument of the command line is the node id of tests of this adapter."""
        file, separator, name = argument.partition("::")
        if not separator or name.partition("[")[0] != self.function:
            return False
        place = Path(os.path.abspath(self.config.invocation_params.dir / file))
        return self.path == place or file == self.nodeid

    def names(self, argument: str, item: pytest.Item) -> bool:
        """Whether an argument is the node id of one of this adapter's tests, or of all of them."""
        return self.owns(argument) and argument.partition("::")[2] in (self.function, item.name)

    def collect(self) -> list["TensorItem"]:
        """A test for each tensor of each case, and for each call."""
        if self.refusal is not None:
            raise self.CollectError(self.refusal)
        return list(self._items())

    def _items(self) -> Iterator["TensorItem"]:
        mode = "full" if self.config.option.verify_lstm_full else "quick"
        cases = verification_cases(self._adapter, mode)
        try:
            names = self._adapter.call(cases[0].problem(self._adapter)).names
        except AdapterError:
            names = {}
        for case in cases:
            yield self._item(case, None)
            for tensor, adapters_name in names.items():
                item = self._item(case, tensor)
                item.extra_keyword_matches.add(adapters_name)
                yield item

    def _item(self, case: Case, tensor: str | None) -> "TensorItem":
        name = f"{self.function}[{tensor or 'call'}-{case.name}]"
        nodeid = f"{self.nodeid}::{name}"
        return TensorItem.from_parent(self, name=name, nodeid=nodeid, case=case, tensor=tensor)

    def result(self, case: Case) -> CaseResult:
        """What came of the case, which is run when it is first asked for."""
        if case not in self._results:
            self._results[case] = verify_case(self._adapter, case)
        return self._results[case]


class TensorItem(pytest.Item):
    """One tensor of one case; without a tensor, whether the calls themselves were in order."""

    parent: AdapterNode

    def __init__(self, *, case: Case, tensor: str | None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._case, self._tensor = case, tensor

    def runtest(self) -> None:
        """Raise `VerificationFailure` with the sentence of the divergence, or of the complaint."""
        result, tensor = self.parent.result(self._case), self._tensor
        if result.complaint is not None and (tensor is None or result.comparison is None):
            raise self._complaint(result)
        if tensor is None or result.comparison is None:
            return
        names = dict(result.names)
        if tensor not in names:
            text = f"{self.parent.spec} returned {tensor} before, but not in this case"
            raise VerificationFailure(text, text)
        divergence, first = result.comparison.divergences.get(tensor), result.first
        if divergence is None or first is None:
            return
        sentence = divergence_sentence(divergence, names)
        if first.tensor != tensor:
            sentence += f"; the first to diverge here is {first.tensor}"
        advice = f"run `lstm-oracle diagnose {self.parent.spec}` to see which fault it is"
        raise VerificationFailure(
            f"wrong by {distance_text(divergence.distance)} roundoffs",
            f"{sentence}\n{self._place()}\n{advice}",
        )

    def _complaint(self, result: CaseResult) -> VerificationFailure:
        text = f"{self.parent.spec} {result.complaint}\n{self._place()}"
        if result.cause is not None and self.config.option.tbstyle in ("long", "native"):
            text += "\n" + "".join(traceback.format_exception(result.cause)).rstrip()
        return VerificationFailure(str(result.complaint), text)

    def _place(self) -> str:
        line = "" if self.parent.line is None else f":{self.parent.line}"
        return f"the adapter is in {self.path}{line}"

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The text of a failed verification, without the traceback of this plugin."""
        if not isinstance(excinfo.value, VerificationFailure):
            return super().repr_failure(excinfo, style)
        shown: Any = excinfo.getrepr(style="value")
        shown.reprcrash.path = str(self.path)
        shown.reprcrash.lineno = self.parent.line or 0
        shown.reprcrash.message = excinfo.value.summary
        return shown

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """The place and the name under which pytest reports the test."""
        line = self.parent.line
        return self.path, None if line is None else line - 1, self.name
