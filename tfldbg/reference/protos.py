"""TensorFlow's graphs as protocol buffers, without importing TensorFlow.

The messages hold the fields that tfldbg reads or writes; all others are kept as they are.  The
numbers are those of ``tensorflow/core/framework`` (graph.proto, node_def.proto, attr_value.proto,
tensor.proto, tensor_shape.proto) and ``tensorflow/core/protobuf`` (config.proto,
rewriter_config.proto).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from numpy.typing import NDArray

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "float": _Field.TYPE_FLOAT,
    "int": _Field.TYPE_INT64,  # int32, int64 and enumerations are written alike
    "string": _Field.TYPE_STRING,
    "uint": _Field.TYPE_UINT64,
}
_MANY, _ONE_OF = "*", "|"
"""The marks of a repeated field, and of one of the alternatives of a message."""
_MESSAGES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "GraphDef": {"node": (1, "NodeDef*"), "library": (2, "bytes"), "versions": (4, "bytes")},
    "NodeDef": {
        "name": (1, "string"),
        "op": (2, "string"),
        "input": (3, "string*"),
        "attr": (5, "AttrEntry*"),
    },
    "AttrEntry": {"key": (1, "string"), "value": (2, "AttrValue")},
    "AttrValue": {
        "list": (1, "ListValue|"),
        "s": (2, "bytes|"),
        "i": (3, "int|"),
        "f": (4, "float|"),
        "b": (5, "bool|"),
        "type": (6, "int|"),
        "shape": (7, "TensorShapeProto|"),
        "tensor": (8, "TensorProto|"),
        "placeholder": (9, "string|"),
        "func": (10, "bytes|"),
    },
    "ListValue": {"i": (3, "int*"), "type": (6, "int*")},
    "TensorShapeProto": {"dim": (2, "Dim*"), "unknown_rank": (3, "bool")},
    "Dim": {"size": (1, "int"), "name": (2, "string")},
    "TensorProto": {
        "dtype": (1, "int"),
        "tensor_shape": (2, "TensorShapeProto"),
        "tensor_content": (4, "bytes"),
        "float_val": (5, "float*"),
        "double_val": (6, "double*"),
        "int_val": (7, "int*"),
        "string_val": (8, "bytes*"),
        "scomplex_val": (9, "float*"),
        "int64_val": (10, "int*"),
        "bool_val": (11, "bool*"),
        "dcomplex_val": (12, "double*"),
        "half_val": (13, "int*"),
        "uint32_val": (16, "uint*"),
        "uint64_val": (17, "uint*"),
    },
    "ConfigProto": {
        "intra_op_parallelism_threads": (2, "int"),
        "inter_op_parallelism_threads": (5, "int"),
        "graph_options": (10, "GraphOptions"),
    },
    "GraphOptions": {"rewrite_options": (10, "RewriterConfig")},
    "RewriterConfig": {
        "arithmetic_optimization": (7, "int"),
        "disable_meta_optimizer": (19, "bool"),
    },
}
_MAP_ENTRIES = frozenset({"AttrEntry"})
_HOLDER = "NodeDef"
"""The message with the only map."""

TYPES: Mapping[str, int] = {
    "float32": 1,
    "float64": 2,
    "int32": 3,
    "uint8": 4,
    "int16": 5,
    "int8": 6,
    "string": 7,
    "complex64": 8,
    "int64": 9,
    "bool": 10,
    "qint8": 11,
    "quint8": 12,
    "qint32": 13,
    "bfloat16": 14,
    "qint16": 15,
    "quint16": 16,
    "uint16": 17,
    "complex128": 18,
    "float16": 19,
    "resource": 20,
    "variant": 21,
    "uint32": 22,
    "uint64": 23,
}
"""The number of each type by TensorFlow's name (types.proto)."""
NAMES: Mapping[int, str] = {number: name for name, number in TYPES.items()}
_VALUES: Mapping[str, str] = {
    "float32": "float_val",
    "float64": "double_val",
    "int64": "int64_val",
    "bool": "bool_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "string": "string_val",
}
"""The field that holds the single values of a tensor; the others are in ``int_val``."""


def _classes() -> dict[str, Any]:
    package = "tfldbg"
    file = descriptor_pb2.FileDescriptorProto(name="graph.proto", package=package, syntax="proto3")
    for name, fields in _MESSAGES.items():
        if name not in _MAP_ENTRIES:
            _describe(file.message_type.add(name=name), fields, package)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    known = (name for name in _MESSAGES if name not in _MAP_ENTRIES)
    found = {name: pool.FindMessageTypeByName(f"{package}.{name}") for name in known}
    return {name: message_factory.GetMessageClass(made) for name, made in found.items()}


def _describe(message: Any, fields: Mapping[str, tuple[int, str]], package: str) -> None:
    for name, (number, kind) in fields.items():
        bare = kind.rstrip(_MANY + _ONE_OF)
        field = message.field.add(name=name, number=number)
        field.label = _Field.LABEL_REPEATED if kind.endswith(_MANY) else _Field.LABEL_OPTIONAL
        if bare in _SCALARS:
            field.type = _SCALARS[bare]
        else:
            field.type = _Field.TYPE_MESSAGE
            field.type_name = f".{package}.{bare}"
        if bare in _MAP_ENTRIES:
            entry = message.nested_type.add(name=bare)
            entry.options.map_entry = True
            field.type_name = f".{package}.{message.name}.{bare}"
            _describe(entry, _MESSAGES[bare], package)
        if kind.endswith(_ONE_OF):
            if not message.oneof_decl:
                message.oneof_decl.add(name="value")
            field.oneof_index = 0


_CLASSES = _classes()
GraphDef, ConfigProto = _CLASSES["GraphDef"], _CLASSES["ConfigProto"]


def fill(tensor: Any, values: NDArray[Any]) -> None:
    """Set a ``TensorProto`` to the values of an array of numbers."""
    tensor.Clear()
    tensor.dtype = TYPES[values.dtype.name]
    set_shape(tensor.tensor_shape, values.shape)
    tensor.tensor_content = np.ascontiguousarray(values).tobytes()


def set_shape(shape: Any, sizes: Sequence[int]) -> None:
    """Set a ``TensorShapeProto`` to a known shape."""
    shape.Clear()
    for size in sizes:
        shape.dim.add(size=size)


def values_of(tensor: Any) -> NDArray[Any]:
    """Return the values of a ``TensorProto``; text as objects.

    As TensorFlow's ``make_ndarray``: where there are fewer values than elements, the last value is
    repeated.

    Raises:
        ValueError: It is of a type without values.
    """
    name = NAMES.get(tensor.dtype, str(tensor.dtype))
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    dtype = _numpy_type(name)
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, dtype).reshape(shape)
    if name in ("complex64", "complex128"):
        parts = tensor.scomplex_val if name == "complex64" else tensor.dcomplex_val
        held = np.array(parts, "float32" if name == "complex64" else "float64").view(dtype)
    elif name in ("float16", "bfloat16"):
        held = np.array(tensor.half_val, np.uint16).view(dtype)
    else:
        held = np.array(getattr(tensor, _VALUES.get(name, "int_val")), dtype)
    count = int(np.prod(shape, dtype=np.int64))
    if not held.size:
        return np.zeros(shape, dtype)
    return np.pad(held[:count], (0, max(0, count - held.size)), "edge").reshape(shape)


def _numpy_type(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        made: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return made
    if name == "string":
        return np.dtype(object)
    try:
        found: np.dtype[Any] = np.dtype(name.removeprefix("q"))
    except TypeError as error:
        raise ValueError(f"a constant of type {name} holds no values") from error
    return found
