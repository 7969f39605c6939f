"""LiteRT's interpreter; TensorFlow's has the same interface."""

from __future__ import annotations

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
        if self._runner is None:
            self._resize(self._shapes)
            self._interpreter.allocate_tensors()
        self._views: list[Callable[[], NDArray[Any]]] = []

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
        if self._resize([array.shape for array in samples]):
            self._views = []
            self._interpreter.allocate_tensors()
        for index, array in zip(self._inputs, given, strict=True):
            self._interpreter.set_tensor(index, array)
        self._interpreter.invoke()
        if not self._views:
            self._views = [self._reader(i) for i in self._taps]
        return [self._values(*pair) for pair in zip(self._taps, self._views, strict=True)]

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


def _settable(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array for `set_tensor`, which reads the pointer of a string in an object scalar."""
    return array.astype(bytes) if array.dtype == object and not array.ndim else array
