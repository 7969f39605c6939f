"""Callables of the user's, found by name: entry points of installed packages, or any function."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from tfldbg.errors import PluginError, UsageError

METRICS = "tfldbg.metrics"
REFERENCES = "tfldbg.references"
"""The entry point groups."""
RAISED = (Exception, SystemExit)
"""What code of the user's may raise; one that exits must not end a trace as if all were well."""


def load_plugin(group: str, name: str) -> Callable[..., Any]:
    """Return the callable of a name.

    Args:
        group: The entry point group.
        name: Of an entry point, or ``package.module:function``.

    Raises:
        UsageError: There is none of that name.
        PluginError: It cannot be imported, or is no callable.
    """
    found = next(iter(entry_points(group=group, name=name)), None)
    if found is None and ":" not in name:
        known = ", ".join(f"'{n}'" for n in plugin_names(group)) or "none"
        raise UsageError(
            f"no installed package has an entry point '{name}' in the group '{group}'; there is "
            f"{known}",
            hint="name a function as package.module:function, or install the package",
        )
    try:
        plugin = found.load() if found is not None else _imported(*name.split(":", 1))
    except RAISED as error:
        raise PluginError(
            f"cannot load '{name}': {type(error).__name__}: {error}",
            hint="import it in Python to see where that happens",
        ) from error
    if not callable(plugin):
        raise PluginError(
            f"'{name}' is of type {type(plugin).__name__}, expected a function",
            hint="name the function itself: package.module:function",
        )
    return plugin  # type: ignore[no-any-return]


def plugin_names(group: str) -> list[str]:
    """Return the names that installed packages offer."""
    return sorted({point.name for point in entry_points(group=group)})


def _imported(module: str, attribute: str) -> Any:
    """Import a function; modules of the working directory are found after all others.

    They stay so: the function may import its neighbours only when it is called.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    found: Any = import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found
