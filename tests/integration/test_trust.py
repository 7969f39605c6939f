"""Keras files and SavedModels that could run code or reach files are refused; honest ones load."""

from __future__ import annotations

import base64
import json
import marshal
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tfldbg.errors import KerasError
from tfldbg.reference import trust_graph
from tfldbg.reference.keras import load_frozen, load_live
from tfldbg.reference.trust import architecture_layers, offences

Config = dict[str, Any]
VERSIONS = {"tf_keras": "2.15.0", "keras": "3.9.0"}


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """A folder that a payload makes when it runs."""
    path = tmp_path / "ran"
    yield path
    assert not path.exists(), "the payload ran"


def _dense(**more: Any) -> Config:
    return {"class_name": "Dense", "config": {"name": "innocent", "units": 2, **more}}


_SHAPE = {"output_shape": None, "output_shape_type": "raw", "output_shape_module": None}


def _lambda(mark: Path) -> Config:
    payload = eval(f"lambda x: __import__('os').mkdir({str(mark)!r}) or x")
    stored = base64.b64encode(marshal.dumps(payload.__code__)).decode()
    config = {"name": "twice", "function": [stored, None, None], "function_type": "lambda"}
    return {"class_name": "Lambda", "config": {**config, "module": None, **_SHAPE}}


def _shell(mark: Path) -> Config:
    run = {"module": "subprocess", "class_name": "Popen", "config": {"args": ["mkdir", str(mark)]}}
    return {**run, "registered_name": None}


def _call(module: str, name: str) -> Config:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def _of(module: str, name: str) -> Config:
    return {"module": module, "class_name": name, "config": {}, "registered_name": name}


def _of_keras(name: str, **config: Any) -> Config:
    stored = {"class_name": name, "module": "keras.layers", "registered_name": None}
    return {**stored, "config": {"name": "innocent", **config}}


def _within(kind: str, layer: Config, **more: Any) -> Config:
    return {"class_name": kind, "config": {"name": "outer", "layer": layer, **more}}


