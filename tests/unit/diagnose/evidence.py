"""Made-up evidence for tests of the verdict and of the reports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tfldbg.compare.accumulate import Accumulator, TensorStats
from tfldbg.diagnose.bounds import Bound
from tfldbg.diagnose.evidence import Evidence, OpEvidence, Run
from tfldbg.store.older import TRAITS

SCALE = 0.1


def of_kind(kind: str) -> dict[str, Any]:
    """The kind and the traits of a reference, as arguments of `Run`."""
    return {"reference_kind": kind, "traits": TRAITS[kind]}


def stats(max_lsb: float, *, channel: int = 1, lsb: float | None = SCALE) -> TensorStats:
    """Statistics of a tensor of three channels of which one is off."""
    reference = np.linspace(-5, 5, 12).reshape(1, 4, 3)
    test = reference.copy()
    test[0, 2, channel] += max_lsb * (lsb or 1.0)
    accumulator = Accumulator(3, lsb)
    accumulator.update(reference, test)
    return accumulator.result()


def operator(index: int, *, local: float | None, accumulated: float | None = None) -> OpEvidence:
    """An int8 convolution that reads the one before it."""
    drift = local if accumulated is None else accumulated
    return OpEvidence(
        op=index,
        kind="CONV_2D",
        tensor=100 + index,
        name=f"net/layer_{index}/Relu;net/layer_{index}/Conv2D",
        type="INT8",
        scale=SCALE,
        zero_point=-3,
        activation=True,
        reads=(99 + index,),
        weighted=True,
        reference=f"net/layer_{index}/FakeQuant",
        match_rule="name",
        match_confidence=1.0,
        unmatched_reason=None,
        parameters="equal",
        expected=(SCALE, -3),
        bound=Bound("lsb"),
        joint=(),
        local=None if local is None else stats(local),
        local_reason=None if local is not None else "its input has no counterpart",
        accumulated=None if drift is None else stats(drift),
        split=None,
        nan=0,
        shape=(1, 4, 3),
        expected_shape=None,
        weights=None,
        breaches=(),
    )


def evidence(*ops: OpEvidence) -> Evidence:
    """A trace of these operators."""
    run = Run(
        model_path="net.tflite",
        model_sha256="0" * 64,
        **of_kind("keras"),
        reference_path="net.h5",
        reference_sha256="1" * 64,
        runtime="xnnpack",
        signature=None,
        samples=1,
        data="random",
        seed=0,
        observer_identical=True,
        observer_samples=1,
        versions={"tfldbg": "0"},
        timing={"total_s": 1.0},
        notes=(),
    )
    return Evidence(run=run, inputs=(), ops=tuple(ops))


__all__ = ["evidence", "operator", "replace", "stats"]
