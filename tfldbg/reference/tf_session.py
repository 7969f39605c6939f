"""Sessions of TensorFlow that compute a frozen graph.

They run in TensorFlow's C library (``tensorflow/c/c_api.h``), which pip's package holds: loading it
takes a seventh of the time that importing the package takes.  The values are the same, bit for bit.
The package takes its place where the library does not load, and for text.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tfldbg.reference import protos
from tfldbg.reference.graphdef import node_of
from tfldbg.reference.quiet import quiet, silent

_OFF = 2
"""``RewriterConfig.OFF``."""
_LIBRARIES = {"linux": "libtensorflow_cc.so.2", "darwin": "libtensorflow_cc.2.dylib"}
"""The file of the library by platform."""
_NUMBERS = frozenset(
    protos.TYPES[name]
    for name in (
        *("float16", "float32", "float64", "complex64", "complex128", "bool"),
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    )
)
"""The types of tensors that are passed to the library and from it."""


class RefusedGraphError(Exception):
    """TensorFlow refuses a graph, or cannot compute it."""


class _TfSession(Protocol):
    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Compute the tensors."""

    def close(self) -> None:
        """Free the session."""


def open_session(
    definition: Any,
    fetches: Sequence[str],
    weights: Mapping[str, NDArray[Any]],
    *,
    once: bool = False,
    threads: int | None = None,
) -> _TfSession:
    """Return a session that computes tensors of a graph.

    Its ``run`` takes the values of placeholders by ``name:port``, and raises `RefusedGraphError` if
    TensorFlow cannot compute them.

    Args:
        definition: A `protos.GraphDef`.
        fetches: The tensors to compute, ``name:port``.
        weights: The values of placeholders that are the same in every run, by ``name:port``.
        once: True if only a few batches are computed, for which optimizing the graph takes longer
            than it saves.
        threads: The number of threads, None for one a processor.

    Raises:
        RefusedGraphError: TensorFlow refuses the graph.
    """
    given = definition.SerializeToString(), tuple(fetches), weights, _config(once, threads)
    library = _library()
    if library is None or _takes_text(definition):
        return _InPackage(*given)
    try:
        return _InLibrary(library, *given)
    except _TextError:
        return _InPackage(*given)


class _TextError(Exception):
    """A fetched tensor holds no numbers."""


def _takes_text(definition: Any) -> bool:
    """Return whether a graph has a placeholder for something else than numbers."""
    types = (n.attr["dtype"].type for n in definition.node if n.op == "Placeholder")
    return any(number not in _NUMBERS for number in types)


def _config(once: bool, threads: int | None = None) -> bytes:
    """Return settings that let TensorFlow fuse nodes but not rewrite arithmetic, which is slow.

    Fetched tensors are always computed as they are named, up to float32 rounding.
    """
    config = protos.ConfigProto()
    config.graph_options.rewrite_options.arithmetic_optimization = _OFF
    config.graph_options.rewrite_options.disable_meta_optimizer = once
    if threads is not None:
        config.intra_op_parallelism_threads = config.inter_op_parallelism_threads = threads
    made: bytes = config.SerializeToString()
    return made


class _InPackage:
    """A session of the package ``tensorflow``."""

    def __init__(
        self,
        definition: bytes,
        fetches: Sequence[str],
        weights: Mapping[str, NDArray[Any]],
        config: bytes,
    ) -> None:
        with quiet():
            import tensorflow as tf
            from tensorflow.core.framework import graph_pb2
            from tensorflow.core.protobuf import config_pb2

            graph = tf.Graph()
            try:
                with graph.as_default():
                    tf.import_graph_def(graph_pb2.GraphDef.FromString(definition), name="")
            except (ValueError, tf.errors.OpError) as error:
                raise RefusedGraphError(str(error)) from error
            settings = config_pb2.ConfigProto.FromString(config)
            self._session = tf.compat.v1.Session(graph=graph, config=settings)
        self._fetches, self._weights = list(fetches), weights

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        import tensorflow as tf

        try:
            with quiet():
                made: list[NDArray[Any]] = self._session.run(
                    self._fetches, {**self._weights, **feeds}
                )
        except (ValueError, tf.errors.OpError) as error:
            raise RefusedGraphError(str(error)) from error
        return made

    def close(self) -> None:
        self._session.close()


