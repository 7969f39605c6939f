"""The operators of a trace as a table for spreadsheets and data frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from tfldbg.compare.accumulate import TensorStats
from tfldbg.compare.constants.checks import BiasCheck, WeightCheck
from tfldbg.compare.metrics import Line
from tfldbg.compare.stream import Split
from tfldbg.diagnose.result import Result
from tfldbg.report.machine import Cell, write_csv

_PLAIN = (
    "op",
    "kind",
    "tensor",
    "tensor_index",
    "status",
    "scale",
    "zero_point",
    "reference",
    "match_rule",
    "unmatched_reason",
    "unchecked_reason",
    "parameters",
    "expected_parameters",
)
_STATS = tuple(
    name
    for f in fields(TensorStats)
    if f.name not in ("channel_max_abs", "histogram")
    for name in ([f"line_{part.name}" for part in fields(Line)] if f.name == "line" else [f.name])
)
_WEIGHTS = tuple(f.name for f in fields(WeightCheck) if f.name not in ("tensor", "bias"))
_BIAS = tuple(f.name for f in fields(BiasCheck) if f.name not in ("tensor",))

COLUMNS = (
    *_PLAIN,
    *(f"local_{name}" for name in _STATS),
    *(f"accumulated_{name}" for name in _STATS),
    *(f"split_{f.name}" for f in fields(Split)),
    *(f"weights_{name}" for name in _WEIGHTS),
    *(f"weights_bias_{name}" for name in _BIAS),
)
"""The keys of the JSON's ``ops``, nested ones joined by ``_``; lists of figures are left out."""


def write_trace_csv(result: Result, target: str) -> None:
    """Write one row an operator output.

    Raises:
        TfldbgError: The file cannot be written.
    """
    rows = (dict(_flat(op)) for op in result.to_dict()["ops"])
    write_csv(COLUMNS, ([row.get(name) for name in COLUMNS] for row in rows), target)


def _flat(plain: Mapping[str, Any], front: str = "") -> Iterator[tuple[str, Cell]]:
    for key, value in plain.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{front}{key}_")
        elif isinstance(value, (list, tuple)):
            yield front + key, " ".join(str(part) for part in value)
        else:
            yield front + key, value
