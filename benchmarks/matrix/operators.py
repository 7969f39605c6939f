"""Functional models without Lambda: every function of ``keras.ops``, and TensorFlow's in tf_keras.

What a function of ``keras.ops`` is called with stands in tables by its kind; the rest has a reason.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.matrix.cases import (
    BARE,
    IMAGE,
    POSITIVE,
    SIGNAL,
    SOUND,
    TOKENS,
    VECTOR,
    Case,
    Framework,
    Setting,
)

OLD: tuple[Framework, ...] = ("tf_keras",)
NEW: tuple[Framework, ...] = ("keras",)
Call = Callable[[Any, Any], Any]

UNARY = """abs absolute arctan arcsinh cbrt ceil celu conj conjugate copy cos cosh deg2rad elu erf
erfc exp exp2 expm1 fabs floor gelu hard_shrink hard_sigmoid hard_silu hard_swish
hard_tanh leaky_relu log_sigmoid log_softmax nan_to_num negative rad2deg real relu relu6
round selu sigmoid sign silu sin sinc sinh soft_shrink softmax softplus softsign
sparse_plus sparse_sigmoid sparsemax square squareplus stop_gradient swish tan tanh
tanh_shrink trunc i0 glu
""".split()
"""Functions of one tensor of any values."""
ON_POSITIVE = "log log10 log1p log2 reciprocal rsqrt sqrt arccosh".split()
"""Functions of one tensor of positive values."""
ON_UNIT = "arccos arcsin arctanh erfinv".split()
"""Functions of values in -1..1."""
TESTS = """isfinite isinf isnan isneginf isposinf isreal signbit logical_not
""".split()
"""Functions of one tensor that answer yes or no."""
BINARY = """add arctan2 divide divide_no_nan floor_divide fmax fmin fmod heaviside hypot logaddexp
logaddexp2 maximum minimum mod multiply subtract true_divide nextafter
""".split()
"""Functions of two tensors of one shape."""
COMPARISONS = """equal greater greater_equal less less_equal not_equal isclose logical_and
logical_or logical_xor
""".split()
REDUCTIONS = """amax amin logsumexp max mean median min nanmax nanmean nanmedian nanmin nanprod
nanstd nansum nanvar prod ptp std sum var average
""".split()
"""Functions of a tensor and an axis."""
INDEX_REDUCTIONS = "argmax argmin count_nonzero nanargmax nanargmin all any".split()
"""Reductions that yield whole numbers or truths."""
ALONG = "argsort cumprod cumsum flip nancumprod nancumsum normalize sort".split()
"""Functions of a tensor and an axis that keep the shape."""


def _listed() -> dict[str, tuple[Setting, Call]]:
    """Return the functions of ``keras.ops`` that need arguments of their own."""
    steps = lambda o, x: o.transpose(x, (0, 2, 1))
    return {
        "append": (VECTOR, lambda o, x: o.append(x, o.exp(x), axis=1)),
        "array_split": (VECTOR, lambda o, x: o.array_split(x, 3, axis=1)[1]),
        "average_pool": (IMAGE, lambda o, x: o.average_pool(x, 2, 2)),
        "broadcast_to": (SIGNAL, lambda o, x: x * o.broadcast_to(o.arange(6.0), (10, 6))),
        "cast": (VECTOR, lambda o, x: o.cast(o.cast(x * 3, "int32"), "float32")),
        "cdist": (SIGNAL, lambda o, x: o.cdist(x, o.tanh(x))),
        "clip": (VECTOR, lambda o, x: o.clip(x, -0.5, 0.7)),
        "concatenate": (VECTOR, lambda o, x: o.concatenate([x, o.tanh(x)], axis=1)),
        "conv": (IMAGE, lambda o, x: o.conv(x, _kernel(3, 3, 4, 5), padding="same")),
        "correlate": (VECTOR, lambda o, x: o.correlate(x[0], x[0])),
        "cross": (SIGNAL, lambda o, x: o.cross(x[..., :3], x[..., 3:])),
        "depth_to_space": (IMAGE, lambda o, x: o.depth_to_space(x, 2)),
        "depthwise_conv": (IMAGE, lambda o, x: o.depthwise_conv(x, _kernel(3, 3, 4, 1))),
        "diag": (SIGNAL, lambda o, x: o.diag(x[0, :, 0])),
        "diagonal": (SIGNAL, lambda o, x: o.diagonal(x, axis1=1, axis2=2)),
        "diff": (VECTOR, lambda o, x: o.diff(x, axis=1)),
        "digitize": (VECTOR, lambda o, x: o.cast(o.digitize(x, _borders()), "float32")),
        "dot": (VECTOR, lambda o, x: o.dot(x, _kernel(10, 4))),
        "dot_product_attention": (SIGNAL, _attend),
        "dsplit": (IMAGE, lambda o, x: o.dsplit(x[0], 2)[1]),
        "dstack": (SIGNAL, lambda o, x: o.dstack([x, o.tanh(x)])),
        "einsum": (SIGNAL, lambda o, x: o.einsum("bij,bkj->bik", x, o.tanh(x))),
        "expand_dims": (VECTOR, lambda o, x: o.squeeze(o.expand_dims(x, 1) * 2.0, 1)),
        "extract_sequences": (SOUND, lambda o, x: o.extract_sequences(x, 64, 32)),
        "fft": (VECTOR, lambda o, x: o.fft((x, o.zeros_like(x)))[0]),
        "fft2": (SIGNAL, lambda o, x: o.fft2((x, o.zeros_like(x)))[0]),
        "fliplr": (SIGNAL, lambda o, x: o.fliplr(x)),
        "flipud": (SIGNAL, lambda o, x: o.flipud(x)),
        "full_like": (VECTOR, lambda o, x: x + o.full_like(x, 0.3)),
        "get_item": (SIGNAL, lambda o, x: x[:, 2:8:2, 1:]),
        "hsplit": (VECTOR, lambda o, x: o.hsplit(x, 2)[1]),
        "hstack": (VECTOR, lambda o, x: o.hstack([x, o.tanh(x)])),
        "in_top_k": (VECTOR, lambda o, x: o.cast(o.in_top_k(o.argmax(x, 1), x, 2), "float32")),
        "inner": (VECTOR, lambda o, x: o.inner(x, _kernel(4, 10))),
        "irfft": (VECTOR, lambda o, x: o.irfft((x, o.zeros_like(x)))),
        "isin": (TOKENS, lambda o, x: o.cast(o.isin(x, [1, 4, 7]), "float32")),
        "istft": (SOUND, lambda o, x: o.istft(o.stft(x, 64, 32, 64), 64, 32, 64)),
        "kron": (VECTOR, lambda o, x: o.kron(x, _kernel(1, 2))),
        "layer_normalization": (SIGNAL, lambda o, x: o.layer_normalization(x)),
        "batch_normalization": (IMAGE, _batch_normalization),
        "linspace": (VECTOR, lambda o, x: o.linspace(x, x * 2.0, 3, axis=1)),
        "matmul": (SIGNAL, lambda o, x: o.matmul(x, steps(o, x))),
        "max_pool": (IMAGE, lambda o, x: o.max_pool(x, 2, 2)),
        "meshgrid": (VECTOR, lambda o, x: o.meshgrid(x[0], x[0])[0]),
        "moments": (SIGNAL, lambda o, x: o.concatenate(list(o.moments(x, axes=1)), 1)),
        "moveaxis": (SIGNAL, lambda o, x: o.moveaxis(x, 1, 2)),
        "multi_hot": (TOKENS, lambda o, x: o.multi_hot(x, 10)),
        "nanpercentile": (VECTOR, lambda o, x: o.nanpercentile(x, 30, axis=1, keepdims=True)),
        "nanquantile": (VECTOR, lambda o, x: o.nanquantile(x, 0.3, axis=1, keepdims=True)),
        "norm": (SIGNAL, lambda o, x: o.norm(x, axis=-1)),
        "one_hot": (TOKENS, lambda o, x: o.one_hot(x, 10)),
        "ones_like": (VECTOR, lambda o, x: x + o.ones_like(x)),
        "outer": (VECTOR, lambda o, x: o.outer(x[0], x[0])),
        "pad": (IMAGE, lambda o, x: o.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]])),
        "percentile": (VECTOR, lambda o, x: o.percentile(x, 30, axis=1, keepdims=True)),
        "power": (POSITIVE, lambda o, x: o.power(x, 1.7)),
        "quantile": (VECTOR, lambda o, x: o.quantile(x, 0.3, axis=1, keepdims=True)),
        "ravel": (VECTOR, lambda o, x: o.reshape(o.ravel(x), (-1, 10))),
        "repeat": (SIGNAL, lambda o, x: o.repeat(x, 2, axis=1)),
        "reshape": (SIGNAL, lambda o, x: o.reshape(x, (-1, 12, 5))),
        "rfft": (VECTOR, lambda o, x: o.rfft(x)[0]),
        "rms_normalization": (SIGNAL, lambda o, x: o.rms_normalization(x)),
        "roll": (SIGNAL, lambda o, x: o.roll(x, 2, axis=1)),
        "rot90": (IMAGE, lambda o, x: o.rot90(x, axes=(1, 2))),
        "scatter": (VECTOR, _scatter),
        "scatter_update": (SIGNAL, lambda o, x: o.scatter_update(x[0], [[0], [2]], x[0, 3:5])),
        "searchsorted": (VECTOR, lambda o, x: o.searchsorted(o.arange(5.0), x[0])),
        "select": (VECTOR, lambda o, x: o.select([x > 0.5, x > 0], [x, x * 2], 0.0)),
        "separable_conv": (IMAGE, _separable),
        "slice": (VECTOR, lambda o, x: o.slice(x, (0, 2), (1, 5))),
        "slice_update": (VECTOR, lambda o, x: o.slice_update(x, (0, 2), x[:, :3])),
        "space_to_depth": (BARE, lambda o, x: o.space_to_depth(x[:, :8], 2)),
        "split": (VECTOR, lambda o, x: o.multiply(*o.split(x, 2, axis=1))),
        "squeeze": (SIGNAL, lambda o, x: o.squeeze(o.max(x, axis=1, keepdims=True), 1)),
        "stack": (VECTOR, lambda o, x: o.stack([x, o.tanh(x)], axis=1)),
        "stft": (SOUND, lambda o, x: o.stft(x, 64, 32, 64)[0]),
        "swapaxes": (SIGNAL, lambda o, x: o.swapaxes(x, 1, 2)),
        "take": (SIGNAL, lambda o, x: o.take(x, [3, 1, 7], axis=1)),
        "take_along_axis": (SIGNAL, lambda o, x: o.take_along_axis(x, o.argsort(x, 1), 1)),
        "tensordot": (SIGNAL, lambda o, x: o.tensordot(x, _kernel(6, 2, 3), axes=1)),
        "threshold": (VECTOR, lambda o, x: o.threshold(x, 0.2, -0.1)),
        "tile": (SIGNAL, lambda o, x: o.tile(x, (1, 2, 1))),
        "top_k": (VECTOR, lambda o, x: o.top_k(x, 4)[0]),
        "trace": (SIGNAL, lambda o, x: o.trace(x, axis1=1, axis2=2)),
        "transpose": (IMAGE, lambda o, x: o.transpose(x, (0, 3, 1, 2))),
        "trapezoid": (SIGNAL, lambda o, x: o.trapezoid(x, axis=1)),
        "tril": (SIGNAL, lambda o, x: o.tril(x)),
        "triu": (SIGNAL, lambda o, x: o.triu(x)),
        "unfold": (IMAGE, lambda o, x: o.unfold(o.transpose(x, (0, 3, 1, 2)), 2)),
        "unstack": (SIGNAL, lambda o, x: o.unstack(x, 10, axis=1)[3]),
        "vander": (VECTOR, lambda o, x: o.vander(x[0], 3)),
        "vdot": (VECTOR, lambda o, x: o.reshape(o.vdot(x, o.tanh(x)), (1, 1))),
        "vstack": (VECTOR, lambda o, x: o.vstack([x, o.tanh(x)])),
        "where": (VECTOR, lambda o, x: o.where(x > 0.1, x, o.exp(x))),
        "zeros_like": (VECTOR, lambda o, x: o.maximum(x, o.zeros_like(x))),
    }


def _more() -> list[tuple[str, str, Setting, Call]]:
    """Return functions again, with other arguments."""
    return [
        ("einsum", "constant", SIGNAL, lambda o, x: o.einsum("bij,jk->bik", x, _kernel(6, 4))),
        ("einsum", "outer", SIGNAL, lambda o, x: o.einsum("bi,bj->bij", x[:, 0], x[:, 1])),
        ("einsum", "transposed", SIGNAL, lambda o, x: o.einsum("bij->bji", x)),
        ("top_k", "indices", VECTOR, lambda o, x: o.cast(o.top_k(x, 4)[1], "float32")),
        ("top_k", "both", SIGNAL, _top_k_both),
        (
            "top_k",
            "gathered",
            VECTOR,
            lambda o, x: o.take_along_axis(o.exp(x), o.top_k(x, 3)[1], 1),
        ),
        ("take", "of a table", TOKENS, lambda o, x: o.take(_kernel(10, 4), x, axis=0)),
        ("where", "broadcast", SIGNAL, lambda o, x: o.where(x[..., :1] > 0, x, 0.5)),
        ("cumsum", "behind softmax", VECTOR, lambda o, x: o.cumsum(o.softmax(x), axis=1)),
        (
            "pad",
            "reflect",
            IMAGE,
            lambda o, x: o.pad(x, [[0, 0], [1, 1], [2, 1], [0, 0]], "reflect"),
        ),
        (
            "pad",
            "value",
            IMAGE,
            lambda o, x: o.pad(x, [[0, 0], [1, 1], [0, 1], [0, 0]], "constant", 0.4),
        ),
        ("one_hot", "of argmax", VECTOR, lambda o, x: o.one_hot(o.argmax(x, 1), 10)),
        ("get_item", "strided backwards", SIGNAL, lambda o, x: x[:, ::-2]),
        ("get_item", "new axis", VECTOR, lambda o, x: x[:, None, 2:6] * 2.0),
        ("multiply", "by constant", IMAGE, lambda o, x: x * _kernel(4)),
        ("add", "constant", IMAGE, lambda o, x: o.relu(x) + _kernel(4)),
        ("divide", "by constant", VECTOR, lambda o, x: x / 3.0),
        ("subtract", "from constant", VECTOR, lambda o, x: 1.0 - x),
        ("matmul", "constant", SIGNAL, lambda o, x: o.matmul(x, _kernel(6, 4))),
        ("softmax", "axis 1", SIGNAL, lambda o, x: o.softmax(x, axis=1)),
        ("mean", "axes 1 2", IMAGE, lambda o, x: o.mean(x, axis=(1, 2))),
        ("sum", "all but batch", IMAGE, lambda o, x: o.sum(x, axis=(1, 2, 3), keepdims=True)),
        ("gelu", "exact", VECTOR, lambda o, x: o.gelu(x, approximate=False)),
        ("normalize", "L1", VECTOR, lambda o, x: o.normalize(x, axis=1, order=1)),
    ]


def _images() -> list[tuple[str, str, Setting, Call]]:
    image: list[tuple[str, str, Setting, Call]] = []
    for how in ("bilinear", "nearest", "bicubic"):
        resize = lambda o, x, how=how: o.image.resize(x, (13, 11), interpolation=how)
        image.append(("image.resize", how, IMAGE, resize))
    image.append(("image.rgb_to_grayscale", "", BARE, lambda o, x: o.image.rgb_to_grayscale(x)))
    image.append(("image.rgb_to_hsv", "", BARE, lambda o, x: o.image.rgb_to_hsv(x)))
    patches = lambda o, x: o.image.extract_patches(x, 2)
    image.append(("image.extract_patches", "", IMAGE, patches))
    crop = lambda o, x: o.image.crop_images(x, 1, 1, target_height=5, target_width=5)
    image.append(("image.crop_images", "", IMAGE, crop))
    pad = lambda o, x: o.image.pad_images(x, 1, 2, target_height=12, target_width=12)
    image.append(("image.pad_images", "", IMAGE, pad))
    return image


OPS_LEFT_OUT: dict[str, str] = {
    **dict.fromkeys(
        "arange array bartlett blackman convert_to_numpy convert_to_tensor dtype empty "
        "empty_like eye full geomspace hamming hanning identity is_tensor kaiser linalg "
        "logspace ndim nn numpy ones shape size tri zeros image diagflat rearrange".split(),
        "makes a constant, tells a shape, or is a module: computes nothing of the input",
    ),
    **dict.fromkeys(
        "argpartition bincount corrcoef vsplit".split(),
        "mixes the samples of a batch, or has no shape that Keras knows",
    ),
    **dict.fromkeys(
        "adaptive_average_pool adaptive_max_pool conv_transpose".split(),
        "does not run in a functional model of Keras 3.15: it declares another shape, or exchanges "
        "arguments; its layer is there",
    ),
    **dict.fromkeys(
        "associative_scan cond custom_gradient fori_loop jvp map scan switch vectorize "
        "vectorized_map while_loop".split(),
        "takes a function: code, which a functional model cannot be saved with",
    ),
    **dict.fromkeys(
        "binary_crossentropy categorical_crossentropy ctc_loss ctc_decode psnr "
        "sparse_categorical_crossentropy".split(),
        "a loss or a decoder of training, no part of an inference graph",
    ),
    **dict.fromkeys(
        "bitwise_and bitwise_invert bitwise_left_shift bitwise_not bitwise_or "
        "bitwise_right_shift bitwise_xor gcd lcm left_shift right_shift ldexp segment_max "
        "segment_min segment_prod segment_sum unravel_index histogram unique nonzero allclose "
        "array_equal".split(),
        "works on whole numbers or has an output whose shape depends on values",
    ),
    **dict.fromkeys(
        "cholesky cholesky_inverse det eig eigh inv logdet lstsq lu_factor matrix_rank pinv "
        "qr slogdet solve solve_triangular svd".split(),
        "linear algebra that TFLite has no operator for",
    ),
    **dict.fromkeys(
        "angle ifft2 imag polar view_as_complex view_as_real view saturate_cast fold".split(),
        "complex numbers or bits, which int8 and XNNPACK have no form of",
    ),
}
"""Functions of ``keras.ops`` without a case, and why."""


def operator_cases() -> list[Case]:
    """Return every operator's cases."""
    return [*_keras_ops(), *_tensorflow()]