_Pointer = ctypes.c_void_p


class _TfOutput(ctypes.Structure):
    """``TF_Output``."""

    _fields_ = (("operation", _Pointer), ("index", ctypes.c_int))


_OUTPUTS, _POINTERS = ctypes.POINTER(_TfOutput), ctypes.POINTER(_Pointer)
_SIZES = ctypes.POINTER(ctypes.c_int64)
_FUNCTIONS: Mapping[str, tuple[Any, ...]] = {
    "TF_NewStatus": (_Pointer,),
    "TF_DeleteStatus": (None, _Pointer),
    "TF_GetCode": (ctypes.c_int, _Pointer),
    "TF_Message": (ctypes.c_char_p, _Pointer),
    "TF_NewBufferFromString": (_Pointer, ctypes.c_char_p, ctypes.c_size_t),
    "TF_DeleteBuffer": (None, _Pointer),
    "TF_NewGraph": (_Pointer,),
    "TF_DeleteGraph": (None, _Pointer),
    "TF_NewImportGraphDefOptions": (_Pointer,),
    "TF_DeleteImportGraphDefOptions": (None, _Pointer),
    "TF_GraphImportGraphDef": (None, _Pointer, _Pointer, _Pointer, _Pointer),
    "TF_GraphOperationByName": (_Pointer, _Pointer, ctypes.c_char_p),
    "TF_OperationNumOutputs": (ctypes.c_int, _Pointer),
    "TF_OperationOutputType": (ctypes.c_int, _TfOutput),
    "TF_NewSessionOptions": (_Pointer,),
    "TF_DeleteSessionOptions": (None, _Pointer),
    "TF_SetConfig": (None, _Pointer, ctypes.c_char_p, ctypes.c_size_t, _Pointer),
    "TF_NewSession": (_Pointer, _Pointer, _Pointer, _Pointer),
    "TF_CloseSession": (None, _Pointer, _Pointer),
    "TF_DeleteSession": (None, _Pointer, _Pointer),
    "TF_AllocateTensor": (_Pointer, ctypes.c_int, _SIZES, ctypes.c_int, ctypes.c_size_t),
    "TF_DeleteTensor": (None, _Pointer),
    "TF_TensorType": (ctypes.c_int, _Pointer),
    "TF_TensorData": (_Pointer, _Pointer),
    "TF_TensorByteSize": (ctypes.c_size_t, _Pointer),
    "TF_NumDims": (ctypes.c_int, _Pointer),
    "TF_Dim": (ctypes.c_int64, _Pointer, ctypes.c_int),
    "TF_SessionRun": (
        *(None, _Pointer, _Pointer, _OUTPUTS, _POINTERS, ctypes.c_int, _OUTPUTS, _POINTERS),
        *(ctypes.c_int, _Pointer, ctypes.c_int, _Pointer, _Pointer),
    ),
}
"""The functions of the library: the type of the result, then those of the arguments."""


@functools.cache
def _library() -> Any | None:
    """Return TensorFlow's C library, None if it does not load."""
    found = importlib.util.find_spec("tensorflow")
    name = _LIBRARIES.get(sys.platform)
    if name is None or found is None or found.origin is None:
        return None
    try:
        with silent():
            # Its own OpenSSL must not take the place of Python's, so its symbols stay local.
            library = ctypes.CDLL(str(Path(found.origin).parent / name))
            for function, (result, *arguments) in _FUNCTIONS.items():
                known = getattr(library, function)
                known.restype, known.argtypes = result, arguments
    except (OSError, AttributeError):
        return None
    return library


