"""Put every file of a corpus through every command: what runs, what is exposed, what is traced?

    python3 -m benchmarks.corpus ../shared/models --out corpus.jsonl --docs docs/corpus.md
    python3 -m benchmarks.corpus ../shared/models --table corpus.jsonl --docs docs/corpus.md

For each file and runtime the untouched file runs in the bare interpreter, without tfldbg.  Then the
commands run as a user types them, each in a process of its own, and their exit codes count: 0 and 1
are answers, 2 is a refusal in words, anything else is a bug of ours.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.corpus_table import RUNTIMES, page, summary

BUG = "this is a bug in tfldbg"
SECONDS = 600
"""A command that takes longer is ended, and counts as one that did not come back."""
MEMORY = 12 * 2**30
"""Address space of each process, so that no file can take the machine down."""
HUGE = 2**24
"""Elements of an input from which one sample is enough."""
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Case:
    """One way to call one file."""

    path: Path
    name: str
    signature: str | None = None
    keras: Path | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of a process."""

    code: int
    """Exit code; minus the signal of a process that was killed."""
    out: str
    err: str
    seconds: float

    @property
    def outcome(self) -> str:
        """``ok``, ``refused``, or the bug."""
        if BUG in self.err or "Traceback (most recent call last)" in self.err:
            return "bug"
        if self.code in (0, 1):
            return "ok"
        return "refused" if self.code == 2 and self.err.startswith("error: ") else "bug"

    @property
    def said(self) -> str:
        """The error without its label, or the last thing said."""
        lines = [line for line in self.err.strip().splitlines() if line]
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return (errors or lines[-1:] or [f"ended with {self.code}"])[0]


def cases(models: Path) -> Iterator[Case]:
    """Yield every file, once for each subgraph that can be called."""
    for path in sorted(models.rglob("*.tflite"), reverse=True):
        name = str(path.relative_to(models))
        keras = [p for n in ("model.h5", "saved_model") if (p := path.parent / n).exists()]
        paired = keras[0] if keras and "pairs" in path.parts else None
        yield Case(path, name, keras=paired)
        for signature in _other_signatures(path):
            yield Case(path, name, signature)


def _other_signatures(path: Path) -> list[str]:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    signatures = (model.SignatureDefs(i) for i in range(model.SignatureDefsLength()))
    return [s.SignatureKey().decode() for s in signatures if s.SubgraphIndex() > 0]


def _operators(path: Path) -> int:
    """Return how many operators the main subgraph has."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    return int(model.Subgraphs(0).OperatorsLength()) if model.SubgraphsLength() else 0


def _is_huge(path: Path) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    subgraphs = (model.Subgraphs(i) for i in range(model.SubgraphsLength()))
    inputs = (g.Tensors(g.Inputs(n)) for g in subgraphs for n in range(g.InputsLength()))
    return any(np.prod(np.abs(t.ShapeAsNumpy()), dtype=np.float64) > HUGE for t in inputs)


def _forked(work: Callable[[], object], seconds: float = SECONDS) -> Ended:
    """Run something in a fork of this process, which has imported what is slow to import."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("out", "err")]
        process = os.fork()
        if process == 0:
            _in_child(work, files)
        code = _wait(process, began + seconds)
        out, err = (f.read_text(errors="replace") if f.exists() else "" for f in files)
    return Ended(code, out, err, time.perf_counter() - began)


