"""The debugger for quantized TFLite models.

    >>> import tfldbg
    >>> result = tfldbg.trace("model.tflite", keras="qat.h5", data="data.npz")
    >>> result.verdict, result.first_divergence

Importing this package imports nothing heavy; the names below are loaded when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfldbg.diagnose.model import Divergence, Finding, Thresholds
    from tfldbg.errors import (
        CaptureError,
        DataError,
        KerasError,
        MatchError,
        MissingExtraError,
        ModelError,
        PluginError,
        RunError,
        TfldbgError,
        UsageError,
    )
    from tfldbg.reference.conversion import Target
    from tfldbg.session import Trace, convert, gate, limited, load_trace, record, trace

__version__ = "0.1.0"

__all__ = [
    "CaptureError",
    "DataError",
    "Divergence",
    "Finding",
    "KerasError",
    "MatchError",
    "MissingExtraError",
    "ModelError",
    "PluginError",
    "RunError",
    "Target",
    "TfldbgError",
    "Thresholds",
    "Trace",
    "UsageError",
    "convert",
    "gate",
    "limited",
    "load_trace",
    "record",
    "trace",
]

_SESSION = frozenset({"Trace", "convert", "gate", "limited", "load_trace", "record", "trace"})
_DIAGNOSE = frozenset({"Divergence", "Finding", "Thresholds"})
_MODULES = frozenset({"callbacks", "testing"})
"""The modules that ``import tfldbg`` makes available as attributes."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"tfldbg.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'tfldbg' has no attribute '{name}'")
    if name in _SESSION:
        return getattr(import_module("tfldbg.session"), name)
    if name == "Target":
        return import_module("tfldbg.reference.conversion").Target
    home = "tfldbg.diagnose.model" if name in _DIAGNOSE else "tfldbg.errors"
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
