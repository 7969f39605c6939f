"""Recurrent networks: unrolled, fused and looped; step by step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tfldbg
from benchmarks import zoo
from sample_models import plant
from tests.integration.test_cli import tfldbg as command
from tests.loop_file import LOOP, STEPS, loop_file
from tests.schema import assert_documented
from tfldbg.graph.load import load_graph
from tfldbg.graph.steps import unrolled
from tfldbg.reference.keras import load_live

UNROLLED = ("lmu_ptq", "gru_unrolled_ptq")


@pytest.mark.parametrize("name", UNROLLED)
def test_an_unrolled_network_is_clean_step_by_step(
    name: str, pair: Callable[[str], zoo.Pair]
) -> None:
    made = pair(name)
    result = tfldbg.trace(made.tflite, keras=made.keras, data=made.data, by_step=True)
    assert result.verdict == "clean", result.diagnosis.sentence
    assert "unchecked" not in _statuses_of_activations(result)
    assert_documented(result.to_dict())
    steps = result.to_dict()["steps"]
    assert [s["step"] for s in steps] == list(range(6))
    alone = (o.local.max_lsb for o in result.evidence.ops if o.local and not o.joint)
    assert all((lsb or 0) <= 0.75 for lsb in alone)
    assert all(0 < s["max_local_lsb"] <= 1.5 for s in steps)  # two that are checked together
    assert all(s["worst_op"] in s["ops"] for s in steps)
    assert steps[-1]["max_accumulated_lsb"] > steps[0]["max_local_lsb"]


def _statuses_of_activations(result: tfldbg.Trace) -> list[str]:
    pairs = zip(result.evidence.ops, result.diagnosis.statuses, strict=True)
    return [status for op, status in pairs if op.activation]


@pytest.mark.parametrize("name", UNROLLED)
def test_a_fault_in_shared_weights_is_named_where_they_are_first_read(
    name: str, pair: Callable[[str], zoo.Pair]
) -> None:
    made = pair(name)
    good = made.tflite.read_bytes()
    main = load_graph(good).main
    (recurrence,) = unrolled(main)
    live = load_live(made.keras)
    for weights in recurrence.weights:
        readers = tuple(o.index for o in main.operators if weights in o.inputs)
        fault = plant.Fault("negated channel", readers[0], "", plant.negate_channel(0))
        broken = plant.apply(good, fault)
        result = tfldbg.trace(broken, keras=live, data=made.data, by_step=True)
        assert result.origins == readers
        first = next(
            s for s in result.evidence.measures.get("steps") or () if set(readers) & set(s.ops)
        )
        assert first.step == 6 - len(readers)


def test_a_fault_in_one_step_is_named_there(pair: Callable[[str], zoo.Pair]) -> None:
    made = pair("lmu_ptq")
    good = made.tflite.read_bytes()
    (recurrence,) = unrolled(load_graph(good).main)
    file = plant.File(good)
    reader = next(o for o in recurrence.steps[3] if file.kind(o) == "FULLY_CONNECTED")
    fault = plant.Fault("negated", reader, "", plant.negate_channel(0), alone=True)
    broken = plant.apply(good, fault)
    result = tfldbg.trace(broken, keras=made.keras, data=made.data, by_step=True)
    assert result.origins == (reader,)
    steps = result.evidence.measures.get("steps") or ()
    wrong = next(s for s in steps if reader in s.ops)
    assert wrong.worst_op == reader and (wrong.max_local_lsb or 0) > 0.75
    assert all((s.max_local_lsb or 0) <= 0.75 for s in steps if s is not wrong)


@pytest.mark.parametrize("against_keras", [False, True])
def test_a_fused_lstm_has_an_error_for_every_step(
    against_keras: bool, pair: Callable[[str], zoo.Pair]
) -> None:
    made = pair("lstm_sequences_ptq")
    keras = made.keras if against_keras else None
    result = tfldbg.trace(made.tflite, keras=keras, data=made.data, by_step=True)
    assert result.verdict == "clean", result.diagnosis.sentence
    steps = result.evidence.measures.get("steps") or ()
    assert [s.ops for s in steps] == [(0, 1, 2)] * 6
    assert all(0 < (s.max_local_lsb or 0) < 8 and s.max_accumulated_lsb for s in steps)


def test_a_fault_in_a_fused_lstm_is_not_charged_to_the_layer_behind(
    pair: Callable[[str], zoo.Pair],
) -> None:
    made = pair("lstm_sequences_ptq")
    file = plant.File(made.tflite.read_bytes())
    bias = file.values(0, plant.LSTM_FORGET_BIAS)
    file.set_values(0, plant.LSTM_FORGET_BIAS, np.zeros_like(bias))
    result = tfldbg.trace(file.save(), keras=made.keras, data=made.data)
    assert result.origins == (0,), result.diagnosis.sentence


def test_what_follows_a_fused_lstm_is_matched_to_its_saved_model(
    pair: Callable[[str], zoo.Pair], tmp_path: Path
) -> None:
    made = pair("lstm_sequences_ptq")
    load_live(made.keras).save(tmp_path / "saved", save_format="tf")
    result = tfldbg.trace(made.tflite, keras=tmp_path / "saved", data=made.data)
    assert result.verdict == "clean", result.diagnosis.sentence
    unmatched = [o.kind for o in result.evidence.ops if o.activation and o.reference is None]
    assert not unmatched


@pytest.mark.parametrize("against_keras", [False, True])
def test_a_converted_loop_is_checked_inside(
    against_keras: bool, pair: Callable[[str], zoo.Pair]
) -> None:
    made = pair("elman_dynamic")
    keras = made.keras if against_keras else None
    result = tfldbg.trace(made.tflite, keras=keras, data=made.data, by_step=True)
    assert result.verdict == "clean", result.diagnosis.sentence
    assert "unchecked" not in _statuses_of_activations(result)
    bodies = result.evidence.bodies
    assert [(b.role, b.samples, b.steps, b.identical) for b in bodies] == [
        ("cond", 4, 28, True),
        ("body", 4, 28, True),
    ]
    assert all(b.complete for b in bodies)
    steps = result.evidence.measures.get("steps") or ()
    assert len(steps) == 7
    assert all(s.max_local_abs and s.worst_body_op is not None for s in steps)
    if against_keras:
        assert all(s.max_accumulated_abs for s in steps)


def test_other_weights_inside_a_loop_are_charged_to_the_loop(
    pair: Callable[[str], zoo.Pair],
) -> None:
    made = pair("elman_dynamic")
    file = plant.File(made.tflite.read_bytes())
    file.subgraph = file.model.subgraphs[2]
    recurrent = next(i for i in range(file.count) if file.kind(i) == "FULLY_CONNECTED")
    plant.negate_channel(0)(file, recurrent)
    result = tfldbg.trace(file.save(), keras=made.keras, data=made.data)
    assert result.origins[0] == 1
    assert result.first_divergence is not None and result.first_divergence.kind == "WHILE"


@pytest.mark.parametrize("runtime", ["xnnpack", "builtin", "reference"])
@pytest.mark.parametrize("quantized", [True, False])
def test_a_sound_loop_is_clean(quantized: bool, runtime: str) -> None:
    result = tfldbg.trace(loop_file(quantized=quantized), samples=3, runtime=runtime, by_step=True)
    assert result.verdict == "clean", result.diagnosis.sentence
    assert set(result.diagnosis.statuses) == {"ok"}
    assert [b.steps for b in result.evidence.bodies] == [3 * STEPS] * 2
    assert len(result.evidence.measures.get("steps") or ()) == STEPS


def test_a_broken_rule_inside_a_loop_names_loop_and_operator() -> None:
    result = tfldbg.trace(loop_file(bias_factor=1.5), samples=2)
    found = result.first_divergence
    assert found is not None
    assert (found.op, found.kind, found.signal) == (LOOP, "WHILE", "parameters")
    assert "operator 1 FULLY_CONNECTED" in found.message and "subgraph 2" in found.message
    assert_documented(result.to_dict())
    assert result.to_dict()["bodies"][1]["ops"][1]["status"] == "origin"


def test_a_local_error_inside_a_loop_tells_the_step() -> None:
    # Stricter than rounding, so that a sound kernel is beyond it: half a step is what it rounds.
    strict = tfldbg.Thresholds(local_lsb=0.3)
    found = tfldbg.trace(loop_file(), samples=2, thresholds=strict).first_divergence
    assert found is not None and (found.op, found.signal) == (LOOP, "local")
    assert "operator 1 FULLY_CONNECTED" in found.message and "worst at step " in found.message


def test_nan_inside_a_loop_names_the_operator() -> None:
    result = tfldbg.trace(loop_file(quantized=False, weight=np.nan), samples=2)
    assert result.origins == (LOOP,)
    assert "operator 1 FULLY_CONNECTED" in result.diagnosis.sentence


def test_a_loop_inside_a_loop_stays_unchecked_and_says_why() -> None:
    result = tfldbg.trace(loop_file(nested=True), samples=2)
    assert result.verdict == "clean"
    assert result.diagnosis.statuses[1:] == ("unchecked", "unchecked")
    assert "runs another subgraph itself" in str(result.evidence.bodies[1].reason)
    assert "TFL007" in [f.code for f in result.diagnosis.findings]


def test_other_kernels_are_not_compared_with_float_copies() -> None:
    result = tfldbg.trace(loop_file(), samples=2, against_runtime="reference")
    assert result.evidence.bodies == ()
    assert "unchecked" in result.diagnosis.statuses


def test_a_recording_keeps_steps_and_loops(tmp_path: Path) -> None:
    run = tmp_path / "run.h5"
    first = tfldbg.trace(loop_file(), samples=2, dump=run, by_step=True)
    again = tfldbg.load_trace(run)
    assert again.to_dict() == first.to_dict()
    strict = tfldbg.Thresholds(local_lsb=0.3)
    assert tfldbg.load_trace(run, thresholds=strict).origins == (LOOP,)


def test_without_the_option_there_are_no_steps(samples: Path) -> None:
    result = tfldbg.trace(samples / "dense4.tflite", samples=1)
    assert result.to_dict()["steps"] is None
    assert result.to_dict()["bodies"] == []


def test_the_command_line_shows_steps_and_loops(tmp_path: Path) -> None:
    model, out = tmp_path / "loop.tflite", tmp_path / "out.json"
    model.write_bytes(loop_file())
    done = command("trace", model, "--samples", 2, "--by-step", "--json", out)
    assert done.returncode == 0, done.stderr
    assert "operator 1 WHILE, body (subgraph 2): 2 operators over 10 steps" in done.stdout
    assert "5 steps; the largest local error is 0." in done.stdout
    assert "1 FULLY_CONNECTED in 1" in done.stdout
    assert len(json.loads(out.read_text())["steps"]) == STEPS


def test_a_network_without_a_recurrence_says_so(samples: Path) -> None:
    done = command("trace", samples / "dense4.tflite", "--samples", 1, "--by-step")
    assert done.returncode == 0, done.stderr
    assert "no recurrence was found" in done.stdout
