"""What is kept of Keras models: used for the same file and versions, and never else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import tfldbg
from tests.integration.test_cli import tfldbg as command
from tfldbg.reference import cache, keras
from tfldbg.reference.keras import load_frozen


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were loaded and not taken from the cache."""
    found: list[Path] = []
    load: Callable[..., object] = keras._load

    def watched(path: Path, config: object, unsafe: bool) -> object:
        found.append(path)
        return load(path, config, unsafe)

    monkeypatch.setattr(keras, "_load", watched)
    return found


def _plain(result: tfldbg.Trace) -> dict[str, object]:
    return {key: value for key, value in result.to_dict().items() if key != "timing"}


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_second_trace_finds_the_same_without_loading(
    suffix: str, samples: Path, place: Path, loaded: list[Path]
) -> None:
    given = {"keras": samples / f"cnn{suffix}", "data": samples / "digits.npz", "samples": 8}
    first = tfldbg.trace(samples / "cnn_negated_channel.tflite", **given)
    assert len(loaded) == 1
    second = tfldbg.trace(samples / "cnn_negated_channel.tflite", **given)
    assert len(loaded) == 1
    assert _plain(first) == _plain(second) and second.origins
    assert len(list(place.iterdir())) == 1


def test_another_file_or_version_is_another_entry(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = samples / "dense4.h5"
    key = cache.entry_key(model)
    assert key == cache.entry_key(model)
    copy = tmp_path / "model.h5"
    copy.write_bytes(model.read_bytes())
    assert cache.entry_key(copy) == key, "its name decides nothing"
    copy.write_bytes(model.read_bytes() + b"\0")
    assert cache.entry_key(copy) != key
    monkeypatch.setattr(cache.metadata, "version", lambda name: "0.0.0")
    assert cache.entry_key(model) != key


def test_what_needs_unsafe_is_never_kept(tmp_path: Path, place: Path) -> None:
    import tf_keras

    model, layers = tmp_path / "lambda.keras", tf_keras.layers
    tf_keras.Sequential([layers.Input((4,)), layers.Lambda(lambda x: x * 2)]).save(model)
    load_frozen(model, unsafe=True, cached=True)
    assert not place.exists()
    with pytest.raises(tfldbg.TfldbgError, match="Lambda"):
        load_frozen(model, cached=True)


@pytest.mark.parametrize("kind", ["layer", "activation"])
def test_what_python_has_registered_is_never_kept(kind: str, tmp_path: Path, place: Path) -> None:
    import tf_keras

    class Twice(tf_keras.layers.Layer):
        def call(self, x: object) -> object:
            return x * 2

    def halved(x: object) -> object:
        return x / 2

    layers, model = tf_keras.layers, tmp_path / "own.keras"
    own = Twice() if kind == "layer" else layers.Dense(3, activation=halved)
    tf_keras.Sequential([layers.Input((4,)), own]).save(model)
    with tf_keras.utils.custom_object_scope({"Twice": Twice, "halved": halved}):
        load_frozen(model, cached=True)
    assert not place.exists()


@pytest.mark.parametrize("damage", ["cut", "garbled", "empty", "no graph"])
def test_a_damaged_entry_is_replaced(
    damage: str, samples: Path, place: Path, loaded: list[Path]
) -> None:
    model = samples / "dense4.h5"
    whole = load_frozen(model, cached=True)
    (entry,) = place.iterdir()
    content = entry.read_bytes()
    middle = len(content) // 2
    entry.write_bytes(
        {
            "cut": content[:middle],
            "garbled": content[:middle] + bytes(64) + content[middle + 64 :],
            "empty": b"",
            "no graph": content.replace(b"graph.pb", b"graph.px"),
        }[damage]
    )
    again = load_frozen(model, cached=True)
    assert len(loaded) == 2
    assert again.graph_def == whole.graph_def
    load_frozen(model, cached=True)
    assert len(loaded) == 2


def test_a_folder_that_others_can_write_to_is_not_trusted(
    samples: Path, place: Path, loaded: list[Path]
) -> None:
    load_frozen(samples / "dense4.h5", cached=True)
    place.chmod(0o777)
    load_frozen(samples / "dense4.h5", cached=True)
    assert len(loaded) == 2


def test_without_a_place_nothing_is_kept(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: list[Path]
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "file" / "cache"))
    for count in (1, 2):
        load_frozen(samples / "dense4.h5", cached=True)
        assert len(loaded) == count


def test_what_was_not_used_for_longest_goes_first(
    samples: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = load_frozen(samples / "dense4.h5")
    for age, key in ((30, "old"), (20, "older than new"), (10, "new")):
        cache.write(key, frozen)
        then = (place / f"{key}.frozen").stat().st_mtime - age
        os.utime(place / f"{key}.frozen", (then, then))
    size = (place / "new.frozen").stat().st_size
    assert cache.read("old") is not None  # used again, so the next one is older
    monkeypatch.setattr(cache, "_MOST", 3 * size)
    cache.write("newest", frozen)
    assert {p.stem for p in place.iterdir()} == {"newest", "old", "new"}


def test_the_option_and_the_command(samples: Path, place: Path) -> None:
    start = ("trace", samples / "dense4.tflite", "--keras", samples / "dense4.h5", "--samples", 2)
    assert command(*start, "--no-cache").returncode == 0
    shown = command("cache")
    assert shown.stdout == f"{place}: 0 models, 0.0 MB\n"
    assert command(*start).returncode == 0
    shown = command("cache", "show")
    assert shown.stdout.startswith(f"{place}: 1 model, ")
    cleared = command("cache", "clear")
    assert cleared.stdout.startswith(f"{place}: removed 1 model, ")
    assert not list(place.iterdir())
    assert command("cache", "empty").returncode == 2
