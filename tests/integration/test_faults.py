"""A small slice of the fault campaign: planted faults are effective, and the operator is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tfldbg
from benchmarks import effects, proposals, records, tables, zoo
from sample_models import plant
from tfldbg.reference.keras import load_frozen

PAIRS = ("conv", "ports")
KINDS = (
    "bias zeroed",
    "bias channel shifted",
    "weight channel negated",
    "weights permuted",
    "weight scale x 1.2",
    "reshape order",
    "inputs swapped",
)


@pytest.fixture(scope="module", params=PAIRS)
def planted(
    request: pytest.FixtureRequest, pair: Callable[[str], zoo.Pair]
) -> tuple[zoo.Pair, list[tuple[plant.Fault, bytes]]]:
    """A pair, and the faults that change an output of its operators."""
    made = pair(request.param)
    good = made.tflite.read_bytes()
    sound = effects.run_exposed(good, made.data)
    proposed = proposals.faults_for(plant.File(good), proposals.read_betas(made.keras))
    chosen = proposals.spread([f for f in proposed if f.name in KINDS], 1)
    files = [(fault, plant.apply(good, fault)) for fault in chosen]
    return made, [
        (fault, broken)
        for fault, broken in files
        if effects.differs(sound, effects.run_exposed(broken, made.data))
    ]


def _wrong(planted: list[tuple[plant.Fault, bytes]], **options: object) -> list[object]:
    wrong: list[object] = []
    for fault, broken in planted:
        result = tfldbg.trace(broken, samples=effects.SAMPLES, **options)  # type: ignore[arg-type]
        if result.origins[:1] != (fault.op,):
            wrong.append((fault.name, fault.op, result.origins))
    return wrong


def test_a_fault_is_named_with_the_keras_model(
    planted: tuple[zoo.Pair, list[tuple[plant.Fault, bytes]]],
) -> None:
    made, broken = planted
    assert len(broken) >= 5
    assert not _wrong(broken, keras=load_frozen(made.keras), data=made.data)


def test_a_fault_is_named_against_the_sound_file(
    planted: tuple[zoo.Pair, list[tuple[plant.Fault, bytes]]],
) -> None:
    made, broken = planted
    assert not _wrong(broken, against=made.good, data=made.data)


@pytest.mark.parametrize(
    "kind", ["bias scale x 1.5", "weight scale x 1.2", "weight scale channel x 1.5"]
)
def test_the_file_alone_betrays_a_broken_rule(kind: str, pair: Callable[[str], zoo.Pair]) -> None:
    made = pair("conv")
    good = made.tflite.read_bytes()
    proposed = [f for f in proposals.faults_for(plant.File(good)) if f.name == kind]
    (fault,) = proposals.spread(proposed, 1)
    broken = plant.apply(good, fault)
    assert tfldbg.trace(broken, data=made.data).origins[:1] == (fault.op,)


@pytest.mark.parametrize("name", PAIRS)
def test_proposals_are_deterministic_and_save(name: str, pair: Callable[[str], zoo.Pair]) -> None:
    made = pair(name)
    good = made.tflite.read_bytes()
    betas = proposals.read_betas(made.keras)
    first, second = (proposals.faults_for(plant.File(good), betas) for _ in range(2))
    assert [(f.name, f.op, f.detail) for f in first] == [(f.name, f.op, f.detail) for f in second]
    assert all(plant.apply(good, fault) != good for fault in first)


def test_a_fault_on_a_shared_constant_touches_one_operator(
    pair: Callable[[str], zoo.Pair],
) -> None:
    made = pair("shared")
    good = made.tflite.read_bytes()
    file = plant.File(good)
    first, second = (i for i in range(file.count) if file.kind(i) == "CONV_2D")
    fault = plant.Fault("permuted", first, "", plant.permute_channels, alone=True)
    broken = plant.File(plant.apply(good, fault))
    assert not np.array_equal(broken.values(first, 1), file.values(first, 1))
    assert np.array_equal(broken.values(second, 1), file.values(second, 1))
    result = tfldbg.trace(plant.apply(good, fault), keras=made.keras, data=made.data)
    assert result.origins == (first,)


def test_an_ineffective_fault_is_told_apart(pair: Callable[[str], zoo.Pair]) -> None:
    made = pair("conv")
    good = made.tflite.read_bytes()
    sound = effects.run_exposed(good, made.data)
    # Integer kernels compute with input scale x weight scale and never read the bias's own.
    unread = plant.apply(good, plant.Fault("bias scale", 0, "", plant.scale_bias(1.5)))
    assert not effects.differs(sound, effects.run_exposed(unread, made.data))


def test_records_survive_a_killed_run(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    shared = ("conv", "conv", "qat", "development", "keras")
    named = records.Record(*shared, "bias zeroed", 3, "CONV_2D", "", "exact", 3, (3,), "local")
    missed = records.Record(*shared, "dilation", 1, "CONV_2D", "to 2", "missed")
    records.append(path, named)
    records.append(path, missed)
    with path.open("a") as file:
        file.write('{"entry": "conv", "netw')
    assert list(records.read_records(path)) == [named, missed]
    table = tables.render(list(records.read_records(path)))
    assert "| conv | 2 | 1 (50.0%) | 0 | 0 | 1 | 0 | 0 | 0 | 0 |" in table
    assert "- conv: dilation at operator 1 CONV_2D (to 2): missed" in table


def test_both_halves_hold_every_scheme() -> None:
    halves = {half: {e.scheme for e in zoo.ZOO.values() if e.half == half} for half in zoo.HALVES}
    every = {"qat", "ptq", "float32", "float16", "dynamic"}
    assert all(schemes == every for schemes in halves.values())
    by_network = {(e.network, e.half) for e in zoo.ZOO.values()}
    assert len(by_network) == len({network for network, _ in by_network}) >= 14
