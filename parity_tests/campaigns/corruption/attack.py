"""What an attack is: a file that is built to mislead or to harm, and who must refuse it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

SECRET = 0.8125
"""What only files hold that no attack's own file may open: H and more of them each."""
CANARY = "canary"
"""A folder that code makes which must not run."""


@dataclass(frozen=True)
class Attack:
    """A file that must be refused.

    Args:
        name: of the attack.
        build: called with an empty folder; the file, in it.
        by: who must refuse it: "read", or only "convert", which looks at the values.
        facts: what a caller must say to convert it.
    """

    name: str
    build: Callable[[Path], Path]
    by: Literal["read", "convert"] = "read"
    facts: Mapping[str, float | str] = field(default_factory=dict)


def one_file(name: str, content: bytes) -> Callable[[Path], Path]:
    """A builder of one file."""

    def build(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return build
