"""The interface for progress reports, passed in so that the Python API is silent by default."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of a stage."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a stage of ``total`` steps, or None if the number is unknown."""

    def advance(self, steps: int = 1) -> None:
        """Report that ``steps`` more steps of the current stage are done."""


class Silent:
    """A progress that reports nothing."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Do nothing."""

    def advance(self, steps: int = 1) -> None:
        """Do nothing."""
