"""The engines inside the child process: one module per runtime, all with the same protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from tfldbg.options.runtimes import MICRO, TENSORFLOW


class Engine(Protocol):
    """A loaded model."""

    @property
    def delegated(self) -> Sequence[int]:
        """The tensors that an external delegate writes, if known."""

    def reset(self) -> None:
        """Reset variables and resources to their initial values."""

    def states(self) -> list[NDArray[Any]]:
        """Return the values of the requested variables."""

    def invoke(self, samples: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Invoke once on one array per input; return one array per tap."""


def open_engine(request: dict[str, Any]) -> Engine:
    """Load the model of a request into the requested runtime.

    Args:
        request: The request as written by `tfldbg.run.litert`.

    Raises:
        RuntimeError, ValueError, ImportError: The runtime refuses the model or is not installed.
    """
    if request["runtime"] == MICRO:
        from tfldbg.run.engines.micro import open_micro

        return open_micro(request)
    if request["runtime"] == TENSORFLOW:
        from tfldbg.run.engines.tf import open_tensorflow

        return open_tensorflow(request)
    from tfldbg.run.engines.litert import open_litert

    return open_litert(request)
