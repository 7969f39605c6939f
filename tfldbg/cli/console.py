"""The two consoles of the command line: reports on stdout, errors and notes on stderr."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from tfldbg.errors import TfldbgError
from tfldbg.report.plain import printable

_PIPED_WIDTH = 400


def report_console() -> Console:
    """Return the console for reports; without a terminal it does not cut off or colour text."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPED_WIDTH)


def show_error(error: TfldbgError) -> None:
    """Print an error and its hint to stderr."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), _one_line(error.message)))
    if error.hint:
        console.print(Text.assemble(("hint: ", "bold"), _one_line(error.hint)))


def _one_line(text: str) -> str:
    """Return text without control characters and line breaks."""
    return printable(" ".join(text.splitlines()))


def show_note(text: str) -> None:
    """Print a note, which requires no action, to stderr."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("note: ", "bold"), printable(text)))
