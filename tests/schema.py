"""The documented JSON: what a trace says is what the schema says.

The schema is made of the classes of `tfldbg.report.json_form`: of the types of their fields and
of the docstrings below the fields.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from jsonschema import Draft202012Validator

from tfldbg.measures import MEASUREMENTS
from tfldbg.report.json_form import TraceJson, key_of
from tfldbg.report.schema import read_schema

_PLAIN: Mapping[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    float: {"type": ["number", "null"]},  # null where it is infinite or NaN
}


@cache
def validator() -> Draft202012Validator:
    schema = json.loads(read_schema())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def assert_documented(content: dict[str, Any]) -> None:
    """The JSON has the documented keys and no other; numbers that JSON does not know are null."""
    from tfldbg.report.machine import to_json

    errors = [
        f"{e.json_path}: {e.message}" for e in validator().iter_errors(json.loads(to_json(content)))
    ]
    assert not errors, errors[:5]


def made_schema() -> dict[str, Any]:
    """The JSON Schema of format ``tfldbg.trace``, draft 2020-12."""
    parts: dict[Any, dict[str, Any]] = {}
    root = _object(TraceJson, parts)
    for measurement in MEASUREMENTS:
        for key, (hint, about) in measurement.keys.items():
            root["properties"][key] = {**_schema(hint, parts), "description": _words(about)}
            root["required"].append(key)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "tfldbg.trace"}
    named = {_name(kind): part for kind, part in parts.items()}
    assert len(named) == len(parts), "two classes have the same name"
    return {**head, **root, "$defs": dict(sorted(named.items()))}


def _object(kind: Any, parts: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    """The schema of a dataclass."""
    hints, docs = get_type_hints(kind, include_extras=True), _docs(kind)
    properties, required = {}, []
    for declared in fields(kind):
        key, hint = key_of(declared), hints[declared.name]
        if key is None:
            continue
        if "sparse" in declared.metadata:
            hint = _without_none(hint)
        else:
            required.append(key)
        properties[key] = {**_schema(hint, parts), "description": docs[declared.name]}
    return {
        "type": "object",
        "description": _words(inspect.getdoc(kind) or ""),
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _schema(hint: Any, parts: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    """The schema of a type; those of the dataclasses in it become parts."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint in _PLAIN:
        return _PLAIN[hint]
    if origin is Annotated:
        return {"type": "number"} if inner[0] is float else {"type": "string", "pattern": inner[1]}
    if origin in (Union, types.UnionType):
        return _or_null(_schema(_without_none(hint), parts))
    if origin is Literal:
        return {"enum": list(inner)} if len(inner) > 1 else {"const": inner[0]}
    if origin is tuple and inner[-1] is Ellipsis:
        return {"type": "array", "items": _schema(inner[0], parts)}
    if origin is tuple:
        places = [_schema(h, parts) for h in inner]
        return {"type": "array", "prefixItems": places, "items": False, "minItems": len(places)}
    if origin in (dict, Mapping):
        values = True if inner[1] is object else _schema(inner[1], parts)
        return {"type": "object", "additionalProperties": values}
    assert is_dataclass(hint), f"JSON has no {hint}"
    if hint not in parts:
        parts[hint] = _object(hint, parts)
    return {"$ref": f"#/$defs/{_name(hint)}"}


def _name(kind: type) -> str:
    return re.sub("(?<=.)(?=[A-Z])", "_", kind.__name__.removesuffix("Json")).lower()


def _without_none(hint: Any) -> Any:
    """What a type allows besides None."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    (held,) = (h for h in get_args(hint) if h is not type(None))
    return held


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    held = schema.get("type")
    if held is None:
        return {"anyOf": [schema, {"type": "null"}]}
    return {**schema, "type": held if isinstance(held, list) else [held, "null"]}


def _docs(kind: Any) -> dict[str, str]:
    """The docstrings below the fields of a dataclass, by field."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        module = ast.parse(inspect.getsource(sys.modules[base.__module__]))
        (made,) = (
            n for n in module.body if isinstance(n, ast.ClassDef) and n.name == base.__name__
        )
        for field, below in pairwise(made.body):
            match field, below:
                case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(text)):
                    found[name] = _words(text)
    return found


def _words(docstring: str) -> str:
    """A docstring as a description of JSON, in which None is called null."""
    plain = " ".join(docstring.replace("`", "").split())
    return re.sub(r"\bNone\b", "null", re.sub(r"(^|[.] )None\b", r"\1Null", plain))
