"""What processes take together is one sum, and the largest pays for it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tfldbg.run import together
from tfldbg.run.child import Limits


@dataclass
class Fake:
    """A process of a size."""

    number: int
    allowed: int | None
    crowded: int | None = None
    killed: bool = False

    def kill(self) -> None:
        self.killed = True


@pytest.mark.parametrize(
    ("sizes", "killed"),
    [((50, 40, 9), None), ((50, 40, 11), 0), ((40, 50, 20), 1), ((101,), None)],
)
def test_the_largest_is_ended_when_all_are_too_large(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...], killed: int | None
) -> None:
    members = [Fake(number, 100) for number in range(len(sizes))]
    monkeypatch.setattr(together, "_members", members)
    monkeypatch.setattr(together, "_private_bytes", lambda number: sizes[number])
    together._check()
    assert [m.number for m in members if m.killed] == ([] if killed is None else [killed])
    assert all(m.crowded == (sum(sizes) if m.killed else None) for m in members)


def test_processes_of_one_machine_share_its_limit() -> None:
    assert Limits(memory=12).shared_by(3).memory == 4
