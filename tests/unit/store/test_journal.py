"""The batches of a recording that is not finished: whatever ends the run, whole ones are read."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.loop_file import loop_file
from tfldbg.compare.batch import Batch, Computed
from tfldbg.errors import CaptureError
from tfldbg.graph.load import load_graph
from tfldbg.store.journal import SAMPLES, Journal, journal_path, unfinished
from tfldbg.store.packed import unpacked

SUBGRAPH = load_graph(loop_file(), "loop").main
IDENTITY = {"model": "a", SAMPLES: "6"}


def _batch(start: int, stop: int) -> tuple[Batch, Computed]:
    random = np.random.default_rng(start)
    codes = {0: random.integers(-128, 128, (stop - start, 1, 4)).astype(np.int8)}
    floats = [random.normal(size=(stop - start, 1, 4)).astype(np.float32) for _ in range(3)]
    real = {0: (codes[0] - np.float32(3)) * np.float32(0.05)}
    computed = Computed(
        {0: floats[0]}, {0: floats[1]}, rounded={0: floats[2]}, saturated={0: start}
    )
    return Batch(start, stop, codes, real), computed


BATCHES = [_batch(0, 2), _batch(2, 4), _batch(4, 6)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[int]]:
    """The file with all batches, and where each of its records ends."""
    target = tmp_path_factory.mktemp("whole") / "run.h5"
    with Journal(target, SUBGRAPH, IDENTITY, resume=False) as journal:
        ends = [journal_path(target).stat().st_size]
        for batch in BATCHES:
            journal.append(*batch)
            ends.append(journal_path(target).stat().st_size)
    return journal_path(target).read_bytes(), ends


def _kept(folder: Path, content: bytes) -> int:
    """Go on with a file; check that what it hands out is what was kept, and return how much."""
    target = folder / "run.h5"
    journal_path(target).write_bytes(content)
    with Journal(target, SUBGRAPH, IDENTITY, resume=True) as journal:
        found = list(journal.kept())
        for (batch, computed), (wanted, reference) in zip(found, BATCHES, strict=False):
            assert (batch.start, batch.stop) == (wanted.start, wanted.stop)
            assert batch.codes[0].tobytes() == wanted.codes[0].tobytes()
            assert computed.saturated == reference.saturated
            for name in ("free", "local", "rounded"):
                assert getattr(computed, name)[0].tobytes() == getattr(reference, name)[0].tobytes()
        for batch in BATCHES[len(found) :]:
            journal.append(*batch)
        layout = journal.layout("free", 0)
        assert layout is not None
        assert layout.count == 6
        values = np.zeros((layout.count, *layout.sample), layout.dtype)
        for chunk in journal.chunks("free", 0):
            unpacked(chunk.content, values[chunk.start :][: layout.rows], layout.rows)
    assert values.tobytes() == b"".join(c.free[0].tobytes() for _, c in BATCHES)
    return len(found)


def test_a_file_that_ends_with_a_record_keeps_all_that_are_there(
    whole: tuple[bytes, list[int]], tmp_path: Path
) -> None:
    content, ends = whole
    assert [_kept(tmp_path, content[:end]) for end in ends] == [0, 1, 2, 3]


@given(st.data())
def test_a_file_that_ends_anywhere_keeps_the_whole_records(
    whole: tuple[bytes, list[int]],
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
) -> None:
    content, ends = whole
    size = data.draw(st.integers(0, len(content)))
    kept = sum(end <= size for end in ends[1:])
    assert _kept(tmp_path_factory.mktemp("cut"), content[:size]) == kept


@given(st.data())
def test_a_block_that_never_reached_the_disk_ends_the_file(
    whole: tuple[bytes, list[int]],
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
) -> None:
    content, ends = whole
    place = data.draw(st.integers(ends[0], len(content) - 1))
    damaged = bytearray(content)
    damaged[place] ^= data.draw(st.integers(1, 255))
    kept = sum(end <= place for end in ends[1:])
    assert _kept(tmp_path_factory.mktemp("torn"), bytes(damaged)) == kept


def test_without_resume_it_starts_over(whole: tuple[bytes, list[int]], tmp_path: Path) -> None:
    target = tmp_path / "run.h5"
    journal_path(target).write_bytes(whole[0])
    found = unfinished(target)
    assert found is not None and (found.done, found.samples) == (6, 6)
    with Journal(target, SUBGRAPH, IDENTITY, resume=False) as journal:
        assert journal.done == 0
    assert not journal_path(target).exists()  # nothing was kept


def test_another_run_is_refused_and_its_batches_stay(
    whole: tuple[bytes, list[int]], tmp_path: Path
) -> None:
    target = tmp_path / "run.h5"
    journal_path(target).write_bytes(whole[0])
    changed = {"model": "b", SAMPLES: "6", "version of numpy": "9"}
    with (
        pytest.raises(CaptureError, match=r"its model was a, now it is b; so do version of numpy"),
        Journal(target, SUBGRAPH, changed, resume=True),
    ):
        pass
    assert journal_path(target).read_bytes()[40:] == whole[0][40:]


def test_two_runs_do_not_share_a_target(tmp_path: Path) -> None:
    target = tmp_path / "run.h5"
    with Journal(target, SUBGRAPH, IDENTITY, resume=False) as journal:
        journal.append(*BATCHES[0])
        assert unfinished(target) is None  # it is at work
        for resume in (False, True):
            with (
                pytest.raises(CaptureError, match=r"another run \(process \d+\) is recording"),
                Journal(target, SUBGRAPH, IDENTITY, resume=resume),
            ):
                pass
        journal.append(*BATCHES[1])
    assert unfinished(target) is not None


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("somebody else's")
    journal_path(tmp_path / "run.h5").symlink_to(tmp_path / "other")
    with (
        pytest.raises(Exception, match="cannot write"),
        Journal(tmp_path / "run.h5", SUBGRAPH, IDENTITY, resume=False),
    ):
        pass
    assert (tmp_path / "other").read_text() == "somebody else's"


@pytest.mark.parametrize(
    "described",
    [
        ["|O", [1 << 40], 1, [4]],
        ["<f4", [1 << 40], 1 << 40, [4]],
        ["<f4", [2, 3], 0, [4]],
        ["<f4", [2, 3], 0, [4, 0]],
        ["<f4", [2, 3], -1, [4]],
        ["<f4", [2, 3], 2, [-4]],
        ["<f4", [2, 3], 2, [4, 0]],
        ["<f4", [2, 3], 2],
        ["<f4", [], 1, [4]],
        ["<f4", [2, 3], 2, [3]],
    ],
)
def test_headers_that_do_not_fit_their_values_are_refused(
    described: list[Any], whole: tuple[bytes, list[int]], tmp_path: Path
) -> None:
    """A file made by hand has a right CRC as well."""
    import zlib

    content, ends = whole
    arrays = [["codes", 0, *described]]
    text = json.dumps({"start": 0, "stop": 2, "saturated": {}, "arrays": arrays}).encode()
    lengths = struct.pack("<QQ", len(text), 4)
    crc = zlib.crc32(b"1234", zlib.crc32(text, zlib.crc32(lengths)))
    forged = struct.pack("<4sI", b"tfdb", crc) + lengths + text + b"1234"
    journal_path(tmp_path / "run.h5").write_bytes(content[: ends[0]] + forged)
    with (
        pytest.raises(CaptureError, match="is no unfinished recording"),
        Journal(tmp_path / "run.h5", SUBGRAPH, IDENTITY, resume=True),
    ):
        pass