def _kernel(*shape: int) -> Any:
    """Return a constant that looks trained."""
    import numpy as np

    return np.random.default_rng(5).normal(0, 0.5, shape).astype(np.float32)


def _borders() -> Any:
    import numpy as np

    return np.array([-0.5, 0.0, 0.5], np.float32)


def _attend(o: Any, x: Any) -> Any:
    heads = o.reshape(x, (-1, 10, 2, 3))
    return o.dot_product_attention(heads, o.tanh(heads), heads)


def _batch_normalization(o: Any, x: Any) -> Any:
    variance = abs(_kernel(4)) + 0.5
    return o.batch_normalization(x, _kernel(4), variance, -1, offset=_kernel(4), scale=variance)


def _scatter(o: Any, x: Any) -> Any:
    return o.scatter([[0], [3]], x[0, :2], (6,))


def _separable(o: Any, x: Any) -> Any:
    return o.separable_conv(x, _kernel(3, 3, 4, 1), _kernel(1, 1, 4, 5))


def _top_k_both(o: Any, x: Any) -> Any:
    values, indices = o.top_k(x, 2)
    return o.concatenate([values, o.cast(indices, "float32")], axis=-1)


def _keras_ops() -> Iterator[Case]:
    for name, setting, call in _by_kind():
        yield _keras_case(name, "", setting, call)
    for name, (setting, call) in _listed().items():
        yield _keras_case(name, "", setting, call)
    for name, what, setting, call in (*_more(), *_images()):
        yield _keras_case(name, what, setting, call)


