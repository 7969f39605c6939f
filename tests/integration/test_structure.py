"""Files of every structure: run, exposed without a change, traced, and silent where all is well."""

from __future__ import annotations

import resource
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import tfldbg
from tests import odd_files
from tests.integration.test_cli import tfldbg as command
from tests.loop_file import File
from tests.schema import assert_documented
from tfldbg import record

OPERATORS, INPUTS = 2000, 500


def _trace(model: bytes, **options: object) -> tfldbg.Trace:
    result = tfldbg.trace(model, samples=3, **options)  # type: ignore[arg-type]
    assert_documented(result.to_dict())
    assert result.verdict == "clean", result.diagnosis.sentence
    run = result.evidence.run
    assert run.observer_identical
    assert run.observer_samples == 3
    return result


def _checked(result: tfldbg.Trace) -> list[int]:
    return [o.op for o in result.evidence.ops if o.local is not None]


def _reasons(result: tfldbg.Trace) -> dict[int, str]:
    return {o.op: o.local_reason for o in result.evidence.ops if o.local_reason is not None}


@pytest.mark.parametrize(("key", "kinds"), [("relu", ["RELU"]), ("tanh", ["ADD", "TANH"])])
def test_each_signature_is_traced_by_its_name(key: str, kinds: list[str]) -> None:
    result = _trace(odd_files.two_signatures(), signature=key)
    assert [o.kind for o in result.evidence.ops] == kinds
    assert len(_checked(result)) == len(kinds)


def test_a_constant_of_another_scale_is_checked() -> None:
    result = _trace(odd_files.requantized_constant())
    assert _checked(result) == [0, 1]
    local = result.evidence.ops[0].local
    assert local is not None
    assert local.max_lsb is not None
    assert 0 < local.max_lsb <= 0.5


@pytest.mark.parametrize("before", [True, False])
def test_a_reshape_that_only_one_of_two_files_has_is_looked_through(before: bool) -> None:
    good = odd_files.reshaped(before=not before)
    result = _trace(odd_files.reshaped(before=before), against=good)
    assert len(_checked(result)) == len(result.evidence.ops)
    broken = tfldbg.trace(odd_files.reshaped(before=before, shift=0.1), against=good, samples=3)
    assert broken.origins == (result.evidence.ops[-1].op,)


def test_an_if_is_not_compared_and_says_so() -> None:
    result = _trace(odd_files.branches())
    assert _checked(result) == [1]
    assert "runs another subgraph" in _reasons(result)[0]


def test_call_once_runs_before_the_samples() -> None:
    result = _trace(odd_files.call_once(), data=np.zeros((3, 1, 4), np.float32))
    assert _checked(result) == [3]
    (output,) = result.evidence.outputs
    assert result.evidence.ops[-1].kind == "ADD"
    assert output.tensor == result.evidence.ops[-1].tensor


def test_a_composite_is_not_compared_and_says_so() -> None:
    result = _trace(odd_files.composite())
    assert _checked(result) == [0]
    assert "runs another subgraph" in _reasons(result)[1]


def test_strings_are_drawn_and_what_reads_no_strings_is_checked() -> None:
    result = _trace(odd_files.strings())
    assert _checked(result) == [2]
    assert all("no numbers" in _reasons(result)[op] for op in (0, 1))


@pytest.mark.parametrize(
    "words",
    [
        np.array([["a", "bc", "é"]] * 3),
        np.array([[b"a", b"bc", b"d"]] * 3),
        np.array([["a", b"b\0c", ""]] * 3, object),
    ],
)
def test_strings_are_given(words: np.ndarray) -> None:
    which = np.array([[0, 2]] * 3, np.int32)
    _trace(odd_files.strings(), data={"words": words, "which": which})


def test_what_is_no_string_is_refused() -> None:
    given = {"words": np.zeros((3, 3), np.int32), "which": np.zeros((3, 2), np.int32)}
    with pytest.raises(tfldbg.TfldbgError, match=r"does not fit input 'words': .*string"):
        tfldbg.trace(odd_files.strings(), data=given)
    given["words"] = np.full((3, 3), None, object)
    with pytest.raises(tfldbg.TfldbgError, match="does not fit input 'words'"):
        tfldbg.trace(odd_files.strings(), data=given)


def test_outputs_that_are_inputs_constants_or_the_same_twice() -> None:
    assert _checked(_trace(odd_files.ends())) == [0, 1]


