"""LiteRT's interpreter; TensorFlow's has the same interface."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def open_litert(request: dict[str, Any]) -> InterpreterEngine:
    """Load a model into LiteRT with the requested kernel set."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType, load_delegate

    resolver = {
        "xnnpack": OpResolverType.AUTO,
        "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        "reference": OpResolverType.BUILTIN_REF,
    }[request["runtime"]]

    def make() -> Any:
        return Interpreter(
            model_path=request["path"],
            num_threads=1,
            experimental_op_resolver_type=resolver,
            experimental_delegates=loaded_delegates(request, load_delegate),
        )

    return InterpreterEngine(make, request)


def loaded_delegates(request: dict[str, Any], load: Callable[..., Any]) -> list[Any]:
    """Load the delegate of a request.

    Args:
        request: The request as written by `tfldbg.run.litert`.
        load: The runtime's ``load_delegate``.

    Raises:
        RuntimeError: It cannot be loaded; the message contains the reason.
    """
    path = request["delegate"]
    if path is None:
        return []
    try:
        return [load(path, dict(request["delegate_options"]))]
    except (OSError, AttributeError, ValueError) as error:
        # AttributeError: the library has no function of that interface.
        said = str(error).removeprefix(f"Failed to load delegate from {path}").strip()
        raise RuntimeError(
            f"the delegate '{path}' cannot be loaded: {said or 'it gives no reason'}"
        ) from error


class InterpreterEngine:
    """An interpreter with LiteRT's interface, and the tensors to read.

    Args:
        make: Creates the interpreter, with an external delegate already applied but not the default
            ones.
        request: The request as written by `tfldbg.run.litert`.
    """

    def __init__(self, make: Callable[[], Any], request: dict[str, Any]) -> None:
        self._make, self._signature = make, request["signature"]
        self._delegate = request["delegate"]
        self._may_stay: bool = request["stay"] and not self._delegate
        self._taps: list[int] = request["taps"]
        self._states: list[int] = request["states"]
        self._resources: bool = request["resources"]
        self._inputs: list[int] = request["inputs"]
        self._subgraph: int = request["subgraph"]
        self._shapes: list[list[int]] = request["shapes"]
        self._names: dict[int, str] = {int(k): v for k, v in request["input_names"].items()}
        self._load()

    def _load(self) -> None:
        self._interpreter = self._make()
        self.delegated = self._written_by_delegates() if self._delegate else []
        self._runner = (
            self._interpreter.get_signature_runner(self._signature) if self._signature else None
        )
        self._stay: list[NDArray[Any] | None] | None = None
        self._given: list[tuple[Any, ...]] | None = None
        if self._runner is None:
            self._resize(self._shapes)
            self._allocate()

    def _allocate(self) -> None:
        """Allocate the tensors, and look at the places where their values will be."""
        self._interpreter.allocate_tensors()
        self._readers: list[Callable[[], NDArray[Any]]] = []
        self._stay = self._views(self._taps) if self._may_stay else None
        self._places = None if self._stay is None else self._views(self._inputs)

    @property
    def stays(self) -> bool:
        """True if the results of `invoke` stay where they are, for the next one to overwrite."""
        return self._stay is not None

    def _views(self, indices: Sequence[int]) -> list[NDArray[Any] | None] | None:
        """Return views of tensors that stay where they are, or None if one has no memory yet.

        A tensor without dimensions has no view.
        """
        views: list[NDArray[Any] | None] = []
        for index in indices:
            details = self._interpreter._get_tensor_details(index, 0)
            if details["dtype"] == np.bytes_:
                return None
            if 0 in details["shape"]:
                return None
            try:
                view = self._interpreter.tensor(index)()
            except ValueError:
                return None
            views.append(_without_owner(view) if isinstance(view, np.ndarray) else None)
        return views

    def _written_by_delegates(self) -> list[int]:
        nodes = self._interpreter._get_ops_details()
        return [int(i) for node in nodes if node["op_name"] == "DELEGATE" for i in node["outputs"]]

    def reset(self) -> None:
        """Reset variables and resources; the latter require a new interpreter."""
        if self._resources:
            self._load()
        else:
            self._interpreter.reset_all_variables()

    def states(self) -> list[NDArray[Any]]:
        """Return the values of the requested variables."""
        return [np.array(self._interpreter.get_tensor(i, self._subgraph)) for i in self._states]

    def invoke(self, samples: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Invoke once on one array per input; return one array per tap."""
        given = [_settable(array) for array in samples]
        if self._runner is not None:
            self._runner(**{self._names[i]: a for i, a in zip(self._inputs, given, strict=True)})
            return [self._values(i, self._copier(i)) for i in self._taps]
        outlines = [(array.shape, array.dtype) for array in samples]
        if self._places is not None and outlines == self._given:
            for index, place, array in zip(self._inputs, self._places, given, strict=True):
                if place is None:
                    self._interpreter.set_tensor(index, array)
                else:
                    place[...] = array
        else:
            if self._resize([array.shape for array in samples]):
                self._allocate()
            for index, array in zip(self._inputs, given, strict=True):
                self._interpreter.set_tensor(index, array)
            self._given = outlines
        self._interpreter.invoke()
        if self._stay is not None:
            pairs = zip(self._taps, self._stay, strict=True)
            return [self._values(i, self._reader(i)) if v is None else v for i, v in pairs]
        if not self._readers:
            self._readers = [self._reader(i) for i in self._taps]
        return [self._values(*pair) for pair in zip(self._taps, self._readers, strict=True)]

    def _reader(self, index: int) -> Callable[[], NDArray[Any]]:
        """Return a function that reads a tensor; the view of a string tensor kills the process."""
        if self._interpreter._get_tensor_details(index, 0)["dtype"] == np.bytes_:
            return self._copier(index)
        view: Callable[[], NDArray[Any]] = self._interpreter.tensor(index)
        return view

    def _copier(self, index: int) -> Callable[[], NDArray[Any]]:
        return lambda: np.asarray(self._interpreter.get_tensor(index, self._subgraph))

    def _values(self, index: int, view: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return a tensor's values; the runtime raises for tensors without elements."""
        try:
            return np.asarray(view())
        except ValueError:
            details = self._interpreter._get_tensor_details(index, self._subgraph)
            shape = tuple(details["shape"])
            return np.empty(shape if 0 in shape else 0, details["dtype"])

    def _resize(self, shapes: Sequence[Sequence[int]]) -> bool:
        """Give every input its shape; return True if one had another shape."""
        changed = False
        for index, shape in zip(self._inputs, shapes, strict=False):  # without shapes: unchanged
            details = self._interpreter._get_tensor_details(index, 0)
            if tuple(details["shape"]) != tuple(shape):
                self._interpreter.resize_tensor_input(index, shape)
                changed = True
        return changed


def _without_owner(view: NDArray[Any]) -> NDArray[Any]:
    """Return a view of the same memory that the interpreter does not know.

    An interpreter refuses to run while a view exists that it has handed out.
    """
    room: Any = (ctypes.c_char * view.nbytes).from_address(view.ctypes.data)
    same: NDArray[Any] = np.frombuffer(room, view.dtype).reshape(view.shape)
    return same


def _settable(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array for `set_tensor`, which reads the pointer of a string in an object scalar."""
    return array.astype(bytes) if array.dtype == object and not array.ndim else array
