"""Metrics of the user's own, by whatever they are named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tfldbg.errors import UsageError
from tfldbg.plugins import METRICS, load_plugin

if TYPE_CHECKING:
    from tfldbg.options.sources import Metric, Metrics


def find_metrics(given: Metrics) -> dict[str, Metric]:
    """Return functions by name.

    Args:
        given: Functions by name, or names: of entry points, or ``package.module:function``, whose
            metric is called like the function.

    Raises:
        UsageError: There is none of that name, two are called the same, or one has no name.
        PluginError: One cannot be loaded.
    """
    if isinstance(given, Mapping):
        return dict(_checked(name, metric) for name, metric in given.items())
    names = (given,) if isinstance(given, str) else given or ()
    if callable(names) or not isinstance(names, Iterable):
        raise _without_name(names)
    names = tuple(names)
    for name in names:
        if not isinstance(name, str):
            raise _without_name(name)
    found: dict[str, Metric] = {}
    for name in dict.fromkeys(names):
        short = name.rpartition(":")[2].rpartition(".")[2] if ":" in name else name
        if short in found:
            raise UsageError(
                f"two metrics are called '{short}'",
                hint="name one of them otherwise: metrics={'name': function} in Python",
            )
        found[short] = load_plugin(METRICS, name)
    return found


def _checked(name: object, metric: object) -> tuple[str, Metric]:
    if not isinstance(name, str) or not name.strip():
        raise UsageError(
            f"a metric is called {name!r}, expected a name",
            hint="for example metrics={'psnr': my_function}",
        )
    if not callable(metric):
        raise UsageError(
            f"the metric '{name}' is of type {type(metric).__name__}, expected a function",
            hint="for example metrics={'psnr': my_function}",
        )
    return name, metric


def _without_name(given: object) -> UsageError:
    name = getattr(given, "__name__", "my_function")
    shown = name if str(name).isidentifier() else "my_function"
    return UsageError(
        f"metrics are given by name, and an object of type {type(given).__name__} has none",
        hint=f"for example metrics={{'{shown}': {shown}}}",
    )
