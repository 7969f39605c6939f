"""The ``tfldbg`` command: its sub-commands, and the one place that turns errors into exit codes."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import Annotated

import typer

from tfldbg.cli.command import Command
from tfldbg.cli.commands.cache import cache
from tfldbg.cli.commands.convert import convert
from tfldbg.cli.commands.diff import diff
from tfldbg.cli.commands.dump import dump
from tfldbg.cli.commands.explain import explain
from tfldbg.cli.commands.expose import expose
from tfldbg.cli.commands.import_ import import_
from tfldbg.cli.commands.inspect import inspect
from tfldbg.cli.commands.kit import kit
from tfldbg.cli.commands.params import params
from tfldbg.cli.commands.report import report
from tfldbg.cli.commands.schema import schema
from tfldbg.cli.commands.sweep import sweep
from tfldbg.cli.commands.trace import trace
from tfldbg.cli.commands.view import view
from tfldbg.cli.examples import epilog
from tfldbg.errors import TfldbgError, unexpected
from tfldbg.version import VERSION

app = typer.Typer(
    name="tfldbg",
    help="The debugger for quantized TFLite models. "
    "Exit codes: 0 no divergence, 1 divergence, 2 wrong use or an error; --fail-on sets your own "
    "rules.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
_ENDED = {129: "ended by SIGHUP", 130: "interrupted", 143: "ended by SIGTERM"}
"""The messages of exit codes."""
_PANELS: Mapping[str, Sequence[Callable[..., None]]] = {
    "Find errors": (trace, diff, sweep),
    "Show a file": (inspect, params, view),
    "Record and report": (dump, report),
    "Run on a device": (kit, import_, expose),
    "Convert and explain": (convert, explain, schema, cache),
}
for panel, commands in _PANELS.items():
    for command in commands:
        name = command.__name__.rstrip("_")
        app.command(name, cls=Command, rich_help_panel=panel, epilog=epilog(name))(command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tfldbg {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    del version


def main() -> None:
    """Run the command line; errors become a message and exit code 2, Ctrl-C exit code 130.

    For other signals that end the process the exit code is 128 plus their number, as usual in
    shells.
    """
    _open_streams()
    _end_in_order()
    try:
        app()
    except TfldbgError as error:
        _fail(error)
    except SystemExit as leaving:
        _leave(leaving)
    except MemoryError:
        _fail(_too_large())
    except Exception as error:
        if os.environ.get("TFLDBG_DEBUG"):
            raise
        nameless = isinstance(error, OSError) and error.filename is None  # such as stdout
        _fail(_unprintable(error) if nameless else unexpected(error))
    finally:
        gc.freeze()  # searching the remaining objects for cycles takes as long as importing NumPy


def _end_in_order() -> None:
    """Let SIGTERM and SIGHUP end the process with an exception, so that it cleans up."""

    def leave(number: int, frame: FrameType | None) -> None:
        del frame
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)  # it is already ending
        raise SystemExit(128 + number)

    names = (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP"))
    # A signal that is ignored, as SIGHUP by nohup, stays ignored.
    numbers = [n for n in names if n is not None and signal.getsignal(n) == signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, leave)


def _open_streams() -> None:
    """Replace closed standard streams by the null device.

    Otherwise Python has no stream there, and the next file that is opened gets its number.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            reading = name == "stdin"
            number = os.open(os.devnull, os.O_RDONLY if reading else os.O_WRONLY)
            setattr(sys, name, os.fdopen(number, "r" if reading else "w"))


def _leave(leaving: SystemExit) -> None:
    """Exit with the documented exit code, which may differ from Typer's."""
    if isinstance(leaving.__context__, BrokenPipeError):
        _mute()  # the reader of the output has closed it
        sys.exit(2)
    if leaving.code in _ENDED:
        sys.stderr.write(f"{_ENDED[leaving.code]}\n")
    try:
        sys.stdout.flush()
    except OSError as error:
        _fail(_unprintable(error))
    raise leaving


def _mute() -> None:
    """Redirect stdout to the null device, so that it does not fail again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _too_large() -> TfldbgError:
    return TfldbgError(
        "there is not enough memory for these files and options",
        hint="use fewer samples (--samples), or a machine with more memory",
    )


def _unprintable(error: Exception) -> TfldbgError:
    return TfldbgError(
        f"cannot write the output: {getattr(error, 'strerror', None) or error}",
        hint="redirect stdout to a terminal, or to a disk with free space",
    )


def _fail(error: TfldbgError) -> None:
    from tfldbg.cli.console import show_error

    with suppress(OSError):  # if stderr cannot be written, the exit code still tells
        show_error(error)
    _mute()
    sys.exit(error.exit_code)
