"""Record what Keras 3, and Keras 2 for the same models, compute, for the tests of the Keras importer.

Needs TensorFlow with Keras 3 and tf_keras, which the package itself never does:

    pip install tensorflow-cpu keras tf_keras
    python scripts/record_keras_3.py [NAME ...]   # some models alone: others stay as they are recorded

Writes tests/convert/data/keras: each model as `NAME.keras` and `NAME.h5` (Keras 3) and `NAME.2.h5` and `NAME.2.keras`
(Keras 2), as far as the version has its layers, and `recorded.npz` with inputs and outputs under `FILE/in/INPUT` and
`FILE/out/NUMBER`. Weights are multiples of 1/16, and archives are packed, to be small.
"""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf
import tf_keras

DATA = Path(__file__).parent.parent / "tests" / "convert" / "data" / "keras"
Builder = Callable[[Any], Any]
BOTH: dict[str, Builder] = {}
THIRD: dict[str, Builder] = {}
SECOND: dict[str, Builder] = {}


def both(build: Builder) -> Builder:
    BOTH[build.__name__] = build
    return build


def third(build: Builder) -> Builder:
    THIRD[build.__name__] = build
    return build


def second(build: Builder) -> Builder:
    SECOND[build.__name__] = build
    return build


def flat(values: Any) -> list[Any]:
    """The leaves of lists within lists."""
    return [leaf for item in values for leaf in flat(item)] if isinstance(values, list | tuple) else [values]


@both
def recurrent(k: Any) -> Any:
    y, x = k.layers, k.Input((7, 5), name="x")
    outputs = [
        y.LSTM(3)(x),
        y.LSTM(3, return_sequences=True, use_bias=False)(x),
        *flat(y.LSTM(3, return_sequences=True, return_state=True, go_backwards=True)(x)),
        y.LSTM(3, recurrent_activation="hard_sigmoid", activation="relu", unroll=True)(x),
        y.LSTM(3, activation="gelu", return_sequences=True)(x),
        y.GRU(3, return_sequences=True)(x),
        y.GRU(3, reset_after=False)(x),
        y.GRU(3, use_bias=False, go_backwards=True, return_sequences=True, activation="softsign")(x),
        *flat(y.GRU(3, return_state=True, recurrent_activation="softplus", activation="elu")(x)),
        y.GRU(3, reset_after=False, activation="swish", return_sequences=True, go_backwards=True)(x),
        y.SimpleRNN(4)(x),
        y.SimpleRNN(4, return_sequences=True, activation="relu", use_bias=False)(x),
        y.SimpleRNN(4, activation="selu", return_sequences=True)(x),
    ]
    return k.Model(x, outputs)


@both
def bidirectional(k: Any) -> Any:
    y, x = k.layers, k.Input((6, 4), name="x")
    outputs = [
        y.Bidirectional(y.LSTM(3, return_sequences=True))(x),
        y.Bidirectional(y.GRU(3), merge_mode="sum")(x),
        y.Bidirectional(y.SimpleRNN(3, return_sequences=True), merge_mode="mul")(x),
        y.Bidirectional(y.LSTM(3), merge_mode="ave")(x),
        *flat(y.Bidirectional(y.GRU(3, return_sequences=True), merge_mode=None)(x)),
        *flat(y.Bidirectional(y.LSTM(3, return_state=True))(x)),
        y.Bidirectional(
            y.LSTM(3, return_sequences=True), backward_layer=y.GRU(2, return_sequences=True, go_backwards=True)
        )(x),
    ]
    return k.Model(x, outputs)


@both
def cells(k: Any) -> Any:
    y, x, start = k.layers, k.Input((6, 4), name="x"), k.Input((3,), name="start")
    stack = y.StackedRNNCells([y.LSTMCell(3), y.GRUCell(2), y.LSTMCell(4, use_bias=False)])
    outputs = [
        y.RNN(y.GRUCell(3, reset_after=False), return_sequences=True)(x),
        *flat(y.RNN(stack, return_sequences=True, return_state=True)(x)),
        y.RNN(y.SimpleRNNCell(3), go_backwards=True)(x),
        y.GRU(3, return_sequences=True)(x, initial_state=start),
        y.LSTM(3, return_sequences=True)(x, initial_state=[start, y.Dense(3, activation="tanh")(start)]),
        y.SimpleRNN(3, activation="gelu")(x, initial_state=start),
    ]
    return k.Model([x, start], outputs)


