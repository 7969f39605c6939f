"""Compose the stages: read, rewrite, run, match, compare, diagnose, store.  Prints nothing."""

from tfldbg.run.child import limited
from tfldbg.run.runtimes import delegate_of
from tfldbg.session.cases import Request, parse_seeds, plan, requests
from tfldbg.session.converting import convert
from tfldbg.session.devices import Imported, import_run, write_kit
from tfldbg.session.diff import diff
from tfldbg.session.explorer import node_data
from tfldbg.session.exposing import expose_model, protect
from tfldbg.session.gating import check_rules, gate
from tfldbg.session.parameters import compare_parameters
from tfldbg.session.recording import record
from tfldbg.session.result import Trace
from tfldbg.session.sweeping import Shared, kept_rows, sweep
from tfldbg.session.tracing import load_trace, trace
from tfldbg.store.journal import unfinished

__all__ = [
    "Imported",
    "Request",
    "Shared",
    "Trace",
    "check_rules",
    "compare_parameters",
    "convert",
    "delegate_of",
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
    "record",
    "requests",
    "sweep",
    "trace",
    "unfinished",
    "write_kit",
]
