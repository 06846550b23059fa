"""Check that two files hold the same LSTM, and that the record of the conversion still holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy_lstm.porting.options import NO_OPTIONS, OptionError, ReadOptions
from numpy_lstm.porting.proof.proof import Proof, RandomInputs, prove
from numpy_lstm.porting.proof.record import Side
from numpy_lstm.porting.recognise.loading import Readers, read_lstm


@dataclass(frozen=True)
class CheckResult:
    """What a check found.

    Args:
        proof: of the two files as they are.
        claims: each claim of the destination's record, and whether it holds.
        other_source: whether that record is of another source.
    """

    proof: Proof
    claims: tuple[tuple[str, bool], ...] = ()
    other_source: bool = False

    @property
    def passed(self) -> bool:
        """Whether the proof passes and every claim holds."""
        return self.proof.passed and all(holds for _, holds in self.claims)


def check_files(
    source: Path,
    destination: Path,
    options: ReadOptions = NO_OPTIONS,
    readers: Readers | None = None,
    destination_options: ReadOptions = NO_OPTIONS,
) -> CheckResult:
    """Prove again that two files hold the same LSTM, and verify the record of the conversion.

    Args:
        source: one file.
        destination: another; what its record says of either file need not be said by the caller.
        options: what the source may not say.
        readers: more readers, by container.
        destination_options: what the destination may not say.

    Raises:
        InputError: one of the files cannot be read.
        DifferentSizes: the two LSTMs cannot be the same.
    """
    try:
        second = read_lstm(destination, destination_options, readers)
    except OptionError as error:
        raise error.for_destination() from error
    record = second.record
    if record is None:
        first = read_lstm(source, options, readers)
        return CheckResult(prove(first.lstm, second.lstm))
    first = read_lstm(source, options, readers, [record["source"]])
    proof = prove(first.lstm, second.lstm, RandomInputs(**record["proof"]["inputs"]))
    now = Side(first.lstm, first.hashes).described()
    claims: list[tuple[str, bool]] = []
    other_source = not _same_names_or_contents(record["source"], now)
    if not other_source:
        claims += _claims("source", record["source"], now)
    now = Side(second.lstm, second.hashes).described()
    claims += _claims("destination", record["destination"], now)
    claims.append(("the recorded proof passed", record["proof"]["passed"] is True))
    return CheckResult(proof, tuple(claims), other_source)


def _claims(
    side: str, recorded: Mapping[str, Any], now: Mapping[str, Any]
) -> list[tuple[str, bool]]:
    """What a record says of one of its files, and whether it holds now."""
    same_files = sorted(recorded["files"].values()) == sorted(now["files"].values())
    keys = ("layout", "prefixes", "weights_sha256")
    same_weights = all(recorded[key] == now[key] for key in keys)
    return [
        (f"{side}: same files (SHA-256)", same_files),
        (f"{side}: same layout and weights", same_weights),
    ]


def _same_names_or_contents(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a record may be of these files: one of them has a name or a content that it says."""
    if recorded["files"].keys() & now["files"].keys():
        return True
    return bool(set(recorded["files"].values()) & set(now["files"].values()))