@both
def distributed(k: Any) -> Any:
    y, x = k.layers, k.Input((3, 6, 6, 2), name="x")
    words = k.Input((None, 4), name="words")
    frames = k.Sequential([y.Conv2D(3, 3, padding="same"), y.BatchNormalization(), y.GlobalMaxPooling2D()])
    outputs = [
        y.TimeDistributed(y.Conv2D(2, 3, activation="relu"))(x),
        y.LSTM(3)(y.TimeDistributed(frames)(x)),
        y.TimeDistributed(y.Dense(3, activation="softmax"))(words),
        y.TimeDistributed(y.TimeDistributed(y.Dense(2)))(x),
        y.GRU(2, return_sequences=True)(words),
    ]
    return k.Model([x, words], outputs)


@both
def masked(k: Any) -> Any:
    y = k.layers
    ids, x = k.Input((6,), name="ids", dtype="int32"), k.Input((6, 3), name="x")
    e = y.Embedding(9, 4, mask_zero=True)(ids)
    m = y.Masking(0.0)(x)
    both_ways = y.Bidirectional(y.LSTM(3, return_sequences=True))(e)
    outputs = [
        y.LSTM(3)(e),
        y.GRU(3, return_sequences=True)(m),
        y.GRU(3, return_sequences=True, go_backwards=True)(m),
        *flat(y.LSTM(3, return_sequences=True, return_state=True)(y.Dropout(0.1)(y.Dense(4, activation="tanh")(e)))),
        both_ways,
        y.Bidirectional(y.GRU(3))(both_ways),
        y.SimpleRNN(3)(y.Add()([e, y.Dense(4)(m)])),
        y.SimpleRNN(3)(y.Concatenate()([e, m])),
        y.LSTM(2)(y.TimeDistributed(y.Dense(3))(m)),
        y.GlobalAveragePooling1D()(y.LayerNormalization()(e)),
        y.LSTM(2)(y.Conv1D(3, 2, padding="same")(e)),
        y.RNN(y.StackedRNNCells([y.GRUCell(2), y.LSTMCell(3)]), return_sequences=True)(m),
        y.Flatten()(m),
    ]
    return k.Model([ids, x], outputs)


@both
def attention(k: Any) -> Any:
    y = k.layers
    q, v = k.Input((5, 6), name="q"), k.Input((7, 6), name="v")
    outputs = [
        y.MultiHeadAttention(2, 4)(q, v),
        y.MultiHeadAttention(2, 3, value_dim=5, use_bias=False, dropout=0.1)(q, v, key=v),
        y.MultiHeadAttention(3, 2)(q, q, use_causal_mask=True),
        *flat(y.MultiHeadAttention(2, 4)(q, v, return_attention_scores=True)),
        y.Attention()([q, v]),
        y.Attention(use_scale=True, score_mode="concat")([q, v]),
        *flat(y.Attention(use_scale=True)([q, v, v], return_attention_scores=True, use_causal_mask=True)),
        y.AdditiveAttention()([q, v]),
        y.AdditiveAttention(use_scale=False)([q, v, v]),
    ]
    return k.Model([q, v], outputs)


@both
def attention_masks(k: Any) -> Any:
    y = k.layers
    ids, other = k.Input((5,), name="ids", dtype="int32"), k.Input((4,), name="other", dtype="int32")
    seen = k.Input((5, 4), name="seen", dtype="bool")
    embed = y.Embedding(9, 6, mask_zero=True)

    def a() -> Any:  # anew for each, since MultiHeadAttention takes the mask off its inputs
        return embed(ids)

    def b() -> Any:
        return embed(other)

    x = a()
    outputs = [
        y.MultiHeadAttention(2, 3)(x, x),
        y.MultiHeadAttention(2, 3, dropout=0.2)(a(), b()),
        y.MultiHeadAttention(2, 3)(a(), b()),
        y.MultiHeadAttention(2, 3)(y.Dense(6)(a()), b(), use_causal_mask=True),
        y.MultiHeadAttention(2, 3)(y.Conv1D(6, 1)(a()), y.Conv1D(6, 1)(b()), attention_mask=seen),
        y.Attention()([a(), b()]),
        y.AdditiveAttention()([a(), b()]),
    ]
    return k.Model([ids, other, seen], outputs)


