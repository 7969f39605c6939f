"""The report files that a command was asked for: refused early, written late, all in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from tfldbg.errors import UsageError

if TYPE_CHECKING:
    from tfldbg.diagnose.result import Result

_STDOUT = "-"
_WRITERS = {
    "json": "tfldbg.report.machine:write_trace_json",
    "html": "tfldbg.report.html:write_page",
    "csv": "tfldbg.report.tabular:write_trace_csv",
    "junit": "tfldbg.report.junit:write_junit",
    "markdown": "tfldbg.report.markdown:write_markdown",
    "sarif": "tfldbg.report.sarif:write_sarif",
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
    sarif: str | None = None
    model_explorer: str | None = None

    @property
    def to_stdout(self) -> bool:
        """Whether one of them takes stdout, where nothing else may be printed then."""
        return _STDOUT in self._targets().values()

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
        for option, target in self._targets().items():
            place = Path(target) if target == _STDOUT else Path(target).resolve()
            if place in taken:
                where = "stdout" if target == _STDOUT else f"'{target}'"
                raise UsageError(
                    f"{taken[place]} and {option} both write to {where}",
                    hint=f"name another file with {option}, or leave it out",
                )
            taken[place] = option
            if target != _STDOUT:
                _check_place(option, Path(target))
                protect(Path(target), option, *read)

    def write(self, result: Result) -> None:
        """Write them all.

        Raises:
            TfldbgError: One of them cannot be written.
        """
        for name, target in self._asked().items():
            module, _, function = _WRITERS[name].partition(":")
            getattr(import_module(module), function)(result, target)

    def _asked(self) -> dict[str, str]:
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: target for name, target in given.items() if target is not None}

    def _targets(self) -> dict[str, str]:
        """Return what was asked for, by option."""
        return {f"--{n.replace('_', '-')}": target for n, target in self._asked().items()}


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
    if target.is_dir():
        raise UsageError(f"{option} {target} is a folder", hint=f"name a file in it with {option}")
    if not target.parent.is_dir():
        raise UsageError(
            f"{option} {target}: the folder '{target.parent}' does not exist",
            hint=f"make it, or name another file with {option}",
        )
