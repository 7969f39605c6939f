"""The page on which a process says what it does."""

from __future__ import annotations

from tfldbg.run.status import Status, status_file, words_for


def test_what_one_side_writes_the_other_reads() -> None:
    with status_file() as page:
        mine, theirs = Status(page.fileno()), Status(page.fileno())
        assert (theirs.running, theirs.sample, theirs.done, theirs.words) == (None, 0, 0, "")
        mine.begin(words_for("runs 'a long model'"))
        first = theirs.running
        assert first is not None
        mine.end()
        mine.end()
        assert theirs.running is None and theirs.words == "runs 'a long model'"
        mine.compute(7)
        mine.advance(2)
        mine.begin(words_for("runs 'b'"))
        mine.advance(1)
        assert theirs.running not in (None, first)
        assert (theirs.sample, theirs.done, theirs.words) == (7, 3, "runs 'b'")


def test_long_words_are_cut() -> None:
    with status_file() as page:
        status = Status(page.fileno())
        status.begin(words_for("x" * 10_000))
        assert status.words == "x" * len(status.words) and len(status.words) > 4000
