"""Final outputs, accuracy, worst samples and histograms of real traces."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import tfldbg
from tests.schema import assert_documented
from tfldbg.compare.histogram import EDGES_LSB
from tfldbg.report.document import build_document
from tfldbg.store.schema import tensor_path


def _digits(samples: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(samples / "digits.npz") as archive:
        return archive["x"], archive["labels"]


def _interpreted(model: Path, images: np.ndarray) -> np.ndarray:
    """Codes of the only output, by the interpreter alone: (N, classes) int8."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model))
    interpreter.allocate_tensors()
    given, taken = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero_point = given["quantization"]
    codes = np.clip(np.floor(images / scale + 0.5) + zero_point, -128, 127).astype(np.int8)
    found = []
    for code in codes:
        interpreter.set_tensor(given["index"], code.reshape(given["shape"]))
        interpreter.invoke()
        found.append(interpreter.get_tensor(taken["index"])[0])
    return np.array(found)


@pytest.fixture(scope="module")
def run(samples: Path) -> tfldbg.Trace:
    """All 300 digits through the broken CNN."""
    return tfldbg.trace(
        samples / "cnn_negated_channel.tflite",
        keras=samples / "cnn.h5",
        data=samples / "digits.npz",
        samples=300,
        labels="labels",
        worst=3,
    )


@pytest.fixture(scope="module")
def recorded(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tfldbg.Trace]:
    """Some digits through the broken CNN, with everything asked for, recorded."""
    path = tmp_path_factory.mktemp("outputs") / "run.h5"
    result = tfldbg.trace(
        samples / "cnn_negated_channel.tflite",
        keras=samples / "cnn.h5",
        data=samples / "digits.npz",
        samples=20,
        labels="labels",
        worst=3,
        histograms=True,
        dump=path,
        dump_exact=True,
    )
    return path, result


@pytest.mark.parametrize("name", ["cnn", "cnn_negated_channel"])
def test_accuracy_is_what_keras_and_the_interpreter_say(
    name: str, samples: Path, run: tfldbg.Trace
) -> None:
    from tfldbg.reference.keras import load_live

    model, data = samples / f"{name}.tflite", samples / "digits.npz"
    result = run
    if name == "cnn":
        result = tfldbg.trace(
            model, keras=samples / "cnn.h5", data=data, samples=300, labels="labels", top_k=2
        )
    images, labels = _digits(samples)
    keras = load_live(samples / "cnn.h5").predict(images[..., None], verbose=0)
    codes = _interpreted(model, images)

    accuracy = result.to_dict()["accuracy"]
    sides = {side["side"]: side for side in accuracy["sides"]}
    assert (accuracy["samples"], accuracy["labelled"], accuracy["classes"]) == (300, 300, 10)
    for side, scores in (("reference", keras), ("tflite", codes)):
        first = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, : accuracy["k"]]
        assert sides[side]["top_1"] == (scores.argmax(1) == labels).sum()
        assert sides[side]["top_k"] == (first == labels[:, None]).sum()
        ties = (scores == scores.max(1, keepdims=True)).sum(1) > 1
        assert sides[side]["ties"] == ties.sum()
        low, high = sides[side]["top_1_interval"]
        assert low < sides[side]["top_1_share"] < high
    changed = np.flatnonzero(keras.argmax(1) != codes.argmax(1))
    found = accuracy["disagreements"][0]
    assert (found["test"], found["against"]) == ("tflite", "reference")
    assert found["count"] == len(changed)
    assert found["samples"] == changed[:8].tolist()


def test_the_outputs_figures_are_what_keras_and_the_interpreter_say(
    samples: Path, run: tfldbg.Trace
) -> None:
    from tfldbg.reference.keras import load_live

    images, _ = _digits(samples)
    keras = load_live(samples / "cnn.h5").predict(images[..., None], verbose=0)
    codes = _interpreted(samples / "cnn_negated_channel.tflite", images)
    real = (codes.astype(np.float64) + 128) / 256
    (output,) = run.to_dict()["outputs"]
    assert output["step"] == 1 / 256 and output["tolerance"] == 0.01
    pair = output["pairs"][0]
    off = np.abs(real - keras)
    assert pair["max_abs"] == pytest.approx(off.max(), abs=1e-5)
    # Where fake-quant rounds, another order of additions may make another step.
    assert pair["mean_abs"] == pytest.approx(off.mean(), abs=1e-5)
    assert pair["max_relative"] == pytest.approx((off / np.maximum(keras, 1 / 256)).max(), rel=1e-3)
    assert pair["worst_sample"] == off.max(1).argmax()
    assert pair["mismatching"] == (~np.isclose(real, keras, rtol=0, atol=0.01)).sum()
    assert not pair["passed"]
    assert [p["against"] for p in output["pairs"]] == ["reference", "reference", "emulation"]
    assert output["pairs"][2]["passed"]  # the emulation holds the same broken weights


