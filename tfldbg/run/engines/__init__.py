"""What runs inside the child process: one module a runtime, all with one protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from tfldbg.options.runtimes import MICRO, TENSORFLOW


class Engine(Protocol):
    """A loaded model."""

    @property
    def delegated(self) -> Sequence[int]:
        """The tensors that an external delegate writes, as far as they are seen."""

    def reset(self) -> None:
        """Make variables and resources what they are at first."""

    def states(self) -> list[NDArray[Any]]:
        """Return what the variables hold that are to be read."""

    def invoke(self, samples: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Invoke once on one array per input; return one array per tap."""


def open_engine(request: dict[str, Any]) -> Engine:
    """Load the model that a request describes into the runtime that it names.

    Args:
        request: As `tfldbg.run.litert` writes it.

    Raises:
        RuntimeError, ValueError, ImportError: The runtime refuses the model, or is not here.
    """
    if request["runtime"] == MICRO:
        from tfldbg.run.engines.micro import open_micro

        return open_micro(request)
    if request["runtime"] == TENSORFLOW:
        from tfldbg.run.engines.tf import open_tensorflow

        return open_tensorflow(request)
    from tfldbg.run.engines.litert import open_litert

    return open_litert(request)
