"""Trace one file of the matrix as it is and with one fault: what a child process does."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import tfldbg
from benchmarks import effects
from benchmarks.matrix import planting
from benchmarks.matrix.build import Place, seed_of
from benchmarks.matrix.rows import Planted, Row
from sample_models import plant
from tfldbg.reference.keras import load_frozen

TRIES = 12
"""Faults that are tried until one changes a value."""


def judge(place: Place, form: str, reference: str, plants: bool) -> Row:
    """Trace a file against its Keras model, and again with a fault planted."""
    began = perf_counter()
    row = Row.of(place, form, reference)
    with np.load(place.data) as archive:
        data = {key: archive[key] for key in archive.files}
    good = place.tflite(form).read_bytes()
    sound, sqnr = _ran(good, data, place.outputs(form))
    row = row.changed(sqnr=sqnr)
    try:
        frozen = _frozen(place.keras(reference, form))
        result = tfldbg.trace(place.tflite(form), keras=frozen, data=data)
    except Exception as error:
        row = row.changed(outcome="error", message=_told(error))
        return row.changed(seconds=round(perf_counter() - began, 2))
    row = _described(row, result)
    if plants:
        name = f"{place.case} {form} {place.batch}"
        tries = planting.shuffled(good, form, seed_of(place) + sum(name.encode()))
        row = row.changed(fault=_planted(place, form, tries, sound, data, frozen))
    return row.changed(seconds=round(perf_counter() - began, 2))


@functools.lru_cache(maxsize=1)
def _frozen(path: Path) -> Any:
    return load_frozen(path)


def _told(error: Exception) -> str:
    if isinstance(error, tfldbg.TfldbgError):
        return f"{error.message} (hint: {error.hint})" if error.hint else error.message
    return f"{type(error).__name__}: {error}"


def _ran(good: bytes, data: dict[str, np.ndarray], outputs: Path) -> tuple[Any, float | None]:
    """Run the sound file by itself; return its values, and how near the live model's it ends.

    This is the third hand: the interpreter's outputs against Keras's, without any matching.
    """
    try:
        sound = effects.run_exposed(good, data)
    except tfldbg.TfldbgError:
        return None, None
    with np.load(outputs) as archive:
        expected = [archive[key][: effects.SAMPLES].astype(np.float64) for key in archive.files]
    job, values = sound
    found = [values[i] for i in job.subgraph.outputs if i in values]
    return sound, _least_sqnr(found, expected)


def _least_sqnr(found: list[np.ndarray], expected: list[np.ndarray]) -> float | None:
    """Return the signal-to-noise ratio of the worst output, dB; None where shapes do not pair."""
    ratios = []
    for array in found:
        same = [e for e in expected if e.size == array.size]
        if not same:
            return None
        flat = array.ravel()
        # Files order several outputs as they like: the nearest is the one.
        noise = min(float(np.mean((flat - e.ravel()) ** 2)) for e in same)
        power = float(np.mean(flat**2))
        ratios.append(10 * np.log10(max(power, 1e-30) / max(noise, 1e-30)))
    return round(min(ratios), 1) if ratios else None


def _described(row: Row, result: tfldbg.Trace) -> Row:
    evidence = result.evidence
    active = [o for o in evidence.ops if o.activation]
    unchecked = [o for o in active if o.op not in evidence.covered]
    first = result.first_divergence
    warned = (f.code for f in result.diagnosis.findings if f.severity != "info")
    return row.changed(
        outcome="clean" if result.verdict == "clean" else "false alarm",
        message=result.diagnosis.sentence,
        first=f"{first.op} {first.kind} {first.signal}" if first else None,
        ops=len(active),
        matched=sum(o.reference is not None for o in active),
        unmatched=dict(
            Counter(f"{o.kind}: {o.unmatched_reason}" for o in active if not o.reference)
        ),
        unchecked=dict(Counter(f"{o.kind}: {o.local_reason}" for o in unchecked)),
        warnings=tuple(dict.fromkeys(warned)),
    )


def _planted(
    place: Place,
    form: str,
    tries: list[plant.Fault],
    sound: Any,
    data: dict[str, np.ndarray],
    frozen: Any,
) -> Planted | None:
    """Plant the first fault that changes a value, and trace; None where there is none."""
    if sound is None:
        return None
    good = place.tflite(form).read_bytes()
    for fault in tries[:TRIES]:
        broken = _effective(good, fault, sound, data)
        if broken is None:
            continue
        path = place.folder / f"{form}.planted.tflite"
        path.write_bytes(broken)
        return _named(fault, plant.File(good).kind(fault.op), path, data, frozen)
    return None


def _effective(
    good: bytes, fault: plant.Fault, sound: Any, data: dict[str, np.ndarray]
) -> bytes | None:
    """Return the broken file if it runs and any operator's output changes."""
    try:
        broken = plant.apply(good, fault)
        ran = effects.run_exposed(broken, data)
    except Exception:  # the fault does not suit the file: another is tried
        return None
    return broken if effects.differs(sound, ran) else None


def _named(
    fault: plant.Fault, kind: str, path: Path, data: dict[str, np.ndarray], frozen: Any
) -> Planted:
    blank = Planted(fault.name, fault.op, kind, fault.detail, "error", str(path))
    try:
        result = tfldbg.trace(path, keras=frozen, data=data)
    except Exception as error:
        return blank.changed(message=_told(error))
    origins = result.origins
    if not origins:
        outcome = "missed"
    elif origins[0] == fault.op:
        outcome = "exact"
    else:
        outcome = "among" if fault.op in origins else "wrong"
    cause = result.cause.code if result.cause else None
    return blank.changed(
        outcome=outcome, origins=origins[:6], cause=cause, message=result.diagnosis.sentence
    )