def test_a_tolerance_is_a_figure_and_never_the_verdict(samples: Path) -> None:
    clean = {"data": samples / "digits.npz", "samples": 16}
    strict = tfldbg.trace(samples / "cnn.tflite", **clean, tolerance=0.0)
    loose = tfldbg.trace(samples / "cnn.tflite", **clean, tolerance=1.0)
    assert strict.verdict == loose.verdict == "clean"
    for result, passed in ((strict, False), (loose, True)):
        pair = result.to_dict()["outputs"][0]["pairs"][0]
        assert pair["passed"] is passed
        assert (pair["mismatching"] == 0) is passed
        assert any("tolerance" in section.title for section in build_document(result).sections)
    plain = tfldbg.trace(samples / "cnn.tflite", **clean)
    assert plain.to_dict()["outputs"][0]["tolerance"] == 0.01
    assert plain.to_dict()["accuracy"] is None
    assert build_document(plain).sections == ()


def test_in_the_worst_samples_codes_part_at_the_planted_operator(run: tfldbg.Trace) -> None:
    worst = run.evidence.measures["worst"]
    assert len(worst) == 3
    assert [w.first_part_op for w in worst] == [5, 5, 5]
    assert worst[0].error_lsb is not None and worst[0].error_lsb > 100


def test_the_codes_of_the_worst_samples_are_the_recorded_ones(
    recorded: tuple[Path, tfldbg.Trace],
) -> None:
    with h5py.File(recorded[0], "r") as file:
        for sample in recorded[1].evidence.measures["worst"]:
            for op in sample.ops:
                group = file[tensor_path(op.tensor)]
                codes = group["values"][sample.sample]
                scale, zero_point = group.attrs["scale"], group.attrs["zero_point"]
                steps = group["reference"][sample.sample].astype(np.float64) / scale + zero_point
                expected = np.clip(np.rint(steps), -128, 127)
                assert codes[op.index] == op.tflite
                assert abs(op.reference - steps[op.index].clip(-128, 127)) < 0.51
                assert op.largest == np.abs(codes - expected).max()
                flat = codes.ravel()[op.excerpt_start :][: len(op.tflite_excerpt)]
                assert tuple(flat.tolist()) == op.tflite_excerpt


def test_the_worst_samples_are_those_that_numpy_finds(samples: Path) -> None:
    model, images = samples / "dense5_nobias_ptq.tflite", _digits(samples)[0]
    result = tfldbg.trace(
        model, keras=samples / "dense5_nobias_ptq.h5", data=images, samples=300, worst=4
    )
    from tfldbg.reference.keras import load_live

    keras = load_live(samples / "dense5_nobias_ptq.h5").predict(images, verbose=0)
    output = result.evidence.outputs[0]
    op = result.evidence.ops[-1]
    assert output.step is not None and op.zero_point is not None
    real = (_interpreted(model, images).astype(np.float64) - op.zero_point) * output.step
    error = np.abs(real - keras).max(1)
    assert [w.sample for w in result.evidence.measures["worst"]] == np.argsort(-error)[:4].tolist()
    for found in result.evidence.measures["worst"]:
        assert found.error_lsb == pytest.approx(error[found.sample] / output.step, rel=1e-4)


