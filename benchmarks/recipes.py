"""Every recipe of litert-quantizer over the development networks, against the float file.

    python3 -m venv VENV && VENV/bin/pip install litert-quantizer
    python3 -m benchmarks.recipes FOLDER --quantizer VENV/bin/python --docs docs/recipes.md

The quantizer runs under a Python of its own: the product does not depend on it.  Every file has to
come out clean, or with a finding that names the true cause.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tfldbg
from benchmarks import networks, zoo
from benchmarks.quantize import FAILED

SCRIPT = Path(__file__).with_name("quantize.py")
WIDER: Mapping[str, Callable[[], Any]] = {
    "wide": networks.wide,
    "transformer": networks.transformer,
}
"""Beside the development networks, whose layers are too narrow for blocks."""
_START = "<!-- table -->"
_COLUMNS = ("recipe", "made", "clean", "explained", "neither", "refused by the runtime", "causes")


@dataclass(frozen=True)
class Row:
    """One file."""

    recipe: str
    network: str
    outcome: str
    """``clean``, ``diverged``, ``refused`` by the runtime, or ``error``."""
    cause: str | None
    """The code that explains a divergence, None where only the difference itself is told."""
    said: str


def float_files(folder: Path) -> list[str]:
    """Build the float file of every network; return their names."""
    made = {e.network: e.make for e in zoo.ZOO.values() if e.half == "development" and e.make}
    for name, make in {**made, **WIDER}.items():
        isolate = name.startswith(zoo._CRASHING)
        zoo.build_entry(zoo.Entry(name, name, "float32", "development", make, isolate), folder)
    return [*made, *WIDER]


def rows(folder: Path, names: Sequence[str]) -> Iterator[Row]:
    """Trace every quantized file against the float file that it was made from."""
    for name in names:
        with np.load(folder / f"{name}.npz") as archive:
            data = {key: archive[key] for key in archive.files}
        for path in sorted((folder / name).glob("*.tflite")):
            row = _traced(path, folder / f"{name}.tflite", data)
            print(f"{name:14} {row.recipe:38} {row.outcome:9} {row.cause or ''}", flush=True)
            yield row


def _traced(path: Path, reference: Path, data: dict[str, np.ndarray]) -> Row:
    recipe, network = path.name.removesuffix(".tflite"), reference.stem
    try:
        result = tfldbg.trace(path, against=reference, data=data)
    except tfldbg.TfldbgError as error:
        refused = "refused" in error.message
        return Row(recipe, network, "refused" if refused else "error", None, error.message)
    cause = result.cause.code if result.cause is not None else None
    nan = result.first_divergence is not None and result.first_divergence.signal == "nonfinite"
    return Row(
        recipe,
        network,
        result.verdict,
        cause or ("TFL004" if nan else None),
        result.diagnosis.sentence,
    )


def table(found: Sequence[Row], failed: Mapping[str, int]) -> str:
    """Return the table of all recipes, and what is neither clean nor explained."""
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|" + "---|" * len(_COLUMNS)]
    for recipe in sorted({r.recipe for r in found} | failed.keys()):
        own = [r for r in found if r.recipe == recipe]
        diverged = [r for r in own if r.outcome == "diverged"]
        causes = sorted({r.cause for r in diverged if r.cause})
        neither = [r for r in diverged if not r.cause] + [r for r in own if r.outcome == "error"]
        cells = [
            f"`{recipe}`",
            f"{len(own)} of {len(own) + failed.get(recipe, 0)}",
            sum(r.outcome == "clean" for r in own),
            sum(r.cause is not None for r in diverged),
            len(neither),
            sum(r.outcome == "refused" for r in own),
            ", ".join(causes),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    left = [r for r in found if r.outcome == "error" or (r.outcome == "diverged" and not r.cause)]
    said = [f"- `{r.recipe}`, {r.network}: {_short(r.said)}" for r in left]
    return "\n".join([*lines, "", "Neither clean nor explained:", "", *(said or ["none"])]) + "\n"


def _short(text: str) -> str:
    return re.sub(r"'[^']*/", "'", text)[:200]


def main() -> None:
    """Build, quantize, trace, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where the files go")
    parser.add_argument("--quantizer", help="a Python that has litert-quantizer; made files stay")
    parser.add_argument("--docs", type=Path, help="the page to write the table into")
    parser.add_argument("networks", nargs="*", help="all when none is given")
    options = parser.parse_args()
    names = [
        n for n in float_files(options.folder) if n in options.networks or not options.networks
    ]
    if options.quantizer:
        command = [options.quantizer, str(SCRIPT), str(options.folder.resolve()), *names]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    failed: dict[str, int] = {}
    for name in names:
        for recipe in json.loads((options.folder / name / FAILED).read_text()):
            failed[recipe] = failed.get(recipe, 0) + 1
    made = table(list(rows(options.folder, names)), failed)
    if options.docs is None:
        print(made)
        return
    before = options.docs.read_text().partition(_START)[0]
    options.docs.write_text(f"{before}{_START}\n\n{made}")


if __name__ == "__main__":
    main()
