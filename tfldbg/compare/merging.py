"""Counters of two parts of one stream, added up by what they count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar


class Mergeable(Protocol):
    """What can take over what another of its kind has counted."""

    def merge(self, other: Any) -> None:
        """Add what another has counted of the samples that follow."""


Key = TypeVar("Key")
Counter = TypeVar("Counter", bound=Mergeable)


def merge_all(known: dict[Key, Counter], others: Mapping[Key, Counter]) -> None:
    """Add counters to those of the same key; the others are taken over.

    Args:
        known: Is completed.
        others: Not used any more after this.
    """
    for key, other in others.items():
        if key in known:
            known[key].merge(other)
        else:
            known[key] = other