@pytest.mark.parametrize("against", ["cnn.tflite", "runtime", "capture", "itself"])
def test_worst_samples_against_any_reference(against: str, samples: Path, tmp_path: Path) -> None:
    reference: dict[str, object] = {"data": samples / "digits.npz"}
    if against == "capture":
        tfldbg.record(samples / "cnn.tflite", tmp_path / "good.h5", data=samples / "digits.npz")
        reference = {"against": tmp_path / "good.h5"}
    elif against == "runtime":
        reference["against_runtime"] = "builtin"
    elif against != "itself":
        reference["against"] = samples / against
    result = tfldbg.trace(
        samples / "cnn_negated_channel.tflite",
        **reference,  # type: ignore[arg-type]
        samples=16,
        worst=1,
        labels=samples / "digits.npz:labels",
    )
    accuracy = result.evidence.measures["accuracy"]
    assert accuracy is not None
    assert [s.side for s in accuracy.sides] == ["reference", "emulation", "tflite"]
    (worst,) = result.evidence.measures["worst"]
    if against in ("cnn.tflite", "capture"):
        assert worst.first_difference_op == worst.first_part_op == 5
    assert worst.error == result.evidence.outputs[0].pairs[0].max_abs


def test_histograms_count_every_element(recorded: tuple[Path, tfldbg.Trace]) -> None:
    path, result = recorded
    plain = result.to_dict()
    assert_documented(plain)
    assert plain["histogram_edges_lsb"] == list(EDGES_LSB)
    for op, evidence in zip(plain["ops"], result.evidence.ops, strict=True):
        for kind in ("local", "accumulated"):
            counts, stats = op["histogram"][kind], getattr(evidence, kind)
            assert sum(counts) == stats.elements
            beyond = [i for i, c in enumerate(counts) if c]
            edges = (-np.inf, *EDGES_LSB, np.inf)
            furthest = [edges[i] if i > len(EDGES_LSB) // 2 else -edges[i + 1] for i in beyond]
            assert max(furthest) <= stats.max_lsb
            with h5py.File(path, "r") as file:
                dataset = file[tensor_path(op["tensor_index"])][f"{kind}_histogram"]
                assert dataset[:].tolist() == counts
                assert dataset.attrs["edges_lsb"].tolist() == list(EDGES_LSB)


def test_a_report_of_the_recording_shows_the_same(
    recorded: tuple[Path, tfldbg.Trace],
) -> None:
    path, result = recorded
    again = tfldbg.load_trace(path)
    assert again.evidence == result.evidence
    assert build_document(again).sections == build_document(result).sections
    assert len(build_document(again).sections) == 1 + 1 + 1 + 3


@pytest.fixture(scope="module")
def two_outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A model with outputs of 3 values and of 7 classes: float, and quantized but for its ends."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    image = keras.Input((6,), name="image")
    x = keras.layers.Dense(8, activation="relu")(image)
    box = keras.layers.Dense(3, name="box")(x)
    model = keras.Model(image, [box, keras.layers.Dense(7, name="classes")(x)])

    def convert(quantize: bool) -> bytes:
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if quantize:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([d] for d in _vectors()[:, None])
        return bytes(converter.convert())

    return {"float": convert(False), "quantized": convert(True)}


def _vectors() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, (20, 6)).astype(np.float32)


@pytest.mark.parametrize("kind", ["float", "quantized"])
def test_labels_belong_to_the_first_output_with_classes_enough(
    kind: str, two_outputs: dict[str, bytes]
) -> None:
    result = tfldbg.trace(
        two_outputs[kind],
        against=two_outputs["float"],
        data=_vectors(),
        labels=np.arange(20) % 7,
        worst=1,
        histograms=True,
    )
    plain = result.to_dict()
    assert_documented(plain)
    assert len(plain["outputs"]) == 2
    assert plain["accuracy"]["classes"] == 7
    sides = [side["side"] for side in plain["accuracy"]["sides"]]
    if kind == "float":
        assert sides == ["reference", "tflite"]  # there is nothing to emulate
        assert plain["histogram_edges_lsb"] is None
        assert plain["worst"] == []  # the same file
        assert any("equal the reference's in every sample" in note for note in plain["notes"])
        assert any("no histograms" in note for note in plain["notes"])
        return
    assert sides == ["reference", "emulation", "tflite"]
    assert all(output["step"] is not None for output in plain["outputs"])
    assert plain["worst"][0]["error_lsb"] > 0
    assert any(not op["codes"] for op in plain["worst"][0]["ops"])
    assert build_document(result).sections


def test_wrong_numbers_are_refused(samples: Path) -> None:
    for wrong in ({"tolerance": -1.0}, {"tolerance": float("nan")}, {"top_k": 0}, {"worst": -1}):
        with pytest.raises(tfldbg.UsageError):
            tfldbg.trace(samples / "cnn.tflite", **wrong)  # type: ignore[arg-type]
