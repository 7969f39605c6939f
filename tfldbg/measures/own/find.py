"""Find the user's own metrics by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tfldbg.errors import UsageError
from tfldbg.plugins import METRICS, load_plugin

if TYPE_CHECKING:
    from tfldbg.options.sources import Metric, Metrics


def find_metrics(given: Metrics) -> dict[str, Metric]:
    """Return the functions of metrics by name.

    Args:
        given: Functions by name, or names: of entry points, or ``package.module:function``, whose
            metric has the name of the function.

    Raises:
        UsageError: A metric does not exist, two have the same name, or one has no name.
        PluginError: A metric cannot be loaded.
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
                f"two metrics have the name '{short}'",
                hint="give one of them another name: metrics={'name': function} in Python",
            )
        found[short] = load_plugin(METRICS, name)
    return found


def _checked(name: object, metric: object) -> tuple[str, Metric]:
    if not isinstance(name, str) or not name.strip():
        raise UsageError(
            f"the name of a metric is {name!r}, expected a string",
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
        f"a metric of type {type(given).__name__} is given without a name",
        hint=f"for example metrics={{'{shown}': {shown}}}",
    )
