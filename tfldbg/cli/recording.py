"""What a user is told about recordings that were not finished."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfldbg.cli.console import show_note


@contextmanager
def recording(output: str | None, *, resume: bool) -> Iterator[None]:
    """Say on stderr what an earlier run has left, and what this one leaves if it does not finish.

    Args:
        output: Where the block records to, None for nowhere.
        resume: Whether it goes on with an earlier run.
    """
    if output is None:
        yield
        return
    from tfldbg.session import unfinished

    before = unfinished(Path(output))
    if before is not None and not resume:
        show_note(
            f"this starts over; --resume would go on after the {before.done} of {before.samples} "
            f"samples that an earlier run kept in '{before.path}'"
        )
    try:
        yield
    except BaseException:
        after = unfinished(Path(output))
        if after is not None and after != before:
            show_note(
                f"{after.done} of {after.samples} samples are kept in '{after.path}'; the same "
                "command with --resume goes on after them"
            )
        raise
