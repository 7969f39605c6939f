"""The serial log: read back exactly whatever else the line carries, refused where it is damaged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfldbg.device.serial_log import crc16, logged_outputs, read_log
from tfldbg.errors import CaptureError
from tfldbg.graph.model import Tensor

ROW = [bytes(range(70)), b"\x00\xff\x10", np.float32([1.5, -2]).tobytes()]
OTHER = [bytes(reversed(range(70))), b"\x01\x02\x03", np.float32([0, 7]).tobytes()]


def tensors(sizes: Sequence[int] = (70, 3)) -> list[Tensor]:
    made = [
        Tensor(10 + place, f"t{place}", "INT8", (1, size), (1, size), None, 0, False, False)
        for place, size in enumerate(sizes)
    ]
    return [*made, Tensor(30, "last", "FLOAT32", (1, 2), (1, 2), None, 0, False, False)]


def lines(rows: Sequence[Sequence[bytes]], chunk: int = 32) -> list[str]:
    """Return the documented lines, made without the code that reads them."""
    said = ["TFLDBG begin"]
    for sample, row in enumerate(rows):
        for output, content in enumerate(row):
            for offset in range(0, len(content), chunk):
                piece = content[offset : offset + chunk]
                said.append(f"TFLDBG {sample} {output} {offset} {piece.hex()} {crc16(piece):04x}")
    return [*said, f"TFLDBG end {len(rows)}"]


def log(folder: Path, said: Sequence[str], ending: str = "\n") -> Path:
    path = folder / "device.log"
    path.write_bytes(ending.join([*said, ""]).encode())
    return path


def test_the_checksum_is_the_common_one() -> None:
    assert crc16(b"123456789") == 0x29B1  # the check value of CRC-16 with 0x1021 and 0xFFFF


NOISE = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=30).filter(
    lambda text: "TFLDBG" not in text
)


@given(
    st.lists(st.tuples(st.binary(min_size=9, max_size=9), st.binary(min_size=1, max_size=1)),
             min_size=1, max_size=3),
    st.integers(1, 12),
    st.sampled_from(["\n", "\r\n"]),
    st.lists(NOISE, min_size=1, max_size=4),
)  # fmt: skip
def test_what_was_printed_is_read_whatever_stands_between(
    tmp_path_factory: pytest.TempPathFactory,
    pairs: list[tuple[bytes, bytes]],
    chunk: int,
    ending: str,
    noise: list[str],
) -> None:
    rows = [[*pair, ROW[2]] for pair in pairs]
    said = list(noise)
    for number, line in enumerate(lines(rows, chunk)):
        said += [f"[00:01:{number:02d}] {line}\x1b[0m", noise[number % len(noise)]]
    path = log(tmp_path_factory.mktemp("log"), said, ending)
    assert read_log(path, tensors((9, 1)), None) == rows


@given(st.data())
def test_no_single_damage_yields_other_values(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = "\n".join(lines([ROW, OTHER])) + "\n"
    place = data.draw(st.integers(0, len(text) - 1))
    instead = data.draw(st.sampled_from(["", "\n", "0", "1", "7", "a", "f", " ", "x", "00"]))
    path = tmp_path_factory.mktemp("log") / "device.log"
    path.write_text(text[:place] + instead + text[place + 1 :])
    try:
        found = read_log(path, tensors(), None)
    except CaptureError as error:
        assert error.hint
    else:
        assert found == [ROW, OTHER]


def test_a_board_that_was_reset_starts_over(tmp_path: Path) -> None:
    begun = lines([OTHER])[:3]
    said = [*begun, "TFLDBG 0 0 64 40", "rst:0x1 (POWERON)", *lines([ROW]), "TFLDBG 9 9 9 later"]
    assert read_log(log(tmp_path, said), tensors(), None) == [ROW]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda said: said[:4] + said[5:], ["output 1, tensor 11 't1', expected 3 bytes, found 0"]),
        (lambda said: [*said[:2], *said[3:]],
         ["output 0, tensor 10 't0', expected 70 bytes, found 38, 32 of them without a gap"]),
        (lambda said: [*said[:3], said[3][:-8], *said[4:]], ["line 4", "damaged"]),
        (lambda said: [*said[:3], said[3][:-1] + "g", *said[4:]], ["line 4", "not a line of a"]),
        (lambda said: [*said[:3], said[3][:-1] + "0", *said[4:]], ["line 4", "CRC", "expected"]),
        (lambda said: said[:-1], ["cut off", "no line 'TFLDBG end'", "1 samples"]),
        (lambda said: said[1:], ["holds no line 'TFLDBG begin'"]),
        (lambda said: [said[0], "TFLDBG 0 3 0 00 e1f0", *said[1:]], ["output 3", "has 3 outputs"]),
        (lambda said: [said[0], "TFLDBG failed: Invoke()"], ["the device says", "Invoke()"]),
    ],
)  # fmt: skip
def test_what_is_missing_or_damaged_is_named(tmp_path: Path, change, words: list[str]) -> None:
    with pytest.raises(CaptureError) as caught:
        read_log(log(tmp_path, change(lines([ROW]))), tensors(), None)
    for word in words:
        assert word in caught.value.message, caught.value.message
    assert caught.value.hint


def test_whole_samples_of_a_log_that_was_cut_off_can_be_taken(tmp_path: Path) -> None:
    said = lines([ROW, OTHER])[:-4]
    path = log(tmp_path, [*said, "TFLDBG 1 0 32 1234"])
    assert read_log(path, tensors(), 1) == [ROW]
    with pytest.raises(CaptureError, match="damaged"):
        read_log(path, tensors(), None)


def test_the_untouched_models_log_holds_the_first_outputs(tmp_path: Path) -> None:
    assert logged_outputs(log(tmp_path, lines([ROW[:2]])), tensors()) == 2
