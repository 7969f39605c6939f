"""Another file as the reference: it is given the same samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.fakes import FakeRunner
from tests.loop_file import File
from tfldbg.against import file
from tfldbg.against.opened import Bench
from tfldbg.errors import MatchError
from tfldbg.options.against import Against
from tfldbg.options.run_on import RunOn
from tfldbg.progress import Silent
from tfldbg.run.job import prepare


def _difference(*names: str, size: int = 3) -> bytes:
    """The difference of two inputs, which have the names."""
    made = File()
    main = made.subgraph()
    given = [main.tensor("FLOAT32", [1, size]) for _ in names]
    for tensor, name in zip(main.made.tensors, names, strict=True):
        tensor.name = name
    out = main.tensor("FLOAT32", [1, size])
    main.operator("SUB", given, [out], schema.SubOptionsT())
    main.ends(given, [out])
    return made.save()


LEFT, RIGHT = (np.random.default_rng(n).normal(size=(80, 3)).astype(np.float32) for n in (0, 1))


def _bench(other: bytes) -> Bench:
    run_on = RunOn(data={"left": LEFT, "right": RIGHT}, samples=70)
    job = prepare(_difference("left", "right"), run_on)
    runner: Any = FakeRunner(lambda given: {2: given[0] - given[1]}, job.exposed.taps)
    return Bench(job, runner, Against(against=other), run_on, Silent())


def test_inputs_that_stand_in_another_order_get_the_samples_of_their_name() -> None:
    good, numbers = file._prepared(_bench(_difference("right", "left")))
    assert numbers == (1, 0) and good.samples.count == 70  # more than without --samples
    assert [np.ravel(array[0]).tolist() for array in good.samples.arrays] == [
        RIGHT[0].tolist(),
        LEFT[0].tolist(),
    ]


def test_inputs_of_other_sizes_are_refused_before_the_runtime_is_waited_for() -> None:
    bench = _bench(_difference("left", "right", size=2))
    with pytest.raises(MatchError, match="no input of the reference fits 'left'"):
        file.KIND.open(bench)
    runner: Any = bench.runner
    assert runner.said == []