def _keras_case(name: str, what: str, setting: Setting, call: Call) -> Case:
    make = lambda k, x: call(k.ops, x)
    return Case(f"ops.{name}", what, setting, make, NEW, "operator")


def _by_kind() -> Iterator[tuple[str, Setting, Call]]:
    for name in UNARY:
        yield name, VECTOR, functools.partial(_unary, name)
    for name in ON_POSITIVE:
        yield name, POSITIVE, functools.partial(_unary, name, shift=float(name == "arccosh"))
    for name in ON_UNIT:
        yield name, VECTOR, functools.partial(_on_unit, name)
    for name in TESTS:
        yield name, VECTOR, functools.partial(_test, name)
    for name in BINARY:
        yield name, VECTOR, functools.partial(_binary, name)
    for name in COMPARISONS:
        yield name, VECTOR, functools.partial(_comparison, name)
    for name in REDUCTIONS:
        yield name, SIGNAL, functools.partial(_along, name)
    for name in INDEX_REDUCTIONS:
        yield name, SIGNAL, functools.partial(_indexed, name)
    for name in ALONG:
        yield name, SIGNAL, functools.partial(_kept, name)


def _unary(name: str, o: Any, x: Any, shift: float = 0.0) -> Any:
    return getattr(o, name)(x + shift if shift else x)


