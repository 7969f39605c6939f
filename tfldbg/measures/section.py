"""A titled table of text, for the part of a report below the table of operators."""

from __future__ import annotations

from dataclasses import dataclass

BLOCKS = "▁▂▃▄▅▆▇█"
"""A bar at eight heights."""
ASCII_BLOCKS = str.maketrans(BLOCKS, ".:-=+*#@")
"""The translation for consoles that only support ASCII."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a section."""

    title: str
    right: bool = False
    """True to align its cells to the right."""
    fold: bool = False
    """True to allow line breaks in its cells on a narrow console."""

    @property
    def on_one_line(self) -> str:
        """The title on one line."""
        return self.title.replace("-\n", "").replace("\n", " ")


@dataclass(frozen=True, slots=True)
class Section:
    """A titled table."""

    title: str
    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    lines: tuple[str, ...] = ()
    """The lines below the table."""
