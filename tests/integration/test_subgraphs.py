"""The operators inside an IF or a composite; those inside a loop stand in test_recurrent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfldbg
from tests.integration.test_cli import tfldbg as command
from tests.loop_file import branch_file, composite_file
from tests.schema import assert_documented

_MOST = 32
"""Operators that are looked into."""


def _data(*chosen: int) -> dict[str, np.ndarray]:
    values = np.random.default_rng(0).uniform(-5, 5, (len(chosen), 1, 4))
    return {"t0": np.array(chosen, np.bool_)[:, None], "t1": values.astype(np.float32)}


def _bodies(result: tfldbg.Trace) -> list[tuple[Any, ...]]:
    return [(b.role, b.steps, b.identical, b.complete) for b in result.evidence.bodies]


@pytest.mark.parametrize(
    ("chosen", "steps"), [((0, 1, 1, 0, 1), (3, 2)), ((1, 1), (2, 0)), ((0, 0, 0), (0, 3))]
)
def test_a_sound_branch_is_clean_where_samples_lead_there(
    chosen: tuple[int, ...], steps: tuple[int, int]
) -> None:
    result = tfldbg.trace(branch_file(), data=_data(*chosen))
    assert (result.verdict, result.diagnosis.statuses) == ("clean", ("ok",))
    assert _bodies(result) == [
        ("then", steps[0], True, steps[0] > 0),
        ("else", steps[1], True, steps[1] > 0),
    ]
    for body in result.evidence.bodies:
        assert body.reason == (None if body.steps else "no sample leads there")
    assert_documented(result.to_dict())


@pytest.mark.parametrize(("wrong", "role"), [(0, "then"), (1, "else")])
def test_an_operator_that_is_wrong_in_a_branch_is_named(wrong: int, role: str) -> None:
    factors = (1.5, 1.0) if wrong == 0 else (1.0, 1.5)
    broken = branch_file(bias_factors=factors)
    found = tfldbg.trace(broken, data=_data(0, 1, 0)).first_divergence
    assert found is not None and (found.op, found.kind, found.signal) == (0, "IF", "parameters")
    assert f"operator 0 FULLY_CONNECTED 't1' of its {role}" in found.message
    elsewhere = tfldbg.trace(broken, data=_data(*[wrong] * 3))
    assert elsewhere.verdict == "clean", "no sample leads into the branch that is wrong"


def test_the_sample_with_the_largest_error_is_told() -> None:
    # Stricter than rounding, so that a sound kernel is beyond it: half a step is what it rounds.
    strict = tfldbg.Thresholds(local_lsb=0.3)
    found = tfldbg.trace(branch_file(), data=_data(0, 0, 1), thresholds=strict).first_divergence
    assert found is not None and found.signal == "local"
    assert "of its then (subgraph 1)" in found.message
    assert found.message.endswith("worst in sample 2")


def test_a_branch_that_runs_another_subgraph_is_unchecked_and_says_why() -> None:
    result = tfldbg.trace(branch_file(nested=True), data=_data(0, 1))
    assert (result.verdict, result.diagnosis.statuses) == ("clean", ("unchecked",))
    assert "operator 1 IF of its then" in str(result.evidence.bodies[0].reason)
    assert "TFL007" in [f.code for f in result.diagnosis.findings]


@pytest.mark.parametrize("runtime", ["xnnpack", "builtin", "reference"])
def test_a_composite_is_checked_inside(runtime: str) -> None:
    sound = tfldbg.trace(composite_file(), samples=3, runtime=runtime)
    assert (sound.verdict, sound.diagnosis.statuses) == ("clean", ("ok",))
    assert _bodies(sound) == [("decomposition", 3, True, True)]
    broken = tfldbg.trace(composite_file(bias_factor=1.5), samples=3, runtime=runtime)
    assert broken.origins == (0,)
    assert "FULLY_CONNECTED 't1' of its decomposition (subgraph 1)" in broken.diagnosis.sentence


def test_of_many_composites_the_first_are_looked_into() -> None:
    result = tfldbg.trace(composite_file(count=_MOST + 1), samples=1)
    assert result.verdict == "clean"
    assert result.diagnosis.statuses == (*["ok"] * _MOST, "unchecked")
    assert result.evidence.bodies[-1].reason == "only the first 32 such operators are traced inside"


def test_the_command_line_shows_what_is_inside(tmp_path: Path) -> None:
    model = tmp_path / "branch.tflite"
    model.write_bytes(branch_file())
    np.savez(tmp_path / "data.npz", **_data(1, 1, 1))
    done = command("trace", model, "--data", tmp_path / "data.npz")
    assert done.returncode == 0, done.stderr
    assert "operator 0 IF, then (subgraph 1): 1 operator over 3 samples" in done.stdout
    assert "IF, else (subgraph 2): not checked: no sample leads there" in done.stdout


def test_composites_of_real_files_are_checked_inside(shared_models: Path) -> None:
    """XNNPACK adds in another order inside a composite than in its decomposition alone."""
    for name in ("aeq_sdpa_composite", "litert_sdpa_mqa_composite", "litert_group_norm_composite"):
        result = tfldbg.trace(shared_models / "tflite" / f"{name}.tflite", samples=3)
        assert result.verdict == "clean", result.diagnosis.sentence
        assert "unchecked" not in result.diagnosis.statuses, name
        assert "TFL006" not in [f.code for f in result.diagnosis.findings], name
