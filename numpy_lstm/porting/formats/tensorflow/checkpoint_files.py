"""What the files of a TensorFlow checkpoint are called, and what its index ends with."""

import re
from pathlib import Path

INDEX_ENDS_WITH = (0xDB4775248B80FB57).to_bytes(8, "little")
"""The magic number of LevelDB's tables."""


def index_of(path: Path) -> Path:
    """A checkpoint's .index file, from any of its files or what their names begin with."""
    return path.with_name(re.sub(r"\.(index|data-\d{5}-of-\d{5})$", "", path.name) + ".index")


def data_of(index: Path, shard: int = 0, shards: int = 1) -> Path:
    """One of a checkpoint's files of tensors."""
    return index.with_name(f"{index.name.removesuffix('.index')}.data-{shard:05}-of-{shards:05}")
