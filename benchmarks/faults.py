"""The fault campaign: plant one fault at a time and see which operator tfldbg names.

    python -m benchmarks.faults --reference keras --half development --out results.jsonl
    python -m benchmarks.faults --table results.jsonl

Results are appended line by line, and a rerun skips what is there, so a killed run loses nothing.
The self trace gets only the kinds that a file can betray by itself, unless others are asked for.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import re
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np

import tfldbg
from benchmarks import proposals, tables, zoo
from sample_models import plant
from tfldbg import quant
from tfldbg.graph.model import Tensor
from tfldbg.run.job import Job, Options, prepare
from tfldbg.run.litert import Runner

SAMPLES = 4
REFERENCES = ("keras", "against", "self")
CLEAN = "clean"
"""Kind of the record of a file without a fault."""
FLOAT32_ROUNDING = 1e-6
"""Relative to a tensor's largest value: below it two float results count as equal."""


@dataclass(frozen=True, slots=True)
class Record:
    """What came of one planted fault, or of a sound file (kind ``clean``)."""

    entry: str
    network: str
    scheme: str
    half: str
    reference: str
    kind: str
    op: int
    op_kind: str
    detail: str
    outcome: str
    """exact, among, wrong, missed, error, refused, ineffective; clean or false alarm."""
    first: int | None = None
    origins: tuple[int, ...] = ()
    signal: str | None = None
    status: str | None = None
    """What the trace says of the planted operator."""
    effect: float | None = None
    """Largest change of the planted operator's output, in its steps; for floats relative."""
    largest: float | None = None
    """Largest change of any operator's output, in the larger of both files' steps.

    None where a shape changed.
    """
    named: bool | None = None
    """Of a refused file or a wrong answer: whether the message names the planted operator."""
    message: str = ""
    seconds: float = 0.0

    @property
    def key(self) -> tuple[str, str, str, int, str]:
        """What a rerun recognizes a fault by."""
        return (self.reference, self.entry, self.kind, self.op, self.detail)


@dataclass(frozen=True)
class Plan:
    """What to run."""

    reference: str
    folder: Path
    out: Path
    most: int
    runtime: str
    kinds: tuple[str, ...]


Values = Mapping[int, np.ndarray]
"""By tensor (samples, ...) in real units."""


def run_entry(name: str, plan: Plan) -> str:
    """Trace one pair, sound and with each fault, and append the records."""
    entry = zoo.ZOO[name]
    pair = zoo.build(name, plan.folder)
    done = {record.key for record in read_records(plan.out)}
    good = pair.tflite.read_bytes()
    blank = Record(
        name, entry.network, entry.scheme, entry.half, plan.reference, CLEAN, -1, "", "", ""
    )
    faults = _chosen(pair, good, plan)
    missing = [f for f in faults if _of_fault(blank, f, good).key not in done]
    if blank.key in done and not missing:
        return name
    reference = _load_reference(pair, plan.reference)
    if blank.key not in done:
        append(plan.out, _clean(blank, good, pair, reference, plan))
    sound_job, sound = run_exposed(good, pair.data, plan.runtime)
    for fault in missing:
        began = perf_counter()
        record = _of_fault(blank, fault, good)
        found = _judged(record, fault, good, (sound_job, sound), pair, reference, plan)
        append(plan.out, _with(found, seconds=round(perf_counter() - began, 2)))
    return name


def _chosen(pair: zoo.Pair, good: bytes, plan: Plan) -> list[plant.Fault]:
    faults = proposals.faults_for(plant.File(good), proposals.read_betas(pair.keras))
    kinds = plan.kinds or (proposals.BETRAYED if plan.reference == "self" else ())
    if kinds:
        faults = [f for f in faults if f.name in kinds]
    return proposals.spread(faults, plan.most)


def _of_fault(blank: Record, fault: plant.Fault, good: bytes) -> Record:
    kind = _kinds(good)[fault.op]
    return _with(blank, kind=fault.name, op=fault.op, op_kind=kind, detail=fault.detail)


@functools.lru_cache(maxsize=2)
def _kinds(good: bytes) -> tuple[str, ...]:
    file = plant.File(good)
    return tuple(file.kind(i) for i in range(file.count))


