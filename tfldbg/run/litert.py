"""Run models in child processes, and turn a crash into an error that names its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.errors import RunError
from tfldbg.graph.places import tensors_stay
from tfldbg.options.runtimes import LITERT, TRY_ANOTHER, Kernels
from tfldbg.rewrite.expose import unreadable
from tfldbg.rewrite.flatbuffer import replace_outputs
from tfldbg.run import memory
from tfldbg.run.child import KILLED, ending, killed, limits
from tfldbg.run.placed import path_of
from tfldbg.run.process import EndedError, Ending, Host, shared_hosts
from tfldbg.run.refusals import refused
from tfldbg.run.status import own_status, words_for
from tfldbg.run.worker import REFUSALS, LoadedModel

if TYPE_CHECKING:
    from tfldbg.graph.model import Signature, Subgraph
    from tfldbg.rewrite.pieces import Pieces

_HEAP = re.compile(r"double free|corrupted|malloc\(\)|free\(\)|invalid size")

_LARGEST_TRIED = 1 << 30
"""The largest file for which the operator of a crash is searched, with copies of it, bytes."""


@dataclass(frozen=True, slots=True)
class Program:
    """A model to load into the runtime, and the tensors to read from it."""

    name: str
    """The name of the file in messages."""
    content: Pieces
    """The file."""
    kernels: Kernels
    subgraph: Subgraph
    """The subgraph to run, as in the original file."""
    taps: tuple[int, ...]
    """The tensors to read after each invoke; all must be outputs of the subgraph."""
    signature: Signature | None = None
    """The signature to call a subgraph other than the main one."""
    states: tuple[int, ...] = ()
    """The variables to read before each invoke, after a possible reset."""
    resources: bool = False
    """True if it keeps values in resources, which only a new interpreter resets."""
    shapes: tuple[tuple[int, ...], ...] = ()
    """The shapes to resize the inputs to before loading; empty for the file's own."""


