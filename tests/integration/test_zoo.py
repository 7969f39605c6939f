"""QAT pairs of many architectures: everything matched, nothing called diverged; faults named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import tfldbg
from benchmarks import zoo
from sample_models import plant
from tests.sound import assert_sound
from tfldbg.reference.keras import load_live

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


@pytest.mark.parametrize("name", zoo.names("qat"))
def test_clean_pair_is_clean_and_fully_matched(name: str, pair: Callable[[str], zoo.Pair]) -> None:
    made = pair(name)
    result = tfldbg.trace(made.tflite, keras=made.keras, data=made.data)
    plain = result.to_dict()
    assert_sound(result, name)
    assert plain["coverage"]["unmatched"] == 0
    assert plain["coverage"]["matched"] == sum(o.activation for o in result.evidence.ops) > 0


@pytest.mark.parametrize("runtime", ["builtin", "reference"])
@pytest.mark.parametrize("name", ["inception", "unet", "mobilenet_v1"])
def test_other_kernels_are_clean_too(
    name: str, runtime: str, pair: Callable[[str], zoo.Pair]
) -> None:
    made = pair(name)
    result = tfldbg.trace(made.tflite, keras=made.keras, data=made.data, runtime=runtime)
    assert result.verdict == "clean", result.diagnosis.sentence


def _faults(file: plant.File) -> list[plant.Fault]:
    """One fault of each kind for each operator that can have it."""
    faults = []
    for op in range(len(file.subgraph.operators)):
        kind = file.kind(op)
        if kind in WEIGHTED:
            if file.is_constant(op, 2):
                faults.append(plant.Fault("zeroed bias", op, "", plant.zero_bias))
            faults.append(plant.Fault("negated channel", op, "", plant.negate_channel(1)))
        if kind in (*WEIGHTED, "ADD") and file.is_quantized(op):
            faults.append(plant.Fault("scale x 1.1", op, "", plant.scale_output(1.1)))
            faults.append(plant.Fault("zero point + 3", op, "", plant.shift_zero_point(3)))
        if kind == "ADD" and file.is_constant(op, 1):
            faults.append(plant.Fault("negated constant", op, "", plant.negate_constant))
        if kind == "CONCATENATION" and file.is_quantized(op):
            faults.append(plant.Fault("swapped inputs", op, "", plant.swap_inputs))
    return faults


CAUSES: dict[str, tuple[str | None, ...]] = {
    "zeroed bias": ("TFL052", "TFL044"),  # where a batch norm's beta was all that it held
    "negated channel": ("TFL052",),
    "scale x 1.1": (None, "TFL022", "TFL027"),  # what in the file contradicts it, if anything does
    "zero point + 3": (None, "TFL027"),
    # Where the reference's constant can be told, or one that is added is seen in the values.
    "negated constant": (None, "TFL049", "TFL052", "TFL061"),
    "swapped inputs": (None, "TFL049"),  # with more than three inputs no other order is tried
}
"""What may explain a planted fault, beyond what differs."""


def _cause(result: tfldbg.Trace) -> str | None:
    cause: str | None = result.to_dict()["first_divergence"]["cause"]
    return cause


@pytest.mark.parametrize(
    "name", ["conv", "residual", "inception", "ports", "reuse", "sequence", "leaky"]
)
def test_planted_fault_is_named(name: str, pair: Callable[[str], zoo.Pair]) -> None:
    made = pair(name)
    good = made.tflite.read_bytes()
    live = load_live(made.keras)
    wrong, ran = [], 0
    faults = _faults(plant.File(good))
    for fault in faults:
        broken = plant.apply(good, fault)
        try:
            result = tfldbg.trace(broken, keras=live, samples=4, runtime="builtin")
        except tfldbg.RunError as error:
            # The kernels refuse some wrong scales; then the message must name the operator.
            if f"without running it, operator {fault.op} " not in error.message:
                wrong.append((fault.name, fault.op, error.message))
            continue
        ran += 1
        if not result.origins or result.origins[0] != fault.op:
            wrong.append((fault.name, fault.op, result.origins))
        elif (
            _cause(result) not in CAUSES[fault.name] or result.diagnosis.findings[0].op != fault.op
        ):
            wrong.append((fault.name, fault.op, result.diagnosis.findings[0]))
    assert not wrong, f"{len(wrong)} of {len(faults)} faults"
    assert ran > len(faults) / 2


def test_a_fault_in_a_shared_layer_is_named_at_both_calls(
    pair: Callable[[str], zoo.Pair],
) -> None:
    made = pair("shared")
    good = made.tflite.read_bytes()
    calls = [i for i in range(8) if plant.File(good).kind(i) == "CONV_2D"]
    fault = plant.Fault("negated channel", calls[0], "", plant.negate_channel(1))
    result = tfldbg.trace(plant.apply(good, fault), keras=made.keras, samples=4)
    assert list(result.origins) == calls


def test_two_faults_are_both_named(pair: Callable[[str], zoo.Pair]) -> None:
    made = pair("residual")
    file = plant.File(made.tflite.read_bytes())
    convolutions = [i for i in range(9) if file.kind(i) == "CONV_2D"]
    plant.zero_bias(file, convolutions[1])
    plant.negate_channel(2)(file, convolutions[3])
    result = tfldbg.trace(file.save(), keras=made.keras, samples=4)
    assert result.origins == (convolutions[1], convolutions[3])


@pytest.mark.parametrize("name", ["conv", "residual", "inception", "unet", "mobilenet_v1"])
def test_stripped_names_still_match(name: str, pair: Callable[[str], zoo.Pair]) -> None:
    from ai_edge_litert.tools import flatbuffer_utils

    made = pair(name)
    file = plant.File(made.tflite.read_bytes())
    flatbuffer_utils.strip_strings(file.model)
    result = tfldbg.trace(file.save(), keras=made.keras, data=made.data)
    assert result.verdict == "clean", result.diagnosis.sentence
    assert result.to_dict()["coverage"]["unmatched"] == 0
