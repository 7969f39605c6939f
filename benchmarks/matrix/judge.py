"""Trace one file of the matrix as it is and with one fault: what a child process does."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import tfldbg
from benchmarks.matrix.build import Place
from benchmarks.matrix.rows import Planted, Row
from tfldbg.reference.keras import load_frozen


def judge(place: Place, form: str, reference: str, plants: bool) -> Row:
    """Trace a file against its Keras model, and again with a fault planted."""
    began = perf_counter()
    row = Row.of(place, form, reference)
    if not plants:
        row = row.changed(fault=None)
    with np.load(place.data) as archive:
        data = {key: archive[key] for key in archive.files}
    try:
        frozen = _frozen(place.keras(reference, form))
        result = tfldbg.trace(place.tflite(form), keras=frozen, data=data)
    except Exception as error:
        row = row.changed(outcome="error", message=_told(error))
        return row.changed(seconds=round(perf_counter() - began, 2))
    row = _described(row, result)
    if row.fault is not None:
        row = row.changed(fault=_named(row.fault, data, frozen))
    return row.changed(seconds=round(perf_counter() - began, 2))


@functools.lru_cache(maxsize=1)
def _frozen(path: Path) -> Any:
    return load_frozen(path)


def _told(error: Exception) -> str:
    if isinstance(error, tfldbg.TfldbgError):
        return f"{error.message} (hint: {error.hint})" if error.hint else error.message
    return f"{type(error).__name__}: {error}"


def _described(row: Row, result: tfldbg.Trace) -> Row:
    evidence = result.evidence
    active = [o for o in evidence.ops if o.activation]
    missing = (f"{o.kind}: {o.unmatched_reason}" for o in active if not o.reference)
    unchecked = (f"{o.kind}: {o.local_reason}" for o in active if o.op not in evidence.covered)
    first = result.first_divergence
    warned = (f.code for f in result.diagnosis.findings if f.severity != "info")
    return row.changed(
        outcome="clean" if result.verdict == "clean" else "false alarm",
        message=result.diagnosis.sentence,
        first=f"{first.op} {first.kind} {first.signal}" if first else None,
        ops=len(active),
        matched=sum(o.reference is not None for o in active),
        unmatched=dict(Counter(missing)),
        unchecked=dict(Counter(unchecked)),
        warnings=tuple(dict.fromkeys(warned)),
    )


def _named(fault: Planted, data: Mapping[str, np.ndarray], frozen: Any) -> Planted:
    """Trace the broken file and say whether the planted operator is named."""
    try:
        result = tfldbg.trace(fault.path, keras=frozen, data=dict(data))
    except Exception as error:
        return fault.changed(outcome="error", message=_told(error))
    cause = result.cause.code if result.cause else None
    return fault.changed(
        outcome=_outcome(result, fault.op),
        origins=result.origins[:6],
        cause=cause,
        message=result.diagnosis.sentence,
    )


def _outcome(result: tfldbg.Trace, op: int) -> str:
    if not result.origins:
        return "missed"
    first = result.origins[0]
    if first == op:
        return "exact"
    if any(o.op == first and op in o.joint for o in result.evidence.ops):
        return "joint"
    return "among" if op in result.origins else "wrong"
