"""The options that choose the reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tfldbg.errors import UsageError
from tfldbg.options.declare import option
from tfldbg.options.runtimes import RUNTIMES

if TYPE_CHECKING:
    from tfldbg.options.sources import ModelSource, ReferenceFunction

Emulation = Literal["emulated", "float-ranges", "fake-quant-ranges"]
EMULATIONS: tuple[Emulation, ...] = ("emulated", "float-ranges", "fake-quant-ranges")
"""References that round to codes as TFLite does: with the file's parameters, with those of a float
pass over the data, or with those of a fake-quantized pass over it."""
EMULATED, FLOAT_RANGES, FAKE_QUANT_RANGES = EMULATIONS
ReferenceKind = Literal["self", "keras", "tflite", "capture", "runtime", Emulation, "none"]
"""The kind of reference; ``none`` for a recording of the file alone."""
RECORDINGS = (".h5", ".hdf5", ".npz")
"""The suffixes of recordings."""

KindName = Literal["self", "keras", "tflite", "capture", "runtime", "emulation", "function"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Against:
    """The reference.  Without one, every operator is checked against its own float arithmetic."""

    PANEL: ClassVar[str] = "Reference"

    keras: Any = option(
        metavar="PATH", help="The QAT or float Keras model: .h5, .keras or SavedModel folder."
    )
    """The path of the Keras model (.h5, .keras, SavedModel folder), or a live model."""
    against: ModelSource | None = option(
        metavar="PATH", help="A sound .tflite of the same model, or a recording: .h5 or .npz."
    )
    """The path or bytes of a sound .tflite file made from the same model, or the path of a
    recording."""
    against_runtime: str | None = option(
        metavar="RUNTIME", help="Compare with the same file under other kernels.", choices=RUNTIMES
    )
    """Other kernels to run the same file with, as the reference."""
    reference: str | ReferenceFunction | None = option(
        metavar="NAME",
        help="Compare with an emulation of TFLite in float arithmetic (emulated, float-ranges or "
        "fake-quant-ranges), or with your own function: package.module:function, or an entry "
        "point of the group tfldbg.references.",
        choices=EMULATIONS,
    )
    """An emulation to compare with, made from the file itself: ``"emulated"``, ``"float-ranges"``
    or ``"fake-quant-ranges"``.  Or your own function that maps inputs by name, (n, ...) float32 in
    real units, to tensors by name, whose first axis is samples; or the function's name: an entry
    point of the group ``tfldbg.references``, or ``"module:function"``."""
    unsafe: bool = option(
        default=False,
        help="Allow a Keras file or SavedModel that can run code (Lambda layers, foreign classes) "
        "or access other files.",
    )
    """True to allow Keras files and SavedModels that can run code or access other files."""
    cached: bool = option(
        default=True,
        names=("--no-cache",),
        read=lambda off: not off,
        help="Load the Keras model again, and cache nothing of it for the next run.",
    )
    """False to load the Keras model without the cache of earlier runs, and to cache nothing of it;
    ``tfldbg cache`` shows the folder."""

    @property
    def kind(self) -> KindName:
        """The kind of reference.

        Raises:
            UsageError: There are several references.
        """
        given = self.given
        if len(given) > 1:
            raise UsageError(
                f"a trace has one reference, and there are {len(given)}: {', '.join(given)}",
                hint="give one of them, and run again with the other",
            )
        if self.keras is not None:
            return "keras"
        if self.against is not None:
            return "capture" if is_recording(self.against) else "tflite"
        if self.against_runtime is not None:
            return "runtime"
        if self.reference is None:
            return "self"
        return "emulation" if self.reference in EMULATIONS else "function"

    @property
    def named(self) -> Any:
        """The reference as it was given: a path, a name or an object; None for the file itself."""
        return next(iter(self._references.values()), None)

    @property
    def given(self) -> tuple[str, ...]:
        """The options given that name a reference."""
        return tuple(self._references)

    @property
    def _references(self) -> dict[str, Any]:
        """The references by option."""
        every = {
            "--keras": self.keras,
            "--against": self.against,
            "--against-runtime": self.against_runtime,
            "--reference": self.reference,
        }
        return {name: value for name, value in every.items() if value is not None}


def is_recording(source: object) -> bool:
    """Return whether a reference is the path of a recording, not of a model."""
    return isinstance(source, (str, Path)) and Path(source).suffix.lower() in RECORDINGS
