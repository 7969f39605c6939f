"""Merge the counters of two parts of one stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar


class Mergeable(Protocol):
    """A counter that can add the counts of another of its kind."""

    def merge(self, other: Any) -> None:
        """Add the counts of another counter, for the samples after these."""


Key = TypeVar("Key")
Counter = TypeVar("Counter", bound=Mergeable)


def merge_all(known: dict[Key, Counter], others: Mapping[Key, Counter]) -> None:
    """Add counters to those of the same key, and adopt the others.

    Args:
        known: The counters to complete.
        others: The counters to add, which must not be used afterwards.
    """
    for key, other in others.items():
        if key in known:
            known[key].merge(other)
        else:
            known[key] = other
