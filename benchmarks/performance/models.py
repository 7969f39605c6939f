"""The pairs that the cost is measured on, and as much random data as is asked for.

python3 -m benchmarks.performance.models FOLDER [NAME...]
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import networks, zoo

MOST = 1088
"""Samples of data to write."""
SIZES: Mapping[str, tuple[str, int]] = {
    "mobilenet_v2_96": ("MobileNetV2", 96),
    "mobilenet_v2_224": ("MobileNetV2", 224),
    "resnet50_96": ("ResNet50", 96),
}
NAMES = ("cnn", *SIZES)


@dataclass(frozen=True, slots=True)
class Pair:
    """A QAT model, the .tflite converted from it, and data."""

    name: str
    keras: Path
    tflite: Path
    data: Path
    """An .npy of `MOST` samples, float32 in real units."""


def pair(name: str, folder: Path) -> Pair:
    """Return a pair, built if the folder does not hold it yet."""
    if name in SIZES:
        network, size = SIZES[name]
        make = functools.partial(networks.application, network, size)
        built = zoo.build_entry(zoo.Entry(name, name, "qat", "development", make), folder)
        keras, tflite = built.keras, built.tflite
        shape = (size, size, 3)
    else:
        keras, tflite = zoo.SAMPLE_MODELS / f"{name}.h5", zoo.SAMPLE_MODELS / f"{name}.tflite"
        shape = (28, 28)
    return Pair(name, keras, tflite, _data(folder / f"{name}.npy", shape))


def _data(path: Path, shape: tuple[int, ...]) -> Path:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(MOST, *shape))
        generator = np.random.default_rng(0)
        for row in array:
            row[...] = generator.uniform(0, 1, shape)
        array.flush()
    return path


def main() -> None:
    """Build pairs into a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help="all when none is given")
    given = parser.parse_args()
    for name in given.names or NAMES:
        print(pair(name, given.folder).name, flush=True)


if __name__ == "__main__":
    main()
