"""Record what real Keras 2 computes, for the tests of the Keras importer.

Needs TensorFlow with Keras 2, which the package itself never does:

    pip install tensorflow-cpu tf_keras pillow
    python scripts/record_keras.py [--emotion emotion.hdf5 --astronaut astronaut.png]

Writes tests/convert/data: for each model `NAME.h5`, and `recorded.npz` with its inputs and outputs under
`NAME/in/INPUT` and `NAME/out/NUMBER`, float32 (or what the input is); and to `emotion.npz` what the zoo's
emotion model answers.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tf_keras as keras

layers = keras.layers
Builder = Callable[[], Any]
DATA = Path(__file__).parent.parent / "tests" / "convert" / "data"
MODELS: dict[str, Builder] = {}


def model(build: Builder) -> Builder:
    MODELS[build.__name__] = build
    return build


def fan(shape: tuple[int | None, ...], *each: Any, name: str) -> Any:
    """One input, and one output for each layer on it."""
    x = keras.Input(shape, name="x")
    return keras.Model(x, [layer(x) for layer in each], name=name)


@model
def conv1d() -> Any:
    y = layers
    return fan(
        (11, 4),
        y.Conv1D(3, 3),
        y.Conv1D(3, 4, padding="same", strides=2, activation="relu"),
        y.Conv1D(3, 3, padding="causal", dilation_rate=2, use_bias=False),
        y.Conv1D(3, 2, padding="causal", strides=2),
        y.Conv1D(6, 3, padding="same", dilation_rate=3, groups=2),
        y.SeparableConv1D(5, 3, padding="same", strides=2, depth_multiplier=2, activation="tanh"),
        y.SeparableConv1D(5, 3, padding="causal"),
        y.DepthwiseConv1D(3, strides=2, padding="same", depth_multiplier=2),
        y.Conv1DTranspose(3, 3, strides=2, padding="same"),
        y.Conv1DTranspose(3, 2, strides=3, padding="valid"),
        name="conv1d",
    )


@model
def pool1d() -> Any:
    y = layers
    return fan(
        (11, 4),
        y.MaxPooling1D(3),
        y.MaxPooling1D(2, strides=1, padding="same"),
        y.AveragePooling1D(3, strides=2, padding="same"),
        y.GlobalAveragePooling1D(),
        y.GlobalMaxPooling1D(keepdims=True),
        y.ZeroPadding1D((1, 2)),
        y.Cropping1D((2, 1)),
        y.UpSampling1D(3),
        y.BatchNormalization(),
        y.PReLU(shared_axes=[1]),
        name="pool1d",
    )


@model
def conv2d() -> Any:
    y = layers
    return fan(
        (11, 14, 4),
        y.Conv2D(3, 3, name="valid"),
        y.Conv2D(3, 3, padding="same", strides=2, activation="relu", name="odd_same"),
        y.Conv2D(3, (4, 2), padding="same", strides=(3, 2), use_bias=False, name="even_same"),
        y.Conv2D(3, (1, 5), padding="same", strides=2, activation="softmax", name="wide_same"),
        y.Conv2D(3, 1, padding="same", strides=3, name="pointwise"),
        y.Conv2D(3, 3, padding="same", dilation_rate=(2, 3), name="dilated"),
        y.Conv2D(6, 3, groups=2, activation="swish", name="grouped"),
        y.DepthwiseConv2D(3, padding="same", strides=2, name="depthwise"),
        y.DepthwiseConv2D((2, 3), depth_multiplier=3, activation="elu", name="multiplied"),
        y.DepthwiseConv2D(3, padding="same", dilation_rate=2, use_bias=False, name="depthwise_dilated"),
        y.SeparableConv2D(5, 3, padding="same", strides=2, activation="relu", name="separable"),
        y.SeparableConv2D(5, 3, dilation_rate=2, depth_multiplier=2, use_bias=False, name="separable_dilated"),
        name="conv2d",
    )


@model
def conv2d_transpose() -> Any:
    y = layers.Conv2DTranspose
    return fan(
        (5, 6, 4),
        y(3, 3, name="valid"),
        y(3, 3, padding="same", strides=2, activation="relu", name="same"),
        y(3, 4, padding="same", strides=2, use_bias=False, name="even"),
        y(3, 2, padding="same", strides=3, name="gap_same"),
        y(3, 2, padding="valid", strides=3, name="gap_valid"),
        y(3, (3, 5), padding="valid", strides=(2, 3), output_padding=(1, 2), name="extra_valid"),
        y(3, (3, 4), padding="same", strides=(2, 3), output_padding=(1, 1), name="extra_same"),
        y(3, 3, padding="same", dilation_rate=2, name="dilated"),
        name="conv2d_transpose",
    )


@model
def pool2d() -> Any:
    y = layers
    return fan(
        (11, 14, 4),
        y.MaxPooling2D(),
        y.MaxPooling2D(3, strides=2, padding="same"),
        y.MaxPooling2D((2, 3), strides=(1, 2), padding="same"),
        y.AveragePooling2D((3, 2)),
        y.AveragePooling2D(3, strides=2, padding="same"),
        y.AveragePooling2D((4, 2), strides=(3, 1), padding="same"),
        y.GlobalAveragePooling2D(),
        y.GlobalAveragePooling2D(keepdims=True),
        y.GlobalMaxPooling2D(),
        name="pool2d",
    )


@model
def resize2d() -> Any:
    y = layers
    return fan(
        (5, 6, 4),
        y.ZeroPadding2D(2),
        y.ZeroPadding2D((1, 2)),
        y.ZeroPadding2D(((0, 1), (2, 3))),
        y.Cropping2D(1),
        y.Cropping2D(((0, 2), (1, 0))),
        y.UpSampling2D(),
        y.UpSampling2D((3, 2), interpolation="nearest"),
        y.UpSampling2D((2, 3), interpolation="bilinear"),
        name="resize2d",
    )


@model
def conv3d() -> Any:
    x = keras.Input((5, 6, 7, 2))
    y = layers.Conv3D(3, 3, padding="same", strides=(1, 2, 2), activation="relu")(x)
    return keras.Model(
        x,
        [
            layers.MaxPooling3D(2, padding="same")(y),
            layers.AveragePooling3D((1, 2, 2), padding="same")(y),
            layers.GlobalAveragePooling3D()(y),
            layers.GlobalMaxPooling3D(keepdims=True)(y),
            layers.Conv3DTranspose(2, 2, strides=2)(y),
            layers.UpSampling3D((1, 2, 1))(layers.Cropping3D(((0, 1), 1, 0))(layers.ZeroPadding3D(1)(y))),
            layers.Flatten()(layers.SpatialDropout3D(0.3)(y)),
        ],
    )


@model
def batch_normalization() -> Any:
    y = layers.BatchNormalization
    x = keras.Input((5, 6, 4), name="x")
    row = layers.GlobalAveragePooling2D()(x)
    outputs = [
        y(name="all")(x),
        y(center=False, epsilon=0.1, name="no_center")(x),
        y(scale=False, name="no_scale")(x),
        y(center=False, scale=False, name="neither")(x),
        y(axis=1, name="axis_1")(x),
        y(axis=2, scale=False, name="axis_2")(x),
        y(axis=[1, 3], name="axes")(x),
        y(name="row")(row),
        y(axis=2, name="moved_axis_2")(layers.Conv2D(2, 1)(x)),
    ]
    return keras.Model(x, outputs)


@model
def activations() -> Any:
    names = (
        "elu",
        "exponential",
        "gelu",
        "hard_sigmoid",
        "linear",
        "mish",
        "relu",
        "selu",
        "sigmoid",
        "softmax",
        "softplus",
        "softsign",
        "swish",
        "tanh",
    )
    x = keras.Input((5, 6), name="x")
    outputs = [layers.Activation(name, name=name)(x) for name in names]
    outputs += [layers.Dense(3, activation=layers.LeakyReLU(0.1), name="layer_as_activation")(x)]
    outputs += [layers.Dense(3, activation="silu", name="silu")(x)]
    return keras.Model(x, outputs)


@model
def activation_layers() -> Any:
    y = layers
    x = keras.Input((4, 5, 3), name="x")
    moved = y.Conv2D(3, 1, name="conv")(x)
    each = [
        y.ReLU(),
        y.ReLU(6.0),
        y.ReLU(max_value=1.5, negative_slope=0.2),
        y.ReLU(threshold=0.5),
        y.ReLU(max_value=1.0, negative_slope=0.3, threshold=0.25),
        y.ReLU(max_value=1.0, threshold=0.5),
        y.ReLU(negative_slope=0.3, threshold=0.25),
        y.LeakyReLU(),
        y.LeakyReLU(0.05),
        y.ELU(0.7),
        y.ThresholdedReLU(0.4),
        y.PReLU(),
        y.PReLU(shared_axes=[1, 2]),
        y.Softmax(),
        y.Softmax(axis=1),
        y.Softmax(axis=[1, 2]),
    ]
    return keras.Model(x, [layer(moved) for layer in each])


@model
def merges() -> Any:
    y = layers
    a, b = keras.Input((4, 5, 3), name="a"), keras.Input((4, 5, 3), name="b")
    moved, row = y.Conv2D(3, 1)(a), keras.Input((3,), name="row")
    gate = y.Reshape((1, 1, 3))(row)
    outputs = [
        y.Add()([a, b, moved]),
        y.Subtract()([a, b]),
        y.Multiply()([moved, gate]),
        y.Average()([a, b, moved]),
        y.Maximum()([moved, b, a]),
        y.Minimum()([a, b]),
        y.Add()([moved, row]),
        y.Concatenate()([moved, b]),
        y.Concatenate(axis=1)([a, moved, b]),
        y.Concatenate(axis=-2)([a, b]),
    ]
    return keras.Model([a, b, row], outputs)


@model
def shapes() -> Any:
    y = layers
    x, row = keras.Input((4, 5, 6), name="x"), keras.Input((6,), name="row")
    moved = y.Conv2D(6, 1, name="conv")(x)
    outputs = [
        y.Flatten()(moved),
        y.Flatten(data_format="channels_first")(moved),
        y.Flatten()(row),
        y.Reshape((10, -1))(moved),
        y.Reshape((2, 2, 30))(x),
        y.Reshape((-1,))(moved),
        y.Permute((3, 1, 2))(moved),
        y.Permute((2, 1, 3))(moved),
        y.RepeatVector(3)(row),
        y.Dense(3, activation="softmax", name="dense_4")(moved),
        y.Dense(3, use_bias=False, name="dense_3")(y.Reshape((20, 6))(moved)),
        y.Dense(3, activation="relu", name="dense_2")(row),
        y.Dense(2, name="dense_flat")(y.Flatten()(moved)),
    ]
    return keras.Model([x, row], outputs)


@model
def scaling() -> Any:
    y = layers
    x = keras.Input((4, 5, 3), name="x")
    moved = y.Conv2D(3, 1)(x)
    each = [
        y.Rescaling(1 / 127.5, offset=-1),
        y.Rescaling([0.5, 0.25, 2.0], offset=[1.0, 2.0, 3.0]),
        y.Normalization(),
        y.Normalization(axis=None),
        y.Normalization(axis=(1, 3)),
        y.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 4.0, 0.25]),
        y.Normalization(mean=2.0, variance=9.0, invert=True),
    ]
    data = np.random.default_rng(5).normal(1, 2, (20, 4, 5, 3)).astype(np.float32)
    for layer in each[2:5]:
        layer.adapt(data)
    built = keras.Model(x, [layer(moved) for layer in each])
    return built, "keep"


@model
def sequential() -> Any:
    y = layers
    return keras.Sequential(
        [
            y.Conv2D(6, 3, padding="same", activation="relu", input_shape=(12, 12, 3)),
            y.GaussianNoise(0.3),
            y.BatchNormalization(),
            y.SpatialDropout2D(0.2),
            y.MaxPooling2D(),
            y.RandomFlip("horizontal"),
            y.RandomBrightness(0.2),
            y.RandomContrast(0.2),
            y.RandomRotation(0.2),
            y.RandomTranslation(0.2, 0.1),
            y.RandomZoom(0.2),
            y.Conv2D(8, 3, strides=2, padding="same"),
            y.LeakyReLU(0.1),
            y.GaussianDropout(0.1),
            y.AlphaDropout(0.1),
            y.ActivityRegularization(0.1),
            y.Flatten(),
            y.Dropout(0.5),
            y.Dense(10, activation="softmax"),
        ],
        name="sequential",
    )


@model
def nested() -> Any:
    """Models within models, one of them called twice, some layers frozen; shared layers; several ends."""
    y = layers
    inner_in = keras.Input((6, 6, 4), name="inner_in")
    block = keras.Sequential([y.Conv2D(4, 3, padding="same", name="c"), y.BatchNormalization(name="n")], name="block")
    z = y.Conv2D(4, 1, name="first")(inner_in)
    z = y.Add()([block(z), inner_in])
    inner = keras.Model(inner_in, [y.Conv2D(4, 1, name="last")(z), y.GlobalMaxPooling2D()(z)], name="inner")
    a, b = keras.Input((6, 6, 4), name="a"), keras.Input((6, 6, 4), name="b")
    (p, p_row), (q, q_row) = inner(a), inner(b)
    shared = y.Dense(3, name="shared")
    head = keras.Sequential([y.Dense(5, activation="relu", input_shape=(4,)), y.Dense(2)], name="head")
    built = keras.Model({"a": a, "b": b}, [shared(p_row), shared(q_row), y.Multiply()([p, q]), head(p_row), block(b)])
    inner.get_layer("first").trainable = False
    block.get_layer("n").trainable = False
    return built


@model
def squeeze_excite() -> Any:
    """MobileNetV3's block: layouts must meet without transposes."""
    y = layers
    x = keras.Input((12, 12, 3), name="image")
    z = y.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    z = y.BatchNormalization()(z)
    gate = y.Reshape((1, 1, 8))(y.GlobalAveragePooling2D()(z))
    gate = y.Conv2D(8, 1, activation="hard_sigmoid")(y.Conv2D(4, 1, activation="relu")(gate))
    z = y.Multiply()([z, gate])
    z = y.DepthwiseConv2D(3, padding="same")(y.ZeroPadding2D(((0, 1), (0, 1)))(z))
    z = y.Concatenate()([z, y.Conv2D(8, 1)(z)])
    z = y.Conv2D(5, 1)(y.Dropout(0.2)(y.Reshape((1, 1, 16))(y.GlobalMaxPooling2D()(z))))
    return keras.Model(x, y.Softmax()(y.Flatten()(z)))


