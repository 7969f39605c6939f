"""The documented JSON: what a trace says is what the schema says."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from tfldbg.report.schema import read_schema


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