def _on_unit(name: str, o: Any, x: Any) -> Any:
    return getattr(o, name)(0.9 * o.tanh(x))


def _test(name: str, o: Any, x: Any) -> Any:
    return o.cast(getattr(o, name)(x > 0 if name == "logical_not" else x), "float32") + x


def _binary(name: str, o: Any, x: Any) -> Any:
    return getattr(o, name)(x, 0.5 + o.sigmoid(x))


def _comparison(name: str, o: Any, x: Any) -> Any:
    other = o.tanh(x) * 1.2
    if name.startswith("logical"):
        return o.cast(getattr(o, name)(x > 0, other > 0.3), "float32")
    return o.cast(getattr(o, name)(x, other), "float32") + x


def _along(name: str, o: Any, x: Any) -> Any:
    return getattr(o, name)(x, axis=1)


def _indexed(name: str, o: Any, x: Any) -> Any:
    return o.cast(getattr(o, name)(x > 0 if name in ("all", "any") else x, axis=1), "float32")


def _kept(name: str, o: Any, x: Any) -> Any:
    found = getattr(o, name)(x, axis=1)
    return o.cast(found, "float32") if name == "argsort" else found


def uncovered_ops() -> set[str]:
    """Return the functions of ``keras.ops`` that have neither a case nor a reason."""
    import keras

    names = {n for n in dir(keras.ops) if not n.startswith("_")}
    covered = {c.layer.removeprefix("ops.") for c in operator_cases()}
    return names - covered - set(OPS_LEFT_OUT)