@both
def masked_transformer(k: Any) -> Any:
    """Two blocks. In Keras 3 the first MultiHeadAttention takes the mask away from the sum after it."""
    y, ids = k.layers, k.Input((5,), name="ids", dtype="int32")
    x = y.Embedding(9, 6, mask_zero=True)(ids)
    for _ in range(2):
        x = y.LayerNormalization()(y.Add()([x, y.Dropout(0.1)(y.MultiHeadAttention(2, 3)(x, x))]))
        x = y.Add()([x, y.Dense(6)(y.Dense(7, activation="relu")(x))])
    return k.Model(ids, [x, y.GlobalAveragePooling1D()(x), y.LSTM(3)(x)])


@third
def doubtful_masks(k: Any) -> Any:
    """Which attention comes first, and takes the mask, is up to Keras: refused."""
    y, ids = k.layers, k.Input((5,), name="ids", dtype="int32")
    x = y.Embedding(9, 6, mask_zero=True)(ids)
    return k.Model(ids, [y.MultiHeadAttention(2, 3)(x, x), y.MultiHeadAttention(2, 3)(x, x)])


@both
def transformer(k: Any) -> Any:
    y, ids = k.layers, k.Input((None,), name="ids", dtype="int32")
    x = y.Embedding(20, 8)(ids)
    for _ in range(2):
        x = y.LayerNormalization(epsilon=1e-6)(y.Add()([x, y.Dropout(0.1)(y.MultiHeadAttention(2, 4)(x, x))]))
        x = y.LayerNormalization(epsilon=1e-6)(y.Add()([x, y.Dense(8)(y.Dense(16, activation="gelu")(x))]))
    return k.Model(ids, y.Dense(3, activation="softmax")(y.GlobalAveragePooling1D()(x)))


@both
def lstm(k: Any) -> Any:
    y = k.layers
    layers = [
        k.Input((None,), name="ids"),
        y.Embedding(30, 6),
        y.Bidirectional(y.LSTM(5, return_sequences=True, dropout=0.2)),
        y.LSTM(6, recurrent_dropout=0.1),
        y.Dense(4, activation="softmax"),
    ]
    return k.Sequential(layers)


@both
def normalization(k: Any) -> Any:
    y, x = k.layers, k.Input((4, 5, 6), name="x")
    moved = y.Conv2D(6, 1)(x)
    outputs = [
        y.LayerNormalization()(moved),
        y.LayerNormalization(axis=[2, 3], epsilon=0.1)(moved),
        y.LayerNormalization(axis=1)(x),
        y.LayerNormalization(scale=False)(x),
        y.LayerNormalization(center=False, axis=[1, 2, 3])(moved),
        y.GroupNormalization(3)(moved),
        y.GroupNormalization(-1, scale=False)(x),
        y.GroupNormalization(2, axis=1, center=False)(x),
        y.UnitNormalization()(moved),
        y.UnitNormalization(axis=[1, 2])(moved),
        y.BatchNormalization()(moved),
        y.BatchNormalization(axis=1, scale=False)(moved),
        y.Rescaling(0.5, offset=1.0)(moved),
    ]
    if k is keras:
        outputs += [y.RMSNormalization()(moved), y.RMSNormalization(epsilon=0.1)(x)]
        outputs += [y.LayerNormalization(rms_scaling=True)(moved)]
    return k.Model(x, outputs)


