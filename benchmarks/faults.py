"""The fault campaign: plant one fault at a time and see which operator tfldbg names.

    python -m benchmarks.faults --reference keras --half development --out results.jsonl
    python -m benchmarks.faults --table results.jsonl

Results are appended line by line, and a rerun skips what is there, so a killed run loses nothing.
The self trace gets only the kinds that a file can betray by itself, unless others are asked for.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import tfldbg
from benchmarks import proposals, tables, zoo
from benchmarks.disguise import DISGUISES, disguise
from benchmarks.effects import SAMPLES, Values, differs, effect, run_exposed
from benchmarks.records import CLEAN, Record, append, end_last_line, read_records
from sample_models import plant
from tfldbg.run.job import Job

REFERENCES = ("keras", "against", "same", "self")
"""A Keras model; a sound .tflite, float but for QAT pairs; the sound file itself; nothing."""


@dataclass(frozen=True)
class Plan:
    """What to run."""

    reference: str
    folder: Path
    out: Path
    most: int
    runtime: str
    kinds: tuple[str, ...]
    disguise: str = "none"


@dataclass(frozen=True)
class Bench:
    """One pair, ready to have faults planted in it."""

    pair: zoo.Pair
    good: bytes
    """The sound file."""
    sound: tuple[Job, Values]
    """What its operators yield."""
    reference: dict[str, Any]
    """The arguments that tell `tfldbg.trace` what to compare with."""
    runtime: str
    disguise: str

    def trace(self, model: bytes) -> tfldbg.Trace | str:
        """Trace a file; return the message of the error where the trace gives up."""
        data, runtime = self.pair.data, self.runtime
        try:
            return tfldbg.trace(
                model, data=data, samples=SAMPLES, runtime=runtime, **self.reference
            )
        except tfldbg.TfldbgError as error:
            return error.message
        except Exception as error:
            # A crash is a result of the campaign like any other: it must not end it.
            return f"{type(error).__name__}: {error}"


def run_entry(name: str, plan: Plan) -> str:
    """Build one pair, trace it, sound and with each fault, and append the records."""
    entry = zoo.ZOO[name]
    run_pair(zoo.build(name, plan.folder), entry.network, entry.scheme, entry.half, plan)
    return name


def run_pair(pair: zoo.Pair, network: str, scheme: str, half: str, plan: Plan) -> None:
    """Trace a pair, sound and with each fault, and append the records that are not there yet."""
    done = {record.key for record in read_records(plan.out)}
    good = pair.tflite.read_bytes()
    label = plan.reference if plan.disguise == "none" else f"{plan.reference}, {plan.disguise}"
    about = (network, scheme, half, label)
    blank = Record(pair.name, *about, CLEAN, -1, "", "", "", runtime=plan.runtime)
    planted = [(_of_fault(blank, f, good), f) for f in _chosen(pair, good, plan)]
    missing = [(record, fault) for record, fault in planted if record.key not in done]
    if blank.key in done and not missing:
        return
    sound = run_exposed(good, pair.data, plan.runtime)
    reference = _load_reference(pair, plan.reference)
    bench = Bench(pair, good, sound, reference, plan.runtime, plan.disguise)
    if blank.key not in done:
        append(plan.out, _timed(lambda: _clean(blank, bench)))
    for record, fault in missing:
        append(plan.out, _timed(functools.partial(_judged, record, fault, bench)))


def _timed(work: Callable[[], Record]) -> Record:
    began = perf_counter()
    found = work()
    return found.changed(seconds=round(perf_counter() - began, 2))


def _chosen(pair: zoo.Pair, good: bytes, plan: Plan) -> list[plant.Fault]:
    faults = proposals.faults_for(plant.File(good), proposals.read_betas(pair.keras))
    kinds = plan.kinds or (proposals.BETRAYED if plan.reference == "self" else ())
    if kinds:
        faults = [f for f in faults if f.name in kinds]
    return proposals.spread(faults, plan.most)


def _of_fault(blank: Record, fault: plant.Fault, good: bytes) -> Record:
    kind = _kinds(good)[fault.op]
    return blank.changed(kind=fault.name, op=fault.op, op_kind=kind, detail=fault.detail)


@functools.lru_cache(maxsize=2)
def _kinds(good: bytes) -> tuple[str, ...]:
    file = plant.File(good)
    return tuple(file.kind(i) for i in range(file.count))


def _load_reference(pair: zoo.Pair, kind: str) -> dict[str, Any]:
    """Return the arguments that tell `tfldbg.trace` what to compare with, loaded once."""
    if kind == "keras":
        from tfldbg.reference.keras import load_frozen

        return {"keras": load_frozen(pair.keras)}
    if kind == "same":
        return {"against": pair.tflite}
    return {"against": pair.good} if kind == "against" else {}


def _clean(blank: Record, bench: Bench) -> Record:
    result = bench.trace(disguise(bench.good, bench.disguise)[0])
    if isinstance(result, str):
        return blank.changed(outcome="error", message=result)
    outcome = "clean" if result.verdict == "clean" else "false alarm"
    return _described(blank, result).changed(outcome=outcome)


def _judged(record: Record, fault: plant.Fault, bench: Bench) -> Record:
    """Plant a fault, see whether it changes anything, and trace the broken file."""
    broken = plant.apply(bench.good, fault)
    try:
        ran = run_exposed(broken, bench.pair.data, bench.runtime)
    except tfldbg.RunError:
        ran = None
    if ran is not None:
        if not differs(bench.sound, ran) and not _breaks_a_rule(record):
            return record.changed(outcome="ineffective")
        record = _measured(record, bench, ran)
    shown, place = disguise(broken, bench.disguise)
    result = bench.trace(shown)
    if isinstance(result, str):
        outcome, named = "refused" if ran is None else "error", _names(result, place[fault.op])
        return record.changed(outcome=outcome, named=named, message=result)
    outcome = _outcome(result, place[fault.op])
    mentioned = _names(result.diagnosis.sentence, place[fault.op]) if outcome == "wrong" else None
    return _described(record, result).changed(outcome=outcome, named=mentioned)


def _measured(record: Record, bench: Bench, ran: tuple[Job, Values]) -> Record:
    """Add how much the planted operator's output, and the most changed output, moved."""
    sound_job, sound = bench.sound
    output = sound_job.subgraph.operators[record.op].outputs[0]
    effects = {tap: effect(bench.sound, ran, tap) for tap in sound}
    known = [e for e in effects.values() if e is not None]
    largest = max(known) if len(known) == len(effects) else None
    return record.changed(effect=effects.get(output), largest=largest)