@model
def open_size() -> Any:
    """Height and width unknown, so SAME padding has to be found when the model runs."""
    y = layers
    x = keras.Input((None, None, 3), name="x")
    z = y.Conv2D(4, 3, strides=2, padding="same", activation="relu")(x)
    outputs = [
        y.Conv2D(4, 3, padding="same", dilation_rate=2)(z),
        y.MaxPooling2D(3, strides=2, padding="same")(z),
        y.AveragePooling2D(3, strides=2, padding="same")(z),
        y.Conv2DTranspose(2, 4, strides=2, padding="same")(z),
        y.UpSampling2D(2)(z),
        y.Cropping2D(1)(z),
        y.GlobalAveragePooling2D()(z),
        y.Reshape((-1, 4))(z),
        y.Concatenate()([z, z]),
    ]
    return keras.Model(x, outputs)


@model
def integers() -> Any:
    y = layers
    x, ids = keras.Input((4, 4, 3), name="x", dtype="uint8"), keras.Input((3,), name="ids", dtype="int32")
    wide = keras.Input((3,), name="wide", dtype="float64")
    pixels = y.Conv2D(2, 3)(y.Rescaling(1 / 255)(x))
    return keras.Model([x, ids, wide], [pixels, y.Dense(2)(y.Flatten()(ids)), y.ReLU()(wide), y.Reshape((3, 1))(ids)])


