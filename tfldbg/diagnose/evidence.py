"""The measurements of a trace, before the diagnosis.  Plain data that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tfldbg.compare.accumulate import TensorStats
from tfldbg.compare.constants.checks import WeightCheck
from tfldbg.compare.outputs import OutputStats
from tfldbg.compare.patterns import Pattern
from tfldbg.compare.relation import Port, Recording
from tfldbg.compare.tally import Split
from tfldbg.compare.trials import Trial
from tfldbg.compare.usage import Usage
from tfldbg.diagnose.bounds import Bound
from tfldbg.diagnose.model import Finding
from tfldbg.diagnose.traits import NO_REFERENCE, Traits
from tfldbg.graph.lint import Breach
from tfldbg.graph.query import Role
from tfldbg.options.against import ReferenceKind
from tfldbg.quant import Affine


@dataclass(frozen=True, slots=True)
class InputEvidence:
    """One input of the model."""

    tensor: int
    name: str
    scale: float | None
    zero_point: int | None
    parameters: str
    expected: tuple[float, int] | None
    first_reader: int | None
    """The first operator that reads it."""
    usage: Usage | None = None
    """The codes of the samples."""
    beyond: float | None = None
    """The share of the given real values, zeros left out, beyond the input's range; None if codes
    were given."""
    miscast: str | None = None
    """The conversion of the data to the recorded codes, if not by rounding."""
    trained: tuple[float, float] | None = None
    """The range that the reference's fake-quant learned, real units."""
    type: str | None = None
    """The TFLite type; None in recordings that do not hold it."""

    @property
    def affine(self) -> Affine | None:
        """The scale and zero point, or None without a single scale."""
        if self.scale is None or self.zero_point is None:
            return None
        return Affine(self.scale, self.zero_point)


@dataclass(frozen=True, slots=True)
class OpEvidence:
    """One operator output."""

    op: int
    kind: str
    tensor: int
    name: str
    type: str
    scale: float | None
    zero_point: int | None
    activation: bool
    """True if the output holds values of the network, which shapes do not."""
    reads: tuple[int, ...]
    """The tensor indices of the computed inputs."""
    weighted: bool
    """True if the operator has quantized or float constants."""
    reference: str | None
    match_rule: str | None
    match_confidence: float
    """1 for matches by name, less for matches by structure or numbers, 0 for unmatched tensors."""
    unmatched_reason: str | None
    parameters: str | None
    """As in `tfldbg.match.model.Match`, None for unmatched tensors."""
    expected: tuple[float, int] | None
    bound: Bound
    """The local error that arithmetic explains."""
    joint: tuple[int, ...]
    """The operators whose errors ``local`` measures together; empty if it is this operator
    alone."""
    local: TensorStats | None
    local_reason: str | None
    """The reason why there is no local error."""
    accumulated: TensorStats | None
    split: Split | None
    """The parts of the accumulated error, if the reference is the file's float copy."""
    nan: int
    """The number of NaN values that TFLite computes although no input of the operator holds one."""
    shape: tuple[int, ...]
    """The shape of the output at run time."""
    expected_shape: tuple[int, ...] | None
    """The shape of the reference, or the one that the file states, if it is another."""
    weights: WeightCheck | None
    breaches: tuple[Breach, ...]
    """The rules of the quantization specification that the operator breaks."""
    options: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    """The operator's options that are numbers, booleans or strings."""
    usage: Usage | None = None
    """The codes that TFLite computed, if the output is quantized."""
    trained: tuple[float, float] | None = None
    """The range that the reference's fake-quant learned, real units."""
    operation: str | None = None
    """The operation of the reference that computes it, if the reference has a graph."""
    stateful: bool = False
    """True if the operator keeps values from one run to the next."""
    marks: tuple[float, ...] = ()
    """The constant inputs that may be sentinels (`tfldbg.compare.ranges.fit.marks_of`)."""
    own: bool = False
    """True if ``local`` is against the file's own float arithmetic because the reference cannot
    judge the operator."""
    fed_alike: bool = False
    """True if neither side was run on the other's inputs, so that ``local`` covers the samples in
    which both sides read the same values; without ``local`` there is no such sample."""

    @property
    def affine(self) -> Affine | None:
        """The scale and zero point, or None without a single scale."""
        if self.scale is None or self.zero_point is None:
            return None
        return Affine(self.scale, self.zero_point)


