"""The JSON Schema in the package is the one that the classes make; renew it with --renew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tfldbg.report
from tests.schema import made_schema
from tfldbg.report.schema import read_schema

FILE = Path(tfldbg.report.__file__).parent / "schemas" / "trace.schema.json"


def test_the_schema_is_the_one_that_the_classes_make(request: pytest.FixtureRequest) -> None:
    made = json.dumps(made_schema(), indent=2) + "\n"
    if request.config.getoption("--renew"):
        FILE.write_text(made)
    assert read_schema() == made
