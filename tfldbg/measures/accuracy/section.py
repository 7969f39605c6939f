"""The sections of a report about the final outputs and the accuracy of each side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfldbg.diagnose.words import number, plural, short
from tfldbg.measures.section import Column, Section

if TYPE_CHECKING:
    from tfldbg.compare.accuracy import Accuracy, Disagreement, SideAccuracy
    from tfldbg.compare.outputs import OutputStats, PairStats
    from tfldbg.diagnose.evidence import Evidence

_ERRORS = (
    Column("difference"),
    Column("max", right=True),
    Column("mean", right=True),
    Column("relative", right=True),
    Column("beyond", right=True),
    Column("tolerance"),
)
_SIDES = (
    Column("side"),
    Column("top-1", right=True),
    Column("share", right=True),
    Column("95% interval", right=True),
    Column("ties", right=True),
)


def output_sections(evidence: Evidence, accuracy: Accuracy | None) -> tuple[Section, ...]:
    """Return the sections about the final outputs, empty unless requested."""
    if accuracy is None and evidence.tolerance is None:
        return ()
    asked = evidence.tolerance is not None
    errors = tuple(_errors(output, judged=asked) for output in evidence.outputs)
    return errors if accuracy is None else (*errors, _accuracy(accuracy))


def _errors(output: OutputStats, *, judged: bool) -> Section:
    """Return the section of one output, with pass or fail only for a requested tolerance."""
    columns = _ERRORS if judged else _ERRORS[:-1]
    name = short(output.name) or f"tensor {output.tensor}"
    code = "" if output.step is None else f"; one code is {number(output.step)}"
    rows = tuple(_error_row(pair)[: len(columns)] for pair in output.pairs)
    return Section(
        f"final output '{name}': tolerance {number(output.tolerance)}{code}",
        columns,
        rows,
        () if rows else ("it has no counterpart in the reference",),
    )


def _error_row(pair: PairStats) -> tuple[str, ...]:
    return (
        f"{pair.test} - {pair.against}",
        number(pair.max_abs),
        number(pair.mean_abs),
        number(pair.max_relative),
        percent(pair.mismatching, pair.elements),
        "pass" if pair.passed else "fail",
    )


def percent(count: int, total: int) -> str:
    """Return a share in per cent, in which few and almost all do not read as none and all."""
    if count in (0, total):
        return "100%" if count else "0.0%"
    tenths = min(max(round(1000 * count / total), 1), 999)
    return "<0.1%" if 1000 * count < total else f"{tenths / 10:.1f}%"


def _accuracy(accuracy: Accuracy) -> Section:
    top_k = accuracy.k if 1 < accuracy.k < accuracy.classes else None
    columns = _SIDES if top_k is None else (*_SIDES, Column(f"top-{top_k}", right=True))
    rows = [_side_row(side, accuracy, top_k) for side in accuracy.sides]
    lines = [_changed(found) for found in accuracy.disagreements if found.count]
    if accuracy.disagreements and not lines:
        lines = ["all sides choose the same class in every sample"]
    if accuracy.samples < accuracy.labelled:
        lines.append(
            f"{accuracy.samples} of {accuracy.labelled} labelled samples: "
            f"--samples {accuracy.labelled} uses all"
        )
    title = f"accuracy on {accuracy.samples} samples of {accuracy.classes} classes"
    return Section(title, columns, tuple(rows), tuple(lines))


def _side_row(side: SideAccuracy, accuracy: Accuracy, top_k: int | None) -> tuple[str, ...]:
    count = max(accuracy.samples, 1)
    low, high = side.top_1_interval
    row = (
        side.side,
        str(side.top_1),
        percent(side.top_1, count),
        f"{100 * low:.1f} - {100 * high:.1f}%",
        str(side.ties),
    )
    return row if top_k is None else (*row, str(side.top_k))


def _changed(found: Disagreement) -> str:
    listed = ", ".join(str(n) for n in found.samples)
    more = ", ..." if found.count > len(found.samples) else ""
    sides = f"{found.test} and {found.against}"
    return f"{sides} choose differently in {plural(found.count, 'sample')}: {listed}{more}"
