"""Read a .tflite file into a `Graph` without copying its weights."""

from __future__ import annotations

import functools
import mmap
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.errors import ModelError
from tfldbg.graph.limits import check_indices
from tfldbg.graph.model import (
    UNKNOWN,
    BufferSpan,
    Graph,
    Operator,
    QuantParams,
    Signature,
    Subgraph,
    Tensor,
)
from tfldbg.graph.sparse import Level, Sparsity
from tfldbg.graph.verify import verify
from tfldbg.kinds import kind_of

_IDENTIFIER = b"TFL3"
_NOT_TFLITE = "give the .tflite file that the converter wrote"


_MAPPED = 64 << 20
"""The size in bytes from which a file is mapped.  A smaller one is copied, because shortening a
mapped file while it is read ends the process."""


def read_file(path: Path) -> bytes | memoryview:
    """Return the bytes of a model file; a large file is mapped and not copied.

    Raises:
        ModelError: The file is missing, is a folder, or cannot be read.
    """
    try:
        if path.is_file() and path.stat().st_size >= _MAPPED:
            with path.open("rb") as file:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(
            f"'{path}' does not exist", hint="check the path; relative paths start here"
        ) from error
    except OSError as error:
        raise ModelError(f"cannot read '{path}': {error.strerror}", hint=_NOT_TFLITE) from error


