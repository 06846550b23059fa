"""One file to try: what is done with it, and what must become of it."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from parity_tests.campaigns.corruption.attack import CANARY, SECRET, Attack
from parity_tests.campaigns.corruption.samples import Sample
from parity_tests.campaigns.corruption.watched_process import Worker

PRECIOUS = b"a file that was there before"
DESTINATION = "destination.npz"


@dataclass(frozen=True)
class Outcome:
    """What became of a file.

    Args:
        kind: of the sample, or "attacks".
        name: of the file, for a person.
        read: "refused", "identical", "different", or "" if it never came to that.
        converted: whether it was.
        unnoticed: whether it was read as other tensors although a checksum covers them.
        failure: what went wrong; "" if nothing did.
    """

    kind: str
    name: str
    read: str
    converted: bool
    unnoticed: bool = False
    failure: str = ""


@dataclass(frozen=True)
class Case:
    """One file to try, and what must become of it."""

    kind: str
    name: str
    files: Mapping[str, bytes] | Attack
    facts: Mapping[str, float | str]
    whole: str | None = None
    """The digest of the tensors before the damage."""
    checked: bool = False

    def build(self, folder: Path) -> Path:
        """Write the files; the path to read."""
        if isinstance(self.files, Attack):
            return self.files.build(folder)
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        return folder / next(iter(self.files))

    def judge(self, answer: Mapping[str, str]) -> Outcome:
        """The outcome that the worker's answer means."""
        converted, unnoticed, failure = answer["convert"] == "done", False, answer["wrong"]
        read = answer["read"]
        if read not in ("", "refused"):
            read = "identical" if read == self.whole else "different"
        if isinstance(self.files, Attack):
            by = self.files.by
            if not failure and (converted or (by == "read" and read != "refused")):
                failure = f"not refused by {by}"
        elif self.checked and read == "different":
            unnoticed, failure = True, failure or "read as other tensors, despite its checksum"
        return Outcome(self.kind, self.name, read, converted, unnoticed, failure)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and folders as if empty."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


def trespass(before: Mapping[str, bytes], after: Mapping[str, bytes], converted: bool) -> str:
    """What changed in a folder and must not; "" if nothing."""
    own = {DESTINATION, f"{DESTINATION}.proof.json"} if converted else set()
    if CANARY in after:
        return "code of the file was run"
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    if changed - own:
        return f"changed or left behind: {', '.join(sorted(changed - own))}"
    return "" if changed == own else "converted, but no file is there"


def try_case(case: Case, worker: Worker, folder: Path) -> tuple[Outcome, dict[str, str]]:
    """Build a case in a folder of its own, which is left if something is wrong."""
    folder.mkdir()
    path = case.build(folder)
    (folder / DESTINATION).write_bytes(PRECIOUS)
    before = contents(folder)
    order = {"path": str(path), "destination": str(folder / DESTINATION), "secret": SECRET}
    answer = {"read": "", "convert": "", "wrong": ""}
    for step in ("read", "convert"):
        if not answer["wrong"]:
            answer |= worker.ask(order | {"facts": dict(case.facts), "step": step})
    wrong = trespass(before, contents(folder), answer["convert"] == "done")
    answer["wrong"] = answer["wrong"] or wrong
    outcome = case.judge(answer)
    if not outcome.failure:
        shutil.rmtree(folder)
    return outcome, answer


def baselines(known: list[Sample], worker: Worker, scratch: Path) -> dict[str, str]:
    """Digests of the whole files, which must be read and converted.

    Raises:
        RuntimeError: one is not: the campaign would prove nothing.
    """
    result = {}
    for k, sample in enumerate(known):
        case = Case(sample.kind, "whole", sample.files, sample.facts)
        _, answer = try_case(case, worker, scratch / f"whole-{k}")
        if answer["wrong"] or answer["convert"] != "done":
            raise RuntimeError(f"a whole {sample.kind} file is not converted: {answer}")
        result[sample.kind] = answer["read"]
    return result
