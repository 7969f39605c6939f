"""Damage real files and give them to every command.

    python3 -m benchmarks.fuzz --count 10000 --seed 1 --jobs 2
    python3 -m benchmarks.fuzz --seed 1 --only 4711 --keep FOLDER    # one case again

Every run must end with exit code 0, 1 or 2 and with words: no traceback, no signal, no hang, and
no more memory than the limit.  What does not is kept in a folder, with the damaged file and the
command line, and the exit code of this program is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import io
import json
import multiprocessing
import pkgutil
import random
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.fuzz.case import Ending, run, signature
from benchmarks.fuzz.sources import SAMPLE_MODELS, Source, prepare, sources

_WEIGHTS = {
    "model": 45,
    "model, run": 26,
    "recording": 11,
    "recording, run": 1,
    "recording.npz": 4,
    "data": 5,
    "tolerances": 4,
    "log": 4,
    "keras": 0,
}
"""How many of a hundred cases are of each source; TensorFlow is too slow to be among them."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case and how it ended."""

    number: int
    source: str
    command: str
    damage: str
    file: str
    seconds: float
    runs: bool
    ending: Ending


@dataclass(frozen=True, slots=True)
class Campaign:
    """What every case of one run shares."""

    seed: int
    held: Path
    keep: Path
    seconds: float
    only: Sequence[str]

    def case(self, number: int) -> Case:
        """Run one case; seed and number decide everything about it."""
        rng = random.Random(f"{self.seed} {number}")  # noqa: S311
        known = sources(self.held)
        names = [name for name in _WEIGHTS if not self.only or name in self.only]
        weights = [_WEIGHTS[n] for n in names]
        name = rng.choices(names, weights if any(weights) else None)[0]
        source = known[name]
        path = rng.choice(source.files)
        command = rng.choice(tuple(source.commands))
        damage, content = source.damage(path, rng)
        folder = self.keep / f"{self.seed}-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"damaged{path.suffix}"
        file.write_bytes(content)
        arguments = _arguments(source, command, file, path)
        began = time.perf_counter()
        ending = run(arguments, folder, self.seconds)
        took = time.perf_counter() - began
        if ending.sound and ending.outcome != "runtime hangs":
            shutil.rmtree(folder)
        else:
            (folder / "command").write_text(f"tfldbg {shlex.join(arguments)}\n")
        return Case(number, name, command, damage, path.name, took, source.runs, ending)


def _arguments(source: Source, command: str, file: Path, good: Path) -> list[str]:
    places = {"FILE": str(file), "GOOD": str(good)}
    return [places.get(word, word) for word in source.commands[command]]


_campaign: Campaign | None = None


