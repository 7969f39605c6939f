"""What a row of the matrix is: one layer, with certain arguments, in a tiny network."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Framework = Literal["tf_keras", "keras"]
BOTH: tuple[Framework, ...] = ("tf_keras", "keras")
Make = Callable[[Any, Any], Any]
"""Builds what is tested: from the module of layers, or for operators from the framework, and the
input, to the output."""


@dataclass(frozen=True)
class Setting:
    """Where a layer stands: what the network is given, and what lies before and behind it."""

    name: str
    shape: tuple[int, ...]
    """Of one sample."""
    before: str | None
    """Dense, Conv1D, Conv2D or Conv3D, so that the layer reads what was computed; None for a layer
    that reads the input itself."""
    values: Literal["unit", "normal", "pixels", "tokens", "positive"]
    """What the data looks like: 0..1, around zero, whole numbers 0..255, or classes below 10."""
    after: bool = True
    """Whether a Flatten and a Dense follow."""


VECTOR = Setting("vector", (12,), "Dense", "normal")
SIGNAL = Setting("signal", (10, 5), "Conv1D", "normal")
IMAGE = Setting("image", (9, 8, 3), "Conv2D", "unit")
VOLUME = Setting("volume", (6, 7, 5, 2), "Conv3D", "normal")
TOKENS = Setting("tokens", (7,), None, "tokens")
PIXELS = Setting("pixels", (10, 12, 3), None, "pixels")
RAW = Setting("raw", (10, 5), None, "normal")
FRAMES = Setting("frames", (4, 6, 5, 2), None, "normal")
ROWS = Setting("rows", (4, 6, 2), None, "normal")
CLIPS = Setting("clips", (3, 4, 5, 4, 2), None, "normal")
BARE = Setting("bare", (9, 8, 3), None, "unit")
POSITIVE = Setting("positive", (12,), None, "positive")
MONO = Setting("mono", (512, 1), None, "normal")
SOUND = Setting("sound", (512,), None, "normal")


@dataclass(frozen=True)
class Case:
    """One row: a layer class or an operator with certain arguments."""

    layer: str
    """A class of ``layers``, or the dotted name of a function or of an architecture."""
    what: str
    """The arguments, in words."""
    setting: Setting
    make: Make
    frameworks: tuple[Framework, ...] = BOTH
    group: Literal["layer", "operator", "application"] = "layer"
    fixed: bool = False
    """Whether it takes a fixed batch only."""

    @property
    def name(self) -> str:
        """A name for folders: letters, digits, ``-`` and ``_``."""
        return re.sub(r"[^A-Za-z0-9_]+", "-", f"{self.layer} {self.what}").strip("-")
