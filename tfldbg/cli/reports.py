"""Check the targets of the requested reports before a run, and write the reports after it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from tfldbg.errors import TfldbgError, UsageError

if TYPE_CHECKING:
    from tfldbg.diagnose.result import Result
    from tfldbg.options.reports import Reports

_STDOUT = "-"
_WRITERS = {
    "json": "tfldbg.report.machine:write_trace_json",
    "html": "tfldbg.report.html:write_page",
    "csv": "tfldbg.report.tabular:write_trace_csv",
    "junit": "tfldbg.report.junit:write_junit",
    "markdown": "tfldbg.report.markdown:write_markdown",
    "model_explorer": "tfldbg.session.explorer:write_node_data",
}
"""The function that writes each field of `Reports`, from a result to a path or ``-``; imported when
needed."""


WRITTEN = tuple(_WRITERS)
"""The options of `Reports` that are reports of a result, not recordings."""


def to_stdout(reports: Reports) -> bool:
    """Return whether a report is written to stdout, so that nothing else may be printed there."""
    return _STDOUT in _asked(reports).values()


def check_reports(reports: Reports, *read: object) -> None:
    """Refuse targets that cannot be written, before anything runs.

    Args:
        reports: The targets.
        read: The inputs of the command, among which paths are protected.

    Raises:
        UsageError: Two targets are the same, one is a file that is read or recorded, or its
            folder does not exist.
    """
    from tfldbg.session import protect

    taken = {} if reports.dump is None else {Path(reports.dump).resolve(): "--dump"}
    for option, target in _places(reports):
        stdout = target == _STDOUT
        place = Path(target) if stdout else Path(target).resolve()
        if place in taken:
            where = "stdout" if stdout else f"'{target}'"
            raise UsageError(
                f"{taken[place]} and {option} both write to {where}",
                hint=f"name another file with {option}, or leave it out",
            )
        taken[place] = option
        if not stdout:
            _check_place(option, Path(target))
            protect(Path(target), option, *read)


def write_reports(reports: Reports, result: Result) -> None:
    """Write all reports, even if one of them cannot be written.

    Raises:
        TfldbgError: A report cannot be written.
    """
    failed: list[TfldbgError] = []
    for name, target in _asked(reports).items():
        module, _, function = _WRITERS[name].partition(":")
        try:
            getattr(import_module(module), function)(result, target)
        except TfldbgError as error:
            failed.append(error)
    if failed:
        raise failed[0]


def _asked(reports: Reports) -> dict[str, str]:
    given = {name: getattr(reports, name) for name in WRITTEN}
    return {name: target for name, target in given.items() if target is not None}


def _places(reports: Reports) -> Iterator[tuple[str, str]]:
    """Yield each option of a report and the files that it writes."""
    for name, target in _asked(reports).items():
        files = [target]
        if name == "model_explorer":
            from tfldbg.report.explorer import family

            files = [str(path) for path in family(Path(target))]
        yield from ((f"--{name.replace('_', '-')}", file) for file in files)


def _check_place(option: str, target: Path) -> None:
    if target.exists() and not target.is_file():
        raise UsageError(
            f"{option} {target} is a folder or a device", hint=f"name a file with {option}"
        )
    if not target.parent.is_dir():
        raise UsageError(
            f"{option} {target}: the folder '{target.parent}' does not exist",
            hint=f"create it, or name another file with {option}",
        )
    if target.exists() and not os.access(target, os.W_OK):
        raise UsageError(f"{option} {target} is read-only", hint=f"name another file with {option}")
    try:
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        raise UsageError(
            f"{option} {target}: cannot write to the folder '{target.parent}': {error.strerror}",
            hint=f"name a file in another folder with {option}",
        ) from error