def _sequence(*layers: Config) -> Config:
    start = {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x"}}
    return {"class_name": "Sequential", "config": {"name": "net", "layers": [start, *layers]}}


LAYERS: dict[str, tuple[Callable[[Path], Config], str]] = {
    "a Lambda": (_lambda, r"layer 'twice' \(Lambda\) carries Python code"),
    "a Lambda in a model in it": (lambda m: _sequence(_lambda(m)), r"\(Lambda\) carries Python"),
    "a Lambda for each step": (
        lambda m: _within("TimeDistributed", _lambda(m)),
        r"\(Lambda\) carries Python",
    ),
    "a Lambda in two directions": (
        lambda m: _within("Bidirectional", _lambda(m), backward_layer=_lambda(m)),
        r"\(Lambda\) carries Python",
    ),
    "a quantized Lambda": (
        lambda m: _within("QuantizeWrapperV2", _lambda(m), quantize_config=None),
        r"\(Lambda\) carries Python",
    ),
    "Lambda of Keras": (lambda m: _of_keras("Lambda"), r"\(Lambda\) carries Python"),
    "a lambda as activation": (
        lambda m: _dense(activation={"class_name": "__lambda__", "config": {"value": "eA=="}}),
        "carries Python code",
    ),
    "os.mkdir as activation": (
        lambda m: _dense(activation=_call("os", "mkdir")),
        r"layer 'innocent' \(function\) asks for the function 'mkdir' of 'os'",
    ),
    "a download as activation": (
        lambda m: _dense(activation=_call("keras.utils", "get_file")),
        "'get_file' of 'keras.utils', which does not belong to Keras",
    ),
    "loading a model as activation": (
        lambda m: _dense(activation=_call("keras.models", "load_model")),
        "'load_model' of 'keras.models'",
    ),
    "safety switched off": (
        lambda m: _dense(activation=_call("keras.config", "enable_unsafe_deserialization")),
        "'enable_unsafe_deserialization' of 'keras.config'",
    ),
    "a process as initializer": (
        lambda m: _dense(kernel_initializer=_shell(m)),
        r"layer 'innocent' \(Popen\) is of 'subprocess', which does not belong to Keras",
    ),
    "a process as regularizer": (lambda m: _dense(kernel_regularizer=_shell(m)), "Popen"),
    "a process as layer": (_shell, "Popen"),
    "a process in the shape": (lambda m: _dense(build_config={"x": [_shell(m)]}), "Popen"),
    "a process called Dense": (
        lambda m: {**_shell(m), "registered_name": "Dense"},
        "Popen",
    ),
    "an initializer of another module of TensorFlow": (
        lambda m: _dense(kernel_initializer=_of("tensorflow.python.ops.io_ops", "ReaderBase")),
        r"\(ReaderBase\) is of 'tensorflow.python.ops.io_ops', which does not belong to Keras",
    ),
    "another module's Dense": (
        lambda m: {"class_name": "Dense", "module": "evil", "config": {"name": "innocent"}},
        "is of 'evil', which does not belong to Keras",
    ),
    "a function of Keras as class": (
        lambda m: {"class_name": "deserialize", "module": "keras.layers", "config": {}},
        r"\(deserialize\) is of 'keras.layers', which does not belong to Keras",
    ),
    "an unknown class": (
        lambda m: {"class_name": "Mine", "config": {"name": "mine"}},
        r"layer 'mine' \(Mine\) is not a class of Keras",
    ),
    "a list as class": (
        lambda m: {"class_name": ["Lambda"], "config": {"name": "innocent"}},
        "is not the name of a class",
    ),
    "words from a file": (
        lambda m: _of_keras("StringLookup", vocabulary="/etc/passwd"),
        "reads the file '/etc/passwd'",
    ),
    "another model": (
        lambda m: _of_keras("TFSMLayer", filepath="/somewhere"),
        r"\(TFSMLayer\) loads another model from a path",
    ),
    "PyTorch": (
        lambda m: _of_keras("TorchModuleWrapper", module="eA=="),
        r"\(TorchModuleWrapper\) carries a pickle",
    ),
    "a file written": (
        lambda m: {
            "class_name": "TFOpLambda",
            "config": {"name": "write", "function": "io.write_file"},
        },
        r"layer 'write' \(TFOpLambda\) ",
    ),
    "a library": (
        lambda m: {
            "class_name": "TFOpLambda",
            "config": {"name": "load", "function": "load_library"},
        },
        r"layer 'load' \(TFOpLambda\) ",
    ),
    "any operator": (
        lambda m: {"class_name": "TensorFlowOpLayer", "config": {"name": "op", "node_def": "x"}},
        r"\(TensorFlowOpLayer\) carries any operator of TensorFlow",
    ),
}


def _weights(path: Path, change: Callable[[Any], None] = lambda file: None) -> bytes:
    with h5py.File(path, "w") as file:
        file.create_group("layers")
        change(file)
    return path.read_bytes()


def _archive(path: Path, config: str, version: str, weights: bytes, *more: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", weights)
        for name in more:
            archive.writestr(name, b"x")
    return path


def _written(folder: Path, form: str, config: str, version: str) -> Path:
    path = folder / f"model.{form}"
    if form == "keras":
        return _archive(path, config, version, _weights(folder / "w.h5"))
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version
        file.attrs["backend"] = "tensorflow"
        file.attrs["model_config"] = config
        file.create_group("model_weights")
    return path


def _refusal(path: Path) -> KerasError:
    with pytest.raises(KerasError) as caught:
        load_live(path)
    assert "refused" in caught.value.message and "--unsafe" in str(caught.value.hint)
    return caught.value


@pytest.mark.parametrize("form", ["h5", "keras"])
@pytest.mark.parametrize("framework", VERSIONS)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_hostile_configuration_is_refused(
    tmp_path: Path, mark: Path, kind: str, framework: str, form: str
) -> None:
    layer, message = LAYERS[kind]
    config = json.dumps(_sequence(layer(mark)))
    path = _written(tmp_path, form, config, VERSIONS[framework])
    assert re.search(message, _refusal(path).message), _refusal(path).message


def test_the_payload_is_real(tmp_path: Path) -> None:
    """Without the refusal, loading the file runs what it carries."""
    mark = tmp_path / "ran"
    path = _written(tmp_path, "h5", json.dumps(_sequence(_lambda(mark))), VERSIONS["tf_keras"])
    load_live(path, unsafe=True)
    assert mark.exists()


@pytest.mark.parametrize("form", ["h5", "keras"])
def test_a_configuration_that_is_nested_too_deeply(tmp_path: Path, form: str) -> None:
    path = _written(tmp_path, form, '{"a":' * 100_000, "2.15.0")
    assert "nested too deeply" in _refusal(path).message


def test_what_lies_outside_is_not_read(tmp_path: Path) -> None:
    config = json.dumps(_sequence(_dense()))

    def outside(file: Any) -> None:
        file["layers/dense"] = h5py.ExternalLink("/etc/secret.h5", "/x")

    weights = _weights(tmp_path / "w.h5", outside)
    path = _archive(tmp_path / "a.keras", config, "3.9.0", weights)
    assert "'/layers/dense' is a link" in _refusal(path).message
    good = _weights(tmp_path / "good.h5")
    path = _archive(tmp_path / "b.keras", config, "2.15.0", good, "assets/../../x")
    assert "names a place outside the archive" in _refusal(path).message
    whole = _written(tmp_path, "h5", config, "2.15.0")
    with h5py.File(whole, "a") as file:
        file["model_weights/dense"] = h5py.ExternalLink("/etc/secret.h5", "/x")
    assert "'/model_weights/dense' is a link" in _refusal(whole).message


def test_an_archive_that_fills_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tfldbg import guard

    monkeypatch.setattr(guard, "machine_memory", lambda: 2 << 20)
    config = json.dumps(_sequence(_dense())) + " " * (2 << 20)
    path = _archive(tmp_path / "a.keras", config, "3.9.0", b"")
    assert "more than half of this machine's memory" in _refusal(path).message


def test_classes_that_python_has_registered_are_known(tmp_path: Path) -> None:
    import tf_keras

    @tf_keras.saving.register_keras_serializable("mine")
    class Twice(tf_keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return 2 * x

    tf_keras.Sequential([tf_keras.Input((4,)), Twice(name="twice")]).save(tmp_path / "a.keras")
    assert load_live(tmp_path / "a.keras").name
    del tf_keras.saving.get_custom_objects()["mine>Twice"]
    with pytest.raises(KerasError, match=r"layer 'twice' \(Twice\) is of ") as caught:
        load_live(tmp_path / "a.keras")
    assert "keras=live_model" in str(caught.value.hint)


@pytest.mark.parametrize("form", ["h5", "keras"])
@pytest.mark.parametrize("framework", VERSIONS)
def test_layers_that_the_architectures_of_keras_define_are_known(
    tmp_path: Path, framework: str, form: str
) -> None:
    """ConvNeXt and InceptionResNetV2 of ``applications`` hold layers that no API shows."""
    k: Any = pytest.importorskip(framework)
    own = architecture_layers(k)
    assert {"LayerScale", "CustomScaleLayer"} <= own.keys()
    given = k.Input((4,))
    x = own["LayerScale"](0.5, 4, name="scaled")(given)
    path = tmp_path / f"model.{form}"
    k.Model(given, own["CustomScaleLayer"](3.0, name="added")([given, x])).save(path)
    loaded = load_live(path)
    assert np.allclose(loaded(np.ones((1, 4))), 1 + 3 * 0.5)
    assert type(loaded.get_layer("scaled")) is own["LayerScale"]


def _network(k: Any) -> Any:
    """A model of layers, and parts of layers, of many kinds."""
    import tensorflow as tf

    n = k.layers
    series, image = k.Input((6, 8)), k.Input((8, 8, 3))
    x = n.Bidirectional(n.LSTM(4, return_sequences=True))(series)
    x = n.TimeDistributed(
        n.Dense(
            4,
            activation=k.activations.relu,
            kernel_regularizer=k.regularizers.L1L2(0.1, 0.1),
            kernel_constraint=k.constraints.MaxNorm(),
            kernel_initializer=k.initializers.RandomUniform(seed=1),
        )
    )(x)
    for activation in (tf.nn.relu6, tf.nn.swish, k.activations.gelu, n.LeakyReLU(), "tanh"):
        x = n.Dense(4, activation=activation)(x)
    x = n.MultiHeadAttention(2, 2)(x, x)
    x = n.RNN([n.LSTMCell(3), n.GRUCell(3)])(x)
    parts = [n.Rescaling(1 / 255.0), n.Normalization(mean=[1.0] * 3, variance=[1.0] * 3)]
    parts += [n.SeparableConv2D(4, 3), n.PReLU(), n.UpSampling2D(), n.GlobalMaxPooling2D()]
    y = k.Sequential([k.Input((8, 8, 3)), *parts])(image)
    z = n.Concatenate()([x, y]) * 2.0 + 1.0
    return k.Model([series, image], [z, n.Dense(3, dtype="mixed_float16")(y)])


@pytest.mark.parametrize("framework", VERSIONS)
def test_honest_models_are_allowed(tmp_path: Path, framework: str) -> None:
    k: Any = pytest.importorskip(framework)
    model = _network(k)
    model.compile("adam", "mse")
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        stored = archive.read("config.json")
    for config in (stored, model.to_json()):
        assert offences(json.loads(config), k) == []


def test_arithmetic_of_tensorflow_is_allowed(tmp_path: Path) -> None:
    import tensorflow as tf
    import tf_keras

    start = tf_keras.Input((4, 4, 2))
    x = tf.nn.relu(tf.reshape(start, (-1, 32)))[:, :8]
    x = tf.concat([x, tf.math.sqrt(x)], 1) - tf.reduce_mean(x, -1, keepdims=True)
    x = tf.where(tf.cast(x, tf.float32) > 0, x, tf.clip_by_value(x, 0, 1))
    x = tf_keras.backend.abs(tf.transpose(tf.pad(x, [[0, 0], [1, 1]])))
    x = tf.quantization.fake_quant_with_min_max_args(tf.stack(tf.split(x, 2)))
    model = tf_keras.Model(start, tf.image.resize(start, (2, 2)) + x[0, 0, 0])
    for form in ("h5", "keras"):
        model.save(tmp_path / f"ops.{form}")
        assert len(load_live(tmp_path / f"ops.{form}").layers) == len(model.layers)


@pytest.mark.parametrize(
    "symbol",
    [
        "compat.v1.batch_to_space_nd",
        "compat.v1.space_to_batch_nd",
        "compat.v1.depth_to_space",
        "compat.v1.squared_difference",
        "compat.v1.log1p",
        "math.special.bessel_i0",
        "dynamic_partition",
        "histogram_fixed_width",
        "debugging.assert_all_finite",
        "clip_by_global_norm",
        "__operators__.getitem",
        "keras.backend.relu",
        "nn.conv2d",
    ],
)
def test_functions_that_only_compute_are_allowed(symbol: str) -> None:
    import tf_keras

    layer = {"class_name": "TFOpLambda", "config": {"name": "op", "function": symbol}}
    assert offences(layer, tf_keras) == []


@pytest.mark.parametrize(
    "symbol",
    [
        "py_function",
        "numpy_function",
        "compat.v1.py_func",
        "print",
        "io.write_file",
        "io.read_file",
        "io.decode_proto",
        "io.matching_files",
        "foldl",
        "cond",
        "map_fn",
        "while_loop",
        "ragged.map_flat_values",
        "xla_custom_call",
        "rpc_call",
        "raw_ops.WriteFile",
        "load_op_library",
        "saved_model.load",
        "config.run_functions_eagerly",
        "random.set_seed",
        "keras.models.load_model",
        "no.such.function",
        "",
    ],
)
def test_functions_that_run_code_or_reach_files_are_refused(symbol: str) -> None:
    import tf_keras

    layer = {"class_name": "TFOpLambda", "config": {"name": "op", "function": symbol}}
    (offence,) = offences(layer, tf_keras)
    assert "which is not arithmetic" in offence.reason


def test_a_model_with_blocks_of_space_loads(tmp_path: Path) -> None:
    import tensorflow as tf
    import tf_keras as k

    given = k.Input((4, 4, 2))
    x = tf.compat.v1.space_to_batch_nd(given, [2, 2], [[0, 0], [0, 0]])
    x = tf.compat.v1.batch_to_space_nd(x, [2, 2], [[0, 0], [0, 0]])
    for path in (tmp_path / "m.h5", tmp_path / "m.keras"):
        k.Model(given, x).save(path)
        load_frozen(path)


def _initializers() -> dict[str, Any]:
    """Return one of every initializer that TensorFlow itself has, and of some of Keras."""
    import keras
    import tensorflow as tf
    from tensorflow.python.ops import init_ops, init_ops_v2

    made = {"an array": tf.constant_initializer(np.arange(6.0).reshape(2, 3))}
    made["Keras 3"] = keras.initializers.HeNormal()
    for module in (init_ops, init_ops_v2):
        for found in {f for f in vars(module).values() if isinstance(f, type)}:
            name = found.__name__
            matrices = name != "Initializer" and not name.startswith("Convolution")
            if issubclass(found, module.Initializer) and matrices:
                given = [0.5] if name == "Constant" else []
                made[f"{module.__name__}.{name}"] = found(*given)
    return made


@pytest.mark.parametrize("framework", VERSIONS)
def test_initializers_of_tensorflow_are_allowed(tmp_path: Path, framework: str) -> None:
    k: Any = pytest.importorskip(framework)
    found = _initializers()
    assert len(found) > 20
    k.utils.set_random_seed(0)
    layers = [k.layers.Dense(3, kernel_initializer=made) for made in found.values()]
    start = k.Input((2,))
    model = k.Model(start, [layer(start) for layer in layers])
    model.set_weights([w + np.float32(number) for number, w in enumerate(model.get_weights())])
    for form in ("h5", "keras"):
        model.save(tmp_path / f"model.{form}")
        loaded = load_live(tmp_path / f"model.{form}").get_weights()
        assert all(np.array_equal(a, b) for a, b in zip(loaded, model.get_weights(), strict=True))


def _functions(k: Any) -> Any:
    """A nested model whose functions Keras writes to an ``.h5`` as if they were layers."""
    n, start = k.layers, k.Input((6, 6, 2))
    part = k.Model(start, n.Conv2D(3, 3, activation="relu")(start) * 2.0, name="part")
    after = k.Sequential([k.Input((4, 4, 3)), n.BatchNormalization(), n.ReLU(6.0)], name="after")
    x = after(part(start)) + k.ops.sqrt(k.ops.abs(part(start)))
    x = n.Add()([k.ops.reshape(x, (-1, 48))[:, :40], n.Dense(40)(n.Flatten()(x))])
    return k.Model(start, k.ops.softmax(x))


@pytest.mark.parametrize("make", [_network, _functions])
def test_models_of_keras_3_in_the_old_format_load(
    tmp_path: Path, make: Callable[[Any], Any]
) -> None:
    import keras

    model = make(keras)
    generator = np.random.default_rng(0)
    model.set_weights([w + generator.uniform(0, 0.1, w.shape) for w in model.get_weights()])
    model.save(tmp_path / "model.h5")
    loaded = load_live(tmp_path / "model.h5")
    given = [generator.normal(size=(2, *x.shape[1:])).astype(np.float32) for x in model.inputs]
    got, expected = (keras.tree.flatten(m(given)) for m in (loaded, model))
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_annotations_that_were_never_applied(tmp_path: Path) -> None:
    import tensorflow_model_optimization as tfmot
    import tf_keras

    model = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(3)])
    model = tfmot.quantization.keras.quantize_annotate_model(model)
    for form in ("h5", "keras"):
        model.save(tmp_path / f"annotated.{form}")
        for unsafe in (False, True):
            with pytest.raises(KerasError, match="never applied") as caught:
                load_live(tmp_path / f"annotated.{form}", unsafe=unsafe)
            assert "quantize_apply" in str(caught.value.hint)
    with pytest.raises(KerasError, match="never applied"):
        load_frozen(model)
    assert load_frozen(tfmot.quantization.keras.quantize_apply(model)).input_names


# SavedModels


def _saved(folder: Path, make: Callable[[Any, Any], Any], held: Any = None) -> Path:
    """Save a function of (None, 4) values, with what it holds."""
    import tensorflow as tf

    module = tf.Module()
    module.held = held
    spec = tf.TensorSpec((None, 4), tf.float32, name="x")
    module.f = tf.function(lambda x: {"y": make(x, module.held)}, input_signature=[spec])
    tf.saved_model.save(module, str(folder), signatures=module.f)
    return folder


def _refused(folder: Path, words: str) -> None:
    with pytest.raises(KerasError, match=words) as caught:
        load_frozen(folder)
    assert "refused" in caught.value.message and "--unsafe" in str(caught.value.hint)


def test_a_graph_that_writes_files_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    def write(x: Any, _: Any) -> Any:
        def body(i: Any, x: Any) -> Any:
            with tf.control_dependencies([tf.io.write_file(str(tmp_path / "ran"), "x")]):
                return i + 1, x + 1

        return tf.while_loop(lambda i, x: i < 3, body, [0, x])[1]

    _refused(_saved(tmp_path / "a", write), "its graph does more than compute: WriteFile")
    assert not (tmp_path / "ran").exists()
    assert load_frozen(tmp_path / "a", unsafe=True).input_names == ("x",)


def _reaching(tf: Any, x: Any) -> dict[str, Any]:
    """Return values of operators that reach files or code, by the operator's name."""
    raw = tf.raw_ops
    restored = {"tensor_names": ["x"], "shape_and_slices": [""], "dtypes": [tf.float32]}
    return {
        "ReadFile": tf.io.read_file("/etc/hostname"),
        "MatchingFiles": tf.io.matching_files("/*"),
        "EagerPyFunc": tf.py_function(lambda y: y, [x], tf.float32),
        "PyFuncStateless": raw.PyFuncStateless(input=[x], token="x", Tout=[tf.float32])[0],
        "RestoreV2": raw.RestoreV2(prefix="/etc/x", **restored)[0],
        "DebugIdentity": raw.DebugIdentity(input=x, debug_urls=["file:///never"]),
        "DecodeProtoV2": raw.DecodeProtoV2(
            bytes=["x"],
            message_type="x",
            field_names=["y"],
            output_types=[tf.float32],
            descriptor_source="/etc/x",
        ).values[0],
    }


def test_operators_that_reach_files_or_code_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    def make(x: Any, _: Any) -> Any:
        with tf.control_dependencies(list(_reaching(tf, x).values())):
            return tf.identity(x)

    folder = _saved(tmp_path / "a", make)
    monkeypatch.setattr(trust_graph, "_MOST", 100)
    with tf.Graph().as_default():
        names = list(_reaching(tf, tf.zeros((1, 4))))
    for name in names:
        _refused(folder, rf"more than compute: .*{name} '")


def test_printing_into_a_file_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    def make(x: Any, _: Any) -> Any:
        tf.print(x, output_stream=f"file://{tmp_path / 'ran'}")
        return x + 1.0

    _refused(_saved(tmp_path / "a", make), "more than compute: PrintV2 ")


def test_what_loading_alone_would_read_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    (tmp_path / "words").write_text("a\nb\n")
    whole, line = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
    words = str(tmp_path / "words")
    first = tf.lookup.TextFileInitializer(words, tf.string, whole, tf.int64, line)
    table = tf.lookup.StaticHashTable(first, -1)
    folder = _saved(
        tmp_path / "a", lambda x, held: x + tf.cast(held.size(), tf.float32), held=table
    )
    _refused(folder, "InitializeTableFromTextFile")
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    saved.meta_graphs[0].asset_file_def[0].filename = "../../words"
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    _refused(folder, "its asset '../../words' lies outside the folder")


def test_honest_saved_models_load(tmp_path: Path) -> None:
    import tensorflow as tf
    import tf_keras

    start = tf_keras.Input((8, 4), name="x")
    model = tf_keras.Model(start, tf_keras.layers.Dense(3)(tf_keras.layers.Flatten()(start)))
    model.compile("adam", "mse")
    model.fit(np.zeros((2, 8, 4)), np.zeros((2, 3)), verbose=0)
    model.save(tmp_path / "keras", save_format="tf")
    assert load_frozen(tmp_path / "keras").input_names == ("x",)
    first = tf.lookup.KeyValueTensorInitializer([1, 2], [1.0, 2.0])
    table = tf.lookup.StaticHashTable(first, -1.0)

    def look_up(x: Any, held: Any) -> Any:
        tf.print(x)
        return held.lookup(tf.cast(x, tf.int32)) + tf.random.uniform((4,))

    assert "x" in load_frozen(_saved(tmp_path / "table", look_up, held=table)).input_names
    for dtype in (tf.float32, tf.float64):
        constant = tf.constant([1.0, 2.0, 3.0, 4.0], dtype)
        folder = _saved(
            tmp_path / dtype.name, lambda x, held: tf.cast(x, held.dtype) * held, held=constant
        )
        assert load_frozen(folder).input_names == ("x",)
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
        x = tf.compat.v1.placeholder(tf.float32, (None, 4), name="x")
        y = tf.matmul(x, tf.compat.v1.get_variable("v", (4, 2)))
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.saved_model.simple_save(session, str(tmp_path / "one"), {"x": x}, {"y": y})
    assert load_frozen(tmp_path / "one").input_names == ("x",)
