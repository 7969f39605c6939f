"""What was measured about a trace, before anybody judges it.  Plain data that JSON can hold."""

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
    """The codes that it was given."""
    beyond: float | None = None
    """Share of the given real values, zeros left out, beyond its range; None where it was given
    codes."""
    miscast: str | None = None
    """How the recorded codes were made of the data, where rounding did not make them."""
    trained: tuple[float, float] | None = None
    """The range that the reference's fake-quant learned, real units."""
    type: str | None = None
    """TFLite's; None in recordings that do not hold it."""

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
    """Whether the output holds values of the network; shapes are none."""
    reads: tuple[int, ...]
    """Tensor indices of the computed inputs."""
    weighted: bool
    """Whether it has quantized or float constants of its own."""
    reference: str | None
    match_rule: str | None
    match_confidence: float
    """1 for names, less where structure or numbers decided, 0 for unmatched tensors."""
    unmatched_reason: str | None
    parameters: str | None
    """As in `tfldbg.match.model.Match`, None for unmatched tensors."""
    expected: tuple[float, int] | None
    bound: Bound
    """How far arithmetic explains that the operator is off by itself."""
    joint: tuple[int, ...]
    """The operators whose errors ``local`` holds together, empty where it is this one alone."""
    local: TensorStats | None
    local_reason: str | None
    """Why there is no local error."""
    accumulated: TensorStats | None
    split: Split | None
    """What the accumulated error is made of, where the reference is the file's float copy."""
    nan: int
    """NaN values that TFLite itself yields while no input of the operator holds one."""
    shape: tuple[int, ...]
    """The shape that the output has when it runs."""
    expected_shape: tuple[int, ...] | None
    """Set where the reference, or what the file states, is another."""
    weights: WeightCheck | None
    breaches: tuple[Breach, ...]
    """Rules of the quantization specification that the operator breaks."""
    options: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    """The operator's options, as far as they are plain."""
    usage: Usage | None = None
    """The codes that TFLite yielded, where the output is quantized."""
    trained: tuple[float, float] | None = None
    """The range that the reference's fake-quant learned, real units."""
    operation: str | None = None
    """The reference's operation that computes it, where the reference has a graph."""
    stateful: bool = False
    """Whether the operator keeps values from one run to the next."""
    marks: tuple[float, ...] = ()
    """Constants among its inputs that may be sentinels (`tfldbg.compare.ranges.fit.marks_of`)."""
    own: bool = False
    """Whether ``local`` is against the file's own float arithmetic although there is another
    reference, which cannot judge the operator."""
    fed_alike: bool = False
    """Whether ``local`` is over the samples in which both sides read the same, none of them having
    been run on the other's inputs: without ``local``, they read other values in every sample."""

    @property
    def affine(self) -> Affine | None:
        """The scale and zero point, or None without a single scale."""
        if self.scale is None or self.zero_point is None:
            return None
        return Affine(self.scale, self.zero_point)


@dataclass(frozen=True, slots=True)
class Delegated:
    """What an external delegate did."""

    path: str
    """Its shared library."""
    options: Mapping[str, str]
    """What it was given, by key."""
    operators: tuple[int, ...]
    """The operators of the original file that it computed."""


