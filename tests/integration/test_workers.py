"""Several processes share the samples of a trace, or the models of a sweep."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import tfldbg
from tests import odd_files
from tests.integration.test_cli import tfldbg as command
from tests.integration.test_extending import _device
from tests.loop_file import loop_file
from tests.svdf_file import svdf_file
from tfldbg import session
from tfldbg.against import keras as keras_kind
from tfldbg.errors import RunError
from tfldbg.options.against import Against
from tfldbg.options.run_on import RunOn
from tfldbg.run.status import own_status
from tfldbg.session import measuring
from tfldbg.session.pool import open_pool
from tfldbg.session.request import Ready

SAMPLE_MODELS = Path(__file__).resolve().parents[2] / "sample_models"
CNN = SAMPLE_MODELS / "cnn.tflite"
KERAS = SAMPLE_MODELS / "cnn.h5"
SAMPLES = 150
"""More than four batches, the last of them not full."""


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Counts are equal bit for bit, floats up to 1e-10 of their size."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one.keys() - {"timing"}:
            assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for number, (mine, others) in enumerate(zip(one, other, strict=True)):
            assert_same(mine, others, f"{where}/{number}")
    elif isinstance(one, float):
        assert other == pytest.approx(one, rel=1e-10, abs=1e-15, nan_ok=True), where
    else:
        assert one == other, where


def psnr(reference: np.ndarray, test: np.ndarray) -> float:
    noise = float(np.square(reference - test).mean())
    return float(10 * np.log10(np.square(reference).max() / noise)) if noise else float("inf")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples with labels, all of them different."""
    generator = np.random.default_rng(5)
    target = tmp_path_factory.mktemp("workers") / "data.npz"
    images = generator.uniform(0, 1.3, (SAMPLES, 28, 28)).astype(np.float32)
    np.savez(target, image=images, label=generator.integers(0, 10, SAMPLES))
    return target


def traced(data: Path, **more: Any) -> dict[str, Any]:
    everything = {"labels": "label", "worst": 3, "histograms": True, "pictures": True}
    result = tfldbg.trace(
        CNN,
        keras=KERAS,
        data=data,
        samples=SAMPLES,
        inputs={"image": "image"},
        **{**everything, **more},
    )
    return {**result.to_dict(), "points": result.evidence.measures.get("pictures")}


@pytest.fixture(scope="module")
def alone(data: Path) -> dict[str, Any]:
    return traced(data)


def test_two_processes_measure_what_one_does(alone: dict[str, Any], data: Path) -> None:
    assert_same(alone, traced(data, workers=2))


def test_metrics_are_shared_out_as_well(data: Path) -> None:
    metrics = {"psnr": psnr}
    one = tfldbg.trace(CNN, data=data, samples=SAMPLES, metrics=metrics).to_dict()
    two = tfldbg.trace(CNN, data=data, samples=SAMPLES, metrics=metrics, workers=2).to_dict()
    assert_same(one, two)


def test_streams_are_not_divided() -> None:
    options: dict[str, Any] = {"samples": 60, "steps": 5}
    one = tfldbg.trace(svdf_file(), **options)
    assert_same(one.to_dict(), tfldbg.trace(svdf_file(), **options, workers=2).to_dict())


