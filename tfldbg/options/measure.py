"""What a trace measures besides the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tfldbg.options.declare import check, option

if TYPE_CHECKING:
    from tfldbg.options.sources import LabelSource, Metrics


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measure:
    """What is measured besides the verdict, and never decides it.

    Raises:
        UsageError: A number makes no sense.
    """

    PANEL: ClassVar[str] = "What to measure besides"

    labels: LabelSource = option(
        metavar="LABELS",
        help="Show the accuracy of every side: an array of the --data, a .npy, a .npz with one "
        "array or FILE.npz:KEY; class numbers or one-hot. OUTPUT=LABELS for another output.",
    )
    """The right class of every sample, for the accuracy of each side: the name of an array of
    ``data``, a path, or an array; class numbers or one-hot."""
    top_k: int = option(default=5, metavar="K", least=1, help="For top-k accuracy.")
    """How many of the largest values count for top-k accuracy."""
    tolerance: float | None = option(
        metavar="T",
        word=float,
        least=0,
        shown="0.01",
        help="Show the final outputs of every side and how many are off by more than T (real "
        "units). Never decides the verdict.",
    )
    """By how much final outputs may differ, real units; 0.01 by default.  Never decides the
    verdict."""
    worst: int = option(
        default=0,
        metavar="K",
        least=0,
        help="Compare the K samples with the largest error operator by operator.",
    )
    """How many of the samples with the largest final error to compare operator by operator."""
    histograms: bool = option(default=False, help="Histograms of every operator's errors, in LSB.")
    """Whether to count a histogram of every operator's errors."""
    compounding: bool = option(default=False, help="Measure which operators cause the final error.")
    """Measure which operators account for the error of the final outputs."""
    by_step: bool = option(
        default=False, help="Show the errors of each time step of a recurrent network."
    )
    """Whether to show the errors of each time step of a recurrent network."""
    metrics: Metrics = option(
        names=("--metric",),
        metavar="NAME",
        many=True,
        help="Measure a metric of your own for every operator: an entry point of the group "
        "tfldbg.metrics, or package.module:function. Repeatable.",
    )
    """Metrics of your own, measured for every operator: functions by name, or names of entry points
    of the group ``tfldbg.metrics`` or of functions, ``"module:function"``.  A function is called
    with the reference's and TFLite's values of one sample of a tensor, float32 in real units, and
    returns a number."""
    pictures: bool = option(default=False)
    """Whether to keep what the pictures of `Trace.to_html` are drawn from, histograms and pairs of
    values; a dump always holds them."""

    def __post_init__(self) -> None:
        check(self)
