"""TensorFlow Lite for Microcontrollers from the package ``tflite-micro``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

_LOG = Path("/dev/fd/2")
"""The log of the interpreter: it writes to stderr, which is a file of the session."""
_ARENAS = tuple(2**bits for bits in (24, 26, 28, 30))
"""The arena sizes to try, bytes, for all tensors together.  Unused pages cost no memory, and a
small arena makes some kernels crash instead of refusing."""
_TOO_SMALL = re.compile(r"missing: \d+|too small|[Ff]ailed to allocate")
_NO_OPERATOR = re.compile(r"Didn't find op for builtin opcode '(\w+)'")
_MOST_SAID = 300


def open_micro(request: dict[str, Any]) -> MicroEngine:
    """Load a model into the first arena that is large enough.

    Raises:
        RuntimeError: The interpreter refuses it.
    """
    from tflite_micro import runtime

    if request["subgraph"] != 0:
        raise RuntimeError(
            f"it runs the main subgraph alone, and signature '{request['signature']}' is subgraph "
            f"{request['subgraph']}"
        )
    model = Path(request["path"]).read_bytes()
    _check_shapes(model, request["shapes"])
    for size in _ARENAS:
        before = _LOG.stat().st_size
        try:
            interpreter = runtime.Interpreter.from_bytes(model, arena_size=size)
            return MicroEngine(interpreter, _places(model, request["taps"]))
        except RuntimeError as error:
            said = _read(before)
            if not _TOO_SMALL.search(said):
                raise RuntimeError(_reason(said, model) or str(error)) from error
    raise RuntimeError(f"its tensors do not fit into an arena of {_ARENAS[-1] >> 20} MiB")


def _check_shapes(model: bytes, wanted: Sequence[Sequence[int]]) -> None:
    """Check that samples have the shapes of the file, because its tensors are never resized."""
    from ai_edge_litert import schema_py_generated as schema

    subgraph = schema.Model.GetRootAs(model).Subgraphs(0)
    for number, shape in enumerate(wanted):
        tensor = subgraph.Tensors(subgraph.Inputs(number))
        own = [] if tensor.ShapeIsNone() else tensor.ShapeAsNumpy().tolist()
        if own != list(shape):
            raise RuntimeError(
                f"it runs inputs of the file's own shapes alone: input {number} has {own}, and the "
                f"data {list(shape)}"
            )


def _custom(model: bytes) -> list[str]:
    """Return the names of a file's custom operators."""
    from ai_edge_litert import schema_py_generated as schema

    file = schema.Model.GetRootAs(model)
    codes = [file.OperatorCodes(i).CustomCode() for i in range(file.OperatorCodesLength())]
    return [code.decode(errors="replace") for code in codes if code]


def _places(model: bytes, taps: Sequence[int]) -> list[int]:
    """Return the output number of each tap."""
    from ai_edge_litert import schema_py_generated as schema

    outputs = schema.Model.GetRootAs(model).Subgraphs(0).OutputsAsNumpy()
    numbers = {int(tensor): number for number, tensor in enumerate(outputs)}
    return [numbers[tensor] for tensor in taps]


def _read(start: int) -> str:
    """Return the text that was written to the log from ``start`` on, in one line."""
    with _LOG.open("rb") as file:
        file.seek(start)
        return " ".join(file.read().decode(errors="replace").split())


def _reason(said: str, model: bytes) -> str:
    missing = _NO_OPERATOR.search(said)
    if missing:
        return f"it has no operator {missing[1]}"
    if "op code CUSTOM" in said:
        return f"it lacks one of the custom operators {', '.join(_custom(model))}"
    return said[:_MOST_SAID]


class MicroEngine:
    """An interpreter with its arena.

    Args:
        interpreter: The interpreter with allocated tensors.
        places: The numbers of the outputs to read.
    """

    delegated: Sequence[int] = ()

    def __init__(self, interpreter: Any, places: Sequence[int]) -> None:
        self._interpreter = interpreter
        self._places = places

    def reset(self) -> None:
        """Clear the variables, and the resource variables as well."""
        self._explained(self._interpreter.reset)

    def states(self) -> list[NDArray[Any]]:
        """Return nothing, because the interpreter does not expose variables."""
        return []

    def invoke(self, samples: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Invoke once on one array per input; return one array per output that is read."""
        for number, array in enumerate(samples):
            self._interpreter.set_input(array, number)
        self._explained(self._interpreter.invoke)
        return [self._interpreter.get_output(place) for place in self._places]

    def _explained(self, call: Callable[[], object]) -> None:
        """Call a function and add the interpreter's message to an exception."""
        before = _LOG.stat().st_size
        try:
            call()
        except RuntimeError as error:
            raise RuntimeError(_read(before)[:_MOST_SAID] or str(error)) from error
