"""Build dataclasses from JSON by the types of their fields.

A recording may come from anywhere, and a string in the place of a number would cause an error only
deep inside a report.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

_T = TypeVar("_T")


def build(kind: type[_T], plain: Any, where: str) -> _T:
    """Build a dataclass from the JSON of its `dataclasses.asdict`.

    A missing key takes the default of its field, so that recordings from before the field existed
    can be read.

    Args:
        kind: The dataclass, or another type that a field of one may have.
        plain: An object as JSON holds it.
        where: The name of the object in error messages.

    Raises:
        TypeError: A value has another type than its field, a key has no field, or a field without
            a default has no key. The message names the place.
    """
    built: _T = _build(kind, plain, where)
    return built


def _build(hint: Any, value: Any, where: str) -> Any:
    """Return a value of JSON as its type hint states; of a union, the first type that fits."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        fitting = [kind for kind in inner if _fits(value, kind)]
        if not fitting:
            raise _wrong(value, hint, where)
        return _build(fitting[0], value, where)
    if is_dataclass(hint):
        return _object(hint, value, where)
    if not _fits(value, hint):
        raise _wrong(value, hint, where)
    if origin is tuple:
        kinds = (inner[0],) * len(value) if inner[-1] is Ellipsis else inner
        if len(kinds) != len(value):
            raise _wrong(value, hint, where)
        pairs = zip(kinds, value, strict=True)
        return tuple(_build(kind, v, f"{where}[{n}]") for n, (kind, v) in enumerate(pairs))
    if origin in (dict, Mapping):
        keys = {key: _key(inner[0], key, where) for key in value}
        return {keys[key]: _build(inner[1], v, f"{where}.{key}") for key, v in value.items()}
    return value


def _key(kind: Any, key: str, where: str) -> Any:
    """Return the key of a mapping; JSON holds numbers as texts."""
    if kind is not int:
        return key
    try:
        return int(key)
    except ValueError as error:
        raise TypeError(f"{where} has the key {_shown(key)}, expected a number") from error


def _object(kind: Any, plain: Any, where: str) -> Any:
    if not isinstance(plain, dict):
        raise TypeError(f"{where} is {_shown(plain)}, it must be a mapping")
    hints, required = _fields(kind)
    for key in plain:
        if key not in hints:
            raise TypeError(f"{where} has an unexpected keyword argument {_shown(key)}")
    for name in required:
        if name not in plain:
            raise TypeError(f"{where} has no {name!r}")
    return kind(**{key: _build(hints[key], v, f"{where}.{key}") for key, v in plain.items()})


@cache
def _fields(kind: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the types of a dataclass's fields by name, and the names of those without a default.

    Raises:
        NameError: A type is imported only for type checkers.
    """
    hints, known = get_type_hints(kind), fields(kind)
    required = [f for f in known if f.default is MISSING and f.default_factory is MISSING]
    return {f.name: hints[f.name] for f in known}, tuple(f.name for f in required)


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value of JSON is of the kind of a type, without checking its content."""
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if hint in (Any, object):
        return True
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin is tuple:
        return isinstance(value, list)
    if origin in (dict, Mapping) or is_dataclass(hint):
        return isinstance(value, dict)
    return isinstance(value, hint)


def _wrong(value: Any, hint: Any, where: str) -> TypeError:
    name = hint.__name__ if isinstance(hint, type) else str(hint).replace("tfldbg.", "")
    return TypeError(f"{where} is {_shown(value)}, expected {name}")


def _shown(value: Any) -> str:
    return repr(str(value)[:40])