def _with(record: Record, **changes: Any) -> Record:
    return Record(**{**asdict(record), **changes})


def _load_reference(pair: zoo.Pair, kind: str) -> dict[str, Any]:
    """Return the arguments that tell `tfldbg.trace` what to compare with, loaded once."""
    if kind == "keras":
        from tfldbg.reference.keras import load_frozen

        return {"keras": load_frozen(pair.keras)}
    return {"against": pair.good} if kind == "against" else {}


def _clean(
    blank: Record, good: bytes, pair: zoo.Pair, reference: dict[str, Any], plan: Plan
) -> Record:
    began = perf_counter()
    result = _trace(good, pair, reference, plan)
    if isinstance(result, str):
        found = _with(blank, outcome="error", message=result)
    elif result.verdict == "clean":
        found = _with(blank, outcome="clean")
    else:
        found = _with(_described(blank, result), outcome="false alarm")
    return _with(found, seconds=round(perf_counter() - began, 2))


def _trace(
    model: bytes, pair: zoo.Pair, reference: dict[str, Any], plan: Plan
) -> tfldbg.Trace | str:
    """Trace a file; return the message of the error where the trace gives up."""
    try:
        return tfldbg.trace(
            model, data=pair.data, samples=SAMPLES, runtime=plan.runtime, **reference
        )
    except tfldbg.TfldbgError as error:
        return error.message
    except Exception as error:
        # A crash is a result of the campaign like any other: it must not end it.
        return f"{type(error).__name__}: {error}"


def _judged(
    record: Record,
    fault: plant.Fault,
    good: bytes,
    sound: tuple[Job, Values],
    pair: zoo.Pair,
    reference: dict[str, Any],
    plan: Plan,
) -> Record:
    """Plant a fault, see whether it changes anything, and trace the broken file."""
    broken = plant.apply(good, fault)
    refused = False
    try:
        job, values = run_exposed(broken, pair.data, plan.runtime)
    except tfldbg.RunError:
        refused = True
    else:
        if not differs(sound, (job, values)) and not _breaks_a_rule(record):
            return _with(record, outcome="ineffective")
        output = int(plant.File(good).op(fault.op).outputs[0])
        effects = {tap: effect(sound, (job, values), tap) for tap in sound[1]}
        known = [e for e in effects.values() if e is not None]
        largest = max(known) if len(known) == len(effects) else None
        record = _with(record, effect=effects.get(output), largest=largest)
    result = _trace(broken, pair, reference, plan)
    if isinstance(result, str):
        outcome = "refused" if refused else "error"
        named = _names(result, fault.op)
        return _with(record, outcome=outcome, named=named, message=result)
    outcome = _outcome(result, fault.op)
    named = _names(result.diagnosis.sentence, fault.op) if outcome == "wrong" else None
    return _with(_described(record, result), outcome=outcome, named=named)


def _names(message: str, op: int) -> bool:
    return re.search(rf"operator {op}\b", message) is not None


def _breaks_a_rule(record: Record) -> bool:
    """Whether the self trace must name a fault even though this runtime's numbers stay."""
    return record.reference == "self" and record.kind in proposals.BETRAYED


def _outcome(result: tfldbg.Trace, op: int) -> str:
    if not result.origins:
        return "missed"
    if result.origins[0] == op:
        return "exact"
    return "among" if op in result.origins else "wrong"


def _described(record: Record, result: tfldbg.Trace) -> Record:
    first = result.first_divergence
    statuses = {o["op"]: o["status"] for o in result.to_dict()["ops"]}
    return _with(
        record,
        first=first.op if first else None,
        origins=result.origins,
        signal=first.signal if first else None,
        status=statuses.get(record.op),
        message=result.diagnosis.sentence,
    )


def run_exposed(
    model: bytes, data: Mapping[str, np.ndarray], runtime: str = "xnnpack"
) -> tuple[Job, Values]:
    """Run a file with every operator output exposed.

    Returns:
        What was run, and by tensor its values (samples, ...) in real units.

    Raises:
        RunError: The runtime refuses the file.
    """
    job = prepare(model, dict(data), Options(samples=SAMPLES, runtime=runtime))
    rows = []
    with Runner(job.instrumented) as runner:
        for sample in range(job.samples.count):
            codes = job.samples.codes(sample)
            rows.append([np.array(a) for a in runner.run(codes)])
    tensors = job.subgraph.tensors
    columns = zip(*rows, strict=True)
    taps = zip(job.exposed.taps, columns, strict=True)
    return job, {tap: np.stack([_real(tensors[tap], a) for a in column]) for tap, column in taps}


