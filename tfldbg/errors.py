"""The exceptions tfldbg raises.  Only ``tfldbg.cli`` catches them.

A message says what happened, to which object, what was expected and what was found.  The hint says
what to type next.
"""

from __future__ import annotations

from typing import Any


class TfldbgError(Exception):
    """Base of every error that tfldbg raises on purpose.

    Args:
        message: The event, the object, the expected and the found value.
        hint: The next step for the user to type or change.
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Make the error picklable, whatever arguments its class takes."""
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[TfldbgError], args: tuple[Any, ...], state: dict[str, Any]) -> TfldbgError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class UsageError(TfldbgError):
    """Options that contradict each other or ask for something that does not exist."""


class ModelError(TfldbgError):
    """A .tflite file that cannot be read."""


class RewriteError(TfldbgError):
    """A .tflite file that cannot be rewritten."""


class RunError(TfldbgError):
    """The TFLite runtime refused the model, crashed or did not answer."""


class DataError(TfldbgError):
    """Input data with a wrong shape, type or content."""


class KerasError(TfldbgError):
    """A Keras model that cannot be loaded or frozen."""


class MatchError(TfldbgError):
    """Two models whose inputs or outputs cannot be paired."""


class CaptureError(TfldbgError):
    """A recorded run that cannot be written or read."""


class MissingExtraError(TfldbgError):
    """A command that needs a package which is not installed with tfldbg itself.

    Args:
        command: The command, option or function, as the user types it.
        package: The package that it needs.
        extra: The extra of tfldbg that installs it.
    """

    def __init__(self, command: str, package: str, extra: str) -> None:
        super().__init__(
            f"{command} needs the package {package}, which is not installed",
            hint=f"python3 -m pip install 'tfldbg[{extra}]'",
        )


class PluginError(TfldbgError):
    """A user-defined metric or reference that cannot be loaded or fails."""


def unexpected(error: Exception) -> TfldbgError:
    """Return an error for an exception that was not raised on purpose."""
    return TfldbgError(
        f"this is a bug in tfldbg: {type(error).__name__}: {error}",
        hint="report it with the output of the same command under TFLDBG_DEBUG=1",
    )
