"""References: one module for each kind; no other code depends on the kind.

Each module defines a `tfldbg.against.opened.Kind` named ``KIND``: its traits, and the function that
opens a reference of the kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfldbg.against.opened import Kind
    from tfldbg.options.against import Against, KindName

_MODULES: Mapping[KindName, str] = {
    "self": "itself",
    "keras": "keras",
    "tflite": "file",
    "capture": "recording",
    "runtime": "kernels",
    "emulation": "emulation",
    "function": "function",
}


def chosen_kind(against: Against) -> Kind:
    """Return the kind of the reference that is asked for; only its module is imported.

    Raises:
        UsageError: There are several references.
    """
    module = import_module(f"tfldbg.against.{_MODULES[against.kind]}")
    kind: Kind = module.KIND
    return kind
