"""What a sample costs beyond what both models cost alone.

    python3 -m benchmarks.performance.cost FOLDER [NAME...] [--few 64] [--many 1088] [--repeat 3]

Whole processes run over few and over many samples, the floor (`benchmarks.performance.floor`) and
the trace in turn; the slope is what one sample more costs.  The ratio is the trace's slope over the
floor's, of the same round.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.performance.models import NAMES, Pair, pair
from benchmarks.performance.process import Cost, cost


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement of a command over few and over many samples."""

    few: Cost
    many: Cost
    samples: int
    """How many samples more the many are."""

    @property
    def slope(self) -> float:
        """Seconds a sample."""
        return (self.many.seconds - self.few.seconds) / self.samples


def floor_command(made: Pair, samples: int, *, keras: bool) -> list[str]:
    """Return the command that runs the models alone."""
    told = ["--keras", str(made.keras)] if keras else ["--floats"]
    where = ["-m", "benchmarks.performance.floor", str(made.tflite), str(made.data)]
    return [*where, str(samples), *told]


def trace_command(made: Pair, samples: int, *, keras: bool, more: Sequence[str] = ()) -> list[str]:
    """Return the command that traces, ``more`` being further options."""
    told = [*(["--keras", str(made.keras)] if keras else []), *more]
    data = ["--data", str(made.data), "--samples", str(samples), "--quiet"]
    return ["-m", "tfldbg", "trace", str(made.tflite), *told, *data]


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help="all when none is given")
    parser.add_argument("--few", type=int, default=64)
    parser.add_argument("--many", type=int, default=1088)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="the self trace, without Keras")
    parser.add_argument("--with", dest="more", default="", help="further options of the trace")
    given = parser.parse_args()
    tracing = functools.partial(trace_command, more=given.more.split())
    kind, keras = ("self trace", False) if given.alone else ("trace --keras", True)
    print(f"| pair | floor, ms a sample | {kind}, ms a sample | ratio | peak memory, few to many |")
    print("|---|---:|---:|---:|---:|")
    for name in given.names or NAMES:
        made = pair(name, given.folder)
        cost(tracing(made, 1, keras=keras))  # fills the cache, which few and many then share
        floors, traces = [], []
        for _ in range(given.repeat):
            for command, rounds in ((floor_command, floors), (tracing, traces)):
                few = cost(command(made, given.few, keras=keras))
                many = cost(command(made, given.many, keras=keras))
                rounds.append(Round(few, many, given.many - given.few))
        ratios = [t.slope / f.slope for f, t in zip(floors, traces, strict=True)]
        peaks = [t.many.peak_bytes / t.few.peak_bytes for t in traces]
        slopes = [f"{median(r.slope for r in rounds) * 1e3:.2f}" for rounds in (floors, traces)]
        spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
        cells = (*slopes, f"{median(ratios):.2f}{spread}", f"x {median(peaks):.2f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