def children(parent: int) -> list[int]:
    """Return the processes that a process has started and that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            state, its_parent = stat.read_text().rpartition(")")[2].split()[:2]
            if int(its_parent) == parent and state != "Z":
                found.append(int(stat.parent.name))
    return found


def once(find: Callable[[], int | None]) -> threading.Thread:
    """Kill a process as soon as it is found, in a thread."""

    def look() -> None:
        for _ in range(2000):
            found = find()
            if found is not None:
                os.kill(found, signal.SIGKILL)
                return
            time.sleep(0.01)

    thread = threading.Thread(target=look)
    thread.start()
    return thread


def working(pids: list[int]) -> int | None:
    """Return a worker of a cluster that runs a model, which is when a child of its own does."""
    return next((pid for pid in pids if children(pid)), None)


def worker() -> int | None:
    """Return a process of this one that does parts of its work."""
    for pid in children(os.getpid()):
        with suppress(OSError):  # it has just ended
            if b"tfldbg.session.processes" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    return None


def test_what_a_killed_worker_did_is_done_again(alone: dict[str, Any], data: Path) -> None:
    killed: list[int] = []

    def find() -> int | None:
        found = worker()
        killed.extend([found] if found is not None else [])
        return found

    killer = once(find)
    again = traced(data, workers=2)
    killer.join()
    assert killed
    assert_same(alone, again)


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def double(number: int) -> int:
    return 2 * number


def fail(number: int) -> int:
    raise tfldbg.TfldbgError(f"number {number} is no good", hint="take another one")


def test_work_that_ends_every_process_ends_in_words() -> None:
    with (
        open_pool(2, None) as pool,
        pytest.raises(tfldbg.TfldbgError, match=r"ended 3 times.*SIGKILL"),
    ):
        assert pool is not None
        list(pool.each(die, [1]))


def test_a_pool_does_everything_and_leaves_no_process() -> None:
    with open_pool(2, None) as pool:
        assert pool is not None
        assert list(pool.each(double, range(9))) == [2 * n for n in range(9)]
    assert not children(os.getpid())


def test_an_interrupt_ends_the_processes_and_what_they_do() -> None:
    def interrupt() -> None:
        while len(children(os.getpid())) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), open_pool(2, None) as pool:
        assert pool is not None
        list(pool.each(time.sleep, [60, 60, 60]))
    assert time.monotonic() - began < 30
    assert not children(os.getpid())


def test_a_script_needs_no_guard_and_the_working_directory_holds_no_modules(tmp_path: Path) -> None:
    """`multiprocessing` would run the script again in every process, and import this socket."""
    script, folder = tmp_path / "script.py", tmp_path / "downloaded"
    script.write_text(
        "import sys, tfldbg\n"
        "print(tfldbg.trace(sys.argv[1], samples=70, workers=2).evidence.run.samples)\n"
    )
    folder.mkdir()
    for name in ("numpy", "pickle", "socket"):
        (folder / f"{name}.py").write_text("raise SystemExit('imported')\n")
    ran = subprocess.run(
        [sys.executable, script, CNN], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "70\n", "")


def test_an_error_elsewhere_is_an_error_here() -> None:
    with open_pool(2, None) as pool, pytest.raises(tfldbg.TfldbgError, match="no good") as raised:
        assert pool is not None
        list(pool.each(fail, range(3)))
    assert raised.value.hint == "take another one"


def fail_in_turn(number: int) -> int:
    time.sleep(0 if number else 1)
    return fail(number)


def test_the_error_is_that_of_the_first_item_whichever_fails_first() -> None:
    with open_pool(2, None) as pool, pytest.raises(tfldbg.TfldbgError, match="number 0 is no good"):
        assert pool is not None
        list(pool.each(fail_in_turn, range(3)))


def missing(number: int) -> int:
    raise FileNotFoundError(f"there is no file {number}")


class OddError(Exception):
    def __reduce__(self) -> str:
        raise TypeError("not to be pickled")


def odd(number: int) -> int:
    raise OddError(f"odd {number}")


class TwoPartsError(Exception):
    """Is pickled, but cannot be made again."""

    def __init__(self, one: str, other: int) -> None:
        super().__init__(f"{one} {other}")


def in_two_parts(number: int) -> int:
    raise TwoPartsError("part", number)


@pytest.mark.parametrize(
    ("work", "raised", "words"),
    [
        (missing, FileNotFoundError, "no file 1"),
        (odd, tfldbg.TfldbgError, "OddError: odd 1"),
        (in_two_parts, tfldbg.TfldbgError, "TwoPartsError: part 1"),
    ],
)
def test_an_exception_elsewhere_is_no_lost_process(
    work: Callable[[int], int], raised: type[Exception], words: str
) -> None:
    with open_pool(2, None) as pool, pytest.raises(raised, match=words):
        assert pool is not None
        list(pool.each(work, [1]))


def test_what_cannot_be_sent_is_refused_in_words(data: Path) -> None:
    with pytest.raises(tfldbg.TfldbgError, match="cannot be passed to other processes"):
        tfldbg.trace(CNN, data=data, samples=SAMPLES, metrics={"zero": lambda *_: 0.0}, workers=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": 0}, "invalid value 0 for --workers: must be at least 1"),
        ({"workers": 2, "scheduler": "tcp://localhost:1"}, "give one of them"),
        ({"scheduler": "nowhere"}, "no Dask scheduler answers"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], words: str) -> None:
    with pytest.raises(tfldbg.TfldbgError) as raised:
        tfldbg.trace(CNN, samples=2, **options)
    assert words in f"{raised.value} {raised.value.hint}"


def test_what_happens_inside_of_a_loop_is_measured_by_one() -> None:
    with pytest.raises(tfldbg.TfldbgError, match="only one process can measure: "):
        tfldbg.trace(loop_file(), samples=4, workers=2)


def test_a_shape_that_follows_the_values_is_skipped_by_all() -> None:
    rows = [[1, -1, 1, 1], [1, -1, -1, 1], [-1, -1, -1, -1]]
    options: dict[str, Any] = {"data": np.array(rows * 22, np.float32), "samples": 66}
    one = tfldbg.trace(odd_files.found(), **options)
    assert_same(one.to_dict(), tfldbg.trace(odd_files.found(), **options, workers=2).to_dict())


def test_the_command_line_with_workers(tmp_path: Path) -> None:
    alone = command("trace", CNN, "--samples", "70", "--json", "-")
    shared = command("trace", CNN, "--samples", "70", "--json", "-", "--workers", "2")
    assert shared.returncode == alone.returncode == 0
    assert shared.stderr == alone.stderr


def rows(**more: Any) -> list[tuple[str, str, Any]]:
    names = ("cnn", "cnn_wrong_scale", "cnn_zeroed_bias")
    paths = [str(SAMPLE_MODELS / f"{name}.tflite") for name in names]
    against, run_on = Against(keras=str(SAMPLE_MODELS / "cnn.h5")), RunOn(samples=8)
    models = [session.Models(path, against, run_on) for path in (*paths, "missing.tflite")]
    cases = session.plan(models)
    found = session.sweep(cases, **more)
    return [(r.case.model, r.verdict, r.found and r.found.figures) for r in found]


def test_a_sweep_traces_models_side_by_side() -> None:
    assert rows(workers=2) == rows()


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers on this machine."""
    pytest.importorskip("distributed")
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        made = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]],
            stderr=subprocess.PIPE,
        )
        started.append(made)
        return made

    try:
        scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        address = _announced(scheduler)
        plain = ("--no-nanny", "--nthreads", "1", "--no-dashboard")
        workers = [start("worker", address, *plain) for _ in range(2)]
        _wait_for(address, 2)
        yield address, workers
    finally:
        for process in started:
            process.kill()
            process.wait()


