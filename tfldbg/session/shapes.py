"""Repeat runs in which the shape of a tensor depends on the values of a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

from tfldbg.compare.tally import ShapesChangeError

T = TypeVar("T")


def without_changing_shapes(
    run: Callable[[Mapping[int, str]], T], unread: Mapping[int, str] = MappingProxyType({})
) -> T:
    """Run, and if the shapes of tensors change from sample to sample, run again without them.

    Args:
        run: The function to run, which gets the tensors not to read, with the reasons.
        unread: The tensors that are known already.
    """
    try:
        return run(unread)
    except ShapesChangeError as error:
        more = {**unread, **error.reasons}
        if len(more) == len(unread):
            raise
    return without_changing_shapes(run, more)
