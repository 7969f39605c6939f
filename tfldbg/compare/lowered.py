"""A frozen Keras model as float programs, which compute what TensorFlow does without TensorFlow.

Each operation of the model becomes float .tflite operators with the model's own constants.  On the
first sample every operation must compute what TensorFlow computes from the same values; otherwise
the model stays with TensorFlow.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfldbg.compare.alike import differing
from tfldbg.compare.batch import Computed, as_floats
from tfldbg.compare.float_kernels import XNNPACK
from tfldbg.compare.runs import as_it_ran
from tfldbg.errors import KerasError, RunError
from tfldbg.lower.lowering import NotLoweredError
from tfldbg.lower.operations import Operations, operation_of
from tfldbg.lower.program import Lowered, Lowering
from tfldbg.reference.evaluate import evaluate_once, in_reference_order
from tfldbg.reference.graphdef import FAKE_QUANT_OPS, node_of
from tfldbg.run.derived import DerivedRunner, derived_program

if TYPE_CHECKING:
    from tfldbg.compare.batch import Batch
    from tfldbg.compare.keras_reference import KerasReference
    from tfldbg.compare.relation import Relation
    from tfldbg.reference.evaluate import Floats, Frozen, Segment
    from tfldbg.reference.graphdef import RefGraph
    from tfldbg.run.job import Job
    from tfldbg.run.samples import Samples

_AGREES = 1e-4
"""The share of the largest value up to which a value is the same in float32."""
_STEPS_ALONE, _STEPS_INSIDE = 1e-4, 1e-2
"""The share of values that may differ by more where fake-quant rounds, as a difference in the last
bit may become a step: of a fake-quant alone, and of an operator that holds one."""
_MANY_OUTPUTS: Mapping[str, str] = {"Split": "num_split", "SplitV": "num_split", "Unpack": "num"}


class LoweredReference:
    """The float programs of a model: running free, and each operator for itself.

    It can be pickled.

    Args:
        free: The program of the whole model.
        local: The program of the single operators.
        relation: The relation of the model to the traced file.
        segments: The operators, by output tensor of the traced file.
        samples: The inputs of both sides.
        dtypes: The types of the model's inputs.

    Raises:
        RunError: The runtime refuses a program.
    """

    batch: int | None = None
    in_batches = False

    def __init__(
        self,
        free: Lowered,
        local: Lowered | None,
        relation: Relation,
        segments: Mapping[int, Segment],
        samples: Samples,
        dtypes: Sequence[str],
    ) -> None:
        self._samples, self._dtypes = samples, tuple(dtypes)
        self._order = relation.matching.inputs
        self._local = None
        with ExitStack() as stack:
            matched = tuple(relation.matching.matches)
            self._free = _FloatProgram("the lowered model", free, matched)
            stack.callback(self._free.close)
            if local is not None:
                self._local = _FloatProgram("the lowered operators", local, tuple(segments))
            stack.pop_all()

    def compute(self, batch: Batch) -> Computed:
        """Compute one batch.

        Raises:
            RunError: The runtime crashes.
        """
        given = in_reference_order(self._order, self._samples.real(batch.start, batch.stop))
        typed = zip(given, self._dtypes, strict=True)
        inputs = {-1 - n: array.astype(dtype) for n, (array, dtype) in enumerate(typed)}
        codes: Any = ChainMap(inputs, batch.codes)  # type: ignore[arg-type]
        real: Any = ChainMap(inputs, batch.real)  # type: ignore[arg-type]
        free = dict(self._free.run(codes, real, batch.count))
        local = {} if self._local is None else dict(self._local.run(codes, real, batch.count))
        return Computed({i: v for i, v in free.items() if i in batch.real}, local)

    def close(self) -> None:
        """Release the programs."""
        self._free.close()
        if self._local is not None:
            self._local.close()


class _FloatProgram:
    """One float program, and the tensors of the traced file that its outputs are compared with."""

    def __init__(self, name: str, lowered: Lowered, results: tuple[int, ...]) -> None:
        self._results = results
        program = derived_program(name, lowered.content, lowered.taps, XNNPACK)
        self._runner = DerivedRunner(program, lowered.feeds)

    def run(
        self, codes: Mapping[int, NDArray[Any]], real: Mapping[int, NDArray[Any]], count: int
    ) -> Iterator[tuple[int, Floats]]:
        """Yield the values (count, ...) by tensor."""
        values = self._runner.run(codes, real, count)
        for index, value in zip(self._results, values, strict=True):
            yield index, as_floats(value)

    def close(self) -> None:
        self._runner.close()


def lowered_reference(
    frozen: Frozen,
    relation: Relation,
    segments: Mapping[int, Segment],
    job: Job,
    reference: KerasReference,
    first: Batch,
) -> tuple[LoweredReference | None, str]:
    """Lower a model, and compare it with TensorFlow on the first sample.

    Args:
        frozen: The model.
        relation: Its relation to the traced file.
        segments: Its operators, by output tensor of the traced file.
        job: The traced file.
        reference: The same model under TensorFlow.
        first: The first sample alone.

    Returns:
        The lowered model; or None, and the reason why it stays with TensorFlow.
    """
    if frozen.batch not in (None, 1):
        return None, f"the model takes {frozen.batch} samples at a time"
    matches = relation.matching.matches
    fetches = [match.node for match in matches.values()]
    inputs = in_reference_order(relation.matching.inputs, job.samples.real(0, 1))
    tensors = [as_it_ran(tensor, first) for tensor in job.subgraph.tensors]
    try:
        operations = _operations(frozen, fetches, segments, inputs)
        _check_operations(operations, frozen.graph.inputs, fetches)
        whole, parts = Lowering(operations, tensors), Lowering(operations, tensors)
        free = whole.finish(whole.free(frozen.graph.inputs, fetches))
        single = [parts.segment(segment) for segment in segments.values()]
        local = parts.finish(single) if single else None
        types = frozen.input_dtypes
        made = LoweredReference(free, local, relation, segments, job.samples, types)
    except (NotLoweredError, KerasError, RunError) as error:
        return None, str(error)
    with ExitStack() as stack:
        stack.callback(made.close)
        try:
            rounding = frozenset(i for i, s in segments.items() if _rounds(operations, s))
            _check_segments(made.compute(first).local, reference.compute(first).local, rounding)
        except (NotLoweredError, RunError) as error:
            return None, str(error)
        stack.pop_all()
    return made, ""


def _operations(
    frozen: Frozen,
    fetches: Sequence[str],
    segments: Mapping[int, Segment],
    inputs: Sequence[NDArray[Any]],
) -> Operations:
    """Return the operations that are needed, with the values of one sample.

    Raises:
        KerasError: TensorFlow cannot compute the sample.
    """
    graph = frozen.graph
    protos = {node.name: node for node in frozen.graph_def.node}
    needed = _needed(graph, [*fetches, *(segment.output for segment in segments.values())])
    operations = {name: operation_of(protos[name]) for name in needed}
    tensors = dict.fromkeys((*fetches, *(name for s in segments.values() for name in s.cuts)))
    for name, operation in operations.items():
        count = operation.attributes.get(_MANY_OUTPUTS.get(operation.kind, ""), 1)
        ports = range(1, int(count)) if isinstance(count, int) else ()
        tensors |= dict.fromkeys((name, *(f"{name}:{port}" for port in ports)))
        tensors |= dict.fromkeys(operation.inputs)
    values, _ = evaluate_once(frozen, list(tensors), inputs)
    return Operations(
        operations,
        dict(zip(tensors, values, strict=True)),
        frozenset(map(node_of, tensors)) - graph.activations,
    )


def _needed(graph: RefGraph, tensors: Sequence[str]) -> list[str]:
    """Return the names of the activations that some tensors are computed from."""
    found: dict[str, None] = {}
    stack = [node_of(tensor) for tensor in tensors]
    while stack:
        name = stack.pop()
        if name in found or name not in graph.activations:
            continue
        found[name] = None
        stack += graph.nodes[name].sources
    return list(found)


def _check_operations(
    operations: Operations, inputs: Sequence[str], fetches: Sequence[str]
) -> None:
    """Compare each fetch, computed from TensorFlow's values of those before it, with TensorFlow's.

    What fake-quant rounds is a fetch, too.  Otherwise a difference in the last bit could become a
    step, and deep networks multiply steps.

    Raises:
        NotLoweredError: A value differs.
        RunError: The runtime refuses the program.
    """
    rounded = (o.inputs[0] for o in operations.operations.values() if o.kind in FAKE_QUANT_OPS)
    known = dict.fromkeys(f for f in (*fetches, *rounded) if f not in inputs)
    fetches = [name for name in known if not operations.is_constant(name)]
    lowering = Lowering(operations, ())
    program = lowering.finish(lowering.between(inputs, fetches))
    values = {-1 - n: operations.values[name] for n, name in enumerate((*inputs, *fetches))}
    given = {key: array[np.newaxis] for key, array in values.items()}
    name = "the operations of the lowered model"
    runner = DerivedRunner(
        derived_program(name, program.content, program.taps, XNNPACK), program.feeds
    )
    try:
        found = [np.array(values) for values in runner.run(given, given, 1)]
    finally:
        runner.close()
    for name, ours in zip(fetches, found, strict=True):
        wanted = operations.values[name]
        rounds = operations.operations[node_of(name)].kind in FAKE_QUANT_OPS
        few = _STEPS_ALONE * wanted.size if rounds else 0
        if not _is_same(ours, wanted, few):
            raise NotLoweredError(f"'{name}' differs")


def _check_segments(
    mine: Mapping[int, Floats], theirs: Mapping[int, Floats], rounding: frozenset[int]
) -> None:
    """Compare the results of single operators with TensorFlow's.

    Args:
        mine: The results of the programs, by tensor.
        theirs: TensorFlow's.
        rounding: The tensors whose operators hold a fake-quant.

    Raises:
        NotLoweredError: A result differs.
    """
    for index, wanted in theirs.items():
        ours = mine[index]
        few = _STEPS_INSIDE * wanted.size if index in rounding else 0
        if not _is_same(ours, wanted, few):
            raise NotLoweredError(f"tensor {index} differs, computed on given inputs")


def _rounds(operations: Operations, segment: Segment) -> bool:
    """Return whether a segment holds a fake-quant of values that it computes."""
    between = operations.between(segment.output, segment.cuts)
    return any(operation.kind in FAKE_QUANT_OPS for operation in between)


def _is_same(ours: NDArray[Any], wanted: NDArray[Any], few: float) -> bool:
    """Return whether values are the same but for float32 rounding, apart from a few."""
    if ours.size != wanted.size:
        return False
    return differing(ours.reshape(wanted.shape), wanted, _AGREES) <= few
