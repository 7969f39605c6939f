"""The report files that a command was asked for: refused early, written late, all in one place."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from tfldbg.errors import TfldbgError, UsageError

if TYPE_CHECKING:
    from tfldbg.diagnose.result import Result

_STDOUT = "-"
_WRITERS = {
    "json": "tfldbg.report.machine:write_trace_json",
    "html": "tfldbg.report.html:write_page",
    "csv": "tfldbg.report.tabular:write_trace_csv",
    "junit": "tfldbg.report.junit:write_junit",
    "markdown": "tfldbg.report.markdown:write_markdown",
    "model_explorer": "tfldbg.session.explorer:write_node_data",
}
"""By field of `Reports` the function that writes it, from a result to a path or ``-``; loaded when
it is needed."""


@dataclass(frozen=True, slots=True)
class Reports:
    """Where to write which report; ``-`` is stdout, None is nowhere."""

    json: str | None = None
    html: str | None = None
    csv: str | None = None
    junit: str | None = None
    markdown: str | None = None
    model_explorer: str | None = None

    @property
    def to_stdout(self) -> bool:
        """Whether one of them takes stdout, where nothing else may be printed then."""
        return _STDOUT in self._asked().values()

    def check(self, *read: object, dump: str | None = None) -> None:
        """Refuse targets that cannot be written, before anything runs.

        Args:
            read: What the command reads; paths among it are protected.
            dump: Where it records.

        Raises:
            UsageError: Two targets are the same, one is a file that is read or recorded, or its
                folder does not exist.
        """
        from tfldbg.session import protect

        taken = {} if dump is None else {Path(dump).resolve(): "--dump"}
        for option, target in self._places():
            to_stdout = target == _STDOUT
            place = Path(target) if to_stdout else Path(target).resolve()
            if place in taken:
                where = "stdout" if to_stdout else f"'{target}'"
                raise UsageError(
                    f"{taken[place]} and {option} both write to {where}",
                    hint=f"name another file with {option}, or leave it out",
                )
            taken[place] = option
            if not to_stdout:
                _check_place(option, Path(target))
                protect(Path(target), option, *read)

    def write(self, result: Result) -> None:
        """Write them all, the others too where one cannot be written.

        Raises:
            TfldbgError: One of them cannot be written.
        """
        failed: list[TfldbgError] = []
        for name, target in self._asked().items():
            module, _, function = _WRITERS[name].partition(":")
            try:
                getattr(import_module(module), function)(result, target)
            except TfldbgError as error:
                failed.append(error)
        if failed:
            raise failed[0]

    def _asked(self) -> dict[str, str]:
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: target for name, target in given.items() if target is not None}

    def _places(self) -> Iterator[tuple[str, str]]:
        """Yield every file that is written, with the option that asks for it."""
        for name, target in self._asked().items():
            files = [target]
            if name == "model_explorer":
                from tfldbg.report.explorer import family

                files = [str(path) for path in family(Path(target))]
            yield from ((f"--{name.replace('_', '-')}", file) for file in files)


@dataclass(frozen=True, slots=True)
class View:
    """How much to print."""

    everything: bool = False
    """Every operator."""
    histograms: bool = False
    quiet: bool = False
    """The verdict alone."""
    verbose: bool = False
    """What was matched with what, versions and times too."""


def _check_place(option: str, target: Path) -> None:
    if target.exists() and not target.is_file():
        raise UsageError(
            f"{option} {target} is a folder or a device", hint=f"name a file with {option}"
        )
    if not target.parent.is_dir():
        raise UsageError(
            f"{option} {target}: the folder '{target.parent}' does not exist",
            hint=f"make it, or name another file with {option}",
        )
    if target.exists() and not os.access(target, os.W_OK):
        raise UsageError(f"{option} {target} is read-only", hint=f"name another file with {option}")
    try:
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        raise UsageError(
            f"{option} {target}: nothing can be written to the folder '{target.parent}': "
            f"{error.strerror}",
            hint=f"name a file in another folder with {option}",
        ) from error
