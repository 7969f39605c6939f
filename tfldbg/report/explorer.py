"""Node data for Google's Model Explorer, which colours the operators of the user's file by a trace.

The layout is that of Model Explorer's ``node_data_builder.py``: a file holds one data set, with a
value and a colour for each node of each graph.  Graphs and nodes have the names that its TFLite
adapter (Flatbuffer) gives them.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfldbg.compare.accumulate import TensorStats
from tfldbg.compare.metrics import significant
from tfldbg.diagnose.evidence import OpEvidence
from tfldbg.diagnose.model import Status
from tfldbg.graph.query import choose_signature
from tfldbg.report.machine import write_json

if TYPE_CHECKING:
    from tfldbg.diagnose.result import Result
    from tfldbg.graph.model import Graph, Subgraph

_SIZES = ("#c8e6c9", "#fff59d", "#ffb74d", "#ef5350", "#b71c1c")
"""Pale green, yellow, orange, red and dark red, from errors that rounding explains to large
ones."""
_LOCAL_STEPS = (0.75, 1.5, 4.0, 16.0)
"""The limits in LSB; the first is the verdict's bound for 8 bits."""
_ACCUMULATED_STEPS = (1.0, 4.0, 16.0, 64.0)
"""The limits in LSB; beyond the first, an operator downstream of an origin counts as inherited."""
_RELATIVE_STEPS = (1e-4, 1e-3, 1e-2, 1e-1)
_NOISE_STEPS = (-30.0, -20.0, -10.0, 0.0)
"""The limits of noise over signal in dB: the negative SQNR, so that larger values are worse."""
_DISPLAY = {"hideInChildrenStatsTable": True, "hideAggregatedStats": ["sum", "avg"]}
"""Sums of largest errors, and shares of such sums, have no meaning and are hidden."""
_STATUS_DISPLAY = {
    "hideInChildrenStatsTable": True,
    "hideInAggregatedStatsTable": True,
    "showExpandedSummaryOnGroupNode": True,
}
_STATUSES: tuple[Status, ...] = ("ok", "unchecked", "inherited", "origin")
_STATUS_STEPS = (0.0, 1.0, 2.0)
_STATUS_COLOURS = ("#c8e6c9", "#e0e0e0", "#ffcc80", "#b71c1c")


@dataclass(frozen=True, slots=True)
class _Mark:
    """The value of one operator output in one data set."""

    badness: float
    """The size that determines the colour, and the output that counts if there are several."""
    value: float | str
    """The displayed value."""


_MarkOfStats = Callable[[TensorStats], _Mark | None]
_MarkOfOutput = Callable[[OpEvidence, Status], _Mark | None]


@dataclass(frozen=True, slots=True)
class _DataSet:
    """One data set of a trace."""

    key: str
    name: str
    measure: _MarkOfOutput
    """The function that returns the mark of an operator output, None if there is no figure."""
    steps: tuple[float, ...]
    """The limits of badness of all colours but the last."""
    colours: tuple[str, ...] = _SIZES
    display: Mapping[str, Any] = field(default_factory=lambda: _DISPLAY)
    """Other fields of Model Explorer's ``GraphNodeData``."""


def node_data(result: Result, graph: Graph) -> dict[str, dict[str, Any]]:
    """Return Model Explorer's node data of a trace.

    Args:
        result: The trace.
        graph: The traced file, from which the names of graphs and nodes follow.

    Returns:
            The content of a JSON file for each data set (``local-error``, ``accumulated-error``,
            ``local-sqnr``, ``accumulated-sqnr``, ``status``): a name for each graph, and a value
            and a colour for each node.  Operators without a figure are left out.
    """
    rows = list(_rows(result, graph))
    content = {}
    for data_set in _data_sets(quantized=any(op.scale is not None for _, op, _ in rows)):
        marks: dict[int, dict[int, _Mark]] = {}
        for subgraph, op, status in rows:
            mark = data_set.measure(op, status)
            if mark is not None:
                known = marks.setdefault(subgraph, {})
                known[op.op] = max(known.get(op.op, mark), mark, key=lambda m: m.badness)
        content[data_set.key] = _by_graph(data_set, marks, graph)
    return content


def write_node_data(content: Mapping[str, dict[str, Any]], target: str) -> None:
    """Write node data: the first set to ``target``, the others to files next to it.

    Raises:
        TfldbgError: A file cannot be written.
    """
    for path, data_set in zip(family(Path(target)), content.values(), strict=True):
        write_json(data_set, str(path))


def family(target: Path) -> list[Path]:
    """Return the paths of all data sets: ``F.json``, ``F.accumulated-error.json``, ..."""
    others = [data_set.key for data_set in _data_sets(quantized=True)][1:]
    return [target, *(target.with_suffix(f".{key}.json") for key in others)]


