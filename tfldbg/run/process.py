"""Processes that run models for the session.

Starting one mostly consists of importing NumPy and LiteRT, and takes as long as a small trace.  So
the models of a trace share one, unless one of them ends it.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tfldbg.run import together, wire
from tfldbg.run.child import Limits, Watchdog, command, killed, limits, output_of

_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}
"""NumPy only holds arrays there, and starting its threads takes half of its import."""
_PIPE_BYTES = 1 << 20
"""The size of the pipes: an array passes in fewer turns than with the usual 64 KiB."""

Answer = tuple[dict[str, Any], list[NDArray[Any]]]


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a process."""

    model: int | None
    """The number of the model that it worked on, None if the session ended it."""
    code: int = 0
    """Its return code."""
    stderr: str = ""
    late: bool = False
    """True if it was ended because it took too long."""
    garbled: bool = False
    """True if it was ended because it answered with invalid bytes."""
    crowded: int | None = None
    """The memory of all processes if it was ended for exceeding the limit, or None."""

    @property
    def by_itself(self) -> bool:
        """True if nobody ended it: the model's doing, or that of one that ran before."""
        return self.garbled or not (self.late or self.crowded is not None or killed(self.code))


class EndedError(Exception):
    """The process has ended."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.ending = ending


class Host:
    """A process of `tfldbg.run.worker`, which holds models and runs them.

    It answers requests in their order.

    Args:
        allowed: The limits of the process.
        ahead: True to import LiteRT at once, before the first request.

    Raises:
        OSError: The system cannot start it.
    """

    def __init__(self, allowed: Limits, *, ahead: bool = False) -> None:
        self.limits, self.allowed = allowed, allowed.memory_bytes
        self.crowded: int | None = None
        """The memory of all processes when it was ended for exceeding the limit, or None."""
        self.ending: Ending | None = None
        """How it ended, None while it runs."""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            told = (os.getpid(), self.allowed or 0, int(ahead))
            self._process = subprocess.Popen(  # noqa: S603  (this interpreter, this package)
                command("tfldbg.run.worker", *map(str, told)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env={**os.environ, **_ENVIRONMENT},
            )
        except BaseException:
            self._log.close()
            raise
        _widen(self._process.stdin, self._process.stdout)
        self._watchdog = Watchdog(self._process, allowed.timeout_s)
        self._models = 0
        self._waiting: deque[int] = deque()
        """The models of the requests that are not answered yet."""
        self._answers: dict[int, deque[Answer]] = {}
        together.join(self)

    @property
    def number(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def runs(self) -> bool:
        """True if the process can take requests."""
        return self.ending is None and self._process.poll() is None

    def kill(self) -> None:
        """End the process; a pending request fails."""
        self._process.kill()

    def open(self, request: dict[str, Any]) -> int:
        """Request to load a model, and return its number.

        Args:
            request: The model, as for `tfldbg.run.engines.open_engine`.
        """
        self._models += 1
        self._answers[self._models] = deque()
        self.send(self._models, {**request, "command": "open"})
        return self._models

    def send(
        self, model: int, request: dict[str, Any], arrays: Sequence[NDArray[Any]] = ()
    ) -> None:
        """Send a request about a model.

        If the process ends meanwhile, `receive` says so.

        Raises:
            EndedError: The process is known to have ended.
        """
        if self.ending is not None:
            raise EndedError(self.ending)
        self._waiting.append(model)
        with suppress(BrokenPipeError), self._watchdog, self._whole():
            wire.send(self._process.stdin, {**request, "model": model}, arrays)  # type: ignore[arg-type]

    def receive(self, model: int) -> Answer:
        """Return the answer to the first request about a model that has none yet.

        Raises:
            EndedError: The process ended before it answered.
        """
        answers = self._answers[model]
        while not answers:
            if self.ending is None:
                self._receive()
            if self.ending is not None:
                raise EndedError(self.ending)
        return answers.popleft()

    def _receive(self) -> None:
        """Read the next answer."""
        try:
            with self._watchdog, self._whole():
                answer = wire.receive(self._process.stdout, self.allowed)  # type: ignore[arg-type]
        except (EOFError, BrokenPipeError):
            self._end(self._process.wait())
        except wire.GarbledError:
            self._process.kill()
            self._end(self._process.wait(), garbled=True)
        else:
            self._answers.get(self._waiting.popleft(), deque()).append(answer)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """End the process if a message is interrupted, since nobody can read on from there."""
        try:
            yield
        except (EOFError, BrokenPipeError, wire.GarbledError):
            raise
        except BaseException:  # Ctrl-C, too
            self.close()
            raise

    def _end(self, code: int, *, garbled: bool = False) -> None:
        model = self._waiting[0] if self._waiting else None
        late, words = self._watchdog.barked, output_of(self._log)
        self.ending = Ending(model, code, words, late, garbled, self.crowded)
        self.close()

    def release(self, model: int) -> None:
        """Release a model; answers to requests about it are dropped."""
        del self._answers[model]
        if self.runs:
            self.send(model, {"command": "close"})

    def close(self) -> None:
        """End the process."""
        if self.ending is None:
            self.ending = Ending(None)
        together.leave(self)
        self._watchdog.close()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # it ended while reading a request
                    pipe.close()
        self._log.close()


def _widen(*pipes: Any) -> None:
    """Give pipes their size, where the system allows it."""
    with suppress(ImportError, AttributeError, OSError):  # other systems; a user's last pages
        import fcntl

        for pipe in pipes:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


class Hosts:
    """The process that the models of a trace share.

    The first one is started at once, before the first model is known.
    """

    def __init__(self) -> None:
        self._host: Host | None = None
        self.apart = False
        """True if each model has a process of its own."""
        with suppress(OSError):  # the error is raised when one is needed
            self._host = Host(limits(), ahead=True)

    def host(self) -> Host:
        """Return the process, a new one if the last has ended.

        Raises:
            OSError: The system cannot start it.
        """
        if self._host is None or not self._host.runs or self._host.limits != limits():
            self.close()
            self._host = Host(limits())
        return self._host

    def part(self) -> None:
        """Give each model a process of its own from now on.

        A model that ended the shared process runs well alone: so another one may write to memory
        that is not its own.
        """
        self.apart = True
        self.close()

    def close(self) -> None:
        """End the process."""
        if self._host is not None:
            self._host.close()
            self._host = None


_HOSTS: ContextVar[Hosts | None] = ContextVar("hosts", default=None)


def shared_hosts() -> Hosts | None:
    """Return the process that models share here, None outside of `one_process`."""
    return _HOSTS.get()


@contextmanager
def one_process() -> Iterator[None]:
    """Let the models that are opened inside the block share one process."""
    hosts = Hosts()
    token = _HOSTS.set(hosts)
    try:
        yield
    finally:
        _HOSTS.reset(token)
        hosts.close()