def _tensorflow() -> Iterator[Case]:
    for name, what, setting, call in _tensorflow_calls():
        yield Case(f"tf.{name}", what, setting, functools.partial(_with_tf, call), OLD, "operator")


def _with_tf(call: Call, k: Any, x: Any) -> Any:
    import tensorflow as tf

    del k
    return call(tf, x)


def _tensorflow_calls() -> Iterator[tuple[str, str, Setting, Call]]:
    """Yield name, arguments, place and call of TensorFlow's functions."""
    for name in "abs cos erf exp floor negative round sign sin square softplus tanh".split():
        call = lambda tf, x, name=name: getattr(tf.math, name)(x)
        yield f"math.{name}", "", VECTOR, call
    for name in "log rsqrt sqrt reciprocal".split():
        call = lambda tf, x, name=name: getattr(tf.math, name)(x)
        yield f"math.{name}", "", POSITIVE, call
    for name in "elu relu relu6 selu silu leaky_relu log_softmax softmax sigmoid gelu".split():
        call = lambda tf, x, name=name: getattr(tf.nn, name)(x)
        yield f"nn.{name}", "", IMAGE, call
    for name in "add subtract multiply divide maximum minimum squared_difference floordiv".split():
        call = lambda tf, x, name=name: getattr(tf.math, name)(x, 0.5 + tf.sigmoid(x))
        yield f"math.{name}", "", VECTOR, call
    for name in "mean sum max min prod variance std logsumexp".split():
        call = lambda tf, x, name=name: getattr(tf.math, f"reduce_{name}")(x, axis=1)
        yield f"math.reduce_{name}", "", SIGNAL, call
    for name in "greater less equal not_equal".split():
        call = lambda tf, x, name=name: tf.where(
            getattr(tf.math, name)(x, tf.tanh(x) * 1.2), x, tf.exp(x)
        )
        yield f"math.{name}", "and where", VECTOR, call
    yield from _tensorflow_shapes()
    yield from _tensorflow_products()