@both
def products(k: Any) -> Any:
    y = k.layers
    a, b, row = k.Input((4, 6), name="a"), k.Input((5, 6), name="b"), k.Input((6,), name="row")
    ids = k.Input((3,), name="ids", dtype="int32")
    outputs = [
        y.Dot(axes=2)([a, b]),
        y.Dot(axes=(1, 2), normalize=True)([y.Permute((2, 1))(a), b]),
        y.Dot(axes=-1, normalize=True)([row, y.Dense(6)(row)]),
        y.Dot(axes=(2, 1))([a, row]),
        y.EinsumDense("abc,cd->abd", output_shape=(None, 3), bias_axes="d", activation="relu")(a),
        y.EinsumDense("...x,xyz->...yz", output_shape=(2, 3), bias_axes="yz")(a),
        y.EinsumDense("ab,bc->ac", output_shape=5)(row),
        y.Embedding(7, 3)(ids),
        y.CategoryEncoding(7, output_mode="multi_hot")(ids),
        y.CategoryEncoding(7, output_mode="count")(ids),
    ]
    return k.Model([a, b, row, ids], outputs)


@third
def activations(k: Any) -> Any:
    names = (
        *("celu", "elu", "exponential", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu"),
        *("linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink"),
        *("softmax", "softplus", "softsign", "squareplus", "swish", "tanh", "tanh_shrink"),
    )
    y, x = k.layers, k.Input((5, 6), name="x")
    outputs = [y.Activation(name, name=f"act_{name}")(x) for name in names]
    outputs += [y.LeakyReLU()(x), y.LeakyReLU(negative_slope=0.05)(x), y.ELU(0.7)(x), y.PReLU(shared_axes=[1])(x)]
    outputs += [y.ReLU(6.0, 0.2, 0.5)(x), y.Softmax(axis=1)(x), y.Dense(3, activation=y.LeakyReLU(0.1))(x)]
    outputs += [y.Dense(3, activation=k.activations.gelu)(x)]
    return k.Model(x, outputs)


@third
def operations(k: Any) -> Any:
    y, o = k.layers, k.ops
    x, ids = k.Input((4, 6), name="x"), k.Input((4,), name="ids", dtype="int32")
    z = y.Dense(6)(x)
    row = z[:, 1]
    outputs = [
        x + z, x - 2.0, 3.0 - x, x * z, x / 4, 1 / (o.abs(x) + 1), -x, x**2, o.maximum(x, 0.5), o.minimum(x, z),
        o.exp(x), o.log(o.abs(x) + 1), o.sqrt(o.abs(x)), o.rsqrt(o.square(x) + 1), o.sin(x), o.cos(x), o.tanh(x),
        o.erf(x), o.floor(x), o.ceil(x), o.sign(x), o.relu(x), o.relu6(x), o.sigmoid(x), o.silu(x), o.softplus(x),
        o.gelu(x), o.gelu(x, approximate=False), o.leaky_relu(x), o.hard_sigmoid(x), o.elu(x), o.selu(x),
        o.softmax(x), o.softmax(x, axis=1), o.log_softmax(x), o.clip(x, -0.5, 0.25), o.mean(z, axis=-1),
        o.sum(x, axis=(1, 2)), o.max(x, axis=1, keepdims=True), o.min(x, axis=-1), o.prod(x, axis=1), row,
        z[:, ::-2, 1:-1], z[..., 0], x[:, -1], z[:, None], o.reshape(z, (-1, 24)), o.transpose(z, (0, 2, 1)),
        o.expand_dims(x, -1), o.squeeze(o.expand_dims(z, 1), 1), o.concatenate([x, z], axis=1), o.stack([x, z], axis=1),
        o.matmul(x, o.transpose(z, (0, 2, 1))), z[:, :1] + x, x * np.float32([1, 2, 3, 4, 5, 6]),
        o.cast(x > z, "float32"), o.cast(o.not_equal(ids, 0), "float32"), ids + 1, ids * 2.5,
        o.cast(o.logical_and(x >= 0, o.logical_not(z < 0.5)), "int32"), o.any(x > 1.0, axis=-1),
        o.all(x > -1.0, axis=1),
    ]  # fmt: skip
    return k.Model([x, ids], outputs)


@second
def tf_operations(k: Any) -> Any:
    y = k.layers
    x = k.Input((4, 6), name="x")
    z = y.Dense(6)(x)
    outputs = [
        x + z, x - 2.0, 3.0 - x, x * z, x / 4.0, tf.nn.relu(x), tf.nn.sigmoid(x), tf.tanh(x), tf.nn.gelu(x),
        tf.nn.softmax(x), tf.nn.silu(x), tf.square(x), tf.sqrt(tf.abs(x)), tf.exp(x),
        tf.maximum(x, z), tf.minimum(x, 0.5),
        tf.reduce_mean(z, axis=-1), tf.reduce_sum(x, axis=[1, 2]), tf.reduce_max(x, axis=1, keepdims=True),
        z[:, 1], z[:, ::-2, 1:-1], x[:, -1], tf.reshape(z, (-1, 24)), tf.transpose(z, (0, 2, 1)),
        tf.expand_dims(x, -1), tf.concat([x, z], axis=1), tf.stack([x, z], axis=1),
        tf.linalg.matmul(x, tf.transpose(z, (0, 2, 1))),
        tf.clip_by_value(x, -0.5, 0.25), tf.nn.relu6(x), tf.math.rsqrt(tf.square(z) + 1.0), tf.cast(x, tf.int32),
    ]  # fmt: skip
    return k.Model(x, outputs)


@third
def grouped_attention(k: Any) -> Any:
    y, q, v = k.layers, k.Input((5, 6), name="q"), k.Input((7, 6), name="v")
    outputs = [
        y.GroupQueryAttention(3, 4, 2)(q, v),
        y.GroupQueryAttention(2, 2, 1, use_bias=False)(q, q, use_causal_mask=True),
    ]
    return k.Model([q, v], outputs)


@third
def windows(k: Any) -> Any:
    y, x = k.layers, k.Input((9, 8, 4), name="x")
    each = [
        y.Conv2D(3, 3, padding="same", strides=2, activation="relu"),
        y.Conv2D(6, (3, 2), dilation_rate=2, groups=2),
        y.DepthwiseConv2D(3, padding="same", strides=2, depth_multiplier=2),
        y.SeparableConv2D(5, 3, padding="same"),
        y.Conv2DTranspose(3, 3, strides=2, padding="same"),
        y.Conv2DTranspose(3, (2, 4), strides=(3, 2), output_padding=1),
        y.MaxPooling2D(3, strides=2, padding="same"),
        y.AveragePooling2D(3, strides=2, padding="same"),
        y.GlobalAveragePooling2D(keepdims=True),
        y.UpSampling2D((2, 3), interpolation="bilinear"),
        y.ZeroPadding2D(((0, 1), (2, 3))),
        y.Cropping2D(((0, 2), (1, 0))),
        y.PReLU(shared_axes=[1, 2]),
        y.Reshape((8, -1)),
        y.Permute((3, 1, 2)),
        y.Flatten(),
        y.RandomFlip(),
        y.SpatialDropout2D(0.2),
        y.Normalization(mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 4.0, 0.25, 1.0]),
    ]
    return k.Model(x, [layer(x) for layer in each])


