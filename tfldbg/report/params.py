"""The output of ``tfldbg params``: the quantization parameters of TFLite and the reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfldbg.compare.ranges.parameters import (
    AffineRange,
    Expected,
    ParameterTable,
    TensorRow,
    WeightRow,
)
from tfldbg.diagnose.words import number, off_by, op_name, part_of_largest, short
from tfldbg.report import ranges
from tfldbg.report.cells import NOTHING, ends_of, lines, new_table, pair, range_of
from tfldbg.report.plain import printable

if TYPE_CHECKING:
    from tfldbg.compare.constants.weights import BiasCheck, WeightCheck

_FORMAT_VERSION = 1
_STYLES = {"differ": "bold red", "equal": "green"} | dict.fromkeys(
    ("bypassed", "deferred", "tie"), "yellow"
)
_EXPLAINED = (
    "ratio and steps: of the weights, then of the bias, whose scale should be input x weight scale"
)


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of the table, as the user named them."""

    model: str
    reference: str | None = None
    kind: str = "keras"
    """The kind of the reference: ``keras`` or ``tflite``."""


def draw_params(
    table: ParameterTable, sources: Sources, everything: bool, console: Console
) -> None:
    """Print the summary, the activations and the weights.

    Args:
        table: The figures.
        sources: Their sources.
        everything: True to show the weights channel by channel.
        console: The console.
    """
    wrap = not console.is_terminal
    style = "bold red" if table.differing or table.unrelated else "bold green"
    title, sentence = summary(table)
    console.print(Text.assemble((title, style), ": ", printable(sentence)), soft_wrap=wrap)
    console.print()
    facts = [("model", sources.model)]
    if sources.reference is not None:
        facts.append(("reference", f"{sources.reference} ({sources.kind})"))
    if table.ranges is not None:
        facts += ranges.facts(table.ranges)
    for label, said in facts:
        line = Text.assemble((f"{label:<10}", "dim"), printable(said))
        console.print(line, soft_wrap=wrap)
    if table.referenced or table.ranges is None:
        console.print(_tensor_table(table, sources))
    if table.weights:
        console.print(_channel_table(table) if everything else _weight_table(table))
    if table.weights and not everything:
        console.print(Text(_EXPLAINED, style="dim"), soft_wrap=wrap)
    if table.ranges is not None:
        ranges.draw_ranges(table.tensors, table.ranges, console)


def summary(table: ParameterTable) -> tuple[str, str]:
    """Return the verdict in a word and in a sentence."""
    size = (
        f"{_count(table.tensors, 'activation')}, {_count(table.weights, 'operator')} with weights"
    )
    if not table.referenced and not table.differing:
        return "PARAMETERS", f"{size}; there is no reference to compare with"
    counts = {row.status: 0 for row in table.tensors}
    for row in table.tensors:
        counts[row.status] += 1
    said = ", ".join(f"{n} {status}" for status, n in counts.items())
    if table.unrelated and not table.differing:
        return "UNRELATED", (
            f"{size}: the reference has no counterpart for any operator with weights, so it may be "
            f"another model ({said})"
        )
    if not table.differing:
        return "EQUAL", f"{size}: no parameters differ without an explanation ({said})"
    first = table.differing[0]
    others = len(table.differing) - 1
    more = f"; {others} more" if others else ""
    return "DIFFER", f"{_name(first)} {_difference(first)}{more}"


def _count(rows: Sequence[object], noun: str) -> str:
    return f"{len(rows)} {noun}" + ("" if len(rows) == 1 else "s")


def _name(row: TensorRow | WeightRow) -> str:
    if row.op is None:
        return f"input '{row.name}'"
    return op_name(row.op, row.kind, row.name)


def _difference(row: TensorRow | WeightRow) -> str:
    if isinstance(row, TensorRow):
        wanted = row.expected.nudged if row.expected else None
        own, other = _pairs(row.own, wanted)
        return f"has scale, zero point {own}, but the reference {other}"
    check = row.check
    if check is not None and check.differ:
        worst = f"by up to {off_by(check)} on channel {check.worst_channel}"
        return f"has weights that are off by more than rounding, {worst}"
    bias = check.bias if check is not None else None
    if bias is not None and bias.differ:
        return (
            f"has {number(bias.found)} as bias of channel {bias.worst_channel}, "
            f"the reference {number(bias.expected)}"
        )
    return "has a bias whose scale is not input scale times weight scale"


