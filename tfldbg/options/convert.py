"""What a Keras model is converted to, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tfldbg.errors import UsageError
from tfldbg.options.declare import check, nested, option

INTEGER_TYPES = ("int8", "uint8", "int16x8")
TYPES = (*INTEGER_TYPES, "dynamic", "float16", "float32")
"""What a model can be converted to."""
ALL_VALUES = "all-values"
CALIBRATIONS = (ALL_VALUES,)
"""How the ranges of a quantization-aware model can be replaced."""


@dataclass(frozen=True, slots=True)
class Target:
    """The form that a model is converted to.

    Raises:
        UsageError: There is no such type.
    """

    PANEL: ClassVar[str] = "Options"

    type: str = option(
        default="int8", metavar="|".join(TYPES), choices=TYPES, help="What to convert to."
    )
    """One of `TYPES`."""
    per_tensor: bool = option(
        default=False, help="One scale for each weight tensor, not for each channel."
    )
    """One scale for each weight tensor instead of one for each of its channels."""
    float_io: bool = option(default=False, help="Float inputs and outputs for an integer type.")
    """Keep inputs and outputs float although the operators between compute with integers."""

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise UsageError(
                f"there is no type '{self.type}'", hint=f"choose one of {', '.join(TYPES)}"
            )

    @property
    def integer(self) -> bool:
        """Whether every operator must compute with integers."""
        return self.type in INTEGER_TYPES


@dataclass(frozen=True, slots=True, kw_only=True)
class Convert:
    """How to convert.

    Raises:
        UsageError: An option makes no sense.
    """

    PANEL: ClassVar[str] = "Options"

    target: Target = nested(Target)
    """Type and form of the file; int8 with integer inputs and outputs by default."""
    calibrate: str | None = option(
        metavar=ALL_VALUES,
        choices=CALIBRATIONS,
        help="Set a QAT model's ranges to the extremes of all values that --data gives.",
    )
    """``"all-values"`` to set the ranges of a quantization-aware model to those of all values that
    the data gives."""
    save_keras: Path | str | None = option(
        metavar="OUT.h5", help="Write the recalibrated Keras model, to trace with."
    )
    """Where to write the recalibrated Keras model (.h5)."""
    timeout: float = option(
        default=7200.0, metavar="SECONDS", least=0, help="How long the converter may take."
    )
    """Seconds that the converter may take, 7200 by default: longer than any conversion seen."""

    def __post_init__(self) -> None:
        check(self)
        if self.calibrate is not None and self.calibrate not in CALIBRATIONS:
            raise UsageError(
                f"there is no calibration '{self.calibrate}'", hint=f"say --calibrate {ALL_VALUES}"
            )
        if self.save_keras is not None and self.calibrate is None:
            raise UsageError(
                "--save-keras writes the recalibrated model, and nothing is recalibrated",
                hint=f"add --calibrate {ALL_VALUES}, or leave --save-keras out",
            )
        if self.save_keras is not None and Path(self.save_keras).suffix != ".h5":
            raise UsageError(
                f"--save-keras {self.save_keras} is no .h5 file",
                hint="for example --save-keras OUT.h5",
            )
