"""`tfldbg/api.py` is what the groups of options make it; renew it with --renew."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import api_source

API = Path(__file__).resolve().parents[2] / "tfldbg" / "api.py"


def test_the_python_api_is_what_the_groups_declare(request: pytest.FixtureRequest) -> None:
    made = api_source.text()
    if request.config.getoption("--renew"):
        API.write_text(made)
    assert API.read_text() == made, "python3 -m pytest --renew writes tfldbg/api.py"
