"""Trace many files against their own float arithmetic: how often is the self trace silent?

    python3 -m benchmarks.selftrace FILES... --out self.jsonl
    python3 -m benchmarks.selftrace --table self.jsonl

Sound files should be silent, so every alarm asks for an explanation: a kernel that is wrong, a file
that contradicts itself, or a bound of ours that is too tight.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tfldbg
from tfldbg.options.runtimes import LITERT
from tfldbg.session import expose_model

QUANTIZED = {"INT8", "UINT8", "INT16", "INT4", "UINT4", "INT2"}


def trace(job: tuple[Path, str, int]) -> dict[str, Any]:
    """Trace one file under one runtime."""
    path, runtime, samples = job
    record: dict[str, Any] = {"file": path.name, "runtime": runtime, "quantized": False}
    try:
        tensors = expose_model(path)[0].subgraph.tensors
        record["quantized"] = any(t.quant is not None and t.type in QUANTIZED for t in tensors)
        result = tfldbg.trace(path, samples=samples, runtime=runtime)
    except tfldbg.TfldbgError as error:
        return {**record, "verdict": "not run", "sentence": error.message}
    unchecked = [
        f"{o.kind}: {o.local_reason}"
        for o in result.evidence.ops
        if o.activation and o.local is None
    ]
    worst: dict[str, float] = {}
    for op in result.evidence.ops:
        if op.local is not None and op.local.max_lsb is not None:
            key = f"{op.kind} {op.type}"
            worst[key] = max(worst.get(key, 0.0), op.local.max_lsb)
    return {
        **record,
        "verdict": result.verdict,
        "sentence": result.diagnosis.sentence,
        "operators": sum(o.activation for o in result.evidence.ops),
        "unchecked": unchecked,
        "worst_lsb": worst,
        "notes": list(result.evidence.run.notes),
    }


def table(records: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a Markdown table, the alarms, and what could not be checked."""
    yield "| runtime | files | run | quantized and run | silent of these | operators | unchecked |"
    yield "|---|---|---|---|---|---|---|"
    for runtime in LITERT:
        mine = [r for r in records if r["runtime"] == runtime]
        run = [r for r in mine if r["verdict"] != "not run"]
        quantized = [r for r in run if r["quantized"]]
        silent = sum(r["verdict"] == "clean" for r in quantized)
        counts = (len(mine), len(run), len(quantized), silent)
        operators = sum(r["operators"] for r in run)
        unchecked = sum(len(r["unchecked"]) for r in run)
        yield "| " + " | ".join(map(str, (runtime, *counts, operators, unchecked))) + " |"
    yield ""
    for r in records:
        if r["verdict"] == "diverged":
            yield f"- {r['file']} under {r['runtime']}: {r['sentence']}"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--runtimes", nargs="+", default=list(LITERT))
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    if given.table:
        print("\n".join(table([json.loads(line) for line in given.table.open()])))
        return
    jobs = [(path, runtime, given.samples) for path in given.files for runtime in given.runtimes]
    with multiprocessing.Pool(given.jobs) as pool, given.out.open("w") as out:
        for record in pool.imap_unordered(trace, jobs):
            out.write(json.dumps(record) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
