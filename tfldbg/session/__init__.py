"""Compose the stages: read, rewrite, run, match, compare, diagnose, store.  Prints nothing.

The names below are imported when they are used, since no command needs all of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfldbg.run.child import limited
    from tfldbg.session.cases import Models, parse_seeds, plan
    from tfldbg.session.converting import convert, range_findings
    from tfldbg.session.devices import Imported, import_run, write_kit
    from tfldbg.session.diffing import diff
    from tfldbg.session.explorer import node_data
    from tfldbg.session.exposing import expose_model, protect
    from tfldbg.session.gating import check_rules, gate
    from tfldbg.session.parameters import compare_parameters
    from tfldbg.session.recording import record
    from tfldbg.session.request import Request
    from tfldbg.session.result import Trace
    from tfldbg.session.sweeping import kept_rows, sweep
    from tfldbg.session.tracing import load_trace, trace

__all__ = [
    "Imported",
    "Models",
    "Request",
    "Trace",
    "check_rules",
    "compare_parameters",
    "convert",
    "diff",
    "expose_model",
    "gate",
    "import_run",
    "kept_rows",
    "limited",
    "load_trace",
    "node_data",
    "parse_seeds",
    "plan",
    "protect",
    "range_findings",
    "record",
    "sweep",
    "trace",
    "write_kit",
]

_HOMES = {
    "Imported": "tfldbg.session.devices",
    "Models": "tfldbg.session.cases",
    "Request": "tfldbg.session.request",
    "Trace": "tfldbg.session.result",
    "check_rules": "tfldbg.session.gating",
    "compare_parameters": "tfldbg.session.parameters",
    "convert": "tfldbg.session.converting",
    "diff": "tfldbg.session.diffing",
    "expose_model": "tfldbg.session.exposing",
    "gate": "tfldbg.session.gating",
    "import_run": "tfldbg.session.devices",
    "kept_rows": "tfldbg.session.sweeping",
    "limited": "tfldbg.run.child",
    "load_trace": "tfldbg.session.tracing",
    "node_data": "tfldbg.session.explorer",
    "parse_seeds": "tfldbg.session.cases",
    "plan": "tfldbg.session.cases",
    "protect": "tfldbg.session.exposing",
    "range_findings": "tfldbg.session.converting",
    "record": "tfldbg.session.recording",
    "sweep": "tfldbg.session.sweeping",
    "trace": "tfldbg.session.tracing",
    "write_kit": "tfldbg.session.devices",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tfldbg.session' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
