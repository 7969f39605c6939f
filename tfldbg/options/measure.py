"""The options of additional measurements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tfldbg.options.declare import check, option

if TYPE_CHECKING:
    from tfldbg.options.sources import LabelSource, Metrics


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measure:
    """Additional measurements, which never change the verdict.

    Raises:
        UsageError: A number is invalid.
    """

    PANEL: ClassVar[str] = "Additional measurements"

    labels: LabelSource = option(
        metavar="LABELS",
        help="Show the accuracy of each side: an array of the --data, a .npy, a .npz with one "
        "array or FILE.npz:KEY; class numbers or one-hot. OUTPUT=LABELS for another output.",
    )
    """The right class of each sample, for the accuracy of each side: the name of an array of
    ``data``, a path, or an array; class numbers or one-hot."""
    top_k: int = option(default=5, metavar="K", least=1, help="The k of top-k accuracy.")
    """The number of largest values that count for top-k accuracy."""
    tolerance: float | None = option(
        metavar="T",
        word=float,
        least=0,
        shown="0.01",
        help="Show the final outputs of each side and how many are off by more than T (real "
        "units). Never changes the verdict.",
    )
    """The largest accepted difference of final outputs, real units; 0.01 by default.  Never changes
    the verdict."""
    worst: int = option(
        default=0,
        metavar="K",
        least=0,
        help="Compare the K samples with the largest error operator by operator.",
    )
    """The number of samples with the largest final error to compare operator by operator."""
    histograms: bool = option(default=False, help="Show histograms of the errors of each operator.")
    """True to measure histograms of the errors of each operator."""
    compounding: bool = option(default=False, help="Measure which operators cause the final error.")
    """True to measure which operators cause the error of the final outputs."""
    by_step: bool = option(
        default=False, help="Show the errors of each time step of a recurrent network."
    )
    """True to measure the errors of each time step of a recurrent network."""
    metrics: Metrics = option(
        names=("--metric",),
        metavar="NAME",
        many=True,
        help="Measure your own metric for each operator: an entry point of the group "
        "tfldbg.metrics, or package.module:function. Repeatable.",
    )
    """Your own metrics for each operator: functions by name, or names of entry points of the group
    ``tfldbg.metrics`` or of functions, ``"module:function"``.  A function is called with the
    reference's and TFLite's values of one sample of a tensor, float32 in real units, and returns a
    number."""
    pictures: bool = option(default=False)
    """True to measure the data for the pictures of `Trace.to_html`, histograms and pairs of values;
    a dump always holds it."""

    def __post_init__(self) -> None:
        check(self)
