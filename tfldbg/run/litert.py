"""Run a model in a child process, and turn its death into an error that says where."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from tfldbg.errors import RunError
from tfldbg.graph.model import Signature, Subgraph
from tfldbg.rewrite.expose import unreadable
from tfldbg.rewrite.flatbuffer import replace_outputs
from tfldbg.run import wire
from tfldbg.run.child import ending, environment
from tfldbg.run.runtimes import Kernels

_OTHERS = "try another --runtime (xnnpack, builtin, reference, tf, micro)"


@dataclass(frozen=True, slots=True)
class Program:
    """What to load into the runtime and what to read from it."""

    name: str
    """How messages call the file."""
    model_bytes: bytes
    kernels: Kernels
    subgraph: Subgraph
    """The subgraph to run, as in the original file."""
    taps: tuple[int, ...]
    """Tensors to read after each invoke; all must be outputs of the subgraph."""
    signature: Signature | None = None
    """How to call a subgraph that is not the main one."""


class DiedError(Exception):
    """The child process ended without an answer."""

    def __init__(self, code: int, stderr: str) -> None:
        super().__init__(code)
        self.code = code
        self.stderr = stderr


class Runner:
    """One interpreter in one child process.  Use as a context manager.

    Raises:
        RunError: The runtime refuses the model or dies while loading it.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._child: _Child | None = None
        self.delegated: tuple[int, ...] = ()
        """The tensors that an external delegate writes, once the runner is open."""

    def __enter__(self) -> Runner:
        self._child = _Child(self._program)
        try:
            self.delegated = self._child.open()
        except DiedError as death:
            self.close()
            raise _explain(self._program, death, None) from death
        except RunError:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def run(self, sample: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Invoke the model once, variables reset before it.

        Args:
            sample: One array per input of the subgraph, in the input's own type and shape.

        Returns:
            One array per tap, in the tensor's own type and shape.

        Raises:
            RunError: The runtime refuses the sample or dies.
        """
        return self._answer(lambda child: child.run(sample), sample)

    def rerun(self, changes: Mapping[int, NDArray[Any]]) -> list[NDArray[Any]]:
        """Invoke the model on the sample of the last `run`, some inputs replaced for this once.

        Args:
            changes: By number of the input what it takes instead, in its own type and shape.

        Returns:
            As `run`.

        Raises:
            RunError: The runtime refuses the values or dies.
        """
        return self._answer(lambda child: child.rerun(changes), None)

    def _answer(
        self,
        ask: Callable[[_Child], list[NDArray[Any]]],
        sample: Sequence[NDArray[Any]] | None,
    ) -> list[NDArray[Any]]:
        """Ask the child; its death is explained with the sample, where one is known."""
        if self._child is None:
            raise RunError("the runner is not open", hint="use it in a 'with' block")
        try:
            return ask(self._child)
        except DiedError as death:
            raise _explain(self._program, death, sample) from death

    def restart(self) -> None:
        """Start over in a new child process: resources, which no reset clears, are as at first.

        Raises:
            RunError: The runtime refuses the model or dies while loading it.
        """
        self.close()
        self.__enter__()

    def close(self) -> None:
        """End the child process."""
        if self._child is not None:
            self._child.close()
            self._child = None


class _Child:
    """The process, its pipes, and the temporary folder with the model and the error log."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._folder = tempfile.TemporaryDirectory(prefix="tfldbg-")
        folder = Path(self._folder.name)
        self._model = folder / "model.tflite"
        self._log = folder / "stderr"
        try:
            self._model.write_bytes(program.model_bytes)
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tfldbg.run.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=environment(),
                )
        except OSError as error:
            self._folder.cleanup()
            raise RunError(
                f"cannot start the runtime for '{program.name}': {error}",
                hint="free some space in the temporary folder, or set TMPDIR to another one",
            ) from error

    def open(self) -> tuple[int, ...]:
        program = self._program
        other = program.signature if program.subgraph.index else None
        names = {v: k for k, v in program.signature.inputs.items()} if program.signature else {}
        delegate = program.kernels.delegate
        (delegated,) = self._ask(
            {
                "command": "open",
                "path": str(self._model),
                "log": str(self._log),
                "runtime": program.kernels.runtime,
                "delegate": str(Path(delegate.path).absolute()) if delegate else None,
                "delegate_options": delegate.options if delegate else (),
                "taps": list(program.taps),
                "inputs": list(program.subgraph.inputs),
                "input_names": names,
                "subgraph": program.subgraph.index,
                "signature": other.key if other else None,
            },
            (),
        )
        return tuple(int(tensor) for tensor in delegated)

    def run(self, sample: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        return self._ask({"command": "run"}, sample)

    def rerun(self, changes: Mapping[int, NDArray[Any]]) -> list[NDArray[Any]]:
        request = {"command": "rerun", "inputs": list(changes)}
        return self._ask(request, list(changes.values()))

    def _ask(self, request: dict[str, Any], arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RunError("the child process has no pipes")
        try:
            wire.send(stdin, request, arrays)  # type: ignore[arg-type]
            reply, answer = wire.receive(stdout)  # type: ignore[arg-type]
        except (EOFError, BrokenPipeError) as error:
            code = self._process.wait()
            raise DiedError(code, self._log.read_text(errors="replace")) from error
        if not reply["ok"]:
            raise RunError(
                f"the {self._program.kernels} runtime refused '{self._program.name}': "
                f"{' '.join(reply['error'].split())}",
                hint=_advice(self._program),
            )
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # the child died with a request half read
        self._folder.cleanup()


def _advice(program: Program) -> str:
    if program.kernels.delegate is not None:
        return "leave --delegate out to see whether the runtime alone takes the file"
    return f"{_OTHERS}; custom and Flex operators need a runtime that has them"


def _explain(program: Program, death: DiedError, sample: Sequence[NDArray[Any]] | None) -> RunError:
    op = last_operator(program, sample)
    where = f" at operator {op}" if op else ""
    words = [line for line in death.stderr.splitlines() if line and not line.startswith("INFO")]
    said = f"; it said: {words[0][:200]}" if words and not words[0].startswith("Fatal") else ""
    return RunError(
        f"the {program.kernels} runtime died ({ending(death.code)}) on '{program.name}'"
        f"{where}{said}",
        hint=f"{_OTHERS}; if all of them die, the file itself makes the kernel fail",
    )


def last_operator(program: Program, sample: Sequence[NDArray[Any]] | None) -> str | None:
    """Find the operator at which the runtime dies, by running shorter and shorter models.

    Args:
        program: The program whose run killed the child process.
        sample: The inputs it was given, None when it died while loading.

    Returns:
        Number and kind of the operator, None when no shortened model dies.
    """
    operators = program.subgraph.operators
    survived, dies = 0, len(operators)
    if not dies or not _dies(program, dies, sample):
        return None
    while dies - survived > 1:
        middle = (survived + dies) // 2
        if _dies(program, middle, sample):
            dies = middle
        else:
            survived = middle
    return f"{dies - 1} {operators[dies - 1].kind}"


def _dies(program: Program, count: int, sample: Sequence[NDArray[Any]] | None) -> bool:
    kept = program.subgraph.operators[:count]
    outputs = tuple(
        index
        for op in kept
        for index in op.outputs
        if index >= 0 and not unreadable(program.subgraph, op, program.subgraph.tensors[index])
    )
    if not outputs:
        return False
    short = replace_outputs(program.model_bytes, program.subgraph.index, outputs, count)
    child = _Child(replace(program, model_bytes=short, taps=()))
    try:
        child.open()
        if sample is not None:
            child.run(sample)
    except DiedError:
        return True
    except RunError:
        return False
    finally:
        child.close()
    return False


def refusal(program: Program, sample: Sequence[NDArray[Any]]) -> str | None:
    """Say why a runtime does not run a program on a sample, or None when it does."""
    child = _Child(program)
    try:
        child.open()
        child.run(sample)
    except DiedError as death:
        return f"the {program.kernels} runtime dies of it (exit code {death.code})"
    except RunError as error:
        return error.message
    finally:
        child.close()
    return None


def observer_identical(
    original: Program, instrumented_outputs: Sequence[Sequence[bytes]], samples: Sequence[Any]
) -> bool:
    """Run the untouched model and compare its final outputs byte for byte.

    Args:
        original: The user's own bytes, its taps being the subgraph's outputs.
        instrumented_outputs: Per sample, the bytes of the same outputs in the rewritten model.
        samples: The same samples as inputs.
    """
    with Runner(original) as runner:
        for sample, expected in zip(samples, instrumented_outputs, strict=True):
            found = [a.tobytes() for a in runner.run(sample)]
            if found != list(expected):
                return False
    return True


def check_runs(subgraph: Subgraph, name: str) -> None:
    """Refuse files without operators before a process is started for them.

    Raises:
        RunError: There is nothing to run.
    """
    if not subgraph.operators:
        raise RunError(
            f"subgraph {subgraph.index} of '{name}' holds no operator, so there is nothing to run",
            hint="look at the file with tfldbg inspect",
        )
