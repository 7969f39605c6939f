"""Progress is passed in, so that the Python API is silent unless asked."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What a stage tells whoever is watching."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a stage of ``total`` steps (None when the number is not known)."""

    def advance(self, steps: int = 1) -> None:
        """Say that ``steps`` more steps of the current stage are done."""


class Silent:
    """A progress that tells nobody."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Do nothing."""

    def advance(self, steps: int = 1) -> None:
        """Do nothing."""
