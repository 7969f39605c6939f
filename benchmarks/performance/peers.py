"""What a sample more costs with tfldbg, and with what people use today, on one model in one run.

    python3 -m benchmarks.performance.peers FOLDER [NAME] [--few 64] [--many 320] [--repeat 2]

Slopes of whole processes, as in `cost`; the ratio is to the floor of the same run, which is so
cheap that it is given all samples there are.  The naive script, which holds every value of every
sample, is given a quarter of them.  A peer that is not installed, or fails, is a row that says so.
ai-edge-quantizer is no dependency of tfldbg: ``python3 -m pip install ai-edge-quantizer``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.performance.cost import Round, floor_command, trace_command
from benchmarks.performance.models import MOST, Pair, pair
from benchmarks.performance.peer import PEERS
from benchmarks.performance.process import cost

_WORDS = {
    "naive": "a naive script",
    "debugger": "QuantizationDebugger (local error)",
    "quantizer": "ai-edge-quantizer, `compare_model`",
    "keras": "`tfldbg trace --keras` (local and accumulated)",
    "self": "`tfldbg trace` (local and accumulated)",
}


def command(what: str, made: Pair, folder: Path, samples: int) -> list[str]:
    """Return the command of one row."""
    if what == "floor":
        return floor_command(made, samples, keras=True)
    if what in ("keras", "self"):
        return trace_command(made, samples, keras=what == "keras")
    return ["-m", "benchmarks.performance.peer", what, str(folder), made.name, str(samples)]


def measured(what: str, made: Pair, given: argparse.Namespace) -> Round:
    """Measure one row once.

    Raises:
        RuntimeError: The command fails.
    """
    share = 4 if what == "naive" else 1
    sizes = [max(1, given.few // share), max(2, given.many // share)]
    if what == "floor":
        sizes[1] = MOST
    few, many = (cost(command(what, made, given.folder, n)) for n in sizes)
    return Round(few, many, sizes[1] - sizes[0])


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("name", nargs="?", default="mobilenet_v2_96")
    parser.add_argument("--few", type=int, default=64)
    parser.add_argument("--many", type=int, default=320)
    parser.add_argument("--repeat", type=int, default=2)
    given = parser.parse_args()
    made = pair(given.name, given.folder)
    cost(command("prepare", made, given.folder, 1))
    cost(trace_command(made, 1, keras=True))  # fills the cache
    floors = [measured("floor", made, given) for _ in range(given.repeat)]
    floor = median(f.slope for f in floors)
    print("| what | cost of a sample, of the floor | peak memory at the most samples, GB |")
    print("|---|---:|---:|", flush=True)
    for what in (*PEERS, "self", "keras"):
        print(f"| {_WORDS[what]} | {_row(what, made, given, floor)} |", flush=True)


def _row(what: str, made: Pair, given: argparse.Namespace, floor: float) -> str:
    try:
        rounds: Sequence[Round] = [measured(what, made, given) for _ in range(given.repeat)]
    except RuntimeError as error:
        return f"{str(error).strip().splitlines()[-1][:60]} | -"
    ratios = sorted(r.slope / floor for r in rounds)
    peak = max(r.many.peak_bytes for r in rounds) / 1e9
    return f"{median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f}) | {peak:.1f}"


if __name__ == "__main__":
    main()