@both
def nested(k: Any) -> Any:
    """Models within models, one called twice, some layers frozen; shared layers; dicts of inputs and outputs."""
    y = k.layers
    inside = k.Input((6, 6, 4), name="inner_in")
    block = k.Sequential([y.Conv2D(4, 3, padding="same"), y.BatchNormalization(), y.Conv2D(4, 1)], name="block")
    z = y.Conv2D(4, 1, name="first")(inside)
    inner = k.Model(inside, [y.Add()([block(z), inside]), y.GlobalMaxPooling2D()(z)], name="inner")
    a, b = k.Input((6, 6, 4), name="a"), k.Input((6, 6, 4), name="b")
    (p, p_row), (q, q_row) = inner(a), inner(b)
    shared = y.Dense(3, name="shared")
    head = k.Sequential([y.Dense(5, activation="relu"), y.Dense(2)], name="head")
    outputs = {"one": shared(p_row), "two": shared(q_row), "product": y.Multiply()([p, q]), "head": head(p_row)}
    built = k.Model({"a": a, "b": b}, outputs)
    inner.get_layer("first").trainable = False
    return built


@both
def mobilenet_v2(k: Any) -> Any:
    return k.applications.MobileNetV2((32, 32, 3), alpha=0.05, weights=None, classes=5, include_top=True)


