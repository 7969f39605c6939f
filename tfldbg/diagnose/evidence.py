"""What was measured about a trace, before anybody judges it.  Plain data that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tfldbg.compare.accumulate import TensorStats
from tfldbg.compare.checks import WeightCheck
from tfldbg.compare.relation import Port, Recording
from tfldbg.compare.stream import Split
from tfldbg.compare.trials import Trial
from tfldbg.compare.usage import Usage
from tfldbg.diagnose.bounds import Bound
from tfldbg.diagnose.model import Finding
from tfldbg.graph.lint import Breach


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


@dataclass(frozen=True, slots=True)
class Run:
    """What was run, on what, with what."""

    model_path: str
    model_sha256: str
    reference_kind: str
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

    @property
    def covered(self) -> frozenset[int]:
        """The operators that are checked, alone or together with the ones behind them."""
        checked = [o for o in self.ops if o.local is not None]
        return frozenset(o.op for o in checked).union(*(o.joint for o in checked))