@pytest.mark.parametrize("place", ["input", "output"])
def test_an_input_that_is_something_else_besides(samples: Path, place: str) -> None:
    """The input twice, or an input that an operator writes: one array a tensor all the same."""
    model = schema.ModelT.InitFromPackedBuf((samples / "dense4.tflite").read_bytes())
    (subgraph,) = model.subgraphs
    other = subgraph.inputs[0] if place == "input" else subgraph.operators[0].outputs[0]
    subgraph.inputs = [*subgraph.inputs, other]
    model.signatureDefs = []
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    result = tfldbg.trace(bytes(builder.Output()), samples=3)
    assert result.evidence.run.samples == 3 and _checked(result)


def test_a_tensor_without_elements_is_skipped_with_a_reason(tmp_path: Path) -> None:
    result = _trace(odd_files.empty_sizes())
    assert _checked(result) == [1]
    assert "has no elements" in _reasons(result)[0]
    record(odd_files.empty_sizes(), tmp_path / "run.h5")


def test_a_shape_that_follows_the_values_is_skipped_with_a_reason(tmp_path: Path) -> None:
    given = np.array([[1, -1, 1, 1], [1, -1, -1, 1], [-1, -1, -1, -1]], np.float32)
    result = tfldbg.trace(odd_files.found(), data=given)
    assert result.verdict == "clean", result.diagnosis.sentence
    assert result.evidence.run.observer_identical
    assert {0, 3} <= set(_checked(result))
    assert "changes from sample to sample: [3, 1] and" in _reasons(result)[1]
    assert "input tensor 3 cannot be read" in _reasons(result)[2]
    first_of_next_batch = np.concatenate([given[:1]] * 32 + [given[1:]])
    record(odd_files.found(), tmp_path / "run.h5", data=first_of_next_batch)


@pytest.mark.parametrize("shape", [(3, 1, 1, 3), (3, 3), (3, 5, 3), (3, 1, 5, 3), (3, 1, 3)])
def test_data_fits_open_dimensions(shape: tuple[int, ...]) -> None:
    x = np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    nothing = np.zeros((3, 0, 3), np.float32)
    result = tfldbg.trace(odd_files.empty_sizes(), data={"t0": x, "t1": nothing})
    assert result.verdict == "clean"


def test_an_input_that_is_left_out() -> None:
    assert _checked(_trace(odd_files.no_bias())) == [0]


@pytest.mark.parametrize(("kind", "bits"), [("INT4", 4), ("INT2", 2)])
def test_packed_weights(kind: str, bits: int) -> None:
    assert _checked(_trace(odd_files.packed(kind, bits))) == [0]


def test_float16_is_rounded_and_not_blamed_for_it() -> None:
    assert _checked(_trace(odd_files.between("FLOAT16"))) == [0, 1]


def test_complex_numbers_are_two_numbers_each() -> None:
    assert _checked(_trace(odd_files.between("COMPLEX64"))) == [0, 1]


@pytest.mark.parametrize("kind", ["BFLOAT16", "INT4"])
def test_what_python_cannot_read_is_said(kind: str) -> None:
    result = _trace(odd_files.between(kind))
    assert not _checked(result)
    assert kind in _reasons(result)[0]
    assert not result.evidence.run.notes


def test_an_input_that_python_cannot_set_is_refused() -> None:
    with pytest.raises(
        tfldbg.TfldbgError, match="input 't0' is BFLOAT16: it accepts neither numbers"
    ):
        tfldbg.trace(odd_files.half("BFLOAT16"))


def test_two_thousand_operators(tmp_path: Path) -> None:
    path = tmp_path / "chain.tflite"
    path.write_bytes(odd_files.chain(OPERATORS))
    shown = command("trace", path, "--samples", "1")
    assert shown.returncode == 0, shown.stderr
    assert f"{OPERATORS} of {OPERATORS} operators checked" in shown.stdout
    assert len(shown.stdout.splitlines()) < 40  # the others are left out
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert largest < 1 << 20  # KiB


def test_five_hundred_inputs(tmp_path: Path) -> None:
    path = tmp_path / "wide.tflite"
    path.write_bytes(odd_files.wide(INPUTS))
    shown = command("trace", path, "--samples", "1")
    assert shown.returncode == 0, shown.stderr
    assert "2 of 2 operators checked" in shown.stdout
    assert len(shown.stdout.splitlines()) < 40


