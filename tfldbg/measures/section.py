"""A titled table of text: what stands below the table of operators."""

from __future__ import annotations

from dataclasses import dataclass

BLOCKS = "▁▂▃▄▅▆▇█"
"""Eight heights of a bar."""
ASCII_BLOCKS = str.maketrans(BLOCKS, ".:-=+*#@")
"""The same where the console knows ASCII alone."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a section."""

    title: str
    right: bool = False
    """Whether its cells are aligned to the right."""
    fold: bool = False
    """Whether its cells may be broken over lines where the console is narrow."""

    @property
    def on_one_line(self) -> str:
        """The title, which may be broken over lines, on one."""
        return self.title.replace("-\n", "").replace("\n", " ")


@dataclass(frozen=True, slots=True)
class Section:
    """A titled table."""

    title: str
    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    lines: tuple[str, ...] = ()
    """Below the table."""
