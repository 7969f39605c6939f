"""Tasks for other processes.

The work and its result are pickled: the other process is trusted like this one.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

from tfldbg.errors import RunError, UsageError, unexpected
from tfldbg.options.runtimes import TRY_ANOTHER
from tfldbg.run.child import Limits, within


class NotLoadedError(UsageError):
    """Another process cannot load what it was given.

    Args:
        error: The reason.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"another process cannot load the inputs of this trace: {error}",
            hint="define functions in a module that is installed there, not in a script",
        )
        self._error = error

    def __reduce__(self) -> tuple[type[NotLoadedError], tuple[Exception]]:
        """Return how to restore it in the process that gave the work."""
        return NotLoadedError, (RuntimeError(str(self._error)),)


def loaded(given: bytes) -> Any:
    """Return an object that another process has pickled.

    Raises:
        NotLoadedError: It needs a module or a function that is not here.
    """
    try:
        return pickle.loads(given)  # noqa: S301  (of the session that gives the work)
    except (ImportError, AttributeError) as error:
        raise NotLoadedError(error) from error


_ONE_AT_A_TIME = Lock()
"""A lock, since a Dask worker may have several threads, and loading a model changes shared
state."""


@dataclass(frozen=True, slots=True)
class Task:
    """A function to call in another process."""

    work: Callable[[Any], Any]
    item: Any
    """The argument of the function."""
    limits: Limits
    """The limits of the child processes that the function starts."""


def pickled(given: object) -> bytes:
    """Return an object, such as a task for `answer`, for another process.

    Raises:
        UnpicklableError: It cannot be pickled.
    """
    try:
        return pickle.dumps(given)
    except Exception as error:  # models and functions may raise anything
        raise UnpicklableError(error) from error


class UnpicklableError(UsageError):
    """Something cannot be pickled.

    Args:
        error: The reason.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"the inputs of this trace cannot be passed to other processes: {error}",
            hint="give paths instead of models, and functions that a module defines",
        )


def answer(given: bytes) -> bytes:
    """Do a task in this process, and return its result or its error for `unpacked`."""
    try:
        with _ONE_AT_A_TIME:
            return pickle.dumps((None, _do(given)))
    except Exception as error:
        told = traceback.format_exc()
        try:
            made = pickle.dumps((error, told))
            pickle.loads(made)  # noqa: S301  (made in the line above)
        except Exception:  # an error of another library that cannot be pickled
            return pickle.dumps((unexpected(error), told))
        return made


def _do(given: bytes) -> Any:
    task: Task = loaded(given)
    with within(task.limits):
        return task.work(task.item)


def unpacked(answered: bytes) -> tuple[Exception | None, Any]:
    """Return the error and the result of a task.

    Args:
        answered: The return value of `answer` in the other process.

    Returns:
            None and the result; or the error, whose cause holds the traceback, and None.
    """
    try:
        error, made = pickle.loads(answered)  # noqa: S301  (of a process that does the work)
    except Exception as damage:  # damaged bytes may raise anything
        raise RunError(
            "a worker process answered with invalid bytes: a kernel has overwritten memory that is "
            "not its own",
            hint=TRY_ANOTHER,
        ) from damage
    if error is None:
        return None, made
    error.__cause__ = RuntimeError(made)
    return error, None