def _names(message: str, op: int) -> bool:
    return re.search(rf"operator {op}\b", message) is not None


def _breaks_a_rule(record: Record) -> bool:
    """Whether the self trace must name a fault even though this runtime's numbers stay."""
    return record.reference.startswith("self") and record.kind in proposals.BETRAYED


def _outcome(result: tfldbg.Trace, op: int) -> str:
    if not result.origins:
        return "missed"
    if result.origins[0] == op:
        return "exact"
    return "among" if op in result.origins else "wrong"


def _described(record: Record, result: tfldbg.Trace) -> Record:
    first = result.first_divergence
    statuses = {o["op"]: o["status"] for o in result.to_dict()["ops"]}
    return record.changed(
        first=first.op if first else None,
        origins=result.origins,
        signal=first.signal if first else None,
        status=statuses.get(record.op),
        message=result.diagnosis.sentence,
        cause=result.cause.code if result.cause else None,
    )


def run(names: list[str], plan: Plan, jobs: int) -> Iterator[str]:
    """Run the entries, several at a time if asked; yield each name when it is done."""
    plan.out.parent.mkdir(parents=True, exist_ok=True)
    end_last_line(plan.out)
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
    parser.add_argument("--disguise", choices=DISGUISES, default="none", help="of the broken file")
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
        disguise=options.disguise,
    )
    for name in run(names, plan, options.jobs):
        print(name, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