@model
def edges() -> Any:
    """Outputs that are inputs, or the same tensor twice; a batch of fixed size."""
    y = layers
    x = keras.Input((4, 4, 3), batch_size=2, name="x")
    z = y.Conv2D(3, 1, name="conv")(x)
    return keras.Model(x, [y.Dropout(0.1, name="rest")(z), z, x, y.Flatten(name="flat")(z)])


@model
def channels_first() -> Any:
    """TensorFlow cannot run it on a CPU: recorded from the channels-last twin, see `twin`."""
    return _either("channels_last")


def _either(data_format: str) -> Any:
    y, axis = layers, -1 if data_format == "channels_last" else 1
    f = {"data_format": data_format}
    x = keras.Input((9, 8, 4) if axis == -1 else (4, 9, 8), name="x")
    z = y.Conv2D(6, 3, padding="same", strides=2, **f)(x)
    z = y.BatchNormalization(axis=axis)(z)
    z = y.DepthwiseConv2D(3, padding="same", **f)(z)
    z = y.ReLU()(z)
    z = y.Concatenate(axis=axis)([z, y.SeparableConv2D(2, 3, padding="same", **f)(z)])
    z = y.ZeroPadding2D(1, **f)(z)
    z = y.AveragePooling2D(2, padding="same", **f)(z)
    z = y.UpSampling2D(2, **f)(z)
    z = y.Cropping2D(1, **f)(z)
    z = y.Conv2DTranspose(4, 3, strides=2, padding="same", **f)(z)
    outputs = [y.GlobalAveragePooling2D(**f)(z), y.Flatten(**f)(z), y.MaxPooling2D(**f)(z)]
    return keras.Model(x, outputs)