def _in_child(work: Callable[[], object], files: Sequence[Path]) -> None:
    code = 99
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        for number, path in enumerate(files, 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        sys.stdout, sys.stderr = (open(n, "w", closefd=False) for n in (1, 2))  # noqa: SIM115
        work()
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(process: int, until: float) -> int:
    """Wait for a process; end it and what it started when its time is over."""
    while time.perf_counter() < until:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return -signal.SIGALRM


def _command(*arguments: str) -> Ended:
    def work() -> None:
        from tfldbg.cli.app import main

        sys.argv = ["tfldbg", *arguments]
        main()

    return _forked(work)


def _bare(path: Path, runtime: str, signature: str | None, outputs: int | None) -> Ended:
    """Run a file once in the bare interpreter and print a digest of its final outputs."""

    def work() -> None:
        try:
            run()
        except (RuntimeError, ValueError, MemoryError) as error:
            words = " ".join(f"{type(error).__name__}: {error}".split())
            sys.stderr.write(f"\nerror: {words}\n")
            sys.exit(2)

    def run() -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        resolver = {
            "xnnpack": OpResolverType.AUTO,
            "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            "reference": OpResolverType.BUILTIN_REF,
        }[runtime]
        interpreter = Interpreter(
            model_path=str(path), num_threads=1, experimental_op_resolver_type=resolver
        )
        generator = np.random.default_rng(0)
        if signature is not None:
            runner = interpreter.get_signature_runner(signature)
            details = runner.get_input_details()
            given = {k: _drawn(details[k], generator) for k in sorted(details)}
            found = runner(**given)
            values = [found[k] for k in sorted(found)]
        else:
            interpreter.allocate_tensors()
            for detail in interpreter.get_input_details():
                if detail["shape"].size == 0 or detail["shape"].all():
                    interpreter.set_tensor(detail["index"], _drawn(detail, generator))
            interpreter.invoke()
            ends = interpreter.get_output_details()[:outputs]
            values = [_value(interpreter, detail["index"]) for detail in ends]
        digest = hashlib.sha256()
        for value in values:
            digest.update(repr(value.tolist()).encode() if value.dtype == object else value)
        print(json.dumps({"outputs": len(values), "digest": digest.hexdigest()}))

    return _forked(work)


def _drawn(detail: dict[str, Any], generator: np.random.Generator) -> np.ndarray:
    shape, dtype = tuple(detail["shape"]), np.dtype(detail["dtype"])
    if dtype.kind in "SO":
        return np.full(shape, b"some words", object)
    if dtype.kind == "f":
        return generator.uniform(0, 1, shape).astype(dtype)
    if dtype.kind in "iu" and detail["quantization_parameters"]["scales"].size:
        ends = np.iinfo(dtype)
        return generator.integers(ends.min, ends.max, shape, dtype, endpoint=True)
    return np.zeros(shape, dtype)


def _value(interpreter: Any, index: int) -> np.ndarray:
    try:
        return np.ascontiguousarray(interpreter.get_tensor(index))
    except ValueError:  # it raises for tensors without elements
        return np.empty(0)


def examine(case: Case, samples: int) -> Iterator[dict[str, Any]]:
    """Put one file through every command; yield a record for each runtime."""
    with tempfile.TemporaryDirectory() as folder:
        exposed = Path(folder) / "exposed.tflite"
        which = ("--signature", case.signature) if case.signature else ()
        inspecting = _command("inspect", str(case.path))
        exposing = _command("expose", str(case.path), "-o", str(exposed), *which)
        for runtime in RUNTIMES:
            record = {"file": case.name, "signature": case.signature, "runtime": runtime}
            record |= {"inspect": _told(inspecting), "expose": _told(exposing)}
            record |= _alone(case, runtime, exposed)
            count = 1 if _is_huge(case.path) else samples
            common = [str(case.path), "--runtime", runtime, "--samples", str(count), *which]
            record["trace"] = _traced(common, Path(folder))
            record["dump"] = _told(_command("dump", *common, "-o", str(Path(folder) / "run.h5")))
            if case.keras is not None and runtime == RUNTIMES[0]:
                record["keras"] = _traced([*common, "--keras", str(case.keras)], Path(folder))
            yield record


def _told(ended: Ended) -> dict[str, Any]:
    said = "" if ended.outcome == "ok" else ended.said
    return {"outcome": ended.outcome, "said": said, "seconds": round(ended.seconds, 2)}


def _alone(case: Case, runtime: str, exposed: Path) -> dict[str, Any]:
    """Say whether the untouched file runs, and whether the exposed one has the same outputs."""
    if case.signature is None and not _operators(case.path):
        return {"ran": False, "reason": "it holds no operator", "identical": None}
    untouched = _bare(case.path, runtime, case.signature, None)
    if untouched.code != 0:
        return {"ran": False, "reason": untouched.said, "identical": None}
    found = json.loads(untouched.out.splitlines()[-1])
    if not exposed.exists():
        return {"ran": True, "reason": "", "identical": None}
    # A signature names its outputs, so its runner returns those of the untouched file.
    again = _bare(exposed, runtime, case.signature, found["outputs"])
    same = again.code == 0 and json.loads(again.out.splitlines()[-1]) == found
    return {"ran": True, "reason": "" if again.code == 0 else again.said, "identical": same}


def _traced(arguments: Sequence[str], folder: Path) -> dict[str, Any]:
    out = folder / "trace.json"
    out.unlink(missing_ok=True)
    ended = _command("trace", *arguments, "--json", str(out), "--quiet")
    told = _told(ended)
    if ended.outcome != "ok" or not out.exists():
        return told
    result = json.loads(out.read_text())
    unchecked: dict[str, int] = {}
    computed = 0
    for op in result["ops"]:
        if op["status"] == "unchecked":
            reason = f"{op['kind']}: {op['unmatched_reason'] or op['unchecked_reason']}"
            unchecked[reason] = unchecked.get(reason, 0) + 1
        computed += 1
    return {
        **told,
        "verdict": result["verdict"],
        "identical": result["observer"]["final_outputs_identical"],
        "operators": computed,
        "unchecked": unchecked,
    }


def _one(case: Case, samples: int, out: Path) -> None:
    """Examine one file in a process of its own, which appends its records."""
    command = [sys.executable, "-m", "benchmarks.corpus", "--one", str(case.path), case.name]
    command += ["--samples", str(samples), "--out", str(out)]
    command += ["--signature", case.signature] if case.signature else []
    command += ["--keras", str(case.keras)] if case.keras else []
    subprocess.run(command, check=True, cwd=ROOT)  # noqa: S603


def _append(path: Path, record: dict[str, Any]) -> None:
    with path.open("ab", buffering=0) as file:
        file.write((json.dumps(record) + "\n").encode())


def _preload() -> None:
    """Import what every command needs, and nothing that starts threads."""
    import ai_edge_litert.interpreter  # noqa: F401
    import h5py  # noqa: F401

    import tfldbg.cli.app
    import tfldbg.session  # noqa: F401


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Put every file of a corpus through tfldbg.")
    parser.add_argument("models", nargs="?", type=Path, help="a folder; every .tflite in it")
    parser.add_argument("--out", type=Path, help="the records, one a line; what is there is kept")
    parser.add_argument("--docs", type=Path, help="write the page for the docs")
    parser.add_argument("--table", type=Path, help="only draw the records of an earlier run")
    parser.add_argument("--only", default="", help="files whose name holds this")
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--signature", help=argparse.SUPPRESS)
    parser.add_argument("--keras", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        _preload()
        case = Case(Path(given.one[0]), given.one[1], given.signature, given.keras)
        for record in examine(case, given.samples):
            _append(given.out.resolve(), record)
        return
    out: Path = given.table or given.out
    wanted = [c for c in cases(given.models.resolve()) if given.only in c.name]
    kept = _whole(_read(out))
    left = _left(wanted, kept)
    if given.table is None:
        out.write_text("".join(json.dumps(record) + "\n" for record in kept))
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda case: _one(case, given.samples, out.resolve()), left))
        kept = _whole(_read(out))
        left = _left(wanted, kept)
    records = sorted(kept, key=lambda r: (r["file"], r["signature"] or ""))
    print("\n".join(summary(records)))
    if given.docs:
        given.docs.write_text(page(records, [case.name for case in left]))


def _left(wanted: Sequence[Case], records: Sequence[dict[str, Any]]) -> list[Case]:
    """Return the cases that have no records yet."""
    done = {(r["file"], r["signature"]) for r in records}
    return [c for c in wanted if (c.name, c.signature) not in done]


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _whole(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out the files with which a run was ended halfway."""
    counts = Counter((r["file"], r["signature"]) for r in records)
    return [r for r in records if counts[r["file"], r["signature"]] == len(RUNTIMES)]


if __name__ == "__main__":
    main()
