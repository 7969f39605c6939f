"""The options of conversion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tfldbg.errors import UsageError
from tfldbg.options.declare import check, nested, option

INTEGER_TYPES = ("int8", "uint8", "int16x8")
TYPES = (*INTEGER_TYPES, "dynamic", "float16", "float32")
"""The types that a model can be converted to."""
ALL_VALUES = "all-values"
CALIBRATIONS = (ALL_VALUES,)
"""The ways to replace the ranges of a quantization-aware model."""


@dataclass(frozen=True, slots=True)
class Target:
    """The form that a model is converted to.

    Raises:
        UsageError: There is no such type.
    """

    PANEL: ClassVar[str] = "Options"

    type: str = option(
        default="int8", metavar="|".join(TYPES), choices=TYPES, help="The type to convert to."
    )
    """The type, one of `TYPES`."""
    per_tensor: bool = option(
        default=False, help="Use one scale per weight tensor, not one per channel."
    )
    """True for one scale per weight tensor instead of one per channel."""
    float_io: bool = option(
        default=False, help="Keep inputs and outputs float for an integer type."
    )
    """True to keep inputs and outputs float although the operators between compute with
    integers."""

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise UsageError(
                f"there is no type '{self.type}'", hint=f"choose one of {', '.join(TYPES)}"
            )

    @property
    def integer(self) -> bool:
        """True if every operator must compute with integers."""
        return self.type in INTEGER_TYPES


@dataclass(frozen=True, slots=True, kw_only=True)
class Convert:
    """The options of a conversion.

    Raises:
        UsageError: An option is invalid.
    """

    PANEL: ClassVar[str] = "Options"

    target: Target = nested(Target)
    """The type and form of the file; int8 with integer inputs and outputs by default."""
    calibrate: str | None = option(
        metavar=ALL_VALUES,
        choices=CALIBRATIONS,
        help="Set a QAT model's ranges to the extremes of all values on --data.",
    )
    """``"all-values"`` to set the ranges of a quantization-aware model to the extremes of all
    values on the data."""
    save_keras: Path | str | None = option(
        metavar="OUT.h5", help="Write the recalibrated Keras model, for use with trace."
    )
    """The file for the recalibrated Keras model (.h5)."""
    timeout: float = option(
        default=7200.0,
        metavar="SECONDS",
        above=0,
        shown="7200",
        help="The time limit of the converter.",
    )
    """The time limit of the converter in seconds, 7200 by default, longer than any known
    conversion."""

    def __post_init__(self) -> None:
        check(self)
        if self.calibrate is not None and self.calibrate not in CALIBRATIONS:
            raise UsageError(
                f"there is no calibration '{self.calibrate}'", hint=f"use --calibrate {ALL_VALUES}"
            )
        if self.save_keras is not None and self.calibrate is None:
            raise UsageError(
                "--save-keras writes the recalibrated model, and nothing is recalibrated",
                hint=f"add --calibrate {ALL_VALUES}, or leave --save-keras out",
            )
        if self.save_keras is not None and Path(self.save_keras).suffix != ".h5":
            raise UsageError(
                f"--save-keras {self.save_keras} is not an .h5 file",
                hint="for example --save-keras OUT.h5",
            )
