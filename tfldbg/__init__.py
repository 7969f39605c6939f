"""The debugger for quantized TFLite models.

    >>> import tfldbg
    >>> result = tfldbg.trace("model.tflite", keras="qat.h5", data="data.npz")
    >>> result.verdict, result.first_divergence

Importing this package imports nothing heavy; the names below are loaded when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tfldbg.version import VERSION

if TYPE_CHECKING:
    from tfldbg.api import convert, record, trace
    from tfldbg.diagnose.model import Divergence, Finding
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
    from tfldbg.options.convert import Target
    from tfldbg.options.judge import Thresholds
    from tfldbg.session import Trace, gate, limited, load_trace

__version__ = VERSION

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

_HOMES = {
    **dict.fromkeys(("convert", "record", "trace"), "tfldbg.api"),
    **dict.fromkeys(("Trace", "gate", "limited", "load_trace"), "tfldbg.session"),
    **dict.fromkeys(("Divergence", "Finding"), "tfldbg.diagnose.model"),
    "Target": "tfldbg.options.convert",
    "Thresholds": "tfldbg.options.judge",
}
"""By name the module that holds it; `tfldbg.errors` for the others."""
_MODULES = frozenset({"callbacks", "testing"})
"""The modules that ``import tfldbg`` makes available as attributes."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"tfldbg.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'tfldbg' has no attribute '{name}'")
    return getattr(import_module(_HOMES.get(name, "tfldbg.errors")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
