"""What threads do for a stream: the same things in the same order."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tfldbg.compare.overlap import ahead, one_behind


def test_everything_is_made_in_order_and_one_ahead() -> None:
    made: list[int] = []
    second = threading.Event()

    def make(number: int) -> int:
        made.append(number)
        if number == 1:
            second.set()
        return number * number

    with ahead(make, range(5), lambda: None) as results:
        assert next(results) == 0
        assert second.wait(5), "the next one is made before it is asked for"
        assert list(results) == [1, 4, 9, 16]
    assert made == [0, 1, 2, 3, 4]


def test_an_error_is_raised_where_its_thing_is_asked_for() -> None:
    interrupted: list[bool] = []

    def make(number: int) -> int:
        return 1 // (2 - number)

    with (
        pytest.raises(ZeroDivisionError),
        ahead(make, range(9), lambda: interrupted.append(True)) as results,
    ):
        assert next(results) == 0
        assert next(results) == 1
        next(results)
    assert interrupted


def test_an_interrupt_ends_what_is_waited_for() -> None:
    released = threading.Event()

    def make(number: int) -> int:
        if number:
            released.wait(30)
        return number

    with pytest.raises(KeyboardInterrupt), ahead(make, range(9), released.set) as results:
        next(results)
        raise KeyboardInterrupt
    assert released.is_set()


def test_things_are_taken_in_order_and_all_of_them() -> None:
    taken: list[int] = []
    with one_behind(taken.append) as hand:
        for number in range(20):
            hand(number)
    assert taken == list(range(20))


@pytest.mark.parametrize("last", [False, True])
def test_an_error_of_the_thread_is_raised(last: bool) -> None:
    def work(number: int) -> None:
        raise ValueError(str(number))

    def use(hand: Callable[[int], None]) -> None:
        hand(1)
        if not last:
            hand(2)

    with pytest.raises(ValueError, match="1"), one_behind(work) as hand:
        use(hand)
