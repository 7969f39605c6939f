"""The options of samples and runtime."""

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
        UsageError: A number is invalid.
    """

    PANEL: ClassVar[str] = "Data and runtime"

    data: DataSource = option(
        metavar="PATH",
        help="The input data: .npz, .npy, .h5, a folder of .npy or of pictures; the first axis is "
        "samples. Float data is in real units, integer data in the input's own type is codes.",
    )
    """The path of the input data (arrays, or a folder of pictures), an array for a single input, or
    arrays by input name.  Float arrays are in real units, integer arrays in the input's own type
    are codes; the first axis is samples.  None for random samples."""
    scale: tuple[float, float] | None = option(
        metavar="LOW,HIGH",
        read=_scale,
        help="The real values of 0 and 255 in pictures and uint8 data, as in training: 0,1 or "
        "-1,1.",
    )
    """The real values of 0 and 255 in pictures and uint8 data."""
    inputs: Mapping[str, str] = option(
        factory=dict,
        names=("--input",),
        metavar="NAME=KEY",
        many=True,
        read=_inputs,
        help="The array, or the Keras input, for an input of the model. Repeatable.",
    )
    """The array name, or the reference's input name, for each input name."""
    samples: int | None = option(
        metavar="N", word=int, least=1, shown="64", help="The largest number of samples."
    )
    """The largest number of samples; 64 by default, or more to make streams whole."""
    steps: int = option(
        default=1,
        metavar="N",
        least=1,
        help="For models that keep a state: N consecutive samples are the steps of one stream. "
        "The state is reset before each stream and kept from step to step.",
    )
    """The number of consecutive samples that are the steps of one stream: a model's state is reset
    before each stream and kept from step to step.  1 resets it before each sample."""
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
    """The kernels to run: ``"xnnpack"``, ``"builtin"`` or ``"reference"`` of LiteRT, ``"tf"`` for
    the interpreter of TensorFlow, ``"micro"`` for TensorFlow Lite for Microcontrollers."""
    delegate: Delegate | Path | str | None = option(
        metavar="PATH",
        help="An external delegate: a shared library that computes operators instead of the "
        "runtime.",
    )
    """The path of an external delegate, a shared library that computes operators instead of the
    runtime; or the result of `delegate_of`."""
    delegate_options: Mapping[str, str] | Sequence[str] | None = option(
        names=("--delegate-option",),
        metavar="KEY=VALUE",
        many=True,
        help="An option of the delegate. Repeatable.",
    )
    """The options of the delegate, by key, or as ``"KEY=VALUE"``."""
    signature: str | None = option(metavar="NAME", help="The signature, if there are several.")
    """The signature, if there are several."""
    timeout: float | None = option(
        metavar="SECONDS",
        word=float,
        above=0,
        shown="600",
        help="The time limit for loading the model, and for each sample.",
    )
    """The time limit in seconds for loading the model, and for each sample: 600 by default."""
    memory_limit: float | None = option(
        metavar="GIB",
        word=float,
        above=0,
        shown="3/4 of the machine's",
        help="The memory limit of all processes that run models together.",
    )
    """The memory limit in GiB of all processes that run models together: 3/4 of the machine's by
    default."""
    workers: int | None = option(
        metavar="N",
        word=int,
        least=1,
        help="The number of processes of this machine that share the work; by default as many as "
        "processors.",
    )
    """The number of processes of this machine that share the samples; by default as many as
    processors, fewer for few samples or little memory.  The measurements are the same, up to the
    last digits of sums."""
    scheduler: str | None = option(
        metavar="ADDRESS",
        help="The Dask cluster whose workers share the work: tcp://HOST:8786.",
    )
    """The address of a Dask cluster whose workers share the samples."""

    def __post_init__(self) -> None:
        check(self)
        if self.scale is not None and not -math.inf < self.scale[0] < self.scale[1] < math.inf:
            low, high = self.scale
            raise UsageError(
                f"invalid value {low:g},{high:g} for --scale: LOW and HIGH must be finite, and LOW "
                "less than HIGH",
                hint="give the real values of 0 and 255, for example --scale -1,1",
            )

    @property
    def kernels(self) -> Kernels:
        """The runtime, and the delegate if there is one.

        Raises:
            UsageError: The delegate's options are invalid.
        """
        if isinstance(self.delegate, Delegate):
            return Kernels(self.runtime, self.delegate)
        return Kernels(self.runtime, delegate_of(self.delegate, self.delegate_options))