@pytest.mark.parametrize(
    ("kinds", "words", "hint"),
    [
        (["Foo", "Bar", "Foo"], r"operator Foo \(operators 1, 3\); .*: Bar \(operator 2\)", "kit"),
        (["Foo"], r"operator Foo \(operator 1\); all others are builtin", "kit"),
        (["DISPATCH_OP"], r"DISPATCH_OP \(operator 1\) holds a program", "compiled for the"),
        (["FlexAddV2"], r"no Flex delegate, .*: FlexAddV2 \(operator 1\)", "SELECT_TF_OPS"),
    ],
)
@pytest.mark.parametrize("runtime", ["xnnpack", "reference"])
def test_operators_that_the_runtime_does_not_have(
    kinds: list[str], words: str, hint: str, runtime: str
) -> None:
    with pytest.raises(tfldbg.TfldbgError, match=words) as caught:
        tfldbg.trace(odd_files.custom(kinds), runtime=runtime)
    assert caught.value.hint is not None and hint in caught.value.hint


def test_kernels_that_one_runtime_does_not_have(shared_models: Path) -> None:
    path = shared_models / "tflite" / "litert_simple_elu_op.tflite"
    with pytest.raises(tfldbg.TfldbgError, match=r"no kernel for version 1 of ELU \(operator 0\)"):
        tfldbg.trace(path, samples=1, runtime="reference")


@pytest.mark.parametrize(("stated", "scales"), [(3, 4), (-1, 4), (3, 1)])
def test_an_impossible_quantized_dimension_is_repaired_and_told(stated: int, scales: int) -> None:
    data = odd_files.bias_of_dimension(stated, scales)
    result = tfldbg.trace(data, samples=3)
    plain = result.to_dict()
    assert_documented(plain)
    assert f"states {stated}" in plain["observer"]["repair"]
    assert result.verdict == "clean"
    local = result.evidence.ops[0].local
    assert local is not None and local.max_lsb is not None and local.max_lsb <= 0.5
    assert "to the repaired model" in result.to_html()


def test_expose_repairs_and_tells(tmp_path: Path) -> None:
    given, out = tmp_path / "given.tflite", tmp_path / "out.tflite"
    given.write_bytes(odd_files.bias_of_dimension(3))
    shown = command("expose", given, "-o", out)
    assert shown.returncode == 0, shown.stderr
    assert "repaired: LiteRT refuses the file as it is" in shown.stdout
    again = tfldbg.trace(out, samples=3)
    assert again.verdict == "clean"
    assert again.evidence.run.repair is None
    assert given.read_bytes() == odd_files.bias_of_dimension(3)


def test_a_dimension_that_could_mean_several_things_is_left(tmp_path: Path) -> None:
    with pytest.raises(tfldbg.TfldbgError, match="quantized_dimension must be in range"):
        tfldbg.trace(odd_files.weights_of_dimension(5), samples=1)


def test_indices_that_are_a_scalar_end_in_words() -> None:
    """GATHER_ND reads along as many dimensions as the last of its indices says."""
    file = File()
    main = file.subgraph()
    table = main.tensor("FLOAT32", [4, 4], np.zeros((4, 4), np.float32))
    indices, out = main.tensor("INT32", []), main.tensor("FLOAT32", [4])
    main.operator("GATHER_ND", [table, indices], [out], schema.GatherNdOptionsT())
    main.ends([indices], [out])
    with pytest.raises(tfldbg.TfldbgError):
        tfldbg.trace(file.save(), samples=1)


@pytest.mark.parametrize("runtime", ["xnnpack", "builtin", "reference"])
@pytest.mark.parametrize("scale", [0.0, -0.5, float("nan"), float("inf")])
def test_a_scale_that_no_code_can_have_ends_in_words(scale: float, runtime: str) -> None:
    """A kernel that only moves codes runs such a file; there is nothing to compare in it."""
    file = File()
    main = file.subgraph()
    given = main.tensor("INT8", [1, 4], scale=0.5)
    shape = main.tensor("INT32", [1], np.array([4], np.int32))
    out = main.tensor("INT8", [4], scale=scale)
    main.operator("RESHAPE", [given, shape], [out], schema.ReshapeOptionsT())
    main.ends([given], [out])
    result = tfldbg.trace(file.save(), samples=1, runtime=runtime)
    assert result.diagnosis.statuses == ("origin",)
    assert f"scale {scale:g}, which is not a positive" in result.diagnosis.sentence
    (only,) = result.evidence.ops
    assert f"codes of the scale {scale:g}" in str(only.local_reason)
