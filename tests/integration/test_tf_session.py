"""TensorFlow's C library computes what its package computes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tfldbg.reference import protos, tf_session
from tfldbg.reference.tf_session import RefusedGraphError, open_session

tf = pytest.importorskip("tensorflow")
PLATFORM = pytest.mark.skipif(
    sys.platform not in tf_session._LIBRARIES, reason="TensorFlow has no C library of this platform"
)
NO_CONSTANTS = {"resource", "variant", "qint8", "quint8", "qint16", "quint16", "qint32"}
Build = Callable[..., Sequence[Any]]


def _graph(build: Build, *inputs: tuple[str, Sequence[int | None]]) -> tuple[Any, list[str]]:
    """Return a graph, and the names of its outputs; its inputs are ``x0``, ``x1``, ..."""
    with tf.Graph().as_default() as graph:
        given = [
            tf.compat.v1.placeholder(dtype, shape, f"x{n}")
            for n, (dtype, shape) in enumerate(inputs)
        ]
        made = build(*given)
    text = graph.as_graph_def().SerializeToString()
    return protos.GraphDef.FromString(text), [tensor.name for tensor in made]


def _both(
    graph: Any, fetches: Sequence[str], feeds: dict[str, Any], once: bool = False
) -> list[list[NDArray[Any]]]:
    """Return what the package and what the library computes."""
    made = []
    for kind in (tf_session._InPackage, _in_library):
        config = tf_session._config(once)
        session = kind(graph.SerializeToString(), tuple(fetches), {}, config)
        made.append([np.array(values) for values in session.run(feeds)])
        session.close()
    return made


def _in_library(*given: Any) -> tf_session._InLibrary:
    library = tf_session._library()
    assert library is not None
    return tf_session._InLibrary(library, *given)


def _network(x: Any) -> list[Any]:
    rng = np.random.default_rng(1)
    kernel = tf.constant(rng.normal(size=(3, 3, 4, 8)), tf.float32)
    conv = tf.nn.bias_add(
        tf.nn.conv2d(x, kernel, 1, "SAME"), tf.constant(rng.normal(size=8), "float32")
    )
    rounded = tf.quantization.fake_quant_with_min_max_args(tf.nn.relu6(conv), 0, 6)
    return [conv, rounded, tf.reduce_mean(rounded, [1, 2]), tf.argmax(rounded, -1), conv > 0]


def _shapes(x: Any) -> list[Any]:
    whole = tf.cast(x, tf.int32)
    return [tf.shape(x), x[:0], tf.reduce_sum(x), whole, tf.cast(x, tf.float64), x > 1]


def _complex(x: Any) -> list[Any]:
    return [tf.signal.rfft(x), tf.cast(x, tf.float16), tf.cast(x, tf.uint8)]


@PLATFORM
@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize(
    ("build", "shape"), [(_network, (2, 6, 6, 4)), (_shapes, (3, 5)), (_complex, (2, 8))]
)
def test_the_library_computes_what_the_package_computes(
    build: Build, shape: tuple[int, ...], once: bool
) -> None:
    graph, fetches = _graph(build, ("float32", (None, *shape[1:])))
    for seed in range(2):
        values = np.random.default_rng(seed).uniform(0, 9, shape).astype(np.float32)
        theirs, ours = _both(graph, fetches, {"x0:0": values}, once)
        for wanted, found in zip(theirs, ours, strict=True):
            assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
            assert found.tobytes() == wanted.tobytes()


@PLATFORM
@pytest.mark.parametrize("onednn", ["0", "1"])
def test_the_library_computes_the_same_with_and_without_onednn(onednn: str) -> None:
    script = (
        "import numpy as np; from tests.integration import test_tf_session as t;"
        "graph, fetches = t._graph(t._network, ('float32', (None, 6, 6, 4)));"
        "x = np.random.default_rng(0).uniform(0, 9, (2, 6, 6, 4)).astype(np.float32);"
        "one, other = t._both(graph, fetches, {'x0:0': x});"
        "print([a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True)])"
    )
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": onednn}
    root = Path(__file__).parents[2]
    run = [sys.executable, "-c", script]
    done = subprocess.run(
        run, env=environment, cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["[True,", *["True,"] * 3, "True]"]


@PLATFORM
def test_loops_run_with_the_functions_of_the_graph() -> None:
    @tf.function  # type: ignore[untyped-decorator]
    def powers(x: Any) -> Any:
        return tf.while_loop(lambda n, _: n < 4, lambda n, y: (n + 1, y * x), (0, x))[1]

    concrete = powers.get_concrete_function(tf.TensorSpec((3,), tf.float32, name="x0"))
    graph = protos.GraphDef.FromString(concrete.graph.as_graph_def().SerializeToString())
    assert graph.library
    name = next(n.name for n in graph.node if n.op in ("While", "StatelessWhile"))
    x = np.array([1, 2, -3], np.float32)
    for made in _both(graph, [f"{name}:3", f"{name}:2"], {"x0:0": x}):
        assert any(np.array_equal(values, x**5) for values in made)


@PLATFORM
def test_results_outlive_their_session_and_the_arrays_that_they_were_given() -> None:
    graph, fetches = _graph(lambda x: [tf.identity(x), x + 1], ("float32", (None,)))
    session = open_session(graph, fetches, {})
    assert isinstance(session, tf_session._InLibrary)
    given = np.arange(4, dtype=np.float32)
    same, more = session.run({"x0:0": given})
    given[:] = -1
    again, _ = session.run({"x0:0": given})
    session.close()
    session.close()
    assert same.tolist() == [0, 1, 2, 3] and more.tolist() == [1, 2, 3, 4]
    assert again.tolist() == [-1] * 4


@PLATFORM
def test_weights_are_given_once() -> None:
    graph, fetches = _graph(lambda x, w: [x * w], ("float32", (None,)), ("float32", (2,)))
    session = open_session(graph, fetches, {"x1:0": np.array([2, 3], np.float32)})
    for factor in (1, 5):
        (made,) = session.run({"x0:0": np.full(2, factor, np.float32)})
        assert made.tolist() == [2 * factor, 3 * factor]


def test_text_is_for_the_package() -> None:
    graph, fetches = _graph(lambda x: [tf.strings.length(x)], ("string", (None,)))
    session = open_session(graph, fetches, {})
    assert isinstance(session, tf_session._InPackage)
    assert session.run({"x0:0": np.array([b"four", b""], object)})[0].tolist() == [4, 0]
    graph, fetches = _graph(lambda x: [tf.strings.as_string(x)], ("int32", (None,)))
    session = open_session(graph, fetches, {})
    assert isinstance(session, tf_session._InPackage)
    assert session.run({"x0:0": np.array([7], np.int32)})[0].tolist() == [b"7"]


@pytest.mark.parametrize("library", [True, False])
def test_errors_are_the_same(library: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not library:
        monkeypatch.setattr(tf_session, "_library", lambda: None)
    graph, fetches = _graph(lambda x: [tf.reshape(x, (3,))], ("float32", (None,)))
    session = open_session(graph, fetches, {})
    with pytest.raises(RefusedGraphError, match="4 values, but the requested shape has 3"):
        session.run({"x0:0": np.zeros(4, np.float32)})
    graph.node[0].op = "NoSuchOperation"
    with pytest.raises(RefusedGraphError, match="NoSuchOperation"):
        open_session(graph, fetches, {})
    graph.node[0].op = "Placeholder"
    if library and tf_session._library() is not None:
        with pytest.raises(RefusedGraphError, match="has no tensor 'nothing:0'"):
            open_session(graph, ["nothing:0"], {})


@pytest.mark.parametrize("found", [None, "nowhere"])
def test_without_the_library_the_package_computes(
    found: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Spec:
        origin = None if found is None else str(tmp_path / found / "__init__.py")

    tf_session._library.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: Spec)
    graph, fetches = _graph(lambda x: [x + 1], ("float32", (None,)))
    try:
        session = open_session(graph, fetches, {})
    finally:
        tf_session._library.cache_clear()
    assert isinstance(session, tf_session._InPackage)
    assert session.run({"x0:0": np.zeros(1, np.float32)})[0].tolist() == [1]


def test_settings_are_those_of_tensorflow() -> None:
    from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2

    for once, threads in ((False, None), (True, 1), (False, 7)):
        wanted = config_pb2.ConfigProto()
        off = rewriter_config_pb2.RewriterConfig.OFF
        wanted.graph_options.rewrite_options.arithmetic_optimization = off
        wanted.graph_options.rewrite_options.disable_meta_optimizer = once
        if threads is not None:
            wanted.intra_op_parallelism_threads = wanted.inter_op_parallelism_threads = threads
        assert config_pb2.ConfigProto.FromString(tf_session._config(once, threads)) == wanted


def test_types_have_the_numbers_of_tensorflow() -> None:
    for name, number in protos.TYPES.items():
        assert tf.as_dtype(name).as_datatype_enum == number


@given(
    st.sampled_from(sorted(protos.TYPES.keys() - NO_CONSTANTS)),
    st.lists(st.integers(0, 3), max_size=3),
    st.booleans(),
    st.integers(0, 99),
)
def test_constants_hold_what_tensorflow_reads(
    name: str, shape: list[int], alike: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    drawn = np.full(shape, 3) if alike else rng.integers(0, 2 if name == "bool" else 100, shape)
    dtype = tf.as_dtype(name)
    values = drawn.astype({"string": str, "bool": bool}.get(name, drawn.dtype))
    whole = tf.make_tensor_proto(values.tolist(), dtype, shape, allow_broadcast=False)
    packed = tf.compat.v1.AttrValue()
    packed.tensor.CopyFrom(whole)
    kept = tf.compat.v1.NodeDef(name="n", op="Const")
    kept.attr["value"].CopyFrom(packed)
    graph = tf.compat.v1.GraphDef(node=[kept])
    ours = protos.GraphDef.FromString(graph.SerializeToString())
    assert ours.SerializeToString(deterministic=True) == graph.SerializeToString(deterministic=True)
    found, wanted = protos.values_of(ours.node[0].attr["value"].tensor), tf.make_ndarray(whole)
    assert found.shape == wanted.shape and found.dtype == wanted.dtype
    assert found.tolist() == wanted.tolist()


def test_a_single_value_stands_for_all() -> None:
    made = protos.GraphDef()
    tensor = made.node.add(name="n").attr["value"].tensor
    tensor.dtype = protos.TYPES["float32"]
    protos.set_shape(tensor.tensor_shape, (2, 2))
    tensor.float_val.extend([1.0, 7.0])
    assert protos.values_of(tensor).tolist() == [[1, 7], [7, 7]]
    protos.fill(tensor, np.arange(4, dtype=np.float32).reshape(2, 2))
    assert protos.values_of(tensor).tolist() == [[0, 1], [2, 3]]


@PLATFORM
def test_a_kept_model_needs_no_package(samples: Path, tmp_path: Path) -> None:
    trace = (
        "import sys, tfldbg; from pathlib import Path; folder = Path(sys.argv[1]);"
        "result = tfldbg.trace(folder / 'cnn_wrong_scale.tflite', keras=folder / 'cnn.h5',"
        "data=folder / 'digits.npz', samples=8);"
        "print(result.diagnosis.sentence, result.to_dict()['ops'], 'tensorflow' in sys.modules)"
    )
    run = [sys.executable, "-c", trace, str(samples)]
    environment = {**os.environ, "TFLDBG_CACHE_DIR": str(tmp_path)}
    cold, warm = (
        subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert cold.split()[-1] == "True" and warm.split()[-1] == "False"
    assert cold.rsplit(maxsplit=1)[0] == warm.rsplit(maxsplit=1)[0]
    assert "quant_residual" in warm