def _pairs(own: AffineRange | None, wanted: AffineRange | None) -> tuple[str, str]:
    """Return two scales and zero points in words, with more digits if three do not differ."""
    said = pair(own), pair(wanted)
    if said[0] != said[1] or own is None or wanted is None:
        return said
    return (
        f"{own.scale:.8g}, {own.zero_point}",
        f"{wanted.scale:.8g}, {wanted.zero_point}",
    )


def _tensor_table(table: ParameterTable, sources: Sources) -> Table:
    drawn = new_table("tensor", "TFLite\nscale, zero point")
    if table.referenced:
        keras = sources.kind == "keras"
        titles = ("trained\nmin..max", "nudged", "adjusted") if keras else ("reference",)
        for title in titles:
            drawn.add_column(title, overflow="fold")
        drawn.add_column("status", no_wrap=True)
    for row in table.tensors:
        drawn.add_row(*_tensor_cells(row, table.referenced, sources.kind))
    return drawn


def _tensor_cells(row: TensorRow, referenced: bool, kind: str) -> Iterator[Text]:
    wanted = row.expected or Expected("unmatched")
    own, other = pair(row.own), pair(wanted.nudged)
    if row.status == "differ":
        own, other = _pairs(row.own, wanted.nudged)
    yield Text("" if row.op is None else str(row.op))
    yield lines(short(row.name), f"{row.kind} {row.type}")
    yield lines(own, range_of(row.own))
    if not referenced:
        return
    if kind == "keras":
        yield lines(ends_of(wanted.trained))
    yield lines(other, range_of(wanted.nudged))
    if kind == "keras":
        yield lines(*_adjusted(wanted))
    yield Text(row.status, style=_STYLES.get(row.status, "dim"))


def _adjusted(wanted: Expected) -> tuple[str, str]:
    """Return the adjusted parameters in words, if they are not the nudged ones."""
    nudged, adjusted = wanted.nudged, wanted.adjusted
    if nudged is None or adjusted is None:
        return NOTHING, ""
    if (nudged.scale, nudged.zero_point) == (adjusted.scale, adjusted.zero_point):
        return "as nudged", ""
    return pair(adjusted), range_of(adjusted)


def _weight_table(table: ParameterTable) -> Table:
    drawn = new_table("weights", "TFLite\nscale")
    if table.referenced:
        for title in ("reference\nmax / 127, min..max", "ratio\nof scales", "off by\nsteps"):
            drawn.add_column(title, overflow="fold")
    else:
        drawn.add_column("ratio\nof scales", overflow="fold")
    drawn.add_column("status", no_wrap=True)
    for row in table.weights:
        drawn.add_row(*_weight_cells(row, table.referenced))
    return drawn


def _weight_cells(row: WeightRow, referenced: bool) -> Iterator[Text]:
    """Yield the cells, with the weights on the first line and the bias on the second."""
    check = row.check
    yield Text(str(row.op))
    channels = f"{len(row.scale)} channels" if len(row.scale) > 1 else ""
    yield lines(short(row.name), f"{row.kind} {row.type}")
    yield lines(_span(row.scale), channels)
    if referenced:
        yield lines(_span(row.wanted_scale), _span((*row.minimum, *row.maximum)))
    yield lines(_span(row.ratio), _span(row.bias_ratio))
    if referenced:
        yield lines(_steps(check), _steps(check.bias if check else None))
    yield Text(row.status, style=_STYLES.get(row.status, "dim"))


def _steps(check: WeightCheck | BiasCheck | None) -> str:
    """Return a constant's error in steps, or for floats as a share of the largest value."""
    if check is None:
        return NOTHING
    if check.unit == "scale" or not check.largest:
        return number(check.max_steps)
    return part_of_largest(check)


def _span(values: Sequence[float | None]) -> str:
    known = [v for v in values if v is not None]
    if not known:
        return NOTHING
    low, high = number(min(known)), number(max(known))
    return low if low == high else f"{low}..{high}"


