"""Which fault a file of the matrix gets: those of the campaign and some for rarer operators."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from benchmarks import proposals
from benchmarks.matrix.third_hand import Ran, differs, run, runs_fast
from benchmarks.proposals import Proposal
from sample_models import plant
from sample_models.plant import Fault, File

EXCHANGED = {
    "ABS": "NEG",
    "ARG_MAX": "ARG_MIN",
    "ARG_MIN": "ARG_MAX",
    "CEIL": "FLOOR",
    "COS": "SIN",
    "ELU": "RELU",
    "EXP": "ABS",
    "FLOOR": "CEIL",
    "HARD_SWISH": "RELU",
    "LOG": "ABS",
    "LOGISTIC": "TANH",
    "MAXIMUM": "MINIMUM",
    "MINIMUM": "MAXIMUM",
    "NEG": "ABS",
    "REDUCE_MIN": "REDUCE_MAX",
    "ROUND": "FLOOR",
    "RSQRT": "SQRT",
    "SIN": "COS",
    "SQRT": "RSQRT",
    "SQUARE": "ABS",
    "SUM": "MEAN",
    "TANH": "LOGISTIC",
}
"""Operators and another that takes the same inputs."""
TABLES = {
    "BATCH_MATMUL": (0, 1),
    "CONV_3D": (1,),
    "CONV_3D_TRANSPOSE": (1,),
    "EMBEDDING_LOOKUP": (1,),
    "GATHER": (0,),
    "PRELU": (1,),
}
"""Operators whose constant inputs hold trained values, besides those of the campaign."""
SELECTING = ("SELECT", "SELECT_V2")
RECALIBRATED = ("output scale", "zero point", "copied scale")
"""Kinds that make a post-training file that is as right as before, only calibrated otherwise."""
TRIES = 24
"""Faults that are tried until one changes a value."""


def plant_one(
    good: bytes, form: str, seed: int, data: Mapping[str, np.ndarray], sound: Ran
) -> tuple[Fault, str, bytes] | None:
    """Plant the first fault, in an order that the seed gives, that changes its operator's output.

    Returns:
        The fault, the operator's kind, and the broken file; None where no fault suits.
    """
    file = File(good)
    for fault in shuffled(good, form, seed)[:TRIES]:
        own = [int(i) for i in file.op(fault.op).outputs]
        try:
            broken = plant.apply(good, fault)
            # Parts that are added up, or multiplied, may change places.
            ends = [int(i) for i in file.model.subgraphs[0].outputs]
            seen = ends if fault.name == "outputs swapped" else own
            changed = differs(sound, run(broken, data), seen)
        except Exception:  # noqa: S112  (the fault does not suit the file: another is tried)
            continue
        if changed and runs_fast(broken, data):
            return fault, file.kind(fault.op), broken
    return None


def shuffled(good: bytes, form: str, seed: int) -> list[Fault]:
    """Return every fault that fits the file, in an order that the seed gives.

    Faults of the layer's own operators tend to come before those of the layers around it.
    """
    file = File(good)
    faults = [f for f in (*proposals.faults_for(file), *_more(file)) if _computes(file, f.op)]
    if form != "qat":
        faults = [f for f in faults if not f.name.startswith(RECALIBRATED)]
    chance = random.Random(seed)  # noqa: S311
    own_first = chance.random() < 0.7
    ops = sorted({f.op for f in faults})
    place = {op: (own_first and _around(file, op), chance.random()) for op in ops}
    chance.shuffle(faults)
    # One fault of each operator before a second one of any.
    turn: dict[int, int] = {}
    ranked = []
    for fault in faults:
        turn[fault.op] = turn.get(fault.op, -1) + 1
        ranked.append((turn[fault.op], place[fault.op], fault))
    ranked.sort(key=lambda r: r[:2])
    return [fault for *_, fault in ranked]


def _computes(file: File, op: int) -> bool:
    """Whether an operator computes values of the network; whole numbers are shapes and indices."""
    return file.output(op).type not in (schema.TensorType.INT32, schema.TensorType.INT64)


def _around(file: File, op: int) -> bool:
    """Whether an operator belongs to the layer before or behind what is tested."""
    name = file.output(op).name.decode()
    return "before" in name or "after" in name


def _more(file: File) -> Iterator[Fault]:
    for op in filter(file.writes, range(file.count)):
        for kind, detail, change in (*_exchanged(file, op), *_values(file, op), *_order(file, op)):
            yield Fault(kind, op, detail, change, alone=True)


def _exchanged(file: File, op: int) -> Iterator[Proposal]:
    kind = file.kind(op)
    if kind in EXCHANGED:
        yield "function exchanged", EXCHANGED[kind], plant.set_kind(EXCHANGED[kind])
    if kind == "GELU":
        now = bool(file.op(op).builtinOptions.approximate)
        yield "gelu approximation", f"was {now}", plant.set_option("approximate", not now)
    if kind == "CUMSUM":
        now = bool(file.op(op).builtinOptions.reverse)
        yield "cumsum reversed", f"was {now}", plant.set_option("reverse", not now)
    if kind == "MIRROR_PAD":
        mode = 1 - int(file.op(op).builtinOptions.mode)
        yield "padding mode", f"to {mode}", plant.set_option("mode", mode)
    if kind == "LEAKY_RELU":
        yield "activation changed", "to RELU", plant.set_kind("RELU")


def _values(file: File, op: int) -> Iterator[Proposal]:
    for number in TABLES.get(file.kind(op), ()):
        if file.holder(op, number) is None or not np.any(file.values(op, number)):
            continue
        yield "table negated", f"input {number}", plant.negate_constant_input(number)
        if len(file.values(op, number)) > 1:
            yield "table rolled", f"input {number}", _roll(number)


def _roll(number: int) -> plant.Change:
    def change(file: File, op: int) -> None:
        file.set_values(op, number, np.roll(file.values(op, number), 1, 0))

    return change


def _order(file: File, op: int) -> Iterator[Proposal]:
    kind, inputs = file.kind(op), [int(i) for i in file.op(op).inputs]
    branches = inputs[1:3] if kind in SELECTING else [0, 0]
    if branches[0] != branches[1] and file.shape(branches[0]) == file.shape(branches[1]):
        yield "inputs swapped", "the branches", plant.swap_inputs_at(1, 2)
    if kind == "PACK" and len(inputs) > 1 and inputs[0] != inputs[1]:
        yield "inputs swapped", "the first two", plant.swap_inputs_at(0, 1)
    if kind == "BATCH_MATMUL":
        *_, rows, columns = file.input(op, 1).shape
        if rows == columns:
            flag = not file.op(op).builtinOptions.adjY
            yield "operand transposed", "the second", plant.set_option("adjY", flag)
    if kind in ("SPLIT", "SPLIT_V", "UNPACK"):
        outputs = [int(i) for i in file.op(op).outputs]
        shapes = [file.shape(i) for i in outputs[:2]]
        if len(outputs) > 1 and shapes[0] == shapes[1]:
            yield "outputs swapped", "the first two", _swap_outputs


def _swap_outputs(file: File, op: int) -> None:
    outputs = list(file.op(op).outputs)
    outputs[0], outputs[1] = outputs[1], outputs[0]
    file.op(op).outputs = outputs