class _InLibrary:
    """A session of TensorFlow's C library."""

    def __init__(
        self,
        library: Any,
        definition: bytes,
        fetches: Sequence[str],
        weights: Mapping[str, NDArray[Any]],
        config: bytes,
    ) -> None:
        self._library = library
        self._graph = library.TF_NewGraph()
        opened: list[Any] = []
        self._close = weakref.finalize(self, _free, library, self._graph, opened)
        with silent():
            self._import(definition)
            self._session = self._opened(config)
        opened.append(self._session)
        self._fetches = (_TfOutput * len(fetches))(*map(self._output, fetches))
        self._weights = [(self._output(n), self._tensor(v)) for n, v in weights.items()]

    def _import(self, definition: bytes) -> None:
        library = self._library
        buffer = library.TF_NewBufferFromString(definition, len(definition))
        options = library.TF_NewImportGraphDefOptions()
        try:
            with self._checked() as status:
                library.TF_GraphImportGraphDef(self._graph, buffer, options, status)
        finally:
            library.TF_DeleteImportGraphDefOptions(options)
            library.TF_DeleteBuffer(buffer)

    def _opened(self, config: bytes) -> Any:
        library = self._library
        options = library.TF_NewSessionOptions()
        try:
            with self._checked() as status:
                library.TF_SetConfig(options, config, len(config), status)
            with self._checked() as status:
                return library.TF_NewSession(self._graph, options, status)
        finally:
            library.TF_DeleteSessionOptions(options)

    @contextmanager
    def _checked(self) -> Iterator[Any]:
        """Yield a status, and raise the error that it then holds."""
        status = self._library.TF_NewStatus()
        try:
            yield status
            if self._library.TF_GetCode(status):
                said = self._library.TF_Message(status)
                raise RefusedGraphError(said.decode(errors="replace"))
        finally:
            self._library.TF_DeleteStatus(status)

    def _output(self, tensor: str) -> _TfOutput:
        """Return an output of an operation, which must hold numbers.

        Raises:
            RefusedGraphError: There is none of this name.
            _TextError: It holds something else.
        """
        port = int(tensor.partition(":")[2] or 0)
        operation = self._library.TF_GraphOperationByName(self._graph, node_of(tensor).encode())
        if not operation or port >= self._library.TF_OperationNumOutputs(operation):
            raise RefusedGraphError(f"the graph has no tensor '{tensor}'")
        output = _TfOutput(operation, port)
        if self._library.TF_OperationOutputType(output) not in _NUMBERS:
            raise _TextError
        return output

    def _tensor(self, values: NDArray[Any]) -> _TfTensor:
        """Return a tensor with a copy of some values."""
        number = protos.TYPES[values.dtype.name]
        sizes = (ctypes.c_int64 * values.ndim)(*values.shape)
        made = self._library.TF_AllocateTensor(number, sizes, values.ndim, values.nbytes)
        tensor = _TfTensor(self._library, made)
        tensor.values()[...] = values
        return tensor

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        given = [*self._weights, *((self._output(n), self._tensor(v)) for n, v in feeds.items())]
        inputs = (_TfOutput * len(given))(*(output for output, _ in given))
        values = (_Pointer * len(given))(*(tensor.pointer for _, tensor in given))
        made = (_Pointer * len(self._fetches))()
        with silent(), self._checked() as status:
            targets = (self._fetches, made, len(made))
            sources = (inputs, values, len(given))
            session = (self._session, None)
            self._library.TF_SessionRun(*session, *sources, *targets, None, 0, None, status)
        return [_TfTensor(self._library, pointer).values() for pointer in made]

    def close(self) -> None:
        self._close()
        self._weights = []


def _free(library: Any, graph: Any, sessions: Sequence[Any]) -> None:
    """Close sessions, and release their memory and that of their graph."""
    status = library.TF_NewStatus()
    for session in sessions:
        library.TF_CloseSession(session, status)
        library.TF_DeleteSession(session, status)
    library.TF_DeleteStatus(status)
    library.TF_DeleteGraph(graph)


class _TfTensor:
    """A tensor of the library, which is released with the last array of its values."""

    def __init__(self, library: Any, pointer: Any) -> None:
        self.pointer, self._release = pointer, library.TF_DeleteTensor
        self._dtype = np.dtype(protos.NAMES[library.TF_TensorType(pointer)])
        self._shape = tuple(library.TF_Dim(pointer, i) for i in range(library.TF_NumDims(pointer)))
        address = library.TF_TensorData(pointer)
        if not address and 0 not in self._shape:
            raise RefusedGraphError(
                f"TensorFlow has no memory for a tensor of shape {list(self._shape)}"
            )
        self.__array_interface__ = {
            "shape": self._shape,
            "typestr": self._dtype.str,
            "data": (address, False),
            "version": 3,
        }

    def values(self) -> NDArray[Any]:
        """Return an array of the tensor's memory."""
        return np.empty(self._shape, self._dtype) if 0 in self._shape else np.asarray(self)

    def __del__(self) -> None:
        self._release(self.pointer)