def _channel_table(table: ParameterTable) -> Table:
    drawn = new_table("weights", "channel", "scale")
    if table.referenced:
        for title in ("min..max", "max/127", "ratio"):
            drawn.add_column(title, overflow="fold")
    drawn.add_column("bias\nratio", overflow="fold")
    for row in table.weights:
        for channel in range(max(len(row.scale), len(row.minimum), 1)):
            drawn.add_row(*_channel_cells(row, channel, table.referenced))
    return drawn


def _channel_cells(row: WeightRow, channel: int, referenced: bool) -> Iterator[Text]:
    first = channel == 0
    yield Text(str(row.op) if first else "")
    yield lines(f"{short(row.name)} {row.type}" if first else "")
    yield Text(str(channel))
    yield Text(_one(row.scale, channel))
    if referenced:
        ends = (row.minimum[channel], row.maximum[channel]) if row.minimum else None
        yield Text(ends_of(ends))
        yield Text(_one(row.wanted_scale, channel))
        yield Text(_one(row.ratio, channel))
    yield Text(_one(row.bias_ratio, channel))


def _one(values: Sequence[float | None], channel: int) -> str:
    """Return a channel's figure in words, or the one of all channels."""
    if not values:
        return NOTHING
    value = values[channel if len(values) > 1 else 0]
    return NOTHING if value is None else number(value)


def params_to_dict(table: ParameterTable, sources: Sources) -> dict[str, Any]:
    """Return the table as the JSON of format ``tfldbg.params``."""
    reference = None
    if sources.reference is not None:
        reference = {"kind": sources.kind, "path": sources.reference}
    return {
        "format": "tfldbg.params",
        "format_version": _FORMAT_VERSION,
        "model": {"path": sources.model},
        "reference": reference,
        "differs": bool(table.differing),
        "unrelated": table.unrelated,
        "ranges": ranges.ranges_dict(table.ranges),
        "tensors": [
            {**_tensor_dict(row), **ranges.pass_dicts(row, table.ranges)} for row in table.tensors
        ],
        "weights": [_weight_dict(row) for row in table.weights],
    }


def _tensor_dict(row: TensorRow) -> dict[str, Any]:
    wanted = row.expected
    return {
        "op": row.op,
        "kind": row.kind,
        "tensor": row.name,
        "tensor_index": row.tensor,
        "type": row.type,
        "status": row.status,
        "tflite": _affine_dict(row.own),
        "reference": wanted.source if wanted else None,
        "trained": _ends_dict(wanted.trained if wanted else None),
        "nudged": _affine_dict(wanted.nudged if wanted else None),
        "adjusted": _affine_dict(wanted.adjusted if wanted else None),
    }


def _affine_dict(parameters: AffineRange | None) -> dict[str, Any] | None:
    if parameters is None:
        return None
    return {
        "scale": parameters.scale,
        "zero_point": parameters.zero_point,
        "min": parameters.minimum,
        "max": parameters.maximum,
    }


def _ends_dict(ends: tuple[float, float] | None) -> dict[str, float] | None:
    return None if ends is None else {"min": ends[0], "max": ends[1]}


def _weight_dict(row: WeightRow) -> dict[str, Any]:
    return {
        "op": row.op,
        "kind": row.kind,
        "tensor": row.name,
        "tensor_index": row.weights,
        "type": row.type,
        "status": row.status,
        "scale": row.scale,
        "reference_min": row.minimum,
        "reference_max": row.maximum,
        "reference_scale": row.wanted_scale,
        "ratio": row.ratio,
        "bias_index": row.bias,
        "bias_type": row.bias_type,
        "bias_scale": row.bias_scale,
        "input_scale_times_weight_scale": row.product_scale,
        "bias_ratio": row.bias_ratio,
        **_check_dict(row.check),
    }


def _check_dict(check: WeightCheck | None) -> dict[str, Any]:
    if check is None:
        return {"weights": None, "bias": None}
    plain = asdict(check)
    bias = plain.pop("bias")
    dropped = {"tensor"}
    return {
        "weights": {k: v for k, v in plain.items() if k not in {*dropped, "weights"}},
        "bias": {k: v for k, v in bias.items() if k not in {*dropped, "bias"}} if bias else None,
    }