def randomise(net: Any, rng: np.random.Generator) -> None:
    """Weights that leave nothing at zero or one; variances positive."""
    for weight in net.weights:
        shape = weight.shape
        fan_in = max(1, int(np.prod(shape[:-1])))
        values = rng.normal(0, 1 / np.sqrt(fan_in) if len(shape) > 1 else 0.5, shape)
        if any(word in weight.name for word in ("variance", "gamma")):
            values = rng.uniform(0.5, 1.5, shape)
        weight.assign(values.astype(np.float32))


def inputs_of(net: Any, rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    made = {}
    for tensor in net.inputs:
        shape = [2 if i == 0 else 9 + i if dim is None else dim for i, dim in enumerate(tensor.shape)]
        dtype = tensor.dtype.as_numpy_dtype
        integers = rng.integers(0, 255, shape) if dtype == np.uint8 else rng.integers(-9, 9, shape)
        made[tensor.name] = (rng.normal(0, 1, shape) if np.issubdtype(dtype, np.floating) else integers).astype(dtype)
    return made


def record(name: str, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    keras.backend.clear_session()
    rng = np.random.default_rng(sorted(MODELS).index(name))
    built = MODELS[name]()
    net, keep = built if isinstance(built, tuple) else (built, None)
    if not keep:
        randomise(net, rng)
    inputs = inputs_of(net, rng)
    ordered = [inputs[tensor.name] for tensor in net.inputs]
    outputs = net(inputs if isinstance(net.input, dict) else ordered, training=False)
    outputs = [np.asarray(y) for y in (outputs if isinstance(outputs, list) else [outputs])]
    if name == "channels_first":
        net, inputs, outputs = twin(net, inputs, outputs)
    net.save(DATA / f"{name}.h5", include_optimizer=False)
    arrays |= {f"{name}/in/{key}": value for key, value in inputs.items()}
    arrays |= {f"{name}/out/{i}": value for i, value in enumerate(outputs)}


def twin(net: Any, inputs: Any, outputs: Any) -> Any:
    """The channels-first model with the same weights, and its inputs and outputs."""
    keras.backend.clear_session()
    other = _either("channels_first")
    other.set_weights(net.get_weights())

    def turn(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.moveaxis(array, -1, 1) if array.ndim == 4 else array

    return other, {key: turn(value) for key, value in inputs.items()}, list(map(turn, outputs))


def record_emotion(model_path: Path, photograph: Path) -> None:
    """Keras's answers to a seeded input, and to the face as `sardonyx.zoo.emotion` cuts it out."""
    from PIL import Image

    net = keras.models.load_model(model_path, compile=False)
    noise = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 1)).astype(np.float32)
    with Image.open(photograph) as picture:
        grey = picture.convert("RGB").crop((154, 44, 294, 184)).convert("L")
    pixels = np.asarray(grey.resize((64, 64), Image.Resampling.BILINEAR), np.float32) / np.float32(255)
    face = ((pixels - np.float32(0.5)) * np.float32(2)).reshape(1, 64, 64, 1)
    answers = {"noise": np.asarray(net(noise, training=False)), "face": np.asarray(net(face, training=False))}
    np.savez_compressed(DATA / "emotion.npz", **answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--emotion", type=Path)
    parser.add_argument("--astronaut", type=Path)
    arguments = parser.parse_args()
    DATA.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for name in MODELS:
        record(name, arrays)
    np.savez_compressed(DATA / "recorded.npz", **arrays)
    if arguments.emotion and arguments.astronaut:
        record_emotion(arguments.emotion, arguments.astronaut)


if __name__ == "__main__":
    main()
