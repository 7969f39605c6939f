"""Replace the ranges of a quantization-aware model by those of all values in the data.

``quantize_model`` sets each activation's range by a moving average, which starts at -6 and 6 and
needs thousands of steps to converge.  Here every range becomes the smallest and the largest value
over all data, widened to include zero as the quantization specification requires.

The values are those of the float computation: no fake-quant node changes activations or weights.
The converter's calibrator observes a float model in the same way, so both give the same ranges.
Observers that keep the fake-quant nodes active, as training does, see values that were rounded and
clipped before, and give slightly different ranges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.errors import UsageError
from tfldbg.reference.keras import argument_of


@dataclass(frozen=True, slots=True)
class ObserverRange:
    """One fake-quant range of an activation, before and after the change."""

    name: str
    """The layer and place, e.g. ``quant_dense/post_activation``."""
    before: tuple[float, float]
    after: tuple[float, float]
    """The new range, or ``before`` if the data gives only zeros, for which there is no scale."""

    @property
    def moved(self) -> float:
        """The largest change of an end, as a share of the wider range's width."""
        width = max(b - a for a, b in (self.before, self.after))
        steps = [abs(a - b) for a, b in zip(self.before, self.after, strict=True)]
        return max(steps) / width if width else 0.0


@dataclass(slots=True, eq=False)
class _Observed:
    """The two variables of one range, and the extremes seen so far."""

    layer: str
    low_variable: Any
    high_variable: Any
    quantizer: Any
    low: float = 0.0
    high: float = 0.0
    seen: bool = False

    def see(self, values: NDArray[Any]) -> None:
        self.seen = True
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))


def recalibrate(model: Any, batches: Iterable[list[NDArray[Any]]]) -> tuple[ObserverRange, ...]:
    """Set every activation's range to the smallest and largest value over all batches.

    Args:
        model: A tf_keras model made by ``tfmot.quantization.keras.quantize_model``, updated in
            place.
        batches: One array (n, ...) per input, in real units.

    Returns:
        The ranges, in the order of the layers.

    Raises:
        UsageError: The model has no range to set.
    """
    observed = list(_ranges(model))
    argument = argument_of(model)
    with _observing({id(o.low_variable): o for o in observed}):
        for batch in batches:
            model(argument(batch), training=False)
    found = [o for o in observed if o.seen]
    if not found:
        raise UsageError(
            "--calibrate all-values sets the ranges of a model that was trained "
            "quantization-aware, and this model has none",
            hint="leave it out: the converter calibrates a float model on --data",
        )
    return tuple(map(_settle, found))


def _ranges(model: Any) -> Iterator[_Observed]:
    """Yield the ranges of activations; those of weights come from the weights."""
    for layer in model._flatten_layers(include_self=False):
        inner = getattr(layer, "quantizer_vars", None)
        if inner:
            yield _observe(layer, inner, layer.quantizer)
        for activation in getattr(layer, "_quantize_activations", ()):
            for place in ("_pre_activation_vars", "_post_activation_vars"):
                if hasattr(activation, place):
                    yield _observe(layer, getattr(activation, place), activation.quantizer)
        outputs = getattr(layer, "_output_quantizer_vars", None)
        if outputs:
            yield _observe(layer, outputs, layer._output_quantizers[0])


def _observe(layer: Any, variables: Any, quantizer: Any) -> _Observed:
    return _Observed(layer.name, variables["min_var"], variables["max_var"], quantizer)


@contextmanager
def _observing(observed: dict[int, _Observed]) -> Iterator[None]:
    """Make every fake-quant node return its input unchanged and record the extreme values."""
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

    def watch(values: Any, low_variable: Any, *_given: Any, **_options: Any) -> Any:
        if id(low_variable) in observed:
            observed[id(low_variable)].see(values.numpy())
        return tf.identity(values)

    own = quant_ops._FakeQuantWithMinMaxVars
    quant_ops._FakeQuantWithMinMaxVars = watch
    try:
        yield
    finally:
        quant_ops._FakeQuantWithMinMaxVars = own


def _settle(observed: _Observed) -> ObserverRange:
    before = (float(observed.low_variable.numpy()), float(observed.high_variable.numpy()))
    after = (observed.low, observed.high)
    if getattr(observed.quantizer, "symmetric", False):
        after = _symmetric(observed)
    if after == (0.0, 0.0):
        after = before
    observed.low_variable.assign(np.float32(after[0]))
    observed.high_variable.assign(np.float32(after[1]))
    place = observed.low_variable.name.rpartition("/")[2].split(":")[0].removesuffix("_min")
    if place.startswith(observed.layer):
        return ObserverRange(observed.layer, before, after)
    return ObserverRange(f"{observed.layer}/{place}", before, after)


def _symmetric(observed: _Observed) -> tuple[float, float]:
    """Widen a range like tfmot's ``AllValuesQuantize`` for a symmetric quantizer."""
    quantizer = observed.quantizer
    ratio = 1.0
    if not quantizer.narrow_range:
        ratio = ((1 << quantizer.num_bits) - 2) / (1 << quantizer.num_bits)
    low = min(observed.low, -observed.high / ratio)
    return low, max(observed.high, -low * ratio)