@dataclass(frozen=True, slots=True)
class Run:
    """What was run, on what, with what."""

    model_path: str
    model_sha256: str
    reference_kind: ReferenceKind
    reference_path: str
    reference_sha256: str | None
    runtime: str
    signature: str | None
    samples: int
    data: str
    """Path of the data, ``"arrays"`` or ``"random"``."""
    seed: int | None
    observer_identical: bool
    observer_samples: int
    versions: dict[str, str]
    timing: dict[str, float]
    notes: tuple[str, ...]
    """What could not be done, as a user should know it."""
    stream_steps: int = 1
    """How many samples in a row are the steps of one stream; 1 where each stands alone."""
    delegate: Delegated | None = None
    """The external delegate, where there was one."""
    reference_runtime: str | None = None
    """Whose kernels computed the reference, where that is the same file under others."""
    traits: Traits = NO_REFERENCE
    """What the reference is like."""
    repair: str | None = None
    """How the copy that ran differs from the user's file, which the runtime refuses."""

    @property
    def has_real_data(self) -> bool:
        """Whether the samples are the user's: random ones say nothing about ranges."""
        return self.data != "random"

    @property
    def extent(self) -> str:
        """``64 samples``, or ``25 samples: 2 streams of 10 steps and one of 5``."""
        said = f"{self.samples} samples"
        return said if self.stream_steps == 1 else f"{said}: {self.streams}"

    @property
    def streams(self) -> str:
        """``2 streams of 10 steps and one of 5``."""
        whole, rest = divmod(self.samples, self.stream_steps)
        parts = [f"{whole} stream{'' if whole == 1 else 's'} of {self.stream_steps} steps"]
        if rest:
            parts = [
                *(parts if whole else []),
                f"one of {rest}" if whole else f"a stream of {rest}",
            ]
        return " and ".join(parts)

    def place(self, sample: int) -> str:
        """``13``, or ``13 (stream 1, step 3)``; all are counted from 0."""
        if self.stream_steps == 1:
            return str(sample)
        stream, step = divmod(sample, self.stream_steps)
        return f"{sample} (stream {stream}, step {step})"

    def computed_by(self, op: int) -> str:
        """How messages call who computed an operator."""
        taken = self.delegate is not None and op in self.delegate.operators
        return "the delegate" if taken else self.runtime


@dataclass(frozen=True, slots=True)
class Evidence:
    """A whole trace."""

    run: Run
    inputs: tuple[InputEvidence, ...]
    ops: tuple[OpEvidence, ...]
    file: tuple[Finding, ...] = ()
    """What the file alone betrays."""
    ports: tuple[Port, ...] = ()
    recording: Recording | None = None
    trials: tuple[Trial, ...] = ()
    """What was tried on the operators that differ."""
    patterns: tuple[Pattern, ...] = ()
    """What explains the errors of the operators that differ."""
    outputs: tuple[OutputStats, ...] = ()
    """The final outputs of every side."""
    tolerance: float | None = None
    """Of the final outputs, real units, if asked for; None stands for the default."""
    measures: Mapping[str, Any] = field(default_factory=dict)
    """By name the results of what else was measured, see `tfldbg.measures`."""
    bodies: tuple[Body, ...] = ()
    """What the loops, branches and composites of the main subgraph run."""

    @property
    def quantized(self) -> bool:
        """Whether any operator writes codes, so that errors are told in LSB."""
        return any(o.scale is not None for o in self.ops)

    @property
    def covered(self) -> frozenset[int]:
        """The operators that are checked, alone or together with the ones behind them."""
        traits = self.run.traits
        checked = [o for o in self.ops if o.local is not None]
        found = frozenset(o.op for o in checked).union(*(o.joint for o in checked))
        return found | self._seen_through if traits.of_the_file and not traits.rounds else found

    @property
    def _seen_through(self) -> frozenset[int]:
        """The operators of whose subgraphs every operator is checked that ran.

        Against another model that says nothing: what they run may be another there.
        """
        ran: dict[int, list[Body]] = {}
        for body in self.bodies:
            if body.steps:
                ran.setdefault(body.op, []).append(body)
        return frozenset(op for op, parts in ran.items() if all(p.complete for p in parts))


@dataclass(frozen=True, slots=True)
class Body:
    """A subgraph that an operator runs, traced by itself."""

    op: int
    """The operator of the main subgraph that runs it."""
    kind: str
    """WHILE, IF or STABLEHLO_COMPOSITE."""
    role: Role
    subgraph: int
    """-1 where the operator names none."""
    samples: int
    """Those that the operator was looked into on."""
    steps: int
    """How often it was run, all samples together."""
    identical: bool
    """Whether, run by itself, it ends at the values that the operator yields: codes to the bit,
    float values up to another order of sums."""
    reason: str | None
    """Why it could not be traced."""
    evidence: Evidence | None
    """The trace, None where there is a reason; operator and tensor numbers are those of its
    subgraph, and ``worst_sample`` counts a loop's steps."""

    @property
    def complete(self) -> bool:
        """Whether every operator in it is checked."""
        if self.evidence is None or not self.identical:
            return False
        covered = self.evidence.covered
        return all(o.op in covered for o in self.evidence.ops if o.activation)