def _real(tensor: Tensor, values: np.ndarray) -> np.ndarray:
    params = tensor.quant
    if params is None or values.dtype.kind == "f" or not tensor.has_codes:
        return np.asarray(values, np.float64)
    real = quant.dequantize(values, params.scale, params.zero_point, params.axis)
    return np.asarray(real, np.float64)


def differs(sound: tuple[Job, Values], broken: tuple[Job, Values]) -> bool:
    """Whether any operator output differs in real units, each file read by its own parameters."""
    for tap, expected in sound[1].items():
        found = broken[1].get(tap)
        if found is None or found.shape != expected.shape:
            return True
        largest = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
        if not np.allclose(
            found, expected, rtol=0, atol=FLOAT32_ROUNDING * largest, equal_nan=True
        ):
            return True
    return False


def effect(sound: tuple[Job, Values], broken: tuple[Job, Values], tensor: int) -> float | None:
    """Largest change of a tensor in steps: of the larger scale, or of a float's largest value.

    Returns:
        None where the shape changed or a value is not finite.
    """
    expected, found = sound[1][tensor], broken[1].get(tensor)
    if found is None or expected.shape != found.shape or not np.isfinite(found).all():
        return None
    steps = [side[0].subgraph.tensors[tensor].lsb or 0.0 for side in (sound, broken)]
    step = max(steps) or float(np.abs(expected).max(initial=0.0)) or 1.0
    return round(float(np.abs(found - expected).max(initial=0.0)) / step, 4)


def append(path: Path, record: Record) -> None:
    """Append one line; a single write, so that several processes may share the file."""
    line = (json.dumps(asdict(record)) + "\n").encode()
    with path.open("ab", buffering=0) as file:
        file.write(line)


def read_records(path: Path) -> Iterator[Record]:
    """Read the records of a file; a line that a killed run left half written is skipped."""
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        try:
            plain = json.loads(line)
        except json.JSONDecodeError:
            continue
        yield Record(**{**plain, "origins": tuple(plain["origins"])})


def _end_last_line(path: Path) -> None:
    """Keep what a killed run left half written from swallowing the next record."""
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")


def run(names: list[str], plan: Plan, jobs: int) -> Iterator[str]:
    """Run the entries, several at a time if asked; yield each name when it is done."""
    plan.out.parent.mkdir(parents=True, exist_ok=True)
    _end_last_line(plan.out)
    task = functools.partial(run_entry, plan=plan)
    if jobs == 1:
        yield from map(task, names)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(task, names)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table", type=Path, nargs="+", help="print the tables of such files")
    parser.add_argument("--reference", choices=REFERENCES, default="keras")
    parser.add_argument("--half", choices=("development", "held_out", "all"), default="development")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(zoo.ZOO), default=[])
    parser.add_argument("--kinds", nargs="+", metavar="KIND", default=[], help="kinds of fault")
    parser.add_argument("--most", type=int, default=3, help="operators for each kind and pair")
    parser.add_argument("--runtime", default="xnnpack")
    parser.add_argument("--out", type=Path, default=Path("faults.jsonl"))
    parser.add_argument("--folder", type=Path, default=Path("zoo"), help="where pairs are kept")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    return parser


def main() -> None:
    """Run the campaign, or print the tables of what was run."""
    options = _parser().parse_args()
    if options.table:
        print(tables.render([r for path in options.table for r in read_records(path)]))
        return
    halves = ("development", "held_out") if options.half == "all" else (options.half,)
    names = options.only or [e.name for e in zoo.ZOO.values() if e.half in halves]
    plan = Plan(
        reference=options.reference,
        folder=options.folder,
        out=options.out,
        most=options.most,
        runtime=options.runtime,
        kinds=tuple(options.kinds),
    )
    for name in run(names, plan, options.jobs):
        print(name, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
