"""The traits of a reference on which the judgement of an operator depends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """The traits of a reference.  The diagnosis depends on these, not on the kind of reference."""

    exists: bool = True
    """True if there is a reference; false for a recording of one side alone."""
    of_the_file: bool = False
    """True if both sides have the constants, the ranges and the options of the traced file."""
    rounds: bool = False
    """True if its values are rounded to codes, as TFLite rounds."""
    kernels: bool = False
    """True if kernels computed both sides: they may round differently, and neither is the truth."""
    recorded: bool = False
    """True if its values were recorded, perhaps on another device."""
    other_file: bool = False
    """True if it is another .tflite file, given the same inputs."""
    full_precision: bool = False
    """True if its constants were never rounded: a graph of the framework that trained the model."""
    has_insides: bool = False
    """True if the subgraphs of loops, branches and composites can be compared with their float
    arithmetic."""
    divisible: bool = False
    """True if its operators can be computed on other values than those of a run."""

    @property
    def own_constants(self) -> bool:
        """True if it has constants and ranges of its own to compare the file's with."""
        return self.full_precision or self.other_file


NO_REFERENCE = Traits(exists=False)
ITSELF = Traits(of_the_file=True, has_insides=True, divisible=True)
"""The file's own float arithmetic."""
