"""Runs in which the shape of a tensor follows the values of a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

from tfldbg.compare.tally import ShapesChangeError

T = TypeVar("T")


def without_changing_shapes(
    run: Callable[[Mapping[int, str]], T], unread: Mapping[int, str] = MappingProxyType({})
) -> T:
    """Run, and run again without the tensors that the samples give different shapes.

    Args:
        run: Takes the tensors that are not to be read, and why.
        unread: Those that are known already.
    """
    try:
        return run(unread)
    except ShapesChangeError as error:
        more = {**unread, **error.reasons}
        if len(more) == len(unread):
            raise
    return without_changing_shapes(run, more)