def _tensorflow_shapes() -> Iterator[tuple[str, str, Setting, Call]]:
    sides = [[0, 0], [1, 2], [2, 1], [0, 0]]
    for mode in ("CONSTANT", "REFLECT", "SYMMETRIC"):
        yield "pad", mode, IMAGE, lambda tf, x, mode=mode: tf.pad(x, sides, mode)
    yield "pad", "value", IMAGE, lambda tf, x: tf.pad(x, sides, constant_values=0.7)
    yield "concat", "", IMAGE, lambda tf, x: tf.concat([x, tf.nn.relu(x)], axis=-1)
    yield "split", "", IMAGE, lambda tf, x: tf.multiply(*tf.split(x, 2, axis=-1))
    yield "stack", "", VECTOR, lambda tf, x: tf.stack([x, tf.tanh(x)], axis=1)
    yield "unstack", "", SIGNAL, lambda tf, x: tf.add_n(tf.unstack(x, axis=1)[2:5])
    yield "transpose", "", IMAGE, lambda tf, x: tf.transpose(x, [0, 3, 1, 2])
    yield "reshape", "", IMAGE, lambda tf, x: tf.reshape(x, [-1, 12, 24])
    yield "tile", "", SIGNAL, lambda tf, x: tf.tile(x, [1, 2, 1])
    yield "reverse", "", SIGNAL, lambda tf, x: tf.reverse(x, [1])
    yield "roll", "", SIGNAL, lambda tf, x: tf.roll(x, 2, 1)
    yield "strided_slice", "", IMAGE, lambda tf, x: x[:, 1:8:2, ::2, 1:]
    yield "strided_slice", "backwards", SIGNAL, lambda tf, x: x[:, ::-2]
    yield "expand_dims", "", VECTOR, lambda tf, x: tf.squeeze(tf.expand_dims(x, 1) * 2.0, 1)
    yield "nn.depth_to_space", "", IMAGE, lambda tf, x: tf.nn.depth_to_space(x, 2)
    yield "nn.space_to_depth", "", BARE, lambda tf, x: tf.nn.space_to_depth(x[:, :8], 2)
    yield "space_to_batch", "and back", IMAGE, _batched
    yield "gather", "", SIGNAL, lambda tf, x: tf.gather(x, [3, 1, 7], axis=1)
    yield "gather", "of a table", TOKENS, lambda tf, x: tf.gather(_kernel(10, 4), x)
    yield "gather_nd", "", SIGNAL, lambda tf, x: tf.gather_nd(x[0], [[0], [3]])
    yield "one_hot", "", TOKENS, lambda tf, x: tf.one_hot(x, 10)
    yield "one_hot", "of argmax", VECTOR, lambda tf, x: tf.one_hot(tf.argmax(x, 1), 10)
    yield "math.argmax", "", SIGNAL, lambda tf, x: tf.cast(tf.argmax(x, 1), tf.float32)
    yield "math.top_k", "values", VECTOR, lambda tf, x: tf.math.top_k(x, 4).values
    yield "math.top_k", "both", SIGNAL, _tf_top_k
    for how in ("bilinear", "nearest", "bicubic", "area"):
        resize = lambda tf, x, how=how: tf.image.resize(x, (13, 11), how)
        yield "image.resize", how, IMAGE, resize
    old = lambda tf, x: tf.compat.v1.image.resize_bilinear(x, (13, 11), align_corners=True)
    yield "image.resize", "align corners", IMAGE, old
    yield "image.extract_patches", "", IMAGE, _patches
    yield "image.central_crop", "", IMAGE, lambda tf, x: tf.image.central_crop(x, 0.6)


