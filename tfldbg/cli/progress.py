"""A progress bar on stderr.  This module is imported only if there may be one."""

from __future__ import annotations

import os
import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from tfldbg.report.plain import printable


class _CountColumn(ProgressColumn):
    """The completed and total number of steps, if the total is known."""

    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{task.completed:.0f}/{task.total:.0f}")


class _Steady(Console):
    """A console that never hides the cursor, which a killed process could not show again."""

    def show_cursor(self, show: bool = True) -> bool:
        """Do nothing."""
        del show
        return False


class ProgressBar:
    """A progress bar on stderr, silent if stderr is not a terminal.

    It writes to a copy of the file descriptor, because loading TensorFlow redirects the original.

    Args:
        quiet: True to be silent in any case.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._stream = os.fdopen(os.dup(sys.stderr.fileno()), "w")
        console = _Steady(file=self._stream, highlight=False)
        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            _CountColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._stream.close()

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a stage."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(printable(name), total=total)

    def advance(self, steps: int = 1) -> None:
        """Advance the bar."""
        if self._task is not None:
            self._bar.advance(self._task, steps)
