"""Metrics of the user's own, by whatever they are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tfldbg.compare.custom import Metric
from tfldbg.errors import UsageError
from tfldbg.plugins import METRICS, load_plugin

Metrics = Mapping[str, Metric] | Sequence[str] | None


def find_metrics(given: Metrics) -> dict[str, Metric]:
    """Return functions by name.

    Args:
        given: Functions by name, or names: of entry points, or ``package.module:function``, whose
            metric is called like the function.

    Raises:
        UsageError: There is none of that name, or two are called the same.
        PluginError: One cannot be loaded.
    """
    if isinstance(given, Mapping):
        for name, metric in given.items():
            if not callable(metric):
                raise UsageError(
                    f"the metric '{name}' is of type {type(metric).__name__}, expected a function",
                    hint="for example metrics={'psnr': my_function}",
                )
        return dict(given)
    found: dict[str, Metric] = {}
    for name in dict.fromkeys([given] if isinstance(given, str) else given or ()):
        short = name.rpartition(":")[2].rpartition(".")[2] if ":" in name else name
        if short in found:
            raise UsageError(
                f"two metrics are called '{short}'",
                hint="name one of them otherwise: metrics={'name': function} in Python",
            )
        found[short] = load_plugin(METRICS, name)
    return found