def _announced(scheduler: subprocess.Popen[bytes]) -> str:
    assert scheduler.stderr is not None
    for line in scheduler.stderr:
        if b"Scheduler at:" in line:
            threading.Thread(target=scheduler.stderr.read, daemon=True).start()
            return line.decode().split("Scheduler at:")[1].strip()
    raise AssertionError("the scheduler did not start")


def _wait_for(address: str, workers: int) -> None:
    from distributed import Client

    with Client(address, timeout=60, set_as_default=False) as client:
        client.wait_for_workers(workers, timeout=60)


def test_a_cluster_measures_what_one_process_does_though_a_worker_is_killed(
    cluster: tuple[str, list[subprocess.Popen[bytes]]], alone: dict[str, Any], data: Path
) -> None:
    address, workers = cluster
    assert rows(scheduler=address) == rows()
    assert_same(alone, traced(data, scheduler=address))
    killer = once(lambda: working([w.pid for w in workers]))
    again = traced(data, scheduler=address)
    killer.join()
    assert sum(worker.poll() is not None for worker in workers) == 1, "one was killed"
    assert_same(alone, again)


def _held(path: Path) -> dict[str, tuple[bytes, tuple[int, ...]]]:
    """Return the values in a recording."""
    found: dict[str, tuple[bytes, tuple[int, ...]]] = {}

    def see(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape and name.startswith("tensors/"):
            found[name] = (item[()].tobytes(), item.shape)

    with h5py.File(path) as file:
        file.visititems(see)
    return found


@pytest.mark.parametrize("keras", [None, KERAS])
def test_any_number_of_workers_records_the_same(
    keras: Path | None, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras_kind, "_WORTH", 0)
    monkeypatch.setattr(measuring, "_FEW", 0)
    held = []
    for name, workers in (("one", 1), ("seven", 7), ("default", None)):
        path = tmp_path / f"{name}.h5"
        tfldbg.trace(CNN, keras=keras, data=data, samples=70, workers=workers, dump=path)
        held.append(_held(path))
    assert held[0] == held[1] == held[2]
    assert any(shape[0] == 70 for _, shape in held[0].values())


@pytest.fixture(scope="module")
def alone_in_self() -> dict[str, Any]:
    return tfldbg.trace(CNN, samples=40, workers=1).to_dict()


@pytest.mark.parametrize(("workers", "few"), [(None, 0), (None, 10**9), (2, 0), (7, 0)])
def test_any_number_of_workers_measures_the_same(
    alone_in_self: dict[str, Any],
    workers: int | None,
    few: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measuring, "_FEW", few)
    assert_same(alone_in_self, tfldbg.trace(CNN, samples=40, workers=workers).to_dict())


def test_a_keras_model_is_measured_without_tensorflow_in_the_workers(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras_kind, "_WORTH", 0)
    metrics = {"loaded": loaded}
    found = tfldbg.trace(CNN, keras=KERAS, data=data, samples=20, workers=2, metrics=metrics)
    values = [o.local.metrics["loaded"].max for o in found.evidence.ops if o.local is not None]
    assert values and set(values) == {0.0}


def loaded(reference: np.ndarray, test: np.ndarray) -> float:
    """Return whether TensorFlow is loaded where this is called."""
    maps = Path("/proc/self/maps")
    library = maps.exists() and "libtensorflow_cc" in maps.read_text()
    return float("tensorflow" in sys.modules or library)


def test_what_has_no_lowering_runs_in_the_library_in_the_workers(data: Path) -> None:
    metrics = {"package": package}
    found = tfldbg.trace(CNN, keras=KERAS, data=data, samples=20, workers=2, metrics=metrics)
    values = [o.local.metrics["package"].max for o in found.evidence.ops if o.local is not None]
    assert values and set(values) == {0.0}


def package(reference: np.ndarray, test: np.ndarray) -> float:
    """Return whether TensorFlow's package is loaded where this is called."""
    return float("tensorflow" in sys.modules)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, data: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("recorded")
    paths = {"h5": folder / "run.h5", "npz": folder / "run.npz"}
    tfldbg.record(CNN, paths["h5"], data=data, samples=70, runtime="reference")
    with h5py.File(paths["h5"]) as file:
        groups = file["tensors"].values()
        np.savez(paths["npz"], **{g.attrs["name"]: g["values"][()] for g in groups})
    return paths


@pytest.mark.parametrize("kind", ["h5", "npz", "function", "keras"])
def test_any_number_of_workers_compares_with_values_of_any_source(
    kind: str,
    recorded: dict[str, Path],
    data: Path,
    cluster: tuple[str, list[subprocess.Popen[bytes]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    against: dict[str, Any] = {
        "function": {"reference": _device(CNN), "data": data},
        "keras": {"keras": KERAS, "data": data},
    }.get(kind, {"against": recorded.get(kind)})
    one = tfldbg.trace(CNN, samples=70, **against, workers=1).to_dict()
    assert one["samples"] == 70 and any(op["accumulated"] for op in one["ops"])
    assert_same(one, tfldbg.trace(CNN, samples=70, **against).to_dict())
    assert_same(one, tfldbg.trace(CNN, samples=70, **against, workers=7).to_dict())
    assert_same(one, tfldbg.trace(CNN, samples=70, **against, scheduler=cluster[0]).to_dict())
    monkeypatch.setattr(measuring, "_FEW", 0)
    monkeypatch.setattr(measuring, "_WORTH", 1)
    monkeypatch.setattr(measuring._Shared, "here", _never)
    assert_same(one, tfldbg.trace(CNN, samples=70, **against).to_dict())


def test_a_keras_model_that_calls_python_is_measured_by_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf
    import tf_keras

    layers = tf_keras.layers

    def absolute(x: Any) -> Any:
        return tf.ensure_shape(tf.numpy_function(np.abs, [x], x.dtype), (None, 4))

    live = tf_keras.Sequential([layers.Input((4,)), layers.Dense(4), layers.Lambda(absolute)])
    plain = tf_keras.Sequential([layers.Input((4,)), live.layers[0], layers.Lambda(tf.abs)])
    model = tf.lite.TFLiteConverter.from_keras_model(plain).convert()
    with pytest.raises(tfldbg.TfldbgError, match="which only this process knows"):
        tfldbg.trace(model, keras=live, samples=4, workers=2)
    monkeypatch.setattr(measuring, "_FEW", 0)
    monkeypatch.setattr(measuring, "_WORTH", 1)
    assert tfldbg.trace(model, keras=live, samples=4).verdict == "clean"


def test_a_recording_that_is_replaced_meanwhile_is_compared_as_it_was(
    recorded: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, path in recorded.items():
        mine = tmp_path / f"run.{kind}"
        expected = tfldbg.trace(CNN, against=path, samples=70).to_dict()
        mine.write_bytes(path.read_bytes())
        measure = measuring.measure_samples

        def replaced(*given: Any, mine: Path = mine, measure: Any = measure) -> Any:
            mine.unlink()
            return measure(*given)

        monkeypatch.setattr("tfldbg.session.tracing.measure_samples", replaced)
        found = tfldbg.trace(CNN, against=mine, samples=70, workers=2).to_dict()
        monkeypatch.undo()
        assert_same(expected["ops"], found["ops"])


def _never(*_: object) -> None:
    raise AssertionError("the session measures")


def killing(reference: np.ndarray, test: np.ndarray) -> float:
    if own_status() is not None:
        os.kill(os.getpid(), signal.SIGSEGV)
    return 0.0


def test_a_worker_that_dies_though_the_models_do_not_is_an_error_in_words() -> None:
    with pytest.raises(tfldbg.TfldbgError, match=r"ended 3 times .*signal SIGSEGV") as caught:
        tfldbg.trace(CNN, samples=20, workers=2, metrics={"kills": killing})
    assert caught.value.hint is not None and "--workers" in caught.value.hint


def test_a_worker_that_dies_of_a_model_names_the_sample_and_the_operator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(ready: Ready, numbers: range, *_: object) -> None:
        raise RunError(f"samples {numbers}: died at operator 3")

    monkeypatch.setattr(Ready, "measure", fails)
    with pytest.raises(RunError, match=r"samples range\(\d+, \d+\): died at operator 3"):
        tfldbg.trace(CNN, samples=20, workers=2, metrics={"kills": killing})


def test_a_run_that_does_not_end_in_a_worker_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "endless.tflite"
    path.write_bytes(loop_file(steps=2**31 - 1))
    with (
        tfldbg.limited(timeout=2),
        pytest.raises(RunError, match=r"^sample 0: .*did not finish one sample of .* within 2 s"),
    ):
        monkeypatch.setattr(measuring, "_FEW", 0)
        tfldbg.record(path, tmp_path / "run.h5", samples=20)
    assert list(tmp_path.iterdir()) == [path]


def slow(reference: np.ndarray, test: np.ndarray) -> float:
    time.sleep(0.05)
    return 0.0


def test_a_slow_metric_is_no_runtime_that_does_not_finish() -> None:
    with tfldbg.limited(timeout=2):
        found = tfldbg.trace(CNN, samples=9, workers=1, metrics={"slow": slow})
    assert found.verdict == "clean"


def test_processes_of_one_limit_may_take_it_together() -> None:
    with tfldbg.limited(memory=2):
        assert tfldbg.trace(CNN, samples=40, workers=4).verdict == "clean"


def test_one_worker_measures_what_only_one_process_can() -> None:
    assert tfldbg.trace(loop_file(), samples=4, workers=1).evidence.run.samples == 4


def test_a_function_of_a_script_is_measured_by_the_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, tfldbg\n"
        "from tfldbg.session import measuring\n"
        "measuring._FEW = 0\n"
        "def zero(reference, test):\n    return 0.0\n"
        "print(tfldbg.trace(sys.argv[1], samples=20, metrics={'zero': zero}).verdict)\n"
    )
    ran = subprocess.run([sys.executable, script, CNN], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "clean\n", "")


def test_a_function_that_only_this_process_knows_is_measured_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metrics = {"zero": lambda *_: 0.0}
    monkeypatch.setattr(measuring, "_FEW", 0)
    here = tfldbg.trace(CNN, samples=20, metrics=metrics).to_dict()
    assert here["verdict"] == "clean"
