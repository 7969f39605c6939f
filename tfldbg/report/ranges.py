"""The output of ``tfldbg params`` with data: the ranges of two passes over it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfldbg.compare.ranges.fit import WASTED
from tfldbg.compare.ranges.following import as_share
from tfldbg.diagnose.scales import same
from tfldbg.diagnose.words import number, op_name, short
from tfldbg.report.cells import NOTHING, ends_of, lines, new_table, pair
from tfldbg.report.plain import printable

if TYPE_CHECKING:
    from tfldbg.compare.ranges.calibrate import Calibrated
    from tfldbg.compare.ranges.parameters import AffineRange, TensorRow
    from tfldbg.compare.ranges.table import RangeTable

_EXPLAINED = (
    "scale, zero point; below: the measured range with zero; "
    "ratio: TFLite's scale over the computed one"
)


def draw_ranges(rows: tuple[TensorRow, ...], ranges: RangeTable, console: Console) -> None:
    """Print the table, and the pass that the parameters follow.

    Args:
        rows: The file's activations.
        ranges: Their ranges from the data.
        console: The console.
    """
    wrap = not console.is_terminal
    console.print(_range_table(rows, ranges))
    console.print(Text(_EXPLAINED, style="dim"), soft_wrap=wrap)
    console.print()
    sentence = ranges.following.sentence
    console.print(Text(printable(sentence[:1].upper() + sentence[1:]), "bold"), soft_wrap=wrap)
    for said in _misfits(rows, ranges):
        console.print(Text(printable(said)), soft_wrap=wrap)
    if not ranges.settled:
        said = f"the fake-quantized pass still changed after {ranges.rounds} rounds"
        console.print(Text(said), soft_wrap=wrap)


def _misfits(rows: tuple[TensorRow, ...], ranges: RangeTable) -> Iterator[str]:
    """Yield a sentence for each range that does not fit the values."""
    for row in rows:
        misfit, found = ranges.misfits.get(row.tensor), ranges.float_pass.get(row.tensor)
        name = op_name(row.op, row.kind, row.name) if row.op is not None else ""
        if misfit is not None:
            yield f"{name}: {misfit.message}"
        elif row.own is not None and found is not None and name and ranges.depends(row.tensor):
            times = row.own.scale / found.scale
            if times >= WASTED and found.maximum > found.minimum:
                yield f"{name}: its range is {number(times)} times as wide as this data needs"


def facts(ranges: RangeTable) -> tuple[tuple[str, str], ...]:
    """Return the sources of the ranges, as labels and texts."""
    runner = "the Keras model" if ranges.by_keras else "the file's float copy"
    rounds = f"{ranges.rounds} round" + ("" if ranges.rounds == 1 else "s")
    return (
        ("data", f"{ranges.data}, {ranges.samples} samples"),
        ("passes", f"float: {runner}; fake-quantized: the file's float copy, {rounds}"),
    )


def _range_table(rows: tuple[TensorRow, ...], ranges: RangeTable) -> Table:
    drawn = new_table("tensor", "TFLite")
    for title in ("float pass", "ratio", "fake-quantized\npass", "ratio"):
        drawn.add_column(title, overflow="fold")
    for row in rows:
        drawn.add_row(*_cells(row, ranges))
    return drawn


def _cells(row: TensorRow, ranges: RangeTable) -> Iterator[Text]:
    yield Text("" if row.op is None else str(row.op))
    yield lines(short(row.name), f"{row.kind} {row.type}")
    yield lines(pair(row.own))
    for computed in (ranges.float_pass, ranges.fake_quant_pass):
        found = computed.get(row.tensor)
        if found is None or not ranges.depends(row.tensor):
            yield lines(NOTHING if found is None else "fixed")
            yield Text("")
            continue
        yield lines(pair(found), ends_of((found.minimum, found.maximum)))
        yield Text(_ratio(row.own, found))


def _ratio(own: AffineRange | None, found: Calibrated) -> str:
    if own is None:
        return NOTHING
    if same(own.scale, found.scale):
        return "same" if own.zero_point == found.zero_point else "1"
    return f"{own.scale / found.scale:.4f}"


def pass_dicts(row: TensorRow, ranges: RangeTable | None) -> dict[str, Any]:
    """Return the parameters of one activation from both passes for JSON, None without data."""
    passes = {
        "float_pass": ranges.float_pass if ranges else {},
        "fake_quant_pass": ranges.fake_quant_pass if ranges else {},
    }
    return {name: _dict(row, computed.get(row.tensor), ranges) for name, computed in passes.items()}


def _dict(
    row: TensorRow, found: Calibrated | None, ranges: RangeTable | None
) -> dict[str, Any] | None:
    if found is None or ranges is None:
        return None
    return {
        "scale": found.scale,
        "zero_point": found.zero_point,
        "min": found.minimum,
        "max": found.maximum,
        "ratio": row.own.scale / found.scale if row.own else None,
        "fixed": not ranges.depends(row.tensor),
    }


def ranges_dict(ranges: RangeTable | None) -> dict[str, Any] | None:
    """Return the ranges, and the pass that the parameters follow, for JSON; None without data."""
    if ranges is None:
        return None
    return {
        "data": ranges.data,
        "samples": ranges.samples,
        "float_pass_by": "keras" if ranges.by_keras else "tflite",
        "fake_quant_rounds": ranges.rounds,
        "fake_quant_settled": ranges.settled,
        "candidates": [
            {**asdict(x), "median": as_share(x.median), "largest": as_share(x.largest)}
            for x in ranges.likenesses
        ],
        "misfits": [
            {**asdict(m), "bits_lost": m.bits, "db_lost": m.decibels}
            for m in ranges.misfits.values()
        ],
        "follows": ranges.following.source,
        "sentence": ranges.following.sentence,
    }
