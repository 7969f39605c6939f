"""The data for the script of the HTML page, made from a result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tfldbg.compare.histogram import EDGES_LSB
from tfldbg.compare.metrics import significant
from tfldbg.diagnose.words import short
from tfldbg.measures.pictures.points import PicturePairs
from tfldbg.quant import Affine, code_range
from tfldbg.report.plain import printable

if TYPE_CHECKING:
    from tfldbg.compare.accumulate import TensorStats
    from tfldbg.compare.usage import Usage
    from tfldbg.diagnose.evidence import OpEvidence
    from tfldbg.diagnose.model import Finding, Status
    from tfldbg.diagnose.result import Result
    from tfldbg.measures.pictures.points import Extreme, Points

_DIGITS = 5
_MOST_BARS = 256
"""The number of channels with one bar each; with more, a bar is the largest of several."""
_MOST_POINTS = 24_000
"""The largest number of pairs of values in a page."""


def page_data(result: Result) -> dict[str, Any]:
    """Return the data of the page as JSON values.

    Rows are the operator outputs in execution order and refer to each other by position.  Errors
    are in LSB if the tensor is quantized, and in real units.
    """
    evidence = result.evidence
    producers = {o.tensor: row for row, o in enumerate(evidence.ops)}
    pictures: PicturePairs = evidence.measures.get("pictures") or PicturePairs({}, {})
    rows = [
        _row(o, status, result.diagnosis.findings, producers, pictures)
        for o, status in zip(evidence.ops, result.diagnosis.statuses, strict=True)
    ]
    return {
        "quantized": evidence.quantized,
        "stream_steps": evidence.run.stream_steps,
        "edges_lsb": list(EDGES_LSB),
        "first": _first_row(result),
        "rows": rows,
        "inputs": {str(i.tensor): printable(i.name) for i in evidence.inputs},
    }


def _first_row(result: Result) -> int:
    """Return the row to show first: the first divergence, else the largest accumulated error."""
    ops, first = result.evidence.ops, result.first_divergence
    chosen = list(range(len(ops)))
    if first is not None:
        chosen = [r for r in chosen if ops[r].op == first.op] or chosen
        exact = [r for r in chosen if ops[r].tensor == first.tensor_index]
        if exact and (ops[exact[0]].local or ops[exact[0]].accumulated):
            return exact[0]
    errors = [o.accumulated.relative_rmse if o.accumulated else -1.0 for o in ops]
    return max(chosen, key=errors.__getitem__, default=0)


def _row(
    op: OpEvidence,
    status: Status,
    findings: Sequence[Finding],
    producers: dict[int, int],
    pictures: PicturePairs,
) -> dict[str, Any]:
    most = max(8, _MOST_POINTS // max(len(pictures.local) + len(pictures.accumulated), 1))
    return {
        "op": op.op,
        "kind": printable(op.kind),
        "tensor": printable(op.name),
        "layer": printable(short(op.name)) or f"tensor {op.tensor}",
        "tensor_index": op.tensor,
        "type": op.type,
        "shape": list(op.shape),
        "options": {name: str(value) for name, value in op.options.items()},
        "status": status,
        "activation": op.activation,
        "reference": _text(op.reference),
        "match_rule": op.match_rule,
        "unmatched_reason": _text(op.unmatched_reason),
        "unchecked_reason": _text(op.local_reason),
        "reads": list(op.reads),
        "from": sorted({producers[t] for t in op.reads if t in producers}),
        "parameters": _parameters(op),
        "local": _figures(op.local),
        "accumulated": _figures(op.accumulated),
        "split": {k: _rounded(v) for k, v in asdict(op.split).items()} if op.split else None,
        "histogram": _both(op, lambda stats: list(stats.histogram) or None),
        "channels": _channels(op),
        "points": {
            "local": _points(pictures.local.get(op.tensor), most),
            "accumulated": _points(pictures.accumulated.get(op.tensor), most),
        },
        "usage": _usage(op.usage, op.type),
        "findings": [row for row, f in enumerate(findings) if f.op == op.op],
    }


def _text(text: str | None) -> str | None:
    return None if text is None else printable(text)


def _parameters(op: OpEvidence) -> dict[str, Any]:
    """Return the scale, zero point and range of both sides, None if a side has none."""
    return {
        "tflite": _affine(op.type, op.affine),
        "reference": _affine(op.type, Affine(*op.expected)) if op.expected is not None else None,
        "trained": [_rounded(v) for v in op.trained] if op.trained else None,
        "compared": op.parameters,
    }


def _affine(type_name: str, affine: Affine | None) -> Any:
    if affine is None or "INT" not in type_name:
        return None
    low, high = affine.real_range(type_name)
    return {
        "scale": _rounded(affine.scale, 8),
        "zero_point": affine.zero_point,
        "range": [_rounded(low), _rounded(high)],
    }


def _figures(stats: TensorStats | None) -> dict[str, Any] | None:
    if stats is None:
        return None
    names = ("max_lsb", "mean_lsb", "rmse_lsb", "bias_lsb", "max_abs", "mean_abs", "rmse")
    return {
        **{name: _rounded(getattr(stats, name)) for name in (*names, "sqnr_db")},
        "cosine": _rounded(stats.cosine, 8),
        "relative_rmse": _rounded(stats.relative_rmse),
        "worst_sample": stats.worst_sample,
        "worst_channel": stats.worst_channel,
        "elements": stats.elements,
        "differing": stats.differing,
        "saturated": stats.saturated,
        "nonfinite": stats.nan + stats.infinite,
    }


def _both(op: OpEvidence, of: Callable[[TensorStats], Any]) -> dict[str, Any]:
    sides = {"local": op.local, "accumulated": op.accumulated}
    return {name: of(stats) if stats is not None else None for name, stats in sides.items()}


def _channels(op: OpEvidence) -> dict[str, Any]:
    """Return the largest error of each channel, in LSB if the tensor is quantized."""
    unit = op.scale or 1.0
    sides = [s for s in (op.local, op.accumulated) if s is not None]
    count = max((len(s.channel_max_abs) for s in sides), default=0)
    group = max(1, -(-count // _MOST_BARS))

    def bars(stats: TensorStats) -> list[float | None]:
        values = stats.channel_max_abs
        starts = range(0, len(values), group)
        return [_rounded(max(values[start : start + group]) / unit) for start in starts]

    return {**_both(op, bars), "group": group, "count": count}


def _points(points: Points | None, most: int) -> dict[str, Any] | None:
    if points is None:
        return None
    every = max(1, -(-len(points.tflite) // most))
    return {
        "tflite": [_rounded(v) for v in points.tflite[::every]],
        "reference": [_rounded(v) for v in points.reference[::every]],
        "worst": _extreme(points.worst),
    }


def _extreme(worst: Extreme | None) -> dict[str, Any] | None:
    if worst is None:
        return None
    return {
        "sample": worst.sample,
        "index": list(worst.index),
        "tflite": _rounded(worst.tflite, 8),
        "reference": _rounded(worst.reference, 8),
        "off": _rounded(abs(worst.tflite - worst.reference)),
    }


def _usage(usage: Usage | None, type_name: str) -> dict[str, Any] | None:
    if usage is None:
        return None
    names = ("lowest", "highest", "distinct", "at_lowest", "at_highest", "total", "codes")
    plain = {name: getattr(usage, name) for name in names}
    return {**plain, "bins": list(usage.bins), "first_code": code_range(type_name)[0]}


def _rounded(value: float | None, digits: int = _DIGITS) -> float | None:
    """Return a figure with some significant digits, None if it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return significant(value, digits)
