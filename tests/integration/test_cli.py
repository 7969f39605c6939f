"""The command line as a user meets it: exit codes, messages, files left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


def tfldbg(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tfldbg", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **options,  # type: ignore[call-overload]
    )


def assert_error(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert "hint:" in done.stderr
    assert done.stdout == ""


def test_trace_names_the_operator_and_leaves_with_one(samples: Path) -> None:
    done = tfldbg(
        "trace", samples / "cnn_zeroed_bias.tflite", "--keras", samples / "cnn.h5",
        "--data", samples / "digits.npz", "--samples", 8,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout.startswith("DIVERGED: operator 8 CONV_2D 'quant_head_relu'")
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


def test_json_on_stdout_is_all_there_is(samples: Path) -> None:
    done = tfldbg(
        "trace", samples / "dense4.tflite", "--keras", samples / "dense4.h5",
        "--samples", 4, "--json", "-",
    )  # fmt: skip
    assert done.returncode == 0
    plain = json.loads(done.stdout)
    assert plain["format"] == "tfldbg.trace" and plain["format_version"] == 1
    assert plain["verdict"] == "clean"
    keys = {"max_lsb", "mean_lsb", "worst_channel", "worst_channel_lsb", "sqnr_db", "cosine"}
    keys |= {"max_abs", "rmse", "worst_sample"}
    assert keys <= set(plain["ops"][1]["local"]) and keys <= set(plain["ops"][1]["accumulated"])


def test_dump_report_expose_and_inspect(samples: Path, tmp_path: Path) -> None:
    run, exposed = tmp_path / "run.h5", tmp_path / "exposed.tflite"
    traced = tfldbg(
        "trace", samples / "cnn_wrong_scale.tflite", "--keras", samples / "cnn.h5",
        "--samples", 4, "--dump", run, "--json", tmp_path / "a.json",
    )  # fmt: skip
    again = tfldbg("report", run, "--json", tmp_path / "b.json")
    assert traced.returncode == again.returncode == 1
    assert traced.stdout == again.stdout
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()
    assert tfldbg("expose", samples / "cnn.tflite", "-o", exposed).returncode == 0
    assert "12 of 12" in tfldbg("expose", samples / "cnn.tflite", "-o", exposed).stdout
    assert tfldbg("dump", samples / "cnn.tflite", "-o", run, "--samples", 2).returncode == 0
    shown = tfldbg("inspect", exposed)
    assert shown.returncode == 0 and "DEPTHWISE_CONV_2D + RELU6" in shown.stdout
    plain = json.loads(tfldbg("inspect", samples / "cnn.tflite", "--json", "-").stdout)
    assert plain["subgraphs"][0]["ops"][0]["kind"] == "CONV_2D"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a.json", "b.json", "exposed.tflite", "run.h5",
    ]  # fmt: skip


def test_missing_and_wrong_models(samples: Path, tmp_path: Path) -> None:
    keras = ("--keras", samples / "cnn.h5")
    assert_error(tfldbg("trace", tmp_path / "no.tflite", *keras), "no.tflite' does not exist")
    text = tmp_path / "text.tflite"
    text.write_text("hello, this is text")
    assert_error(tfldbg("trace", text, *keras), "is not a .tflite file")
    assert_error(tfldbg("inspect", text), "is not a .tflite file")
    done = tfldbg("trace", samples / "cnn.tflite", "--keras", tmp_path / "no.h5")
    assert_error(done, "the Keras model", "does not exist")
    weights = tmp_path / "text.h5"
    weights.write_text("no")
    assert_error(
        tfldbg("trace", samples / "cnn.tflite", "--keras", weights), "is not a Keras HDF5 file"
    )


def test_a_keras_file_of_another_model(samples: Path, shared_models: Path) -> None:
    other = shared_models / "pairs" / "mltk_autoencoder_example" / "model.h5"
    done = tfldbg("trace", samples / "cnn.tflite", "--keras", other, "--samples", 2)
    assert_error(done, "no input of the reference has the shape of 'image'", "[None, 140]")


def test_wrong_data(samples: Path, tmp_path: Path) -> None:
    run = tmp_path / "run.h5"
    command = ("trace", samples / "cnn.tflite", "--keras", samples / "cnn.h5", "--dump", run)
    np.save(tmp_path / "shape.npy", np.zeros((3, 27, 28), np.float32))
    done = tfldbg(*command, "--data", tmp_path / "shape.npy")
    assert_error(done, "does not fit input", "(3, 27, 28)")
    np.save(tmp_path / "nan.npy", np.full((3, 28, 28), np.nan, np.float32))
    assert_error(tfldbg(*command, "--data", tmp_path / "nan.npy"), "NaN", "sample 0")
    assert_error(
        tfldbg(*command, "--samples", 0), "invalid value 0 for --samples: must be at least 1"
    )
    assert_error(tfldbg(*command, "--runtime", "gpu"), "there is no runtime 'gpu'")
    assert_error(tfldbg(*command, "--input", "image"), "must be of the form NAME=KEY")
    assert_error(tfldbg(*command, "--input", "other=x"), "no input 'other'; it has 'image'")
    assert_error(tfldbg(*command, "--seed", -1), "invalid value -1 for --seed: must be at least 0")
    assert_error(
        tfldbg(*command, "--samples", 1, "--local-lsb", "nan"),
        "invalid value nan for --local-lsb: must be finite",
    )
    np.save(tmp_path / "scalar.npy", np.float32(1))
    assert_error(tfldbg(*command, "--data", tmp_path / "scalar.npy"), "does not fit input")
    (tmp_path / "fake.npz").write_bytes(b"PK\x03\x04 not a zip")
    assert_error(tfldbg(*command, "--data", tmp_path / "fake.npz"), "cannot read the data")
    assert not run.exists()


def test_nothing_that_is_read_is_overwritten(samples: Path, tmp_path: Path) -> None:
    keras, model = tmp_path / "k.h5", tmp_path / "m.tflite"
    keras.write_bytes((samples / "dense4.h5").read_bytes())
    model.write_bytes((samples / "dense4.tflite").read_bytes())
    assert_error(tfldbg("trace", model, "--keras", keras, "--dump", keras), "would be overwritten")
    assert_error(tfldbg("dump", model, "-o", model), "would be overwritten")
    assert_error(tfldbg("expose", model, "-o", model), "would be overwritten")
    assert keras.read_bytes() == (samples / "dense4.h5").read_bytes()
    assert model.read_bytes() == (samples / "dense4.tflite").read_bytes()


def test_a_folder_that_cannot_be_written_leaves_nothing(samples: Path, tmp_path: Path) -> None:
    done = tfldbg("expose", samples / "cnn.tflite", "-o", tmp_path / "no" / "out.tflite")
    assert_error(done, "cannot write", "No such file or directory")
    done = tfldbg("dump", samples / "cnn.tflite", "-o", tmp_path / "no" / "run.h5", "--samples", 1)
    assert_error(done, "cannot write")


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs to mount a tmpfs")
def test_a_full_disk_leaves_the_old_file(samples: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(disk)], check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this machine does not let tests mount a tmpfs")
    try:
        run = disk / "run.h5"
        run.write_text("the old recording")
        done = tfldbg("dump", samples / "cnn.tflite", "-o", run, "--samples", 64)
        assert_error(done, "cannot write")
        done = tfldbg("trace", samples / "cnn.tflite", "--keras", samples / "cnn.h5", "--dump", run)
        assert_error(done, "cannot write")
        assert run.read_text() == "the old recording"
        assert [p.name for p in disk.iterdir()] == ["run.h5"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_lambda_layers_are_refused_unless_allowed(samples: Path, tmp_path: Path) -> None:
    import tf_keras

    model = tf_keras.Sequential(
        [tf_keras.Input((28, 28)), tf_keras.layers.Lambda(lambda x: x * 2, name="twice")]
    )
    model.save(tmp_path / "code.h5")
    command = ("trace", samples / "dense4.tflite", "--keras", tmp_path / "code.h5", "--samples", 1)
    assert_error(tfldbg(*command), "layer 'twice' (Lambda) carries Python code", "--unsafe")
    assert "carries Python code" not in tfldbg(*command, "--unsafe").stderr


def test_help_and_inspect_do_not_import_tensorflow(samples: Path) -> None:
    code = (
        "import sys; from tfldbg.cli.app import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "assert not {'tensorflow', 'tf_keras', 'h5py'} & set(sys.modules), 'heavy'\n"
    )
    for arguments in (["--help"], ["trace", "--help"], ["inspect", str(samples / "cnn.tflite")]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, tfldbg\n"
        "tfldbg.TfldbgError\n"
        "assert not {'numpy', 'rich', 'typer', 'tensorflow'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_no_keras_model_is_told(samples: Path, tmp_path: Path) -> None:
    model, data, new = samples / "cnn.tflite", samples / "digits.npz", tmp_path / "new.tflite"
    assert_error(tfldbg("convert", model, "-o", new), "it is a .tflite file")
    assert_error(tfldbg("trace", model, "--keras", data), "it is data")
