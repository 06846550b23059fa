"""Write TensorFlow's checkpoints (version 2) without TensorFlow.

Sources: as in `checkpoint_reader`.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from numpy_lstm.errors import InputError
from numpy_lstm.porting.formats.checks import check_can_be_written
from numpy_lstm.porting.formats.tensorflow.checkpoint_files import data_of
from numpy_lstm.porting.formats.tensorflow.messages import (
    TENSORFLOW_DTYPES,
    BundleEntryProto,
    BundleHeaderProto,
)
from numpy_lstm.porting.formats.tensorflow.sorted_table import masked_checksum, table_of
from numpy_lstm.porting.layouts.placed_lstm import PlacedLSTM


def write_tf_bundle(lstm: PlacedLSTM, path: Path) -> dict[Path, bytes]:
    """The content of the two files of a checkpoint of an LSTM, the index last."""
    index, data = tf_bundle(lstm.tensors)
    return {data_of(path): data, path: index}


def tf_bundle(tensors: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
    """A checkpoint of one shard: the contents of PREFIX.index and PREFIX.data-00000-of-00001.

    The bytes are those that TensorFlow writes for variables in order of their names, as long as the
    index is shorter than 256 KiB, where it would begin another block.

    Raises:
        InputError: no tensors, or one with a name or dtype that a checkpoint cannot have.
    """
    if not tensors:
        raise InputError("tensors: expected at least one, got none")
    check_can_be_written(tensors, "iuf", "bfloat16")
    numbers = {dtype: number for number, dtype in TENSORFLOW_DTYPES.items()}
    header = BundleHeaderProto(num_shards=1, version={"producer": 1})
    entries, pieces, offset = [(b"", header.SerializeToString())], [], 0
    for key, array in sorted((name.encode(), array) for name, array in tensors.items()):
        number = numbers.get(array.dtype.name)
        if number is None:
            expected = ", ".join(numbers)
            raise InputError(f"{key.decode()}: expected one of {expected}, got {array.dtype}")
        raw = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        entry = BundleEntryProto(
            dtype=number,
            shape={"dim": [{"size": size} for size in array.shape]},
            offset=offset,
            size=len(raw),
            crc32c=masked_checksum(raw),
        )
        entries.append((key, entry.SerializeToString()))
        pieces.append(raw)
        offset += len(raw)
    return table_of(entries), b"".join(pieces)
