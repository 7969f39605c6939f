"""The child process: one interpreter, one sample at a time.

Started as ``python -m tfldbg.run.worker``.  A file that aborts or crashes the runtime takes this
process down and not the session.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tfldbg.run import wire


class _Model:
    """A loaded interpreter and the tensors that are read after each invoke."""

    def __init__(self, request: dict[str, Any]) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

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
        self._taps: list[int] = request["taps"]
        self._inputs: list[int] = request["inputs"]
        self._subgraph: int = request["subgraph"]
        signature = request["signature"]
        self._names: dict[int, str] = {int(k): v for k, v in request["input_names"].items()}
        self._runner = self._interpreter.get_signature_runner(signature) if signature else None
        if self._runner is None:
            self._interpreter.allocate_tensors()
        self._views: list[Callable[[], NDArray[Any]]] = []
        self._given: list[NDArray[Any]] = []

    def run(self, samples: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Invoke once on one array per input; return one array per tap."""
        self._given = samples
        return self._invoke(samples)

    def rerun(self, numbers: list[int], arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Invoke on the samples of the last `run`, some inputs replaced for this once."""
        samples = list(self._given)
        for number, array in zip(numbers, arrays, strict=True):
            samples[number] = array
        return self._invoke(samples)

    def _invoke(self, samples: list[NDArray[Any]]) -> list[NDArray[Any]]:
        if self._runner is not None:
            self._runner(
                **{self._names[i]: _settable(a) for i, a in zip(self._inputs, samples, strict=True)}
            )
            return [self._values(i, self._copier(i)) for i in self._taps]
        self._resize(samples)
        self._interpreter.reset_all_variables()
        for index, array in zip(self._inputs, samples, strict=True):
            self._interpreter.set_tensor(index, _settable(array))
        self._interpreter.invoke()
        if not self._views:
            self._views = [self._reader(i) for i in self._taps]
        return [self._values(*pair) for pair in zip(self._taps, self._views, strict=True)]

    def _reader(self, index: int) -> Callable[[], NDArray[Any]]:
        """Return what yields a tensor's values; the view of a string tensor kills the process."""
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


def _settable(array: NDArray[Any]) -> NDArray[Any]:
    """Return what the runtime takes; of a lone string in an object array it reads the pointer."""
    return array.astype(bytes) if array.dtype == object and not array.ndim else array


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
                wire.send(replies, {"ok": True}, model.run(arrays))
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            wire.send(replies, {"ok": False, "error": f"{type(error).__name__}: {error}"})


def main() -> None:
    """Serve on the process's own pipes, with stray prints sent to stderr."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the session's, which ends this process
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, replies)


if __name__ == "__main__":
    main()