class DiedError(Exception):
    """The child process ended without an answer."""

    def __init__(self, code: int, stderr: str, crowded: int | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.stderr = stderr
        self.crowded = crowded
        """The memory of all processes when it was ended for exceeding the limit, or None."""


class Runner:
    """A model that a child process runs.  Use as a context manager.

    Raises:
        RunError: The runtime refuses the model or crashes while loading it.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._child: _Child | _Here | None = None
        self.states: dict[int, NDArray[Any]] = {}
        """The values of the program's ``states`` before the last run, by tensor."""
        self.delegated: tuple[int, ...] = ()
        """The tensors that an external delegate writes, available once the runner is open."""

    def start(self) -> Runner:
        """Let a process load the model without waiting for it.

        Errors of the runtime are raised when the runner is entered.

        Raises:
            RunError: The process cannot be started.
        """
        self._started()
        return self

    @property
    def lends(self) -> bool:
        """True if the results of `run` are views of memory that the next run overwrites."""
        return isinstance(self._child, _Here)

    def _started(self) -> _Child | _Here:
        if self._child is None:
            self._child = (_Child if own_status() is None else _Here)(self._program)
        return self._child

    def __enter__(self) -> Runner:
        child = self._started()
        try:
            self.delegated = child.opened()
        except DiedError as death:
            self.close()
            raise _explain(self._program, death, None) from death
        except BaseException:  # Ctrl-C, too
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

    def run(
        self, sample: Sequence[NDArray[Any]], *, fresh: bool = True, lend: bool = False
    ) -> list[NDArray[Any]]:
        """Invoke the model once.

        Args:
            sample: One array per input of the subgraph, in the input's own type and shape.
            fresh: True to reset variables and resources first; False to continue from the last
                run.
            lend: True if the results may share memory that the next run overwrites.

        Returns:
            One array per tap, in the tensor's own type and shape.

        Raises:
            RunError: The runtime refuses the sample or crashes.
        """
        states = self._program.states
        found = self._answer(lambda child: child.run(sample, fresh, lend=lend), sample)
        self.states = dict(zip(states, found[: len(states)], strict=True))
        return found[len(states) :]

    def rerun(self, changes: Mapping[int, NDArray[Any]]) -> list[NDArray[Any]]:
        """Invoke the model on the sample of the last `run` with some inputs replaced.

        Variables and resources are reset first.

        Args:
            changes: The replacements in the input's own type and shape, by input number.

        Returns:
            The arrays as from `run`.

        Raises:
            RunError: The runtime refuses the values or crashes.
        """
        return self._answer(lambda child: child.rerun(changes), None)

    def _answer(
        self,
        ask: Callable[[_Child | _Here], list[NDArray[Any]]],
        sample: Sequence[NDArray[Any]] | None,
    ) -> list[NDArray[Any]]:
        """Send a request to the child; a crash is explained with the sample, if known."""
        if self._child is None:
            raise RunError("the runner is not open", hint="use it in a 'with' block")
        try:
            return ask(self._child)
        except DiedError as death:
            if self._child is None:
                raise RunError("the runner was closed while it was asked") from death
            raise _explain(self._program, death, sample) from death

    def close(self) -> None:
        """Release the model, and its process if it has one of its own."""
        child, self._child = self._child, None  # first, for a thread that waits for an answer
        if child is not None:
            child.close()


class _Child:
    """A model in another process: in one that models share, or in its own.

    If it ends a shared process, it goes on in a process of its own, where it ends the process once
    more unless another model was to blame.

    Args:
        program: The model.
        alone: True for a process of its own.
    """

    def __init__(self, program: Program, *, alone: bool = False) -> None:
        self._program, self._path = program, _placed(program)
        shares = program.kernels.runtime in LITERT and program.kernels.delegate is None
        self._hosts = shared_hosts() if shares and not alone else None
        self._sample: Sequence[NDArray[Any]] = ()
        self._load()

    def _load(self) -> None:
        """Request to load the model, and do not wait for it."""
        if self._hosts is not None and self._hosts.apart:
            self._hosts = None
        try:
            self._host = Host(limits()) if self._hosts is None else self._hosts.host()
        except OSError as error:
            raise _not_started(self._program, error) from error
        self._loading = True
        self._model = self._host.open(opening(self._program, self._path))

    def opened(self) -> tuple[int, ...]:
        """Wait until the model is loaded; return the tensors that a delegate writes."""
        (delegated,) = self._surely(self._finish_loading)
        return tuple(int(tensor) for tensor in delegated)

    def run(
        self, sample: Sequence[NDArray[Any]], fresh: bool = True, *, lend: bool = False
    ) -> list[NDArray[Any]]:
        del lend  # what comes through a pipe is the receiver's
        self._sample = sample
        request = {"command": "run", "fresh": fresh}
        return self._surely(lambda: self._ask(request, sample), resumes=fresh)

    def rerun(self, changes: Mapping[int, NDArray[Any]]) -> list[NDArray[Any]]:
        request, values = {"command": "rerun", "inputs": list(changes)}, list(changes.values())
        knows_the_sample = self._host

        def ask() -> list[NDArray[Any]]:
            if self._host is not knows_the_sample:
                self._ask({"command": "run", "fresh": True}, self._sample)
            return self._ask(request, values)

        return self._surely(ask)

    def _surely(
        self, ask: Callable[[], list[NDArray[Any]]], *, resumes: bool = True
    ) -> list[NDArray[Any]]:
        """Return the answer to a request, from another process if another model ended this one.

        Args:
            ask: Makes the request.
            resumes: True if the model needs no state of an earlier request.

        Raises:
            DiedError: The model ended a process of its own.
            RunError: The model is refused, or did not finish in time.
        """
        try:
            return ask()
        except EndedError as error:
            ending, hosts = error.ending, self._hosts
            mine = ending.model == self._model
            if not resumes or hosts is None or (mine and not ending.by_itself):
                raise self._error(ending) from error
        self._hosts = None if mine else hosts
        self._load()
        answer = self._surely(ask)
        if mine:
            hosts.part()
        return answer

    def _error(self, ending: Ending) -> Exception:
        if ending.late:
            doing = _doing(self._program, loading=self._loading)
            return late(doing, self._host.limits.timeout_s)
        if ending.garbled:
            return _garbled(self._program)
        return DiedError(ending.code, ending.stderr, ending.crowded)

    def _finish_loading(self) -> list[NDArray[Any]]:
        answer = self._receive()
        self._loading = False
        return answer

    def _ask(self, request: dict[str, Any], arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        if self._loading:
            self._finish_loading()
        self._host.send(self._model, request, arrays)
        return self._receive()

    def _receive(self) -> list[NDArray[Any]]:
        reply, answer = self._host.receive(self._model)
        if reply.get("ok") is not True:
            kind, said = str(reply.get("error")), str(reply.get("message"))
            raise _refused(self._program, kind, said, self._host.limits.memory_bytes)
        return answer

    def close(self) -> None:
        if self._hosts is None:
            self._host.close()
        else:
            self._host.release(self._model)


def _placed(program: Program) -> str:
    """Return the path of a model's file.

    Raises:
        RunError: The disk is full or fails.
    """
    try:
        return path_of(program.content)
    except OSError as error:
        raise _not_started(program, error) from error


class _Here:
    """A model that this process has loaded: a crash of a kernel ends this process."""

    def __init__(self, program: Program) -> None:
        self._program, self._status = program, own_status()
        self._words = words_for(_doing(program, loading=False))
        if self._status is not None:
            self._status.begin(words_for(_doing(program, loading=True)))
        try:
            self._loaded = LoadedModel(opening(program, path_of(program.content)))
        except OSError as error:
            raise _not_started(program, error) from error
        except REFUSALS as error:
            raise self._refused(error) from error
        finally:
            self._rest()

    def _rest(self) -> None:
        if self._status is not None:
            self._status.end()

    def opened(self) -> tuple[int, ...]:
        return tuple(self._loaded.delegated.tolist())

    def run(
        self, sample: Sequence[NDArray[Any]], fresh: bool = True, *, lend: bool = False
    ) -> list[NDArray[Any]]:
        if self._status is not None:
            self._status.begin(self._words)
        try:
            made = self._loaded.run(list(sample), fresh=fresh)
        except REFUSALS as error:
            raise self._refused(error) from error
        finally:
            self._rest()
        return made if lend and self._loaded.stays else [np.array(array) for array in made]

    def rerun(self, changes: Mapping[int, NDArray[Any]]) -> list[NDArray[Any]]:
        try:
            made = self._loaded.rerun(list(changes), list(changes.values()))
        except REFUSALS as error:
            raise self._refused(error) from error
        return [np.array(array) for array in made]

    def _refused(self, error: Exception) -> RunError:
        limit = limits().memory_bytes
        return _refused(self._program, type(error).__name__, str(error), limit)

    def close(self) -> None:
        del self._loaded


def opening(program: Program, path: str) -> dict[str, Any]:
    """Return the request to load a model.

    Args:
        program: The model.
        path: The path of its file.
    """
    other = program.signature if program.subgraph.index else None
    names = {v: k for k, v in program.signature.inputs.items()} if program.signature else {}
    delegate = program.kernels.delegate
    return {
        "path": path,
        "runtime": program.kernels.runtime,
        "delegate": str(Path(delegate.path).absolute()) if delegate else None,
        "delegate_options": delegate.options if delegate else (),
        "taps": list(program.taps),
        "stay": tensors_stay(program.subgraph),
        "states": list(program.states),
        "resources": program.resources,
        "inputs": list(program.subgraph.inputs),
        "input_names": names,
        "shapes": [list(shape) for shape in program.shapes],
        "subgraph": program.subgraph.index,
        "signature": other.key if other else None,
    }


def _not_started(program: Program, error: OSError) -> RunError:
    return RunError(
        f"cannot start the runtime for '{program.name}': {error}",
        hint="free some space in the temporary folder, or set TMPDIR to another one",
    )


def _refused(program: Program, kind: str, said: str, limit: int | None) -> RunError:
    words = " ".join(said.split())
    if memory.too_little(program.subgraph, f"{kind} {words}" if words else "", limit):
        return _too_large(program, limit, "")
    error = refused(str(program.kernels), program.name, program.subgraph, words or kind)
    if program.kernels.delegate is not None:
        error.hint = "leave --delegate out to see whether the runtime alone accepts the file"
    return error


def _too_large(program: Program, limit: int | None, where: str) -> RunError:
    allowed = f"the limit of {memory.bytes_in_words(limit)}" if limit is not None else "there is"
    return RunError(
        f"'{program.name}' needs more memory than {allowed} under the {program.kernels} "
        f"runtime{where}; {memory.largest(program.subgraph)}",
        hint="allow more with --memory-limit GIB, if the machine has it",
    )


def _limit_worded(limit: int | None) -> str:
    return "" if limit is None else f" of {memory.bytes_in_words(limit)}"


def _doing(program: Program, *, loading: bool) -> str:
    what = "loading" if loading else "one sample of"
    return f"the {program.kernels} runtime did not finish {what} '{program.name}'"


def crowded(size: int, what: str = "the models", more: str = "") -> RunError:
    """Return the error for processes that together took too much memory.

    Args:
        size: Their memory, bytes.
        what: What they ran.
        more: The end of the message.
    """
    return RunError(
        f"the processes that run {what} take {memory.bytes_in_words(size)} together, more than the "
        f"limit{_limit_worded(limits().memory_bytes)}{more}",
        hint="allow more with --memory-limit GIB, if the machine has it, or measure less at "
        "a time: fewer --workers, no --compounding, no --labels",
    )


def late(doing: str, timeout_s: float) -> RunError:
    """Return the error for a process that was ended because it took too long."""
    return RunError(
        f"{doing} within {timeout_s:g} s and was ended",
        hint="if it is only slow, allow more time with --timeout SECONDS",
    )


def _garbled(program: Program) -> RunError:
    return RunError(
        f"the process that runs '{program.name}' under the {program.kernels} runtime answered with "
        "invalid bytes: a kernel has overwritten memory that is not its own",
        hint=TRY_ANOTHER,
    )


def _explain(program: Program, death: DiedError, sample: Sequence[NDArray[Any]] | None) -> RunError:
    if death.crowded is not None:
        what = f"'{program.name}' and its reference"
        return crowded(death.crowded, what, f"; {memory.largest(program.subgraph)}")
    if killed(death.code):  # another run could make the machine run short again
        return RunError(
            f"the {program.kernels} runtime died on '{program.name}': {KILLED}; "
            f"{memory.largest(program.subgraph)}",
            hint="give the machine or the container more memory, or end other programs; "
            "--memory-limit GIB makes the runtime stop before the system has to",
        )
    limit = limits().memory_bytes
    op = last_operator(program, sample)
    # Damage of the heap is only detected some time after an operator caused it.
    late = " or one before it" if _HEAP.search(death.stderr) else ""
    where = f" at operator {op}{late}" if op else ""
    if memory.too_little(program.subgraph, death.stderr, limit):
        return _too_large(program, limit, where)
    words = [line for line in death.stderr.splitlines() if line and not line.startswith("INFO")]
    said = f"; it said: {words[0][:200]}" if words and not words[0].startswith("Fatal") else ""
    return RunError(
        f"the {program.kernels} runtime died ({ending(death.code)}) on '{program.name}'"
        f"{where}{said}",
        hint=f"{TRY_ANOTHER}; if all of them die, the file itself makes the kernel fail",
    )


def last_operator(program: Program, sample: Sequence[NDArray[Any]] | None) -> str | None:
    """Find the operator at which the runtime crashes, by running shorter and shorter models.

    Args:
        program: The program whose run crashed the child process.
        sample: The inputs of the run, or None if it crashed while loading.

    Returns:
        The number and kind of the operator, or None if no shortened model crashes.
    """
    operators = program.subgraph.operators
    if len(program.content) > _LARGEST_TRIED:
        return None
    whole = bytes(program.content)
    survived, dies = 0, len(operators)
    if not dies or not _dies(program, whole, dies, sample):
        return None
    while dies - survived > 1:
        middle = (survived + dies) // 2
        if _dies(program, whole, middle, sample):
            dies = middle
        else:
            survived = middle
    return f"{dies - 1} {operators[dies - 1].kind}"


def _dies(
    program: Program, whole: bytes, count: int, sample: Sequence[NDArray[Any]] | None
) -> bool:
    kept = program.subgraph.operators[:count]
    outputs = tuple(
        index
        for op in kept
        for index in op.outputs
        if index >= 0 and not unreadable(program.subgraph, op, program.subgraph.tensors[index])
    )
    if not outputs:
        return False
    short = replace_outputs(whole, program.subgraph.index, outputs, count)
    child = _Child(replace(program, content=short, taps=(), states=()), alone=True)
    try:
        child.opened()
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
    """Return why a runtime does not run a program on a sample, or None if it does."""
    child = _Child(program)
    try:
        child.opened()
        child.run(sample)
    except DiedError as death:
        return f"the {program.kernels} runtime dies of it (exit code {death.code})"
    except RunError as error:
        return error.message
    finally:
        child.close()
    return None


def as_bytes(array: NDArray[Any]) -> bytes:
    """Return the bytes of an array for comparisons; strings include their lengths."""
    return repr(array.tolist()).encode() if array.dtype == object else array.tobytes()


def check_runs(subgraph: Subgraph, name: str) -> None:
    """Check that a file has operators before a process is started for it.

    Raises:
        RunError: There is nothing to run.
    """
    if not subgraph.operators:
        raise RunError(
            f"subgraph {subgraph.index} of '{name}' holds no operator, so there is nothing to run",
            hint="look at the file with tfldbg inspect",
        )