@dataclass(frozen=True, slots=True)
class Delegated:
    """An external delegate and the operators that it computed."""

    path: str
    """The path of its shared library."""
    options: Mapping[str, str]
    """The options that it was given, by key."""
    operators: tuple[int, ...]
    """The operators of the original file that it computed."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run: the file, the reference, the data and the runtime."""

    model_path: str
    model_sha256: str
    reference_kind: ReferenceKind
    reference_path: str
    reference_sha256: str | None
    runtime: str
    signature: str | None
    samples: int
    data: str
    """The path of the data, ``"arrays"`` or ``"random"``."""
    seed: int | None
    observer_identical: bool
    observer_samples: int
    versions: dict[str, str]
    timing: dict[str, float]
    notes: tuple[str, ...]
    """Limitations of the run that a user should know."""
    stream_steps: int = 1
    """The number of consecutive samples that are the steps of one stream; 1 if samples are
    independent."""
    delegate: Delegated | None = None
    """The external delegate, if there was one."""
    reference_runtime: str | None = None
    """The runtime that computed the reference, if that is the same file under other kernels."""
    traits: Traits = NO_REFERENCE
    """The traits of the reference."""
    repair: str | None = None
    """The difference between the user's file, if the runtime refuses it, and the copy that ran."""

    @property
    def has_real_data(self) -> bool:
        """True if the samples are the user's; random ones say nothing about ranges."""
        return self.data != "random"

    @property
    def extent(self) -> str:
        """The number of samples and streams: ``25 samples: 2 streams of 10 steps and one of 5``."""
        said = f"{self.samples} samples"
        return said if self.stream_steps == 1 else f"{said}: {self.streams}"

    @property
    def streams(self) -> str:
        """The streams in words: ``2 streams of 10 steps and one of 5``."""
        whole, rest = divmod(self.samples, self.stream_steps)
        parts = [f"{whole} stream{'' if whole == 1 else 's'} of {self.stream_steps} steps"]
        if rest:
            parts = [
                *(parts if whole else []),
                f"one of {rest}" if whole else f"a stream of {rest}",
            ]
        return " and ".join(parts)

    def place(self, sample: int) -> str:
        """Return a sample in words: ``13``, or ``13 (stream 1, step 3)``; all counted from 0."""
        if self.stream_steps == 1:
            return str(sample)
        stream, step = divmod(sample, self.stream_steps)
        return f"{sample} (stream {stream}, step {step})"

    def computed_by(self, op: int) -> str:
        """Return the name, for messages, of the runtime or delegate that computed an operator."""
        taken = self.delegate is not None and op in self.delegate.operators
        return "the delegate" if taken else self.runtime


@dataclass(frozen=True, slots=True)
class Evidence:
    """All measurements of a trace."""

    run: Run
    inputs: tuple[InputEvidence, ...]
    ops: tuple[OpEvidence, ...]
    file: tuple[Finding, ...] = ()
    """The findings from the file alone."""
    ports: tuple[Port, ...] = ()
    recording: Recording | None = None
    trials: tuple[Trial, ...] = ()
    """The trials on the operators that differ."""
    patterns: tuple[Pattern, ...] = ()
    """The patterns in the errors of the operators that differ."""
    outputs: tuple[OutputStats, ...] = ()
    """The final outputs of every side."""
    tolerance: float | None = None
    """The tolerance of the final outputs in real units, if requested; None for the default."""
    measures: Mapping[str, Any] = field(default_factory=dict)
    """The results of additional measurements by name, see `tfldbg.measures`."""
    bodies: tuple[Body, ...] = ()
    """The subgraphs that the loops, branches and composites of the main subgraph run."""

    @property
    def quantized(self) -> bool:
        """True if any operator writes codes, so that errors are given in LSB."""
        return any(o.scale is not None for o in self.ops)

    @property
    def covered(self) -> frozenset[int]:
        """The operators that are checked, alone or together with operators after them."""
        traits = self.run.traits
        checked = [o for o in self.ops if o.local is not None]
        found = frozenset(o.op for o in checked).union(*(o.joint for o in checked))
        return found | self._seen_through if traits.of_the_file and not traits.rounds else found

    @property
    def _seen_through(self) -> frozenset[int]:
        """The operators in whose subgraphs every operator that ran is checked.

        Against another model this says nothing: the operators there may run other subgraphs.
        """
        ran: dict[int, list[Body]] = {}
        for body in self.bodies:
            if body.steps:
                ran.setdefault(body.op, []).append(body)
        return frozenset(op for op, parts in ran.items() if all(p.complete for p in parts))


@dataclass(frozen=True, slots=True)
class Body:
    """A subgraph that an operator runs, traced separately."""

    op: int
    """The operator of the main subgraph that runs it."""
    kind: str
    """WHILE, IF or STABLEHLO_COMPOSITE."""
    role: Role
    subgraph: int
    """The index of the subgraph, -1 if the operator names none."""
    samples: int
    """The number of samples on which the subgraph was traced."""
    steps: int
    """The number of times that it was run, over all samples."""
    identical: bool
    """True if, run separately, it computes the values of the operator: the same codes, and the same
    float values up to another order of sums."""
    reason: str | None
    """The reason why it could not be traced."""
    evidence: Evidence | None
    """The trace, None if there is a reason; operator and tensor numbers are those of its
    subgraph, and ``worst_sample`` counts a loop's steps."""

    @property
    def complete(self) -> bool:
        """True if every operator in it is checked."""
        if self.evidence is None or not self.identical:
            return False
        covered = self.evidence.covered
        return all(o.op in covered for o in self.evidence.ops if o.activation)
