"""Recordings: both forms read alike, by ranges; what is damaged or foreign is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tfldbg.errors import CaptureError
from tfldbg.match.capture import Entry, pair_entries
from tfldbg.options.against import is_recording
from tfldbg.quant import Affine
from tfldbg.reference.capture import Capture, open_capture
from tfldbg.store import schema

CODES = np.arange(-60, 60, dtype=np.int8).reshape(5, 1, 4, 6)
REAL = np.linspace(-1, 1, 15, dtype=np.float32).reshape(5, 3)


def _write(path: Path, change: Callable[[Any], None] | None = None) -> Path:
    with h5py.File(path, "w") as file:
        group = file.create_group("tensors/00007")
        group["values"] = CODES
        group.attrs["name"], group.attrs["scale"], group.attrs["zero_point"] = "a/b", 0.5, -3
        group.attrs["operator"], group.attrs["kind"], group.attrs["inputs"] = 2, "ADD", [3, 4]
        file.create_group("tensors/00009")["values"] = REAL
        if change is not None:
            change(file)
    return path


def _npz(path: Path) -> Path:
    np.savez_compressed(path, **{"a/b": CODES, "plain": REAL})
    return path


@pytest.mark.parametrize("version", [1, schema.FORMAT_VERSION])
def test_recordings_of_each_version_are_read(tmp_path: Path, version: int) -> None:
    stated = {"format": schema.FORMAT, "format_version": version}
    with open_capture(_write(tmp_path / "r.h5", lambda f: f.attrs.update(stated))) as capture:
        assert capture.samples == 5


def test_what_a_group_says(tmp_path: Path) -> None:
    with open_capture(_write(tmp_path / "r.h5")) as capture:
        first, second = capture.tensors
        assert capture.samples == 5
        assert (first.index, first.name, first.type, first.shape) == (7, "a/b", "INT8", (1, 4, 6))
        assert (first.scale, first.zero_point, first.operator) == (0.5, -3, 2)
        assert (first.affine, second.affine) == (Affine(0.5, -3), None)
        assert replace(first, type="FLOAT32").affine is None
        assert (first.kind, first.reads, first.elements) == ("ADD", (3, 4), 24)
        assert (second.name, second.label, second.scale, second.reads) == (
            "",
            "tensor 9",
            None,
            None,
        )
        real = capture.real(first, 1, 3)
        assert real.dtype == np.float32
        assert np.array_equal(real, (CODES[1:3].astype(np.float32) + 3) * 0.5)
        assert np.array_equal(capture.real(second, 0, 5), REAL)


def test_an_archive_says_names_and_values(tmp_path: Path) -> None:
    with open_capture(_npz(tmp_path / "r.npz")) as capture:
        first, second = capture.tensors
        assert (first.name, first.type, first.scale, first.index) == ("a/b", "INT8", None, None)
        assert (second.name, second.is_float) == ("plain", True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(ranges=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5)), max_size=6))
@pytest.mark.parametrize("form", ["r.h5", "r.npz"])
def test_any_order_of_ranges_reads_the_same(
    tmp_path: Path, form: str, ranges: list[tuple[int, int]]
) -> None:
    path = tmp_path / form
    if not path.exists():
        (_write if form.endswith("h5") else _npz)(path)
    with open_capture(path) as capture:
        for start, count in ranges:
            stop = min(start + count, 5)
            assert np.array_equal(
                capture.stored(capture.tensors[0], start, stop), CODES[start:stop]
            )
            assert np.array_equal(capture.stored(capture.tensors[1], start, stop), REAL[start:stop])


def test_byte_order_does_not_matter(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", x=REAL.astype(">f4"), y=REAL.astype(">i2"))
    with open_capture(tmp_path / "r.npz") as capture:
        assert [t.type for t in capture.tensors] == ["FLOAT32", "INT16"]
        assert np.array_equal(capture.real(capture.tensors[0], 2, 4), REAL[2:4])


def _refused(path: Path) -> CaptureError:
    with pytest.raises(CaptureError) as caught:
        open_capture(path)
    assert caught.value.hint
    return caught.value


def _external(file: Any) -> None:
    file["tensors/00011"] = h5py.ExternalLink("other.h5", "/tensors/00007")


def _soft(file: Any) -> None:
    file["tensors/00009/more"] = REAL
    del file["tensors/00009/values"]
    file["tensors/00009/values"] = h5py.SoftLink("/tensors/00007/values")


def _elsewhere(file: Any) -> None:
    group = file.create_group("tensors/00012")
    group.create_dataset("values", (5, 3), "f4", external=[("raw.bin", 0, 60)])


def _virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((5, 3), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (5, 3))
    file.create_group("tensors/00013").create_virtual_dataset("values", layout)


def _attribute(name: str, value: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        file["tensors/00007"].attrs[name] = value

    return change


def _more(values: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        file.create_group("tensors/00020")["values"] = values

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_external, "is a link; only what the file itself holds"),
        (_soft, "is a link; only what the file itself holds"),
        (_elsewhere, "lie in other files"),
        (_virtual, "lie in other files"),
        (_attribute("scale", -1.0), "expected one positive scale"),
        (_attribute("scale", float("nan")), "expected one positive scale"),
        (_attribute("scale", [0.1, 0.2]), "expected one positive scale"),
        (_attribute("scale", "wide"), "cannot read the recording"),
        (_attribute("operator", "first"), "cannot read the recording"),
        (_attribute("operator", float("inf")), "cannot read the recording"),
        (_more(REAL[:4]), "different numbers of samples: 'tensor 20' 4, "),
        (_more("text"), r"expected numbers of shape \(samples, ...\)"),
        (_more(3.0), r"expected numbers of shape \(samples, ...\)"),
        (lambda f: f.create_group("tensors/00021"), "has no dataset 'values'"),
        (lambda f: f.attrs.update(format="other"), "of format 'other', expected 'tfldbg.run'"),
        (lambda f: f.attrs.update(format_version=9), "has format version 9"),
        (lambda f: f.create_dataset("evidence", data="{"), "cannot read the recording"),
    ],
)
def test_files_that_are_refused(
    tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    with pytest.raises(CaptureError, match=message):
        open_capture(_write(tmp_path / "r.h5", change))


def test_evidence_of_any_shape_is_survived(tmp_path: Path) -> None:
    for text in ("[]", '{"run": 3, "ops": [1, {"tensor": "x"}, {"tensor": 7, "bound": []}]}'):
        with open_capture(
            _write(tmp_path / "r.h5", lambda f, t=text: f.create_dataset("evidence", data=t))
        ) as capture:
            assert capture.said("model_sha256") == ""


def test_what_is_no_recording(tmp_path: Path, samples: Path) -> None:
    assert "does not exist" in _refused(tmp_path / "no.h5").message
    assert "no group '/tensors'" in _refused(samples / "cnn.h5").message
    for name in ("text.h5", "text.npz"):
        (tmp_path / name).write_text("no")
        assert "cannot read the recording" in _refused(tmp_path / name).message
    np.savez(tmp_path / "empty.npz")
    assert "holds no tensor" in _refused(tmp_path / "empty.npz").message
    np.savez(tmp_path / "none.npz", x=np.zeros((0, 3)))
    assert "holds no samples" in _refused(tmp_path / "none.npz").message
    np.savez(tmp_path / "columns.npz", x=np.asfortranarray(REAL))
    assert "Fortran order" in _refused(tmp_path / "columns.npz").message


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", x=np.array([{"a": 1}, None], object))
    assert "is object of shape (2,)" in _refused(tmp_path / "r.npz").message


@pytest.mark.parametrize("form", ["r.h5", "r.npz"])
def test_cut_off_files(tmp_path: Path, form: str) -> None:
    whole = (_write if form.endswith("h5") else _npz)(tmp_path / f"whole_{form}").read_bytes()
    for size in (10, len(whole) // 2, len(whole) - 1):
        (tmp_path / form).write_bytes(whole[:size])
        with pytest.raises(CaptureError):
            capture: Capture = open_capture(tmp_path / form)
            capture.stored(capture.tensors[0], 0, 5)


def test_a_header_that_promises_more_than_there_is(tmp_path: Path) -> None:
    import io
    import zipfile

    plain = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        plain, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)}
    )
    with zipfile.ZipFile(tmp_path / "r.npz", "w") as archive:
        archive.writestr("x.npy", plain.getvalue() + bytes(40))
    assert "is damaged" in _refused(tmp_path / "r.npz").message


def test_what_names_a_recording() -> None:
    assert is_recording("a.h5") and is_recording(Path("a.NPZ")) and is_recording("a.hdf5")
    assert not is_recording("a.tflite") and not is_recording(b"a.h5") and not is_recording(None)


# Matching.


def _entries(*rows: tuple[str, int | None, str | None, int]) -> list[Entry]:
    return [
        Entry(key, (name,) if name else (), op, kind, size)
        for key, (name, op, kind, size) in enumerate(rows)
    ]


def test_names_are_matched_without_what_converters_add() -> None:
    ours = _entries(
        ("serving_default_x:0", -1, "INPUT", 4),
        ("net/conv/Relu;net/conv/Conv2D1", 0, "CONV_2D", 8),
        ("StatefulPartitionedCall:0", 1, "SOFTMAX", 2),
    )
    theirs = _entries(
        ("StatefulPartitionedCall", None, None, 2),
        ("net/conv/Relu;net/conv/Conv2D", None, None, 8),
        ("x", None, None, 4),
    )
    found = pair_entries(ours, theirs)
    assert found.pairs == {0: (2, "name"), 1: (1, "name"), 2: (0, "name")}


def test_a_name_that_two_tensors_go_by_matches_nothing() -> None:
    found = pair_entries(_entries(("a", 0, "ADD", 4)), _entries(*[("a", None, None, 4)] * 2))
    assert not found.pairs and "no tensor of that name" in found.reasons[0]


def test_a_name_of_another_size_says_so() -> None:
    found = pair_entries(_entries(("a", 0, "ADD", 4)), _entries(("a", None, None, 5)))
    assert found.reasons == {0: "the recording's 'a' has 5 values per sample, expected 4"}


def test_operators_between_matched_ones_are_matched_by_order() -> None:
    ours = _entries(
        ("a", 0, "CONV_2D", 8), ("b", 1, "ADD", 8), ("c", 2, "ADD", 8), ("d", 3, "MEAN", 2)
    )
    renamed = _entries(
        ("a", 0, "CONV_2D", 8), ("u", 1, "ADD", 8), ("v", 2, "ADD", 8), ("d", 3, "MEAN", 2)
    )
    assert pair_entries(ours, renamed).pairs[1] == (1, "order")
    assert pair_entries(ours, renamed).pairs[2] == (2, "order")
    fewer = [e for e in renamed if e.key != 2]
    assert set(pair_entries(ours, fewer).pairs) == {0, 3}


def test_operators_in_another_order_are_matched_by_name_alone() -> None:
    ours = _entries(("a", 0, "ADD", 8), ("b", 1, "MUL", 8), ("c", 2, "SUB", 8))
    theirs = _entries(("b", 0, "MUL", 8), ("a", 1, "ADD", 8), ("z", 2, "SUB", 8))
    found = pair_entries(ours, theirs)
    assert found.pairs[0] == (1, "name") and found.pairs[1] == (0, "name")


_ATTRIBUTES = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(st.characters(codec="ascii", exclude_characters="\x00"), max_size=8),
    st.binary(max_size=8).filter(lambda b: b"\x00" not in b),
    arrays(st.sampled_from(["float32", "int64", "bool"]), st.sampled_from([(0,), (1,), (2, 2)])),
)
_VALUES = arrays(
    st.sampled_from(["float32", "float16", "int8", "uint64", "bool", "S2", "complex64"]),
    st.sampled_from([(), (0,), (2,), (2, 3), (3, 0), (2, 1, 1)]),
)
_NAMES = st.sampled_from(["name", "type", "kind", "scale", "zero_point", "operator", "inputs"])
_GROUPS = st.dictionaries(
    st.sampled_from(["00000", "7", "x", "-1", "99999999999999999999"]),
    st.tuples(_VALUES, st.dictionaries(_NAMES, _ATTRIBUTES, max_size=4)),
    max_size=3,
)
_EVIDENCE = st.sampled_from(
    [
        "",
        "[]",
        "[" * 9999,
        "1e999",
        '{"ops": {}, "run": 4}',
        '{"ops": [{"tensor": 0, "bound": {"extra_lsb": 3}, "reads": ["a"]}]}',
        '{"ops": [{"tensor": 7, "reads": [1], "activation": 0}]}',
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_GROUPS, st.none() | _EVIDENCE)
def test_any_hdf5_file_is_read_or_refused(
    tmp_path: Path, groups: dict[str, Any], evidence: str | None
) -> None:
    path = tmp_path / "any.h5"
    with h5py.File(path, "w") as file:
        made = file.create_group("tensors")
        for key, (values, attributes) in groups.items():
            made.create_group(key)["values"] = values
            made[key].attrs.update(attributes)
        if evidence is not None:
            file["evidence"] = evidence
    try:
        with open_capture(path) as capture:
            for tensor in capture.tensors:
                assert len(capture.real(tensor, 0, capture.samples)) == capture.samples
    except CaptureError as error:
        assert error.hint
