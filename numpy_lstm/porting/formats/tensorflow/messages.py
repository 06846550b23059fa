"""The protobuf messages of a TensorFlow checkpoint's index, declared without TensorFlow.

Only the fields that are read or written here are declared; protobuf passes over the others.

Sources: tensor_bundle.proto, tensor_shape.proto, versions.proto and types.proto of TensorFlow.
"""

from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "numpy_lstm.tensorflow"
INT32 = FieldDescriptorProto.TYPE_INT32
INT64 = FieldDescriptorProto.TYPE_INT64
FIXED32 = FieldDescriptorProto.TYPE_FIXED32
BYTES = FieldDescriptorProto.TYPE_BYTES
MESSAGES: dict[str, dict[str, tuple[int, Any]]] = {
    "VersionDef": {"producer": (1, INT32)},
    "BundleHeaderProto": {
        "num_shards": (1, INT32),
        "endianness": (2, INT32),
        "version": (3, "VersionDef"),
    },
    "Dim": {"size": (1, INT64)},
    "TensorShapeProto": {"dim": (2, ["Dim"])},
    "BundleEntryProto": {
        "dtype": (1, INT32),
        "shape": (2, "TensorShapeProto"),
        "shard_id": (3, INT32),
        "offset": (4, INT64),
        "size": (5, INT64),
        "crc32c": (6, FIXED32),
        "slices": (7, [BYTES]),
    },
}
"""By message and field: its number, and its type or the message that it is; a list if repeated."""

TENSORFLOW_DTYPES = {
    1: "float32",
    2: "float64",
    14: "bfloat16",
    19: "float16",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    9: "int64",
    17: "uint16",
    22: "uint32",
    23: "uint64",
}
"""What is read, by TensorFlow's number of it."""


def _pool() -> Any:
    """A pool of our own, so that TensorFlow's messages of these names can be loaded as well."""
    file = FileDescriptorProto(name="numpy_lstm_tensorflow.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            field = message.field.add(name=field_name, number=number)
            field.label = FieldDescriptorProto.LABEL_OPTIONAL
            if isinstance(kind, list):
                field.label = FieldDescriptorProto.LABEL_REPEATED
                (kind,) = kind
            if isinstance(kind, str):
                field.type = FieldDescriptorProto.TYPE_MESSAGE
                field.type_name = f".{PACKAGE}.{kind}"
            else:
                field.type = kind
    pool = DescriptorPool()
    pool.Add(file)
    return pool


POOL = _pool()
BundleHeaderProto: Any = GetMessageClass(POOL.FindMessageTypeByName(f"{PACKAGE}.BundleHeaderProto"))
BundleEntryProto: Any = GetMessageClass(POOL.FindMessageTypeByName(f"{PACKAGE}.BundleEntryProto"))
