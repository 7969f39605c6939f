"""A trace as a flat table, with a row per operator output and a column per figure of ``ops``.

The name of a column is the path to its figure in the JSON, joined by underscores:
``local_max_lsb``, ``accumulated_line_gain``.  Lists have no column, except
``expected_parameters``, which become ``expected_scale`` and ``expected_zero_point``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from tfldbg.compare.accumulate import TensorStats
from tfldbg.compare.constants.checks import WeightCheck
from tfldbg.compare.custom import MetricStats
from tfldbg.compare.tally import Split
from tfldbg.report.machine import write_csv
from tfldbg.report.trace_json import trace_to_dict

if TYPE_CHECKING:
    from tfldbg.diagnose.result import Result

ColumnType = Literal["int", "float", "text", "bool"]
Value = str | int | float | bool | None
"""The value of a cell; None if the figure is undefined or was not measured."""

_TYPES: Mapping[type, ColumnType] = {int: "int", float: "float", str: "text", bool: "bool"}


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column of the table."""

    name: str
    type: ColumnType


_OP = (
    TableColumn("op", "int"),
    TableColumn("kind", "text"),
    TableColumn("tensor", "text"),
    TableColumn("tensor_index", "int"),
    TableColumn("scale", "float"),
    TableColumn("zero_point", "int"),
    TableColumn("status", "text"),
    TableColumn("reference", "text"),
    TableColumn("match_rule", "text"),
    TableColumn("unmatched_reason", "text"),
    TableColumn("unchecked_reason", "text"),
    TableColumn("parameters", "text"),
    TableColumn("expected_scale", "float"),
    TableColumn("expected_zero_point", "int"),
)


def columns(result: Result) -> tuple[TableColumn, ...]:
    """Return the columns of a trace's table, equal for all traces except for the user's metrics."""
    ops = result.evidence.ops
    return (
        *_OP,
        *_figures("local", TensorStats),
        *_metrics("local", [op.local for op in ops]),
        *_figures("accumulated", TensorStats),
        *_metrics("accumulated", [op.accumulated for op in ops]),
        *_figures("split", Split),
        *_figures("weights", WeightCheck),
    )


def rows(result: Result) -> list[tuple[Value, ...]]:
    """Return one row per operator output, in the order of `columns`."""
    names = [column.name for column in columns(result)]
    found = []
    for op in trace_to_dict(result)["ops"]:
        scale, zero_point = op["expected_parameters"] or (None, None)
        cells = {
            **dict(_flat("", op)),
            "expected_scale": scale,
            "expected_zero_point": zero_point,
        }
        found.append(tuple(cells.get(name) for name in names))
    return found


def write_trace_csv(result: Result, target: str) -> None:
    """Write the table as CSV.

    Raises:
        TfldbgError: The file cannot be written.
    """
    write_csv([column.name for column in columns(result)], rows(result), target)


def _figures(prefix: str, kind: type) -> Iterator[TableColumn]:
    """Yield a column for each number, string and flag of a dataclass and of its dataclasses."""
    for name, hint in get_type_hints(kind).items():
        if get_origin(hint) is Literal:
            hint = str
        held = [h for h in get_args(hint) or (hint,) if h is not type(None)]
        path = f"{prefix}_{name}"
        if len(held) == 1 and held[0] in _TYPES:
            yield TableColumn(path, _TYPES[held[0]])
        elif len(held) == 1 and isinstance(held[0], type) and is_dataclass(held[0]):
            yield from _figures(path, held[0])


def _metrics(prefix: str, stats: Iterable[TensorStats | None]) -> Iterator[TableColumn]:
    for name in dict.fromkeys(name for s in stats if s is not None for name in s.metrics):
        yield from _figures(f"{prefix}_metrics_{name}", MetricStats)


def _flat(prefix: str, plain: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in plain.items():
        path = f"{prefix}_{name}" if prefix else name
        if isinstance(value, Mapping):
            yield from _flat(path, value)
        else:
            yield path, value
