"""The sections of a report about the worst samples, operator by operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfldbg.diagnose.words import number, op_name
from tfldbg.measures.section import Column, Section

if TYPE_CHECKING:
    from tfldbg.diagnose.evidence import Run
    from tfldbg.measures.worst.examine import Parting, WorstSample

_MOST_ROWS = 12
_AROUND = 2
_LAST = 3
_COLUMNS = (
    Column("op", right=True),
    Column("kind", fold=True),
    Column("clipped", right=True),
    Column("differ", right=True),
    Column("most", right=True),
    Column("at"),
    Column("tflite", right=True),
    Column("reference", right=True),
)


def worst_sections(
    samples: Sequence[WorstSample], run: Run, *, everything: bool
) -> tuple[Section, ...]:
    """Return one section per sample, with an excerpt of the first difference of both sides."""
    return tuple(_section(s, run.place(s.sample), everything) for s in samples)


def _section(sample: WorstSample, place: str, everything: bool) -> Section:
    chosen = range(len(sample.ops)) if everything else _chosen(sample)
    rows: list[tuple[str, ...]] = []
    last = -1
    for i in chosen:
        if i > last + 1:
            rows.append(_gap(sample.ops[last + 1 : i]))
        rows.append(_row(sample.ops[i], sample))
        last = i
    return Section(_title(sample, place), _COLUMNS, tuple(rows), _lines(sample))


def _title(sample: WorstSample, place: str) -> str:
    size = f"{number(sample.error)} at the outputs"
    if sample.error_lsb is not None:
        size = f"{number(sample.error_lsb)} LSB ({number(sample.error)}) at the outputs"
    return f"sample {place}: {size}, {number(sample.relative)} relative"


def _chosen(sample: WorstSample) -> list[int]:
    """Return the operators to show: the first difference, its surroundings, the last, the worst."""
    count = len(sample.ops)
    wanted: dict[int, None] = {}
    for op in (sample.first_part_op, sample.first_difference_op):
        places = [i for i, o in enumerate(sample.ops) if o.op == op]
        for place in places[:1]:
            around = _AROUND if op == sample.first_part_op else 0
            near = sorted(range(place - around, place + around + 1), key=lambda i: abs(i - place))
            wanted |= dict.fromkeys(i for i in near if 0 <= i < count)
    wanted |= dict.fromkeys(range(max(0, count - _LAST), count))
    by_size = sorted(range(count), key=lambda i: -sample.ops[i].largest * sample.ops[i].codes)
    wanted |= dict.fromkeys(by_size)
    return sorted(list(wanted)[:_MOST_ROWS])


def _row(op: Parting, sample: WorstSample) -> tuple[str, ...]:
    mark = ">" if op.op == sample.first_part_op else ""
    place = ",".join(str(i) for i in op.index) if op.differing else ""
    return (
        f"{mark}{op.op}",
        op.kind,
        str(op.saturated) if op.codes else "-",
        str(op.differing),
        number(op.largest) if not op.codes else str(int(op.largest)),
        place,
        _value(op.tflite, op),
        _value(op.reference, op),
    )


def _value(value: float, op: Parting) -> str:
    if op.codes:
        return str(int(value))
    return f"({number(value)})" if value == value else "(nan)"


def _gap(ops: tuple[Parting, ...]) -> tuple[str, ...]:
    differing = sum(o.differing > 0 for o in ops)
    return ("...", f"({len(ops)} more, {differing} differ)", "", "", "", "", "", "")


def _lines(sample: WorstSample) -> tuple[str, ...]:
    first, part = sample.first_difference_op, sample.first_part_op
    if first is None:
        return ("no operator differs",)
    named = first if part is None else part
    shown = max((o for o in sample.ops if o.op == named), key=lambda o: o.largest)
    name = op_name(shown.op, shown.kind, shown.name)
    if not shown.codes:
        said = f"values first differ at {name}"
    elif part is None:
        said = f"codes first differ at {name}, and nowhere by more than one"
    elif part == first:
        said = f"codes first differ, and by more than one, at {name}"
    else:
        said = f"codes first differ at operator {first}, by more than one at {name}"
    return (said, *_excerpt(shown))


def _excerpt(op: Parting) -> tuple[str, ...]:
    """Return the values of both sides around the largest difference, one below the other."""
    what = "codes" if op.codes else "values"
    end = op.excerpt_start + len(op.tflite_excerpt) - 1
    sides = [[_value(v, op) for v in side] for side in (op.tflite_excerpt, op.reference_excerpt)]
    widths = [max(len(a), len(b)) for a, b in zip(*sides, strict=True)]
    drawn = [" ".join(v.rjust(w) for v, w in zip(side, widths, strict=True)) for side in sides]
    return (
        f"its {what} {op.excerpt_start} to {end} of {op.elements}:",
        f"  tflite     {drawn[0]}",
        f"  reference  {drawn[1]}",
    )
