"""Other kernels as the reference: which are refused before the runtime is waited for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes import FakeRunner, chain_file, chain_values
from tfldbg.against import kernels
from tfldbg.against.opened import Bench
from tfldbg.errors import UsageError
from tfldbg.options.against import Against
from tfldbg.options.run_on import RunOn
from tfldbg.progress import Silent
from tfldbg.run.job import prepare


@pytest.mark.parametrize("other", ["builtin", "gpu", ""])
def test_the_traced_runtime_and_an_unknown_one_are_no_reference(other: str) -> None:
    run_on = RunOn(samples=1, runtime="builtin")
    job = prepare(chain_file("RELU"), run_on)
    runner: Any = FakeRunner(chain_values("RELU"), job.exposed.taps)
    with pytest.raises(UsageError, match="must be another runtime") as caught:
        kernels.KIND.open(Bench(job, runner, Against(against_runtime=other), run_on, Silent()))
    hint = str(caught.value.hint)
    assert "xnnpack" in hint and "builtin" not in hint and runner.said == []