def load_graph(data: bytes | memoryview, name: str = "the model", size: int | None = None) -> Graph:
    """Parse a .tflite file.

    Args:
        data: The file's bytes.  The graph keeps a view of them.
        name: The name of the file in messages.
        size: The size of the whole file, if ``data`` is only the flatbuffer before its constants.

    Raises:
        ModelError: The bytes are not a .tflite file, or the file contradicts itself.
    """
    view = memoryview(data).toreadonly()
    if len(view) < 8 or bytes(view[4:8]) != _IDENTIFIER:
        found = bytes(view[4:8])
        raise ModelError(
            f"'{name}' is not a .tflite file: bytes 4 to 8 are {found!r}, expected {_IDENTIFIER!r}",
            hint=f"it is {kind}; {_NOT_TFLITE}" if (kind := kind_of(name)) else _NOT_TFLITE,
        )
    try:
        verify(view)
        graph = _parse(view, size or len(view))
    except (struct.error, IndexError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise ModelError(
            f"'{name}' is damaged: {error}", hint="convert or download the file again"
        ) from error
    check_indices(graph, name)
    return graph


def _parse(view: memoryview, size: int) -> Graph:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(view, 0)
    buffers = tuple(_buffer(model.Buffers(i), size) for i in range(model.BuffersLength()))
    codes = [_operator_code(model.OperatorCodes(i)) for i in range(model.OperatorCodesLength())]
    subgraphs = tuple(
        _subgraph(model.Subgraphs(i), i, codes, buffers) for i in range(model.SubgraphsLength())
    )
    return Graph(
        data=view,
        version=model.Version(),
        description=_text(model.Description()),
        subgraphs=subgraphs,
        signatures=tuple(
            _signature(model.SignatureDefs(i)) for i in range(model.SignatureDefsLength())
        ),
        buffers=buffers,
        metadata=tuple(_text(model.Metadata(i).Name()) for i in range(model.MetadataLength())),
        beside=_beside(model),
    )


def _beside(model: Any) -> tuple[str, ...]:
    """Return the names of other files; older schemas do not have them."""
    count = getattr(model, "ExternalBufferGroupsLength", int)()
    groups = (model.ExternalBufferGroups(i) for i in range(count))
    return tuple(_text(group.Name()) for group in groups)


def _text(value: bytes | None) -> str:
    """Return a text in which invalid bytes and NUL are replaced by the replacement character."""
    return value.decode("utf-8", "replace").replace("\0", "\ufffd") if value else ""


def _buffer(buffer: Any, file_size: int) -> BufferSpan:
    if buffer.Offset() > 1:
        start, size = int(buffer.Offset()), int(buffer.Size())
        external = True
    elif buffer.DataIsNone():
        start, size, external = 0, 0, False
    else:
        field = buffer._tab.Offset(4)
        start, size, external = int(buffer._tab.Vector(field)), int(buffer.DataLength()), False
    if start < 0 or start + size > file_size:
        raise ValueError(f"a buffer ends at byte {start + size} of a file of {file_size} bytes")
    return BufferSpan(start, size, external)


@functools.cache
def _enum_names(enum_name: str) -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    enum = getattr(schema, enum_name)
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


def _operator_code(code: Any) -> str:
    # Files older than schema 3a store the code in the deprecated byte; the larger one counts.
    builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    name = _enum_names("BuiltinOperator").get(builtin, f"{UNKNOWN}{builtin}")
    custom = _text(code.CustomCode())
    return custom if name == "CUSTOM" and custom else name


def _subgraph(
    source: Any, index: int, codes: list[str], buffers: tuple[BufferSpan, ...]
) -> Subgraph:
    tensors = tuple(_tensor(source.Tensors(i), i, buffers) for i in range(source.TensorsLength()))
    operators = tuple(
        _operator(source.Operators(i), i, codes) for i in range(source.OperatorsLength())
    )
    return Subgraph(
        index=index,
        name=_text(source.Name()),
        tensors=tensors,
        operators=operators,
        inputs=_integers(source.InputsAsNumpy),
        # The runtime skips outputs that are left out, since nothing can read them.
        outputs=tuple(i for i in _integers(source.OutputsAsNumpy) if i != -1),
    )


def _integers(vector: Callable[[], Any]) -> tuple[int, ...]:
    values = vector()
    return () if isinstance(values, int) else tuple(int(v) for v in values)


def _tensor(source: Any, index: int, buffers: tuple[BufferSpan, ...]) -> Tensor:
    shape = _integers(source.ShapeAsNumpy)
    signature = _integers(source.ShapeSignatureAsNumpy)
    return Tensor(
        index=index,
        name=_text(source.Name()),
        type=_enum_names("TensorType").get(source.Type(), f"{UNKNOWN}{source.Type()}"),
        shape=shape,
        shape_signature=signature if len(signature) == len(shape) else shape,
        quant=_quantization(source.Quantization(), len(shape)),
        buffer=source.Buffer(),
        is_variable=bool(source.IsVariable()),
        has_data=source.Buffer() < len(buffers) and buffers[source.Buffer()].size > 0,
        sparsity=_sparsity(source.Sparsity()),
    )


def _sparsity(source: Any) -> Sparsity | None:
    if source is None:
        return None
    levels = tuple(_level(source.DimMetadata(i)) for i in range(source.DimMetadataLength()))
    return Sparsity(
        _integers(source.TraversalOrderAsNumpy), _integers(source.BlockMapAsNumpy), levels
    )


def _level(source: Any) -> Level:
    from ai_edge_litert import schema_py_generated as schema

    if source.Format() == schema.DimensionType.DENSE:
        return Level(int(source.DenseSize()))
    return Level(
        0,
        _index_vector(source.ArraySegmentsType(), source.ArraySegments()),
        _index_vector(source.ArrayIndicesType(), source.ArrayIndices()),
    )


def _index_vector(kind: int, table: Any) -> NDArray[Any]:
    """Return the numbers of a ``SparseIndexVector``, whose type name gives their width."""
    from ai_edge_litert import schema_py_generated as schema

    name = _enum_names("SparseIndexVector").get(kind, "NONE")
    if table is None or name == "NONE":
        return np.zeros(0, np.int32)
    vector = getattr(schema, name)()
    vector.Init(table.Bytes, table.Pos)
    return np.zeros(0, np.int32) if vector.ValuesIsNone() else vector.ValuesAsNumpy()


def _frozen(array: Any, dtype: type) -> Any:
    copy: NDArray[Any] = np.array(array, dtype)
    copy.setflags(write=False)
    return copy


def _quantization(source: Any, rank: int) -> QuantParams | None:
    if source is None:
        return None
    block = _blockwise(source)
    if block is not None:
        return block
    if source.ScaleLength() == 0:
        return None
    zeros = source.ZeroPointAsNumpy() if source.ZeroPointLength() else np.zeros(1, np.int64)
    axis = source.QuantizedDimension()
    beside = rank > 0 and not 0 <= axis < rank and 1 in (rank, source.ScaleLength())
    return QuantParams(
        scale=_frozen(source.ScaleAsNumpy(), np.float32),
        zero_point=_frozen(zeros, np.int64),
        axis=0 if beside else axis,
        stated_axis=axis if beside else None,
    )


def _blockwise(source: Any) -> QuantParams | None:
    from ai_edge_litert import schema_py_generated as schema

    if source.DetailsType() != schema.QuantizationDetails.BlockwiseQuantization:
        return None
    details = schema.BlockwiseQuantization()
    table = source.Details()
    details.Init(table.Bytes, table.Pos)
    return QuantParams(
        scale=_frozen([], np.float32),
        zero_point=_frozen([0], np.int64),
        axis=source.QuantizedDimension(),
        block_size=int(details.BlockSize()),
        scale_tensor=int(details.Scales()),
    )


def _operator(source: Any, index: int, codes: list[str]) -> Operator:
    from ai_edge_litert import schema_py_generated as schema

    options = _options(
        schema.BuiltinOptionsCreator, source.BuiltinOptionsType(), source.BuiltinOptions()
    ) or _options(
        schema.BuiltinOptions2Creator, source.BuiltinOptions2Type(), source.BuiltinOptions2()
    )
    return Operator(
        index=index,
        kind=codes[source.OpcodeIndex()],
        inputs=_integers(source.InputsAsNumpy),
        outputs=_integers(source.OutputsAsNumpy),
        options=options,
    )


_OPTION_ENUMS: Mapping[str, str] = {
    "fusedActivationFunction": "ActivationFunctionType",
    "padding": "Padding",
    "mode": "MirrorPadMode",
}


def _options(create: Callable[[int, Any], Any], kind: int, table: Any) -> dict[str, Any]:
    unpacked = create(kind, table) if table is not None else None
    if unpacked is None:
        return {}
    options = {}
    for name, value in vars(unpacked).items():
        enum = _OPTION_ENUMS.get(name)
        options[name] = _enum_names(enum).get(value, value) if enum else _plain(value)
    return options


def _plain(value: Any) -> Any:
    """Return an option in a form that compares by value: vectors become tuples."""
    return tuple(value.tolist()) if isinstance(value, np.ndarray) else value


def _signature(source: Any) -> Signature:
    return Signature(
        key=_text(source.SignatureKey()),
        subgraph=source.SubgraphIndex(),
        inputs={
            _text(source.Inputs(i).Name()): source.Inputs(i).TensorIndex()
            for i in range(source.InputsLength())
        },
        outputs={
            _text(source.Outputs(i).Name()): source.Outputs(i).TensorIndex()
            for i in range(source.OutputsLength())
        },
    )
