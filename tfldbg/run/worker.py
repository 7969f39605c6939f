"""The child process: several models, one sample at a time.

`tfldbg.run.child.command` starts it with the process that started it and a limit in bytes.  A file
that aborts or crashes the runtime ends this process and not the session.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tfldbg.run import wire
from tfldbg.run.child import confine
from tfldbg.run.engines import open_engine

REFUSALS = (RuntimeError, ValueError, TypeError, KeyError, IndexError, ImportError, MemoryError)
"""The exceptions that a runtime raises if it does not accept a model or a sample."""


class LoadedModel:
    """A loaded model, and its last sample."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._engine = open_engine(request)
        self._given: list[NDArray[Any]] = []
        self._moved = False

    @property
    def delegated(self) -> NDArray[np.int32]:
        """The tensors that an external delegate writes."""
        return np.asarray(self._engine.delegated, np.int32)

    @property
    def stays(self) -> bool:
        """True if the results of a run may be kept until the next one."""
        return bool(getattr(self._engine, "stays", False))

    def run(self, samples: list[NDArray[Any]], *, fresh: bool) -> list[NDArray[Any]]:
        """Invoke once on one array per input.

        Args:
            samples: The arrays.
            fresh: True to reset variables and resources first.

        Returns:
            The values of the state tensors before the run, then one array per tap.
        """
        self._given = samples
        if fresh:
            self._reset()
        return [*self._engine.states(), *self._invoke(samples)]

    def rerun(self, numbers: list[int], arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Invoke on the sample of the last `run` with some inputs replaced."""
        samples = list(self._given)
        for number, array in zip(numbers, arrays, strict=True):
            samples[number] = array
        self._reset()
        return self._invoke(samples)

    def _reset(self) -> None:
        if self._moved:
            self._engine.reset()
        self._moved = False

    def _invoke(self, samples: list[NDArray[Any]]) -> list[NDArray[Any]]:
        self._moved = True
        return self._engine.invoke(samples)


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests until the session closes the pipe.

    Args:
        requests: The pipe for requests.
        replies: The pipe for answers.
    """
    models: dict[int, LoadedModel] = {}
    while True:
        try:
            request, arrays = wire.receive(requests)
        except EOFError:
            return
        try:
            # The answer gets no name: its arrays refer to the runtime, which must be released.
            wire.send(replies, {"ok": True}, _answer(models, request, arrays))
        except REFUSALS as error:
            wire.send(replies, {"ok": False, "error": type(error).__name__, "message": str(error)})


def _answer(
    models: dict[int, LoadedModel], request: dict[str, Any], arrays: list[NDArray[Any]]
) -> list[NDArray[Any]]:
    """Do what is requested of a model, and return its results.

    Args:
        models: The loaded models by number.
        request: The request.
        arrays: The values for its inputs.
    """
    command, number = request["command"], request["model"]
    if command == "open":
        models[number] = LoadedModel(request)
        return [models[number].delegated]
    if command == "close":
        models.pop(number, None)
        return []
    if command == "rerun":
        return models[number].rerun(request["inputs"], arrays)
    return models[number].run(arrays, fresh=request["fresh"])


def main() -> None:
    """Serve on the process's own pipes, with stray prints sent to stderr.

    The arguments are the parent's process id, the limit on memory in bytes (0 for none), and
    whether to import LiteRT before the first request (1 or 0).
    """
    faulthandler.enable()
    parent, memory, ahead = map(int, sys.argv[1:])
    confine(parent, memory or None)
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if ahead:
        with suppress(ImportError):  # opening a model will say so
            import_module("ai_edge_litert.interpreter")
    serve(sys.stdin.buffer, replies)
