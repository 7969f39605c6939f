"""What a reference is like, as far as judging an operator depends on it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a reference is like.  Nothing that judges asks for the kind of reference."""

    exists: bool = True
    """False for a recording of one side alone."""
    of_the_file: bool = False
    """Both sides have the constants, the ranges and the options of the traced file."""
    rounds: bool = False
    """Its values are rounded to codes, as TFLite rounds."""
    kernels: bool = False
    """Kernels computed both sides, and may round in different ways; neither is right by itself."""
    recorded: bool = False
    """Its values were recorded, perhaps on another device."""
    other_file: bool = False
    """It is another .tflite file, given the same inputs."""
    full_precision: bool = False
    """Its constants were never rounded: a graph of the framework that trained the model."""
    has_insides: bool = False
    """What loops, branches and composites run can be compared with their float arithmetic."""
    divisible: bool = False
    """Its operators can be computed on other values than those of a run."""

    @property
    def own_constants(self) -> bool:
        """Whether it has constants and ranges of its own to compare the file's with."""
        return self.full_precision or self.other_file


NO_REFERENCE = Traits(exists=False)
ITSELF = Traits(of_the_file=True, has_insides=True, divisible=True)
"""The file's own float arithmetic."""
