"""Trace quantized files under each runtime: where do its kernels differ from float arithmetic?

    python3 -m benchmarks.runtimes FILES... --out runtimes.jsonl
    python3 -m benchmarks.runtimes --table runtimes.jsonl

Sound files should be clean under all of them.  A file that is clean under some and not under others
names a kernel that does something else; the sentence below the table names its first operator.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tfldbg
from tfldbg.options.runtimes import RUNTIMES
from tfldbg.session import expose_model

QUANTIZED = {"INT8", "UINT8", "INT16"}


def is_quantized(path: Path) -> bool:
    """Whether any operator writes codes."""
    subgraph = expose_model(path)[0].subgraph
    written = {i for op in subgraph.operators for i in op.outputs if i >= 0}
    return any(
        subgraph.tensors[i].lsb is not None and subgraph.tensors[i].type in QUANTIZED
        for i in written
    )


def trace(path: Path, runtime: str, samples: int) -> dict[str, Any]:
    """Trace one file under one runtime; the largest local error and its operator."""
    record: dict[str, Any] = {"file": f"{path.parent.name}/{path.name}", "runtime": runtime}
    try:
        result = tfldbg.trace(path, runtime=runtime, samples=samples)
    except tfldbg.TfldbgError as error:
        return {**record, "verdict": "not run", "sentence": error.message}
    checked = [
        (op.local.max_lsb, f"{op.op} {op.kind}")
        for op in result.evidence.ops
        if op.local is not None and op.local.max_lsb is not None
    ]
    return {
        **record,
        "verdict": result.verdict,
        "sentence": result.diagnosis.sentence,
        "cause": result.cause.code if result.cause else None,
        "origins": list(result.origins),
        "largest": max(checked, default=None),
        "observed": result.evidence.run.observer_identical,
    }


def table(records: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a Markdown table, one row a file that every runtime was asked for."""
    runtimes = [r for r in RUNTIMES if any(record["runtime"] == r for record in records)]
    yield "| file | " + " | ".join(runtimes) + " |"
    yield "|---" * (len(runtimes) + 1) + "|"
    by_file: dict[str, dict[str, dict[str, Any]]] = {}
    for record in records:
        by_file.setdefault(record["file"], {})[record["runtime"]] = record
    for file, found in sorted(by_file.items()):
        cells = (_cell(found.get(runtime)) for runtime in runtimes)
        yield f"| `{file}` | " + " | ".join(cells) + " |"
    yield ""
    for runtime in runtimes:
        mine = [r for r in records if r["runtime"] == runtime]
        run = [r for r in mine if r["verdict"] != "not run"]
        silent = sum(r["verdict"] == "clean" for r in run)
        yield f"- `{runtime}`: {len(run)} of {len(mine)} files run, {silent} of them clean"
    yield ""
    for record in records:
        if record["verdict"] != "clean":
            yield f"- {record['file']} under {record['runtime']}: {record['sentence']}"


def _cell(record: dict[str, Any] | None) -> str:
    if record is None:
        return ""
    if record["verdict"] == "not run":
        return "not run"
    largest = record["largest"]
    said = f"{largest[0]:.2f} ({largest[1]})" if largest else "-"
    changed = "" if record["observed"] else ", final outputs differ"
    return f"{said}{changed}" if record["verdict"] == "clean" else f"**diverged** {said}{changed}"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--runtimes", nargs="+", default=list(RUNTIMES))
    given = parser.parse_args()
    if given.table:
        print("\n".join(table([json.loads(line) for line in given.table.open()])))
        return
    with given.out.open("w") as out:
        for path in filter(is_quantized, given.files):
            for runtime in given.runtimes:
                out.write(json.dumps(trace(path, runtime, given.samples)) + "\n")
                out.flush()


if __name__ == "__main__":
    main()
