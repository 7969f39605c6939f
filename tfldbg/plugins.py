"""User-defined callables, found by name: entry points of installed packages, or any function."""

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
"""The names of the entry point groups."""
RAISED = (Exception, SystemExit)
"""The exceptions that user code may raise; a call of exit must not end a trace as a success."""


def load_plugin(group: str, name: str) -> Callable[..., Any]:
    """Return the callable with the given name.

    Args:
        group: The name of the entry point group.
        name: The name of an entry point, or ``package.module:function``.

    Raises:
        UsageError: There is no entry point of that name.
        PluginError: It cannot be imported or is not callable.
    """
    found = next(iter(entry_points(group=group, name=name)), None)
    if found is None and ":" not in name:
        known = ", ".join(f"'{n}'" for n in plugin_names(group)) or "none"
        raise UsageError(
            f"no installed package has an entry point '{name}' in the group '{group}'; known: "
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
    """Return the names of the installed entry points of a group."""
    return sorted({point.name for point in entry_points(group=group)})


def _imported(module: str, attribute: str) -> Any:
    """Import a function; modules in the working directory are searched last.

    The working directory stays in the search path, because the function may import from it when
    it is called.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    found: Any = import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found