@both
def resnet50(k: Any) -> Any:
    """ResNet50's graph with a sixteenth of its channels."""
    y = k.layers

    def block(x: Any, width: int, stride: int, name: str, *, shortcut: bool) -> Any:
        short = x
        if shortcut:
            short = y.BatchNormalization(epsilon=1.001e-5)(
                y.Conv2D(4 * width, 1, strides=stride, name=f"{name}_0_conv")(x)
            )
        x = y.ReLU()(y.BatchNormalization(epsilon=1.001e-5)(y.Conv2D(width, 1, strides=stride)(x)))
        x = y.ReLU()(y.BatchNormalization(epsilon=1.001e-5)(y.Conv2D(width, 3, padding="same")(x)))
        x = y.BatchNormalization(epsilon=1.001e-5)(y.Conv2D(4 * width, 1)(x))
        return y.ReLU(name=f"{name}_out")(y.Add(name=f"{name}_add")([short, x]))

    image = k.Input((32, 32, 3), name="image")
    x = y.Conv2D(4, 7, strides=2, name="conv1_conv")(y.ZeroPadding2D(3)(image))
    x = y.MaxPooling2D(3, strides=2)(y.ZeroPadding2D(1)(y.ReLU()(y.BatchNormalization(epsilon=1.001e-5)(x))))
    for stage, (width, count) in enumerate(((2, 3), (4, 4), (8, 6), (16, 3)), 2):
        for i in range(count):
            x = block(x, width, 2 if i == 0 and stage > 2 else 1, f"conv{stage}_block{i + 1}", shortcut=i == 0)
    return k.Model(image, y.Dense(10, activation="softmax")(y.GlobalAveragePooling2D()(x)))


@both
def pictures(k: Any) -> Any:
    y, x = k.layers, k.Input((9, 12, 3), name="x")
    first = {"data_format": "channels_first"}
    outputs = [
        *(y.Resizing(*size, interpolation=kind)(x) for kind in ("bilinear", "nearest") for size in [(5, 7), (18, 31)]),
        y.Dense(2)(y.Resizing(4, 9)(x)),
        y.CenterCrop(4, 7)(x),
        y.Conv2D(2, 3)(y.CenterCrop(9, 11)(x)),
        y.Discretization(bin_boundaries=[-1.0, -0.25, 0.5, 2.0])(x),
    ]
    if k is keras:
        outputs += [y.Resizing(6, 2, **first)(x), y.CenterCrop(5, 3, **first)(x)]
    return k.Model(x, outputs)


@both
def mixed(k: Any) -> Any:
    k.mixed_precision.set_global_policy("mixed_float16")
    y, x, ids = k.layers, k.Input((12, 12, 3), name="x"), k.Input((6,), name="ids", dtype="int32")
    z = y.BatchNormalization()(y.Conv2D(6, 3, activation="relu")(x))
    z = y.Dense(5, activation="tanh")(y.GlobalAveragePooling2D()(y.SeparableConv2D(8, 3, padding="same")(z)))
    words = y.LSTM(4)(y.LayerNormalization()(y.Embedding(9, 5)(ids)))
    outputs = [y.Dense(3, activation="softmax", dtype="float32")(y.Concatenate()([z, words])), words]
    k.mixed_precision.set_global_policy("float32")
    return k.Model([x, ids], outputs)


@third
def adaptive(k: Any) -> Any:
    y, x = k.layers, k.Input((7, 10, 4), name="x")
    line, box = y.Reshape((28, 10))(x), y.Reshape((7, 5, 4, 2))(x)
    outputs = []
    for kind in ("Average", "Max"):
        one, two, three = (getattr(y, f"Adaptive{kind}Pooling{rank}D") for rank in (1, 2, 3))
        outputs += [one(5)(line), one(28)(line), one(7)(line), two((3, 4))(x), two(2)(x), two((1, 10))(x)]
        outputs += [two((3, 3), data_format="channels_first")(x), three((2, 3, 4))(box)]
    return k.Model(x, outputs)


@third
def augmentations(k: Any) -> Any:
    y, x = k.layers, k.Input((8, 8, 3), name="x")
    kinds = ["AugMix", "CutMix", "MixUp", "RandAugment", "RandomColorJitter", "RandomElasticTransform"]
    kinds += ["RandomErasing", "RandomGaussianBlur", "RandomPerspective", "RandomShear", "RandomGrayscale"]
    factors = ["RandomColorDegeneration", "RandomHue", "RandomInvert", "RandomSaturation", "RandomSharpness"]
    outputs = [getattr(y, kind)()(x) for kind in kinds] + [getattr(y, kind)(0.5)(x) for kind in factors]
    return k.Model(x, [*outputs, y.RandomPosterization(4)(x)])


