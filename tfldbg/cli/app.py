"""The ``tfldbg`` command: its sub-commands, and the one place that turns errors into exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import typer

from tfldbg import __version__
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

app = typer.Typer(
    name="tfldbg",
    help="The debugger for quantized TFLite models. "
    "Exit codes: 0 no divergence, 1 divergence, 2 wrong use or an error; --fail-on gives rules of "
    "your own.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
_PANELS: Mapping[str, Sequence[Callable[..., None]]] = {
    "Find what is wrong": (trace, diff, sweep),
    "Look at a file": (inspect, params, view),
    "Record, and show again": (dump, report),
    "Run on a device": (kit, import_, expose),
    "Make, and explain": (convert, explain, schema),
}
for panel, commands in _PANELS.items():
    for command in commands:
        name = command.__name__.rstrip("_")
        app.command(name, rich_help_panel=panel, epilog=epilog(name))(command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tfldbg {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    del version


def main() -> None:
    """Run the command line; every error becomes a message and exit code 2."""
    try:
        app()
    except TfldbgError as error:
        _fail(error)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read the output has seen enough; a second error at exit must not follow.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(2)
    except Exception as error:
        if os.environ.get("TFLDBG_DEBUG"):
            raise
        _fail(unexpected(error))


def _fail(error: TfldbgError) -> None:
    from tfldbg.cli.console import show_error

    show_error(error)
    sys.exit(error.exit_code)
