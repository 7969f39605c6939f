"""Check that what was read from JSON has the types that its classes state.

A recording may come from anywhere, and a number that is a text would only be noticed deep inside a
report.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def check_types(value: Any, where: str) -> None:
    """Check the fields of a dataclass, and of those inside it.

    Args:
        value: An instance of a dataclass.
        where: How the message calls it.

    Raises:
        TypeError: A field holds something else than its type says.
    """
    kind: Any = type(value)
    for name, hint in _hints(kind).items():
        _check(getattr(value, name), hint, f"{where}.{name}")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _check(value: Any, hint: Any, where: str) -> None:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        fitting = [kind for kind in inner if _is_like(value, kind)]
        if not fitting:
            raise _wrong(value, hint, where)
        _check(value, fitting[0], where)
    elif not _is_like(value, hint):
        raise _wrong(value, hint, where)
    elif origin is tuple:
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        if len(kinds) != len(value):
            raise _wrong(value, hint, where)
        for number, (entry, kind) in enumerate(zip(value, kinds, strict=True)):
            _check(entry, kind, f"{where}[{number}]")
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            _check(entry, inner[1], f"{where}.{key}")
    elif is_dataclass(value):
        check_types(value, where)


def _is_like(value: Any, hint: Any) -> bool:
    """Whether a value is of the kind that a type says, whatever it holds."""
    if hint is Any:
        return True
    if hint is None:
        return value is None
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    kind = origin or hint
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def _wrong(value: Any, hint: Any, where: str) -> TypeError:
    name = hint.__name__ if isinstance(hint, type) else str(hint).replace("tfldbg.", "")
    return TypeError(f"{where} is {str(value)[:40]!r}, expected {name}")
