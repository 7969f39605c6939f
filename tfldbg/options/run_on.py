"""What a file runs on, and how."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tfldbg.errors import UsageError
from tfldbg.options.declare import check, option, pairs
from tfldbg.options.runtimes import RUNTIMES, Delegate, Kernels, delegate_of

if TYPE_CHECKING:
    from tfldbg.options.sources import DataSource


def _inputs(texts: Sequence[str]) -> Mapping[str, str]:
    return pairs(texts, "--input NAME=KEY", "image=x")


def _scale(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"invalid value '{text}' for --scale: must be of the form LOW,HIGH",
            hint="for example --scale -1,1",
        ) from error
    return low, high


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunOn:
    """The samples, and the runtime that computes them.

    Raises:
        UsageError: A number makes no sense.
    """

    PANEL: ClassVar[str] = "What to run on, and how"

    data: DataSource = option(
        metavar="PATH",
        help=".npz, .npy, .h5, a folder of .npy or of pictures; first axis samples. Float data is "
        "in real units, integer data in the input's own type is taken as codes.",
    )
    """Path of the input data (arrays, or a folder of pictures), an array for a single input, or
    arrays by input name; float arrays in real units, integer arrays in the input's own type as
    codes; first axis samples.  None draws random samples."""
    scale: tuple[float, float] | None = option(
        metavar="LOW,HIGH",
        read=_scale,
        help="What 0 and 255 of pictures, and of uint8 data, stand for, as in training: 0,1 or "
        "-1,1.",
    )
    """The real values that 0 and 255 of pictures, and of uint8 data, stand for."""
    inputs: Mapping[str, str] = option(
        factory=dict,
        names=("--input",),
        metavar="NAME=KEY",
        many=True,
        read=_inputs,
        help="Which array, or which Keras input, belongs to which input of the model. Repeatable.",
    )
    """Input name to array name or to the reference's input name."""
    samples: int | None = option(
        metavar="N", word=int, least=1, shown="64", help="At most so many samples."
    )
    """At most so many samples, 64 by default, or as many more as make streams whole."""
    steps: int = option(
        default=1,
        metavar="N",
        least=1,
        help="For models that keep a state: N samples in a row are the steps of one stream. The "
        "state is reset before each stream and kept from step to step.",
    )
    """How many samples in a row are the steps of one stream: a model's state is reset before each
    stream and kept from step to step.  1 resets it before every sample."""
    seed: int = option(
        default=0, metavar="S", least=0, help="The seed of the random samples used without --data."
    )
    """The seed of the random samples."""
    runtime: str = option(
        default="xnnpack",
        metavar="|".join(RUNTIMES),
        choices=RUNTIMES,
        help="The kernels to run: three sets of LiteRT, TensorFlow's interpreter, or TensorFlow "
        "Lite for Microcontrollers.",
    )
    """``"xnnpack"``, ``"builtin"`` or ``"reference"`` kernels of LiteRT, ``"tf"`` for the
    interpreter of TensorFlow, ``"micro"`` for TensorFlow Lite for Microcontrollers."""
    delegate: Delegate | Path | str | None = option(
        metavar="PATH",
        help="An external delegate, a shared library that takes operators over from the runtime.",
    )
    """Path of an external delegate, a shared library that takes operators over from the runtime;
    or what `delegate_of` makes of it."""
    delegate_options: Mapping[str, str] | Sequence[str] | None = option(
        names=("--delegate-option",),
        metavar="KEY=VALUE",
        many=True,
        help="An option of the delegate. Repeatable.",
    )
    """The options of the delegate, by key, or as ``"KEY=VALUE"``."""
    signature: str | None = option(metavar="NAME", help="Which signature, where there are several.")
    """Which signature, where there are several."""
    timeout: float | None = option(
        metavar="SECONDS",
        word=float,
        shown="600",
        help="How long loading the model, or one sample, may take.",
    )
    """Seconds that loading the model, or one sample, may take: 600 by default."""
    memory_limit: float | None = option(
        metavar="GIB",
        word=float,
        shown="3/4 of the machine's",
        help="How much memory all processes that run models may take together.",
    )
    """GiB that all processes that run models may take together: 3/4 of the machine's by default."""
    workers: int | None = option(
        metavar="N",
        word=int,
        least=1,
        shown="this one alone",
        help="How many processes of this machine share the work.",
    )
    """How many processes of this machine share the samples; this one alone by default.  What is
    measured is the same, up to the last digits of sums."""
    scheduler: str | None = option(
        metavar="ADDRESS",
        help="Let the workers of a Dask cluster share the work: tcp://HOST:8786.",
    )
    """The address of a Dask cluster whose workers share the samples."""

    def __post_init__(self) -> None:
        check(self)
        if self.scale is not None and not -math.inf < self.scale[0] < self.scale[1] < math.inf:
            low, high = self.scale
            raise UsageError(
                f"invalid value {low:g},{high:g} for --scale: LOW must be less than HIGH",
                hint="give the real values of 0 and 255, for example --scale -1,1",
            )

    @property
    def kernels(self) -> Kernels:
        """The runtime, and the delegate if there is one.

        Raises:
            UsageError: The delegate's options make no sense.
        """
        if isinstance(self.delegate, Delegate):
            return Kernels(self.runtime, self.delegate)
        return Kernels(self.runtime, delegate_of(self.delegate, self.delegate_options))
