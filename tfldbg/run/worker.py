"""The child process: one interpreter, one sample at a time.

Started by `tfldbg.run.child.command` with the process that started it and a limit in bytes.  A file
that aborts or crashes the runtime takes this process down and not the session.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tfldbg.run import wire
from tfldbg.run.child import prepare


class _Model:
    """A loaded interpreter and the tensors that are read after each invoke."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._request = request
        self._taps: list[int] = request["taps"]
        self._states: list[int] = request["states"]
        self._inputs: list[int] = request["inputs"]
        self._subgraph: int = request["subgraph"]
        self._names: dict[int, str] = {int(k): v for k, v in request["input_names"].items()}
        self._given: list[NDArray[Any]] = []
        self._load()

    def _load(self) -> None:
        """Make the interpreter: only a new one has its resources as they are at first."""
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        request = self._request

        resolver = {
            "xnnpack": OpResolverType.AUTO,
            "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            "reference": OpResolverType.BUILTIN_REF,
        }[request["runtime"]]
        self._interpreter: Any = Interpreter(
            model_path=request["path"],
            num_threads=1,
            experimental_op_resolver_type=resolver,
        )
        signature = request["signature"]
        self._runner = self._interpreter.get_signature_runner(signature) if signature else None
        if self._runner is None:
            self._interpreter.allocate_tensors()
        self._views: list[Callable[[], NDArray[Any]]] = []
        self._moved = False

    def run(self, samples: list[NDArray[Any]], *, fresh: bool) -> list[NDArray[Any]]:
        """Invoke once on one array per input.

        Args:
            samples: The arrays.
            fresh: Whether to reset variables and resources first.

        Returns:
            What the state tensors held before it, then one array per tap.
        """
        self._given = samples
        if fresh:
            self._reset()
        states = [np.array(self._interpreter.get_tensor(i, self._subgraph)) for i in self._states]
        return [*states, *self._invoke(samples)]

    def rerun(self, numbers: list[int], arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Invoke on the samples of the last `run`, some inputs replaced for this once."""
        samples = list(self._given)
        for number, array in zip(numbers, arrays, strict=True):
            samples[number] = array
        self._reset()
        return self._invoke(samples)

    def _reset(self) -> None:
        if self._moved and self._request["resources"]:
            self._load()
        elif self._moved:
            self._interpreter.reset_all_variables()
        self._moved = False

    def _invoke(self, samples: list[NDArray[Any]]) -> list[NDArray[Any]]:
        self._moved = True
        if self._runner is not None:
            self._runner(**{self._names[i]: a for i, a in zip(self._inputs, samples, strict=True)})
            return [self._interpreter.get_tensor(i, self._subgraph) for i in self._taps]
        self._resize(samples)
        for index, array in zip(self._inputs, samples, strict=True):
            self._interpreter.set_tensor(index, array)
        self._interpreter.invoke()
        if not self._views:
            self._views = [self._interpreter.tensor(i) for i in self._taps]
        return [self._values(*pair) for pair in zip(self._taps, self._views, strict=True)]

    def _values(self, index: int, view: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return a tensor's values; the runtime raises for tensors without elements."""
        try:
            return np.asarray(view())
        except ValueError:
            details = self._interpreter._get_tensor_details(index, 0)
            shape = tuple(details["shape"])
            return np.empty(shape if 0 in shape else 0, details["dtype"])

    def _resize(self, samples: list[NDArray[Any]]) -> None:
        changed = False
        for index, array in zip(self._inputs, samples, strict=True):
            details = self._interpreter._get_tensor_details(index, 0)
            if tuple(details["shape"]) != array.shape:
                self._interpreter.resize_tensor_input(index, array.shape)
                changed = True
        if changed:
            self._views = []
            self._interpreter.allocate_tensors()


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests until the session closes the pipe."""
    model: _Model | None = None
    while True:
        try:
            request, arrays = wire.receive(requests)
        except EOFError:
            return
        try:
            if request["command"] == "open":
                model = _Model(request)
                wire.send(replies, {"ok": True})
            elif request["command"] == "rerun" and model is not None:
                wire.send(replies, {"ok": True}, model.rerun(request["inputs"], arrays))
            elif model is not None:
                wire.send(replies, {"ok": True}, model.run(arrays, fresh=request["fresh"]))
        except (RuntimeError, ValueError, TypeError, KeyError, MemoryError) as error:
            wire.send(replies, {"ok": False, "error": f"{type(error).__name__}: {error}"})


def main() -> None:
    """Serve on the process's own pipes, with stray prints sent to stderr.

    The arguments are the parent's process id, and the limit on memory in bytes (0 for none).
    """
    faulthandler.enable()
    parent, memory = map(int, sys.argv[1:3])
    prepare(parent, memory or None)
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, replies)