def _tensorflow_products() -> Iterator[tuple[str, str, Setting, Call]]:
    yield "matmul", "", SIGNAL, lambda tf, x: tf.matmul(x, x, transpose_b=True)
    yield "matmul", "constant", SIGNAL, lambda tf, x: tf.matmul(x, _kernel(6, 4))
    yield "tensordot", "", SIGNAL, lambda tf, x: tf.tensordot(x, _kernel(6, 2, 3), 1)
    yield "einsum", "", SIGNAL, lambda tf, x: tf.einsum("bij,bkj->bik", x, tf.tanh(x))
    yield "einsum", "constant", SIGNAL, lambda tf, x: tf.einsum("bij,jk->bik", x, _kernel(6, 4))
    yield "clip_by_value", "", VECTOR, lambda tf, x: tf.clip_by_value(x, -0.5, 0.7)
    yield "math.cumsum", "", SIGNAL, lambda tf, x: tf.cumsum(x, axis=1)
    yield "math.cumsum", "reverse exclusive", SIGNAL, _cumsum
    yield "math.pow", "", POSITIVE, lambda tf, x: tf.pow(x, 1.7)
    yield "math.pow", "square", VECTOR, lambda tf, x: tf.pow(x, 2.0)
    yield "math.l2_normalize", "", VECTOR, lambda tf, x: tf.math.l2_normalize(x, 1)
    yield "nn.local_response_normalization", "", IMAGE, lambda tf, x: tf.nn.lrn(x)
    yield "nn.bias_add", "", IMAGE, lambda tf, x: tf.nn.bias_add(tf.nn.relu(x), _kernel(4))
    yield "nn.conv2d", "", IMAGE, lambda tf, x: tf.nn.conv2d(x, _kernel(3, 3, 4, 5), 2, "SAME")
    yield "nn.atrous_conv2d", "", IMAGE, _atrous
    yield "nn.avg_pool2d", "", IMAGE, lambda tf, x: tf.nn.avg_pool2d(x, 3, 2, "SAME")
    yield "nn.moments", "", SIGNAL, lambda tf, x: tf.concat(tf.nn.moments(x, [1]), 1)
    yield "nn.swish", "beta", VECTOR, lambda tf, x: tf.nn.silu(x, beta=1.5)
    yield "nn.gelu", "approximate", VECTOR, lambda tf, x: tf.nn.gelu(x, approximate=True)
    yield "nn.crelu", "", VECTOR, lambda tf, x: tf.nn.crelu(x)
    yield "cast", "to int", VECTOR, lambda tf, x: tf.cast(tf.cast(x * 3, tf.int32), tf.float32)
    yield "math.multiply", "by constant", IMAGE, lambda tf, x: x * _kernel(4)
    yield "math.subtract", "from constant", VECTOR, lambda tf, x: 1.0 - x
    yield "math.add", "constant", IMAGE, lambda tf, x: tf.nn.relu(x) + _kernel(4)
    yield "math.add_n", "", VECTOR, lambda tf, x: tf.add_n([x, tf.tanh(x), tf.exp(x)])
    yield "math.floormod", "", VECTOR, lambda tf, x: tf.math.floormod(x, 0.7)


def _batched(tf: Any, x: Any) -> Any:
    packed = tf.space_to_batch(x, [2, 2], [[0, 1], [0, 0]])
    return tf.batch_to_space(tf.nn.relu(packed), [2, 2], [[0, 1], [0, 0]])


def _tf_top_k(tf: Any, x: Any) -> Any:
    values, indices = tf.math.top_k(x, 2)
    return tf.concat([values, tf.cast(indices, tf.float32)], axis=-1)


def _patches(tf: Any, x: Any) -> Any:
    window = [1, 2, 2, 1]
    return tf.image.extract_patches(x, window, window, [1, 1, 1, 1], "VALID")


def _cumsum(tf: Any, x: Any) -> Any:
    return tf.cumsum(x, axis=1, exclusive=True, reverse=True)


def _atrous(tf: Any, x: Any) -> Any:
    return tf.nn.atrous_conv2d(x, _kernel(3, 3, 4, 5), 2, "SAME")