def _data_sets(quantized: bool) -> tuple[_DataSet, ...]:
    error, unit = (_lsb, "LSB") if quantized else (_relative, "RMSE/RMS")
    local = _LOCAL_STEPS if quantized else _RELATIVE_STEPS
    accumulated = _ACCUMULATED_STEPS if quantized else _RELATIVE_STEPS
    return (
        _DataSet("local-error", f"local error, {unit}", _local(error), local),
        _DataSet(
            "accumulated-error", f"accumulated error, {unit}", _accumulated(error), accumulated
        ),
        _DataSet("local-sqnr", "local SQNR, dB", _local(_sqnr), _NOISE_STEPS),
        _DataSet("accumulated-sqnr", "accumulated SQNR, dB", _accumulated(_sqnr), _NOISE_STEPS),
        _DataSet("status", "status", _status, _STATUS_STEPS, _STATUS_COLOURS, _STATUS_DISPLAY),
    )


def _local(figure: _MarkOfStats) -> _MarkOfOutput:
    return lambda op, _: _finite(op.local, figure)


def _accumulated(figure: _MarkOfStats) -> _MarkOfOutput:
    return lambda op, _: _finite(op.accumulated, figure)


def _finite(stats: TensorStats | None, figure: _MarkOfStats) -> _Mark | None:
    if stats is None:
        return None
    return _Mark(math.inf, "not finite") if stats.nan or stats.infinite else figure(stats)


def _lsb(stats: TensorStats) -> _Mark | None:
    if stats.max_lsb is None:
        return None
    error = _rounded(stats.max_lsb)
    return _Mark(error, error)


def _relative(stats: TensorStats) -> _Mark:
    error = _rounded(stats.relative_rmse)
    return _Mark(error, error if math.isfinite(error) else "no signal")


def _sqnr(stats: TensorStats) -> _Mark:
    if stats.sqnr_db is None:
        return _Mark(-math.inf, "same") if stats.max_abs == 0 else _Mark(math.inf, "no signal")
    sqnr = _rounded(stats.sqnr_db)
    return _Mark(-sqnr, sqnr)


def _status(_: OpEvidence, status: Status) -> _Mark:
    return _Mark(_STATUSES.index(status), status)


def _rounded(value: float) -> float:
    """Return a value with four significant digits, since Model Explorer shows all digits."""
    return significant(value, 4)


def _rows(result: Result, graph: Graph) -> Iterator[tuple[int, OpEvidence, Status]]:
    """Yield every operator output with its subgraph and status, including those inside others."""
    evidence, diagnosis = result.evidence, result.diagnosis
    main, _ = choose_signature(graph, evidence.run.signature)
    for op, status in zip(evidence.ops, diagnosis.statuses, strict=True):
        yield main.index, op, status
    for body, inside in zip(evidence.bodies, diagnosis.inside, strict=True):
        if body.evidence is not None and inside is not None:
            for op, status in zip(body.evidence.ops, inside.statuses, strict=True):
                yield body.subgraph, op, status


def _by_graph(
    data_set: _DataSet, marks: Mapping[int, Mapping[int, _Mark]], graph: Graph
) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for index, by_op in marks.items():
        keys = _node_keys(graph.subgraphs[index])
        results = {
            keys[op]: {"value": mark.value, "bgColor": _colour(data_set, mark)}
            for op, mark in by_op.items()
            if op in keys
        }
        made = {"name": data_set.name, "results": results, **data_set.display}
        # Model Explorer cannot distinguish subgraphs of one name: the first counts.
        content.setdefault(_graph_id(graph, index), made)
    return content


def _colour(data_set: _DataSet, mark: _Mark) -> str:
    return data_set.colours[bisect_left(data_set.steps, mark.badness)]


def _graph_id(graph: Graph, index: int) -> str:
    """Return Model Explorer's name of a subgraph (``GetSubgraphName`` of its adapter)."""
    signature = next((s.key for s in graph.signatures if s.subgraph == index), "")
    return (
        graph.subgraphs[index].name or signature or ("main" if index == 0 else f"subgraph_{index}")
    )


def _node_keys(subgraph: Subgraph) -> dict[int, str]:
    """Return the key of each operator's node in Model Explorer.

    A node's id is the operator's index, but Model Explorer first looks a key up as the name of an
    output tensor (``processNodeDataProviderDataForGraph``).  If a tensor of the file has an index
    as its name, the key is a unique name of the operator's outputs instead.
    """
    names = Counter(tensor.name for tensor in subgraph.tensors)
    keys = {}
    for op in subgraph.operators:
        own = [subgraph.tensors[i].name for i in op.outputs if i >= 0]
        unique = (name for name in own if name and names[name] == 1)
        key = str(op.index) if str(op.index) not in names else next(unique, None)
        if key is not None:
            keys[op.index] = key
    return keys
