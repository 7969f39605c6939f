"""Small constructions of every layer class of tf_keras and of Keras 3.

Each is a line: the class, its arguments in words, where it stands, and how it is called.  What has
no line here has a reason in `benchmarks.matrix.coverage`; a test holds both against the frameworks.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from benchmarks.matrix.cases import (
    BARE,
    BOTH,
    CLIPS,
    FRAMES,
    IMAGE,
    MONO,
    PIXELS,
    RAW,
    ROWS,
    SIGNAL,
    SOUND,
    TOKENS,
    VECTOR,
    VOLUME,
    Case,
    Framework,
    Setting,
)

OLD: tuple[Framework, ...] = ("tf_keras",)
NEW: tuple[Framework, ...] = ("keras",)
SPACES = {1: SIGNAL, 2: IMAGE, 3: VOLUME}
"""Where layers of one, two and three dimensions stand."""


def plain(layer: str, setting: Setting, what: str = "", /, *args: Any, **options: Any) -> Case:
    """Return the case of a layer that is called on one tensor, with these arguments."""

    def make(n: Any, x: Any) -> Any:
        return getattr(n, layer)(*args, **options)(x)

    return Case(layer, what, setting, make)


def only(frameworks: tuple[Framework, ...], *cases: Case) -> Iterator[Case]:
    """Yield cases that one framework alone has."""
    for case in cases:
        yield Case(case.layer, case.what, case.setting, case.make, frameworks)


def layer_cases() -> list[Case]:
    """Return every construction."""
    return [
        *_convolutions(),
        *_depthwise(),
        *_transposed(),
        *_dense(),
        *_activations(),
        *_normalizations(),
        *_attention(),
        *_recurrent(),
        *_recurrent_convolutions(),
        *_pools(),
        *_shapes(),
        *_merging(),
        *_embeddings(),
        *_preprocessing(),
        *_identities(),
        *_wrappers(),
        *_spectrograms(),
    ]


def _convolutions() -> Iterator[Case]:
    for d, setting in SPACES.items():
        name = f"Conv{d}D"
        conv = functools.partial(plain, name, setting)
        yield conv("same relu", 5, 3, padding="same", activation="relu")
        yield conv("valid no bias", 5, 3, use_bias=False)
        yield conv("strides 2", 4, 3, strides=2, padding="same")
        yield conv("dilation 2 same", 4, 3, dilation_rate=2, padding="same")
        yield conv("dilation 2 valid", 4, 2, dilation_rate=2, activation="relu")
        yield conv("groups 2", 6, 3, groups=2, padding="same")
        yield conv("kernel 1 tanh", 3, 1, activation="tanh")
    yield plain("Conv1D", SIGNAL, "causal", 4, 3, padding="causal")
    yield plain("Conv1D", SIGNAL, "causal dilation 2", 4, 3, padding="causal", dilation_rate=2)
    yield plain("Conv2D", IMAGE, "kernel 3x1 strides 2x1", 4, (3, 1), strides=(2, 1))
    yield plain("Conv2D", IMAGE, "dilation 1x3 same", 4, 3, dilation_rate=(1, 3), padding="same")
    yield plain("Conv2D", IMAGE, "relu6", 4, 3, activation="relu6")
    yield plain("Conv2D", IMAGE, "swish", 4, 3, activation="swish")
    yield plain("Conv2D", BARE, "first dilation 2", 4, 3, dilation_rate=2, padding="same")
    for d, implementations in ((1, (1, 2, 3)), (2, (1, 2, 3))):
        for i in implementations:
            what = f"implementation {i}"
            options = {"implementation": i, "activation": "relu"}
            yield from only(OLD, plain(f"LocallyConnected{d}D", SPACES[d], what, 3, 3, **options))


def _depthwise() -> Iterator[Case]:
    for d in (1, 2):
        depthwise = functools.partial(plain, f"DepthwiseConv{d}D", SPACES[d])
        yield depthwise("same", 3, padding="same")
        yield depthwise("multiplier 2 strides 2", 3, depth_multiplier=2, strides=2)
        yield depthwise("dilation 2", 3, dilation_rate=2, padding="same")
        separable = functools.partial(plain, f"SeparableConv{d}D", SPACES[d])
        yield separable("same relu", 5, 3, padding="same", activation="relu")
        yield separable("multiplier 2", 5, 3, depth_multiplier=2, strides=2)
        yield separable("dilation 2", 5, 3, dilation_rate=2, padding="same")


def _transposed() -> Iterator[Case]:
    for d, setting in SPACES.items():
        transposed = functools.partial(plain, f"Conv{d}DTranspose", setting)
        yield transposed("same strides 2", 3, 3, strides=2, padding="same")
        yield transposed("valid", 3, 3, activation="relu")
        yield transposed("output padding", 3, 3, strides=2, padding="same", output_padding=1)
        yield transposed("no bias", 3, 2, strides=2, use_bias=False)
    yield plain("Conv2DTranspose", IMAGE, "dilation 2", 3, 3, dilation_rate=2, padding="same")


def _dense() -> Iterator[Case]:
    yield plain("Dense", VECTOR, "relu", 7, activation="relu")
    yield plain("Dense", VECTOR, "no bias", 7, use_bias=False)
    yield plain("Dense", SIGNAL, "rank 3", 7, activation="relu")
    yield plain("Dense", IMAGE, "rank 4", 7)
    yield plain("Dense", VECTOR, "softmax", 7, activation="softmax")
    einsum = functools.partial(plain, "EinsumDense")
    yield einsum(SIGNAL, "abc,cd->abd", "abc,cd->abd", (10, 7), bias_axes="d")
    yield einsum(SIGNAL, "abc,cde->abde", "abc,cde->abde", (10, 2, 3), bias_axes="de")
    yield einsum(SIGNAL, "abc,bd->adc", "abc,bd->adc", (4, 6), bias_axes="c")


def _activations() -> Iterator[Case]:
    for name in ("elu", "exponential", "gelu", "hard_sigmoid", "linear", "mish", "relu", "selu"):
        yield plain("Activation", IMAGE, name, name)
    for name in ("sigmoid", "softmax", "softplus", "softsign", "swish", "tanh"):
        yield plain("Activation", IMAGE, name, name)
    new = "celu hard_shrink hard_silu hard_swish hard_tanh leaky_relu log_sigmoid log_softmax"
    more = "relu6 silu soft_shrink sparse_plus sparse_sigmoid sparsemax squareplus tanh_shrink"
    for name in (*new.split(), *more.split(), "threshold"):
        if name != "threshold":  # takes arguments that Activation cannot give
            yield from only(NEW, plain("Activation", VECTOR, name, name))
    for setting in (VECTOR, IMAGE):
        yield plain("ReLU", setting, f"on {setting.name}")
        yield plain("LeakyReLU", setting, f"on {setting.name}", 0.2)
        yield plain("PReLU", setting, f"on {setting.name}")
        yield plain("ELU", setting, f"on {setting.name}")
        yield plain("Softmax", setting, f"on {setting.name}")
    yield plain("ReLU", IMAGE, "max 6", max_value=6.0)
    yield plain("ReLU", IMAGE, "max 1", max_value=1.0)
    yield plain("ReLU", IMAGE, "max 4 slope", max_value=4.0, negative_slope=0.1)
    yield plain("ReLU", IMAGE, "threshold", threshold=0.3)
    yield plain("ELU", IMAGE, "alpha 0.5", 0.5)
    yield plain("PReLU", IMAGE, "shared axes", shared_axes=[1, 2])
    yield plain("Softmax", IMAGE, "axis 1", axis=1)
    yield from only(OLD, plain("ThresholdedReLU", IMAGE, "", 0.2))


def _normalizations() -> Iterator[Case]:
    batch_norm = functools.partial(plain, "BatchNormalization")
    yield batch_norm(IMAGE)
    yield batch_norm(VECTOR, "on vector")
    yield batch_norm(IMAGE, "no scale no center", scale=False, center=False)
    yield batch_norm(BARE, "first")
    yield Case("BatchNormalization", "before relu", IMAGE, _norm_relu)
    yield Case("BatchNormalization", "behind relu", IMAGE, _relu_norm)
    for kind in ("relu", "tanh", "elu", "relu6"):
        yield Case("BatchNormalization", f"between Dense {kind}", VECTOR, _norm_between_dense(kind))
        yield Case("BatchNormalization", f"between Conv2D {kind}", IMAGE, _norm_between_conv(kind))
    yield plain("LayerNormalization", SIGNAL)
    yield plain("LayerNormalization", VECTOR, "on vector")
    yield plain("LayerNormalization", IMAGE, "axes", axis=[1, 2, 3])
    yield plain("LayerNormalization", SIGNAL, "no center", center=False, epsilon=1e-6)
    yield plain("GroupNormalization", IMAGE, "groups 2", groups=2)
    yield plain("GroupNormalization", IMAGE, "instance", groups=-1)
    yield plain("UnitNormalization", SIGNAL)
    yield from only(NEW, plain("RMSNormalization", SIGNAL))
    spectral = lambda n, x: n.SpectralNormalization(n.Conv2D(4, 3))(x)
    yield from only(NEW, Case("SpectralNormalization", "Conv2D", IMAGE, spectral))


def _norm_relu(n: Any, x: Any) -> Any:
    return n.Conv2D(4, 1)(n.ReLU()(n.BatchNormalization()(n.Add()([x, n.Conv2D(4, 1)(x)]))))


def _norm_between_dense(activation: str) -> Any:
    def make(n: Any, x: Any) -> Any:
        for units in (12, 8):
            x = n.BatchNormalization()(n.Dense(units, activation=activation)(x))
        return n.Dense(6)(x)

    return make


def _norm_between_conv(activation: str) -> Any:
    def make(n: Any, x: Any) -> Any:
        for filters in (6, 5):
            x = n.BatchNormalization()(n.Conv2D(filters, 2, activation=activation)(x))
        return n.Conv2D(4, 2)(x)

    return make


def _relu_norm(n: Any, x: Any) -> Any:
    return n.MaxPooling2D()(n.BatchNormalization()(n.ReLU()(x)))


def _attention() -> Iterator[Case]:
    def self_attention(n: Any, x: Any, **options: Any) -> Any:
        return n.MultiHeadAttention(2, 3, **options)(x, x)

    def crossed(n: Any, x: Any) -> Any:
        return n.MultiHeadAttention(2, 4, value_dim=3)(x, n.Conv1D(5, 3)(x))

    def pair(layer: str, **options: Any) -> Any:
        return lambda n, x: getattr(n, layer)(**options)([x, n.Dense(6)(x)])

    def block(n: Any, x: Any) -> Any:
        """A transformer block."""
        x = n.LayerNormalization()(n.Add()([x, n.MultiHeadAttention(2, 3)(x, x)]))
        return n.LayerNormalization()(n.Add()([x, n.Dense(6)(n.Dense(12, activation="gelu")(x))]))

    yield Case("MultiHeadAttention", "self", SIGNAL, self_attention)
    one = functools.partial(self_attention, use_bias=False, output_shape=4)
    yield Case("MultiHeadAttention", "no bias", SIGNAL, one)
    yield Case("MultiHeadAttention", "cross", SIGNAL, crossed)
    yield Case("MultiHeadAttention", "transformer block", SIGNAL, block)
    causal = lambda n, x: n.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True)
    yield Case("MultiHeadAttention", "causal", SIGNAL, causal)
    yield Case("Attention", "", SIGNAL, pair("Attention"))
    yield Case("Attention", "scaled", SIGNAL, pair("Attention", use_scale=True))
    yield Case("Attention", "concat", SIGNAL, pair("Attention", score_mode="concat"))
    yield Case("AdditiveAttention", "", SIGNAL, pair("AdditiveAttention"))
    grouped = lambda n, x: n.GroupQueryAttention(3, 4, 2)(x, x)
    yield from only(NEW, Case("GroupQueryAttention", "", SIGNAL, grouped))


def _recurrent() -> Iterator[Case]:
    for layer in ("LSTM", "GRU", "SimpleRNN"):
        for unroll in (False, True):
            how = "unrolled" if unroll else "loop"
            options = {"unroll": unroll}
            yield plain(layer, SIGNAL, how, 6, **options)
            yield plain(layer, SIGNAL, f"{how} sequences", 6, return_sequences=True, **options)
        yield plain(layer, RAW, "first", 6)
        yield plain(layer, SIGNAL, "backwards", 6, go_backwards=True, unroll=True)
        stateful = plain(layer, SIGNAL, "stateful", 6, stateful=True)
        yield Case(layer, "stateful", SIGNAL, stateful.make, BOTH, fixed=True)
        yield Case(layer, "return state", SIGNAL, functools.partial(_with_state, layer))
        yield Case(layer, "masked", SIGNAL, functools.partial(_masked, layer))
        for unroll in (False, True):
            make = functools.partial(_bidirectional, layer, unroll=unroll)
            yield Case("Bidirectional", f"{layer} {'unrolled' if unroll else 'loop'}", SIGNAL, make)
        cell = functools.partial(_cell, f"{layer}Cell")
        yield Case(f"{layer}Cell", "in RNN", SIGNAL, cell)
    yield plain("GRU", SIGNAL, "reset before", 6, reset_after=False, unroll=True)
    yield plain("LSTM", SIGNAL, "hard sigmoid", 6, recurrent_activation="hard_sigmoid", unroll=True)
    yield Case("RNN", "LSTMCell", SIGNAL, lambda n, x: n.RNN(n.LSTMCell(5), unroll=True)(x))
    yield Case("StackedRNNCells", "two", SIGNAL, _stacked)
    summed = functools.partial(_bidirectional, "LSTM", unroll=True, merge_mode="sum")
    yield Case("Bidirectional", "summed", SIGNAL, summed)


def _with_state(layer: str, n: Any, x: Any) -> Any:
    return n.Concatenate()(list(getattr(n, layer)(5, return_state=True, unroll=True)(x)))


def _masked(layer: str, n: Any, x: Any) -> Any:
    return getattr(n, layer)(5, unroll=True)(n.Masking(0.0)(n.ReLU()(x)))


def _bidirectional(layer: str, n: Any, x: Any, *, unroll: bool, **options: Any) -> Any:
    inner = getattr(n, layer)(5, unroll=unroll, return_sequences=True)
    return n.Bidirectional(inner, **options)(x)


def _cell(cell: str, n: Any, x: Any) -> Any:
    return n.RNN(getattr(n, cell)(5), return_sequences=True, unroll=True)(x)


def _stacked(n: Any, x: Any) -> Any:
    cells = n.StackedRNNCells([n.LSTMCell(5), n.GRUCell(4)])
    return n.RNN(cells, unroll=True)(x)


def _recurrent_convolutions() -> Iterator[Case]:
    for d, setting in ((1, ROWS), (2, FRAMES), (3, CLIPS)):
        yield plain(f"ConvLSTM{d}D", setting, "same", 3, 3, padding="same")
        yield plain(f"ConvLSTM{d}D", setting, "sequences", 3, 2, return_sequences=True)


def _pools() -> Iterator[Case]:
    for d, setting in SPACES.items():
        for kind in ("Average", "Max"):
            pool = functools.partial(plain, f"{kind}Pooling{d}D", setting)
            yield pool("2", 2)
            yield pool("3 strides 2 same", 3, strides=2, padding="same")
            yield plain(f"Global{kind}Pooling{d}D", setting)
            yield plain(f"Global{kind}Pooling{d}D", setting, "keepdims", keepdims=True)
            size = (3, 2, 2)[:d] if d > 1 else 4
            yield from only(NEW, plain(f"Adaptive{kind}Pooling{d}D", setting, "", size))
    yield plain("AveragePooling2D", IMAGE, "3x1 strides 1", (3, 1), strides=1)


def _shapes() -> Iterator[Case]:
    yield plain("Flatten", IMAGE)
    yield plain("Reshape", IMAGE, "", (12, 24))
    yield plain("Reshape", IMAGE, "minus one", (-1, 4))
    yield plain("Permute", IMAGE, "2 1 3", (2, 1, 3))
    yield plain("Permute", SIGNAL, "2 1", (2, 1))
    yield plain("RepeatVector", VECTOR, "", 3)
    for d, setting in SPACES.items():
        sides = [(1, 2), (0, 1), (2, 0)][:d]
        pairs = tuple(sides) if d > 1 else sides[0]
        yield plain(f"ZeroPadding{d}D", setting, "", pairs)
        yield plain(f"Cropping{d}D", setting, "", pairs)
        yield plain(f"UpSampling{d}D", setting, "", 2 if d == 1 else (2, 3, 2)[:d])
        yield Case(f"ZeroPadding{d}D", "before strides", setting, functools.partial(_padded, d))
    yield plain("UpSampling2D", IMAGE, "bilinear", 2, interpolation="bilinear")
    yield Case("UpSampling2D", "behind relu", IMAGE, lambda n, x: n.UpSampling2D()(n.ReLU()(x)))


def _padded(d: int, n: Any, x: Any) -> Any:
    pad = getattr(n, f"ZeroPadding{d}D")(1)
    return getattr(n, f"Conv{d}D")(4, 3, strides=2, activation="relu")(pad(x))


def _merging() -> Iterator[Case]:
    def merged(layer: str, **options: Any) -> Any:
        def make(n: Any, x: Any) -> Any:
            return getattr(n, layer)(**options)([x, n.Conv2D(4, 1)(x)])

        return make

    for layer in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"):
        yield Case(layer, "two", IMAGE, merged(layer))
    yield Case("Add", "of itself", IMAGE, lambda n, x: n.Add()([x, x]))
    for layer in ("Add", "Average", "Maximum", "Concatenate"):
        make = lambda n, x, layer=layer: getattr(n, layer)()([x, n.Conv2D(4, 1)(x), n.ReLU()(x)])
        yield Case(layer, "three", IMAGE, make)
    yield Case("Concatenate", "axis 1", IMAGE, merged("Concatenate", axis=1))
    broadcast = lambda n, x: n.Multiply()(
        [x, n.GlobalAveragePooling2D(keepdims=True)(n.Conv2D(4, 1, activation="sigmoid")(x))]
    )
    yield Case("Multiply", "broadcast", IMAGE, broadcast)
    dot = lambda n, x, **o: n.Dot(axes=o["axes"], normalize=o["normalize"])([x, n.Dense(6)(x)])
    for axes in (1, 2):
        for normalize in (False, True):
            make = functools.partial(dot, axes=axes, normalize=normalize)
            what = f"axes {axes}{' normalized' if normalize else ''}"
            yield Case("Dot", what, SIGNAL, make)
    vectors = lambda n, x: n.Dot(axes=1)([x, n.Dense(10)(x)])
    yield Case("Dot", "of vectors", VECTOR, vectors)


def _embeddings() -> Iterator[Case]:
    yield plain("Embedding", TOKENS, "", 10, 6)
    yield Case("Embedding", "pooled", TOKENS, _pooled_embedding)
    yield Case("Embedding", "masked LSTM", TOKENS, _masked_embedding)
    yield from only(NEW, plain("ReversibleEmbedding", TOKENS, "", 10, 6))


def _pooled_embedding(n: Any, x: Any) -> Any:
    return n.Dense(4, activation="relu")(n.GlobalAveragePooling1D()(n.Embedding(10, 6)(x)))


def _masked_embedding(n: Any, x: Any) -> Any:
    return n.LSTM(5, unroll=True)(n.Embedding(10, 6, mask_zero=True)(x))


def _conv_behind(make: Any) -> Any:
    return lambda n, x: n.Conv2D(4, 3, strides=2, activation="relu")(make(n, x))


def _preprocessing() -> Iterator[Case]:
    def behind(layer: str, what: str, *args: Any, **options: Any) -> Case:
        case = plain(layer, PIXELS, what, *args, **options)
        return Case(layer, what, PIXELS, _conv_behind(case.make))

    yield behind("Rescaling", "1/255", 1 / 255)
    yield behind("Rescaling", "1/127.5 -1", 1 / 127.5, offset=-1)
    mean, variance = [100.0, 120.0, 130.0], [2500.0, 2600.0, 3600.0]
    yield behind("Normalization", "", axis=-1, mean=mean, variance=variance)
    yield Case("Normalization", "behind Rescaling", PIXELS, _conv_behind(_normalized))
    yield plain("Normalization", VECTOR, "behind Dense", mean=[0.1] * 10, variance=[0.5] * 10)
    for how in ("bilinear", "nearest", "bicubic", "area", "lanczos3"):
        yield behind("Resizing", how, 7, 9, interpolation=how)
    yield behind("Resizing", "crop", 7, 9, crop_to_aspect_ratio=True)
    yield plain("Resizing", IMAGE, "behind Conv2D", 12, 12)
    yield behind("CenterCrop", "", 8, 9)
    yield plain("Discretization", VECTOR, "", bin_boundaries=[-0.5, 0.0, 0.5])
    yield plain("CategoryEncoding", TOKENS, "multi hot", num_tokens=10, output_mode="multi_hot")
    one_hot = plain("CategoryEncoding", TOKENS, "one hot", num_tokens=10, output_mode="one_hot")
    yield from only(NEW, one_hot)  # of tf_keras takes one token a sample
    yield plain("IntegerLookup", TOKENS, "", vocabulary=[1, 3, 5, 7], output_mode="int")
    hashed = functools.partial(plain, "Hashing", TOKENS)
    yield hashed("", num_bins=5)
    crossing = lambda n, x: n.HashedCrossing(5)((x[:, :1], x[:, 1:2]))
    yield Case("HashedCrossing", "", TOKENS, crossing)


def _normalized(n: Any, x: Any) -> Any:
    norm = n.Normalization(mean=[0.48, 0.45, 0.4], variance=[0.05, 0.06, 0.05])
    return norm(n.Rescaling(1 / 255)(x))


def _identities() -> Iterator[Case]:
    yield plain("Identity", IMAGE)
    yield plain("Dropout", VECTOR, "", 0.3)
    for d, setting in SPACES.items():
        yield plain(f"SpatialDropout{d}D", setting, "", 0.3)
    yield plain("AlphaDropout", VECTOR, "", 0.3)
    yield plain("GaussianDropout", VECTOR, "", 0.3)
    yield plain("GaussianNoise", VECTOR, "", 0.3)
    yield plain("ActivityRegularization", VECTOR, "", 0.01)
    yield Case("Dropout", "between Dense", VECTOR, _dropout_between)
    yield plain("Masking", SIGNAL, "", 0.0)
    yield Case("InputLayer", "", VECTOR, lambda n, x: n.Dense(5)(x))
    for layer, args in RANDOM.items():
        frameworks = OLD if layer in ("RandomHeight", "RandomWidth") else BOTH
        frameworks = NEW if layer in NEW_RANDOM else frameworks
        make = functools.partial(_augmented, layer, args)
        yield Case(layer, "", PIXELS, make, frameworks)


def _augmented(layer: str, args: tuple[Any, ...], n: Any, x: Any) -> Any:
    x = n.Conv2D(4, 3, strides=2, activation="relu")(getattr(n, layer)(*args)(x))
    return n.GlobalAveragePooling2D()(x)  # some leave the height or the width open


def _dropout_between(n: Any, x: Any) -> Any:
    return n.Dense(5)(n.Dropout(0.4)(n.Dense(8)(x)))


RANDOM: dict[str, tuple[Any, ...]] = {
    "RandomBrightness": (0.2,),
    "RandomContrast": (0.2,),
    "RandomCrop": (8, 8),
    "RandomFlip": (),
    "RandomRotation": (0.1,),
    "RandomTranslation": (0.1, 0.1),
    "RandomZoom": (0.1,),
    "RandomHeight": (0.1,),
    "RandomWidth": (0.1,),
    "RandomColorDegeneration": (0.3,),
    "RandomColorJitter": (),
    "RandomElasticTransform": (),
    "RandomErasing": (),
    "RandomGaussianBlur": (),
    "RandomGrayscale": (),
    "RandomHue": (0.1,),
    "RandomInvert": (),
    "RandomPerspective": (),
    "RandomPosterization": (4,),
    "RandomSaturation": (0.2,),
    "RandomSharpness": (0.2,),
    "RandomShear": (0.1, 0.1),
    "RandAugment": (),
    "AugMix": (),
    "AutoContrast": (),
    "ContrastLimitedAdaptiveHistogramEqualization": (),
    "Solarization": (),
    "MixUp": (),
    "CutMix": (),
}
"""Augmentations and what they are given; at inference most of them do nothing."""
NEW_RANDOM = frozenset(list(RANDOM)[9:])
"""Those that Keras 3 alone has."""


def _wrappers() -> Iterator[Case]:
    distributed = lambda n, x: n.TimeDistributed(n.Dense(4, activation="relu"))(x)
    yield Case("TimeDistributed", "Dense", SIGNAL, distributed)
    frames = lambda n, x: n.TimeDistributed(n.Conv2D(3, 2))(x)
    yield Case("TimeDistributed", "Conv2D", FRAMES, frames)
    pipeline = lambda n, x: n.Pipeline([n.Rescaling(1 / 255), n.CenterCrop(8, 8)])(x)
    yield from only(NEW, Case("Pipeline", "", PIXELS, _conv_behind(pipeline)))


def _spectrograms() -> Iterator[Case]:
    stft = {"mode": "log", "frame_length": 64, "frame_step": 32, "fft_length": 64}
    yield from only(NEW, plain("STFTSpectrogram", MONO, "", **stft))
    mel = {"fft_length": 64, "sequence_stride": 32, "num_mel_bins": 8, "sampling_rate": 8000}
    yield from only(NEW, plain("MelSpectrogram", SOUND, "", **mel))
