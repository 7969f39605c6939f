"""Child processes that are used again and again, and replaced when they die or take too long."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

AT_MOST = 400
"""Tasks of one process: TensorFlow keeps a little of everything that it has traced."""


class DiedError(Exception):
    """The process ended, or was ended, before it answered."""


class Worker:
    """One child process that calls functions of this package.

    Args:
        environment: What its environment holds besides.
        timeout: Seconds for one call.
        log: Where its output goes.
    """

    def __init__(self, environment: dict[str, str], timeout: float, log: Path) -> None:
        self._environment, self._timeout, self._log = environment, timeout, log
        self._process: Any = None
        self._pipe: Connection | None = None
        self._calls = 0

    def call(self, module: str, function: str, *args: Any) -> Any:
        """Call ``function`` of ``module`` in the child and return what it returns.

        Raises:
            DiedError: The child crashed or took too long.
        """
        if self._process is None or self._calls >= AT_MOST:
            self._start()
        assert self._pipe is not None  # noqa: S101
        self._calls += 1
        self._pipe.send((module, function, args))
        if not self._pipe.poll(self._timeout):
            self.close()
            raise DiedError(f"no answer within {self._timeout:g} s")
        try:
            failed, answer = self._pipe.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self.close()
            raise DiedError(f"the process ended with exit code {code}") from None
        if failed:
            raise RuntimeError(answer)
        return answer

    def _start(self) -> None:
        self.close()
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        given = (theirs, self._environment, self._log)
        process = context.Process(target=_serve, args=given)
        process.start()
        self._process = process
        theirs.close()
        self._calls = 0

    def close(self) -> None:
        """End the child."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None


def _serve(pipe: Connection, environment: dict[str, str], log: Path) -> None:
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (sys.stdout.fileno(), sys.stderr.fileno()):
        os.dup2(descriptor, number)
    while True:
        try:
            module, function, args = pipe.recv()
        except EOFError:
            return
        pipe.send(_answer(getattr(import_module(module), function), args))


def _answer(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return False, function(*args)
    except Exception as error:  # told to the parent
        return True, f"{type(error).__name__}: {error}"