def _begin(campaign: Campaign) -> None:
    """Import in each worker what cases need, once: a fork of it then starts at no cost."""
    global _campaign
    import ai_edge_litert.interpreter
    import h5py
    import jinja2
    import numpy.random
    import typer

    import tfldbg

    del ai_edge_litert, h5py, jinja2, numpy
    for module in pkgutil.walk_packages(tfldbg.__path__, "tfldbg."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    cli = importlib.import_module("tfldbg.cli.app")
    cli.app = typer.main.get_command(cli.app)  # else Typer builds it again in every run
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        cli.app(["inspect", str(SAMPLE_MODELS / "dense4.tflite")])
    gc.collect()
    gc.freeze()
    _campaign = campaign


def _case(number: int) -> Case:
    if _campaign is None:
        raise RuntimeError("the worker was not begun")
    return _campaign.case(number)


def _cases(campaign: Campaign, numbers: Sequence[int], jobs: int) -> Iterator[Case]:
    if jobs == 1:
        _begin(campaign)
        yield from map(_case, numbers)
        return
    with multiprocessing.get_context("fork").Pool(jobs, _begin, (campaign,)) as pool:
        yield from pool.imap_unordered(_case, numbers, chunksize=4)


def table(cases: Sequence[Case]) -> str:
    """Return the counts as Markdown: by command, then by kind of damage."""
    outcomes = sorted({c.ending.outcome for c in cases})
    lines = []
    for title in ("command", "damage"):
        groups: dict[str, Counter[str]] = {}
        for case in cases:
            name = f"{case.source}: {case.command}" if title == "command" else case.damage
            groups.setdefault(name, Counter())[case.ending.outcome] += 1
        lines += [f"| {title} | runs | " + " | ".join(outcomes) + " |"]
        lines += ["|---|" + "---:|" * (len(outcomes) + 1)]
        total: Counter[str] = sum(groups.values(), Counter())
        for name, count in [*sorted(groups.items()), ("**all**", total)]:
            cells = [str(count[o]) for o in outcomes]
            lines.append(f"| {name} | {count.total()} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def summary(cases: Sequence[Case]) -> str:
    """Return what the table does not say."""
    slowest = max(cases, key=lambda c: c.seconds)
    largest = max(cases, key=lambda c: c.ending.peak_mb)
    reached = sum(c.runs and "error: '" not in c.ending.said for c in cases)
    return (
        f"{len(cases)} runs, {sum(not c.ending.sound for c in cases)} failures; "
        f"{sum(c.runs for c in cases)} of commands that run, {reached} of them not refused as "
        f"damaged before; slowest {slowest.seconds:.1f} s ({slowest.command}), "
        f"largest {largest.ending.peak_mb} MB ({largest.command})"
    )


def _failures(cases: Sequence[Case]) -> Iterator[str]:
    grouped: dict[str, list[Case]] = {}
    for case in cases:
        if not case.ending.sound or case.ending.outcome == "runtime hangs":
            grouped.setdefault(signature(case.ending), []).append(case)
    for text, found in sorted(grouped.items(), key=lambda item: -len(item[1])):
        shown = ", ".join(str(c.number) for c in found[:4])
        yield f"{len(found)} x {text} (cases {shown}; {found[0].command})"


def read(files: Sequence[Path]) -> list[Case]:
    """Return the cases that ``--out`` wrote."""
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [Case(**{**plain, "ending": Ending(**plain["ending"])}) for plain in lines]


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.fuzz")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=300.0, help="time limit of a run")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    parser.add_argument(
        "--out", type=Path, help="append a line of JSON a case; go on where the file stops"
    )
    parser.add_argument("--table", type=Path, nargs="+", help="print the table of such files")
    parser.add_argument("--only", type=int, help="run this case alone")
    parser.add_argument("--source", action="append", choices=tuple(_WEIGHTS), default=[])
    return parser.parse_args()


def campaign(
    numbers: Sequence[int],
    *,
    seed: int,
    keep: Path,
    jobs: int,
    seconds: float,
    only: Sequence[str],
    out: Path | None,
) -> list[Case]:
    """Run cases.

    Args:
        numbers: Which ones.
        seed: Of all of them.
        keep: The folder for what fails.
        jobs: How many at a time.
        seconds: The time limit of one.
        only: The sources to damage; none means all.
        out: Where to append each case as it ends.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz-held-") as held:
        prepare(Path(held))
        shared = Campaign(seed, Path(held), keep.absolute(), seconds, only)
        cases = []
        for case in _cases(shared, numbers, jobs):
            cases.append(case)
            if out is not None:
                with out.open("a") as file:
                    file.write(json.dumps(asdict(case)) + "\n")
            if not case.ending.sound:
                sys.stderr.write(f"case {case.number}: {signature(case.ending)}\n")
        return cases


def main() -> None:
    """Run the command line."""
    given = _parsed()
    numbers = range(given.first, given.first + given.count)
    if given.table:
        cases = read(given.table)
    else:
        wanted = numbers if given.only is None else [given.only]
        cases = read([given.out]) if given.out is not None and given.out.exists() else []
        known = {case.number for case in cases}
        cases += campaign(
            [number for number in wanted if number not in known],
            seed=given.seed,
            keep=given.keep,
            jobs=given.jobs,
            seconds=given.seconds,
            only=given.source,
            out=given.out,
        )
    out = sys.stdout.write
    out(f"{table(cases)}\n{summary(cases)}\n")
    for line in _failures(cases):
        out(f"{line}\n")
    sys.exit(0 if all(c.ending.sound for c in cases) else 1)


if __name__ == "__main__":
    main()