def layers(k: Any) -> list[str]:
    """The names that a file has for the layers of a Keras: aliases are the classes they stand for."""
    kinds = (kind for kind in vars(k.layers).values() if isinstance(kind, type) and issubclass(kind, k.layers.Layer))
    return sorted({kind.__name__ for kind in kinds})


def randomise(net: Any, rng: np.random.Generator) -> None:
    """Multiples of 1/16 that leave nothing at zero or one; variances positive."""
    for weight in net.weights:
        if "seed" in weight.name or str(weight.dtype).startswith("uint"):
            continue
        shape = tuple(weight.shape)
        fan_in = max(1, int(np.prod(shape[:-1])))
        values = rng.normal(0, max(1 / np.sqrt(fan_in), 1 / 8) if len(shape) > 1 else 0.5, shape)
        if any(word in weight.name for word in ("variance", "gamma")):
            values = rng.uniform(0.5, 1.5, shape)
        weight.assign(np.round(values * 16) / 16)


def inputs_of(net: Any, rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    made = {}
    for tensor in net.inputs:
        name = tensor.name.split(":")[0] if not hasattr(tensor, "_keras_history") else tensor._keras_history[0].name
        shape = [3 if i == 0 else 8 if dim is None else dim for i, dim in enumerate(tensor.shape)]
        kind = np.dtype(tensor.dtype if isinstance(tensor.dtype, str) else tensor.dtype.as_numpy_dtype)
        if name in ("ids", "other"):
            values = rng.integers(1, 7, shape)
            values[1, 3:], values[2, 1:3] = 0, 0
        else:
            values = rng.random(shape) < 0.6 if kind.kind == "b" else rng.normal(0, 1, shape)
        if name == "seen":
            values[..., 0] = True
        if name == "x" and len(shape) == 3:
            values[1, shape[1] - 2 :], values[2, 0] = 0, 0
        made[name] = values.astype(kind)
    return made


def record(k: Any, name: str, build: Builder, arrays: dict[str, Any]) -> None:
    k.backend.clear_session()
    k.utils.set_random_seed(1)
    rng = np.random.default_rng(len(name))
    net = build(k)
    randomise(net, rng)
    inputs = inputs_of(net, rng)
    given = list(inputs.values())
    made = net(inputs if name == "nested" else given[0] if len(given) == 1 else given, training=False)
    outputs = [np.asarray(y) for y in (made.values() if isinstance(made, dict) else flat(made))]
    files = [f"{name}.keras" if k is keras else f"{name}.2.keras"]
    if name in ("nested", "lstm", "cells", "attention"):  # HDF5 takes much room: for some suffices
        files.append(files[0].replace(".keras", ".h5"))
    for file in files:
        net.save(DATA / file, include_optimizer=False) if file.endswith("h5") else net.save(DATA / file)
    pack(DATA / files[0])
    key = name if k is keras else f"{name}.2"
    arrays |= {f"{key}/in/{input_name}": value for input_name, value in inputs.items()}
    arrays |= {f"{key}/out/{i}": value for i, value in enumerate(outputs)}


def pack(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def main() -> None:
    DATA.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {}
    wanted = sys.argv[1:]
    if wanted:
        with np.load(DATA / "recorded.npz") as before:
            arrays = {key: before[key] for key in before.files}
    for name, build in (BOTH | THIRD).items():
        if not wanted or name in wanted:
            record(keras, name, build, arrays)
    for name, build in (BOTH | SECOND).items():
        if name not in ("mobilenet_v2", "resnet50") and (not wanted or name in wanted):
            record(tf_keras, name, build, arrays)
    listed = {"keras": layers(keras), "tf_keras": layers(tf_keras)}
    (DATA / "layers.json").write_text(json.dumps(listed, indent=0) + "\n", encoding="utf-8")
    np.savez_compressed(DATA / "recorded.npz", **arrays)


if __name__ == "__main__":
    main()
