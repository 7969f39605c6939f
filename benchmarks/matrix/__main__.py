"""Run the matrix, or print the tables of what was run."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from benchmarks.matrix import table
from benchmarks.matrix.build import BATCHES, FORMATS, REFERENCES, Place
from benchmarks.matrix.cases import Case
from benchmarks.matrix.coverage import all_cases
from benchmarks.matrix.rows import Row, append, read_rows
from benchmarks.matrix.workers import DiedError, Worker

BUILD_SECONDS, TRACE_SECONDS = 300.0, 300.0


@dataclass(frozen=True)
class Plan:
    """What to run."""

    cache: Path
    formats: Sequence[str]
    batches: Sequence[str]
    references: Sequence[str]
    environment: dict[str, str]
    out: Path
    done: frozenset[tuple[str, ...]] = frozenset()
    """Keys of rows that are there already and are not made again."""
    failing: frozenset[tuple[str, ...]] | None = None
    """Keys of the only rows that are wanted, where these are told."""

    def wants(self, key: tuple[str, ...]) -> bool:
        """Whether a row is to be made."""
        return key not in self.done and (self.failing is None or key in self.failing)


@dataclass
class Pair:
    """The two children of a thread: one builds and may crash, the other traces."""

    builder: Worker
    judge: Worker

    @staticmethod
    def of(plan: Plan) -> Pair:
        """Return children that are started when they are needed."""
        log = plan.cache / "log.txt"
        return Pair(
            Worker(plan.environment, BUILD_SECONDS, log),
            Worker(plan.environment, TRACE_SECONDS, log),
        )


def run_place(place: Place, plan: Plan, pair: Pair) -> Iterator[Row]:
    """Build what the folder does not hold yet, and trace it."""
    for form in plan.formats:
        if form == "qat" and place.framework == "keras":
            continue
        for number, reference in enumerate(plan.references):
            if plan.wants((place.framework, place.case, place.batch, form, reference)):
                _build(place, form, pair)
                yield _judged(place, form, reference, pair, plants=number == 0)


def _build(place: Place, form: str, pair: Pair) -> None:
    """Convert, measure and plant, unless it was done; a crash is written down like a refusal."""
    if not place.tflite(form).exists() and not _was_refused(place, form):
        try:
            pair.builder.call("benchmarks.matrix.build", "build", place, form)
        except (DiedError, RuntimeError) as error:
            place.folder.mkdir(parents=True, exist_ok=True)
            place.refusal(form).write_text(f"not converted: {error}")
    if place.tflite(form).exists() and not place.about(form).exists():
        try:
            pair.builder.call("benchmarks.matrix.build", "measure", place, form)
        except (DiedError, RuntimeError) as error:
            plain = {"sqnr": None, "fault": None, "why": str(error)}
            place.about(form).write_text(json.dumps(plain))


def _was_refused(place: Place, form: str) -> bool:
    """Whether the converter refused it; what was not even built is tried again."""
    path = place.refusal(form)
    return path.exists() and path.read_text().startswith("not converted")


def _judged(place: Place, form: str, reference: str, pair: Pair, *, plants: bool) -> Row:
    row = Row.of(place, form, reference)
    if not plants:
        row = row.changed(fault=None)
    if not place.tflite(form).exists():
        outcome, _, message = place.refusal(form).read_text().partition(": ")
        return row.changed(outcome=outcome, message=message, path=str(place.refusal(form)))
    if not place.keras(reference, form).exists():
        message = "the framework does not save it in this format"
        return row.changed(outcome="not built", message=message)
    try:
        return pair.judge.call("benchmarks.matrix.judge", "judge", place, form, reference, plants)
    except (DiedError, RuntimeError) as error:
        return row.changed(outcome="error", message=f"the trace's process: {error}")


def places(plan: Plan, cases: Sequence[Case], frameworks: Sequence[str]) -> list[Place]:
    """Return every Keras model that is to be built."""
    found = [
        Place(plan.cache, framework, case.name, batch)
        for case in cases
        for framework in case.frameworks
        for batch in plan.batches
        if framework in frameworks and not (case.fixed and batch != "1")
    ]
    # Mixed, so that a run that was ended early has seen something of everything.
    random.Random(7).shuffle(found)  # noqa: S311
    return found


def run(wanted: Sequence[Place], plan: Plan, jobs: int) -> Iterator[Row]:
    """Run them, several at a time if asked; yield each row when it is known."""
    plan.cache.mkdir(parents=True, exist_ok=True)
    plan.out.parent.mkdir(parents=True, exist_ok=True)
    free: Queue[Pair] = Queue()
    pairs = [Pair.of(plan) for _ in range(jobs)]
    for pair in pairs:
        free.put(pair)

    def task(place: Place) -> list[Row]:
        pair = free.get()
        try:
            return list(run_place(place, plan, pair))
        finally:
            free.put(pair)

    try:
        with ThreadPoolExecutor(jobs) as pool:
            for rows in pool.map(task, wanted):
                yield from rows
    finally:
        for pair in pairs:
            pair.builder.close()
            pair.judge.close()


def _listed(allowed: Sequence[str]) -> object:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"'{name}' is none of {', '.join(allowed)}")
        return names

    return parse


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python3 -m benchmarks.matrix", description=__doc__)
    p.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="layers or cases: Conv2D, ops.top_k"
    )
    p.add_argument("--group", choices=("layer", "operator", "application"), help="one part of it")
    p.add_argument(
        "--frameworks",
        type=_listed(("tf_keras", "keras")),
        default=["tf_keras", "keras"],
        help="tf_keras, keras",
    )
    p.add_argument(
        "--formats",
        type=_listed(FORMATS),
        default=list(FORMATS),
        help="of the .tflite: " + ", ".join(FORMATS),
    )
    p.add_argument(
        "--batches",
        type=_listed(BATCHES),
        default=["none", "1"],
        help=", ".join(BATCHES),
    )
    p.add_argument(
        "--references",
        type=_listed(REFERENCES),
        default=["own"],
        help="Keras files: " + ", ".join(REFERENCES),
    )
    p.add_argument("--cache", type=Path, default=Path("matrix"), help="where files are kept")
    p.add_argument("--out", type=Path, help="rows, one a line; CACHE/rows.jsonl by default")
    p.add_argument("--go-on", action="store_true", help="make no row again that --out holds")
    p.add_argument("--failing", action="store_true", help="only what falls short in --out, again")
    p.add_argument("--jobs", type=int, default=2, help="how many files at a time")
    p.add_argument("--onednn", choices=("0", "1"), help="TF_ENABLE_ONEDNN_OPTS of the processes")
    p.add_argument("--table", action="store_true", help="print the tables of --out, run nothing")
    p.add_argument("--list", action="store_true", help="print the cases, run nothing")
    return p


def main() -> None:
    """Run the matrix and print its tables."""
    options = _parser().parse_args()
    cases = [c for c in all_cases().values() if _is_wanted(c, options)]
    if options.list:
        print("\n".join(f"{c.name} ({', '.join(c.frameworks)})" for c in cases))
        return
    out = options.out or options.cache / "rows.jsonl"
    if not options.table:
        environment = {
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "-1",
            "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]),
        }
        if options.onednn is not None:
            environment["TF_ENABLE_ONEDNN_OPTS"] = options.onednn
        formats, references = options.formats, options.references
        known = list(read_rows(out))
        done = frozenset(r.key for r in known) if options.go_on else frozenset()
        failing = frozenset(r.key for r in known if r.short) if options.failing else None
        batches = options.batches
        plan = Plan(options.cache, formats, batches, references, environment, out, done, failing)
        wanted = places(plan, cases, options.frameworks)
        for row in run(wanted, plan, options.jobs):
            append(out, row)
            _tell(row)
    print(table.render(list(read_rows(out))))


def _is_wanted(case: Case, options: argparse.Namespace) -> bool:
    if options.group is not None and case.group != options.group:
        return False
    return not options.only or case.layer in options.only or case.name in options.only


def _tell(row: Row) -> None:
    fault = row.fault.outcome if row.fault else "-"
    print(*row.key, row.outcome, f"fault {fault}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
