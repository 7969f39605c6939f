"""Which test plants which cause: every code of the catalogue must have one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

PLANTED: dict[str, list[str]] = {}
"""By code the tests that plant its cause."""

Test = TypeVar("Test", bound=Callable[..., None])


def plants(*codes: str) -> Callable[[Test], Test]:
    """Note that a test plants the causes of these codes, and asserts that they are named."""

    def note(test: Test) -> Test:
        for code in codes:
            PLANTED.setdefault(code, []).append(test.__name__)
        return test

    return note
