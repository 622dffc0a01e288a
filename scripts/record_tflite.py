"""Make small TFLite models with TensorFlow's converter, and record what TensorFlow's interpreter computes with them.

    python scripts/record_tflite.py tests/convert/data/tflite

Needs tensorflow 2.21, in an environment of its own. Each case becomes NAME.tflite; inputs and outputs of all lie in
recorded.npz as `NAME/in/TENSOR` and `NAME/out/TENSOR`, what quantised ones compute on the way in steps.npz. With a
second argument, a folder of .tflite files, those are run on seeded inputs instead, and every 7th element of their
outputs is kept in real.npz.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import flatbuffers
import numpy as np
import tensorflow as tf

CASES: dict[str, Any] = {}
F, INT = tf.float32, tf.int32
PLAIN = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


def case(*shapes: Any, **options: Any) -> Any:
    """A function of tensors of these shapes, or (shape, dtype), as a model."""
    specs = [shape if isinstance(shape, tuple) and isinstance(shape[-1], tf.DType) else (shape, F) for shape in shapes]

    def register(function: Any) -> Any:
        CASES[function.__name__] = (function, specs, options)
        return function

    return register


def weights(*shape: Any, seed: Any = 0, scale: Any = 0.5) -> Any:
    return tf.constant(np.random.default_rng(seed + len(shape)).normal(0, scale, shape).astype(np.float32))


@case((None, 9, 11, 4))
def convolutions(x: Any) -> Any:
    nn = tf.nn
    y = nn.relu(nn.conv2d(x, weights(3, 3, 4, 6), 1, "SAME"))
    strided = nn.relu6(nn.conv2d(x, weights(3, 2, 4, 5, seed=1), 2, "SAME") + weights(5))
    valid = nn.conv2d(y, weights(2, 3, 6, 3, seed=2), (1, 2, 1, 1), "VALID")
    dilated = nn.conv2d(x, weights(3, 3, 4, 3, seed=3), 1, "SAME", dilations=2)
    depthwise = nn.depthwise_conv2d(x, weights(3, 3, 4, 2, seed=4), (1, 2, 2, 1), "SAME")
    spread = nn.depthwise_conv2d(x, weights(3, 3, 4, 1, seed=6), (1, 1, 1, 1), "VALID", dilations=(2, 2))
    grouped = nn.conv2d(x, weights(3, 3, 2, 6, seed=5), 1, "VALID")
    return y, strided, valid, dilated, depthwise, spread, grouped, tf.tanh(valid) * valid + 1.5


@case((2, 5, 4, 3))
def transposed(x: Any) -> Any:
    nn = tf.nn
    same = nn.conv2d_transpose(x, weights(3, 3, 4, 3), (2, 10, 8, 4), 2, "SAME")
    valid = nn.conv2d_transpose(x, weights(3, 2, 2, 3), (2, 11, 9, 2), (2, 2), "VALID") + weights(2)
    odd = nn.relu(nn.conv2d_transpose(x, weights(2, 5, 2, 3, seed=1), (2, 9, 7, 2), 2, "SAME"))
    return same, valid, odd


@case((2, 4, 6, 5, 3))
def volumes(x: Any) -> Any:
    return tf.nn.relu(tf.nn.conv3d(x, weights(2, 3, 3, 3, 4), (1, 1, 2, 1, 1), "SAME")), tf.nn.conv3d(
        x, weights(2, 2, 2, 3, 2), (1,) * 5, "VALID"
    )


@case((None, 9, 7, 3))
def pools(x: Any) -> Any:
    nn = tf.nn
    return (
        nn.max_pool2d(x, 3, 2, "SAME"),
        nn.max_pool2d(x, (2, 3), (2, 1), "VALID"),
        nn.avg_pool2d(x, 3, 2, "SAME"),
        nn.avg_pool2d(x, 2, 2, "VALID"),
        nn.relu(nn.avg_pool2d(x - 1.0, (4, 3), 1, "SAME")),
        tf.reduce_mean(x, (1, 2)),
        tf.reduce_mean(nn.max_pool2d(x, 2, 2, "VALID"), (1, 2)),
        tf.reduce_max(nn.max_pool2d(x, 2, 2, "VALID"), 3),
        tf.reduce_sum(nn.max_pool2d(x, 2, 2, "VALID"), 1),
        tf.reduce_mean(nn.max_pool2d(x, 2, 2, "VALID"), (1, 2), keepdims=True),
    )


@case((2, 5, 7, 3))
def resized(x: Any) -> Any:
    r = tf.compat.v1.image
    bilinear = [
        r.resize_bilinear(x, (9, 4), align_corners=True),
        r.resize_bilinear(x, (11, 13), half_pixel_centers=True),
        r.resize_bilinear(x, (8, 14)),
        r.resize_bilinear(x, (3, 3), half_pixel_centers=True),
    ]
    nearest = [
        r.resize_nearest_neighbor(x, (9, 4), align_corners=True),
        r.resize_nearest_neighbor(x, (11, 13)),
        r.resize_nearest_neighbor(x, (10, 21)),
        r.resize_nearest_neighbor(x, (3, 10), half_pixel_centers=True),
        r.resize_nearest_neighbor(x, (10, 14), half_pixel_centers=True),
    ]
    return (*bilinear, *nearest)


@case((2, 6, 4, 8))
def blocks(x: Any) -> Any:
    return (
        tf.nn.depth_to_space(x, 2),
        tf.nn.space_to_depth(x, 2),
        tf.space_to_batch_nd(x, (3, 2), ((1, 2), (0, 2))),
        tf.batch_to_space(tf.tile(x, (3, 1, 1, 1)), (3, 2), ((0, 1), (1, 0))),
    )


@case((2, 3, 4), (4,))
def arithmetic(x: Any, y: Any) -> Any:
    p = tf.abs(x) + 0.5
    return (
        x + y,
        x - y,
        tf.nn.relu(x * y),
        x / (y + 3.0),
        tf.maximum(x, y),
        tf.minimum(x, 0.1),
        tf.pow(p, y),
        tf.math.floordiv(x, 0.3),
        tf.math.floormod(x, 0.3),
        tf.math.floormod(x, -0.7),
        tf.math.squared_difference(x, y),
        tf.add_n([x, x, p]),
        tf.exp(x),
        tf.math.log(p),
        tf.sqrt(p),
        tf.math.rsqrt(p),
        tf.square(x),
        tf.sin(x),
        tf.cos(x),
        tf.floor(x * 3),
        tf.math.ceil(x * 3),
        tf.round(x * 4),
        -x,
        tf.sign(x),
        tf.tanh(x),
        tf.sigmoid(x),
        tf.zeros_like(x),
    )


@case((2, 3, 3, 4))
def activations(x: Any) -> Any:
    nn = tf.nn
    return (
        nn.relu(x),
        nn.relu6(x * 5),
        tf.clip_by_value(x, -1.0, 1.0),
        nn.leaky_relu(x, 0.3),
        nn.elu(x),
        nn.gelu(x, approximate=True),
        x * nn.relu6(x + 3) / 6,
        nn.softmax(x),
        nn.log_softmax(x),
        nn.l2_normalize(x, -1),
        nn.local_response_normalization(x, 2, 1.5, 0.3, 0.6),
        tf.maximum(x, 0) + weights(4) * tf.minimum(x, 0),
        nn.softmax(x, axis=1),
        tf.clip_by_value(x, 0.0, 1.0),
    )


@case((2, 5), ((2, 5), INT), ((2, 5), tf.bool))
def comparisons(x: Any, n: Any, b: Any) -> Any:
    return (
        x > 0.1,
        x >= 0.1,
        x < 0.1,
        x <= 0.1,
        tf.equal(n, 2),
        tf.not_equal(n, 2),
        b & (x > 0),
        b | (x > 0),
        ~b,
        tf.where(b, x, -x),
        tf.where(b, n, 7),
        tf.where(x > 0),
        tf.math.floordiv(n, 3),
        tf.math.floormod(n, -3),
        tf.math.floormod(n, 3),
        n * 2 - 1,
        tf.bitwise.bitwise_xor(n, 6),
        tf.cast(x * 5, INT),
        tf.cast(b, F),
        tf.cast(n, tf.int64),
        tf.reduce_any(b, 1),
        tf.reduce_all(b, 0),
        tf.abs(n),
        tf.maximum(n, 1),
        tf.cast(n, tf.bool),
    )


@case((2, 3, 4, 5))
def reductions(x: Any) -> Any:
    return (
        tf.reduce_mean(x, 1),
        tf.reduce_sum(x, (1, -1)),
        tf.reduce_prod(x, 3, keepdims=True),
        tf.reduce_max(x, (0, 2)),
        tf.reduce_min(x),
        tf.argmax(x, 1),
        tf.argmin(x, -1, output_type=INT),
        tf.cumsum(x, 2),
        tf.cumsum(x, -1, exclusive=True, reverse=True),
        tf.math.top_k(x, 3)[0],
        tf.math.top_k(x, 2)[1],
    )


@case((2, 3, 4, 5), ((3,), INT))
def moves(x: Any, at: Any) -> Any:
    a, b, c = tf.split(x, (1, 2, 2), 3)
    d, e = tf.split(x, 2, 2)
    return (
        tf.transpose(x, (0, 2, 1, 3)),
        tf.reshape(x, (6, 20)),
        tf.squeeze(x[:1], 0),
        tf.expand_dims(x, 2),
        a,
        b + 1,
        c,
        d,
        e,
        tf.concat((x, x[:, :1]), 1),
        tf.stack((x, -x), 2),
        tf.unstack(x, axis=1)[2],
        x[:, 1:, ::2, 3],
        x[..., tf.newaxis, -1],
        x[:, ::-1, 1:3],
        x[1, ..., 2:4],
        tf.slice(x, (0, 1, 0, 2), (2, -1, 3, 2)),
        tf.pad(x, ((0, 0), (1, 2), (0, 1), (3, 0))),
        tf.pad(x, ((0, 0), (1, 2), (0, 1), (3, 0)), constant_values=1.5),
        tf.pad(x, ((0, 0), (1, 2), (2, 1), (0, 0)), "REFLECT"),
        tf.pad(x, ((1, 0), (3, 2), (0, 1), (0, 0)), "SYMMETRIC"),
        tf.tile(x, (1, 2, 1, 2)),
        tf.gather(x, at, axis=2),
        tf.gather_nd(x, [[0, 1], [1, 2]]),
        tf.reverse(x, (1, 2)),
        tf.broadcast_to(x[:, :, :1], (2, 3, 7, 5)),
        tf.reverse_sequence(x, [2, 3], seq_axis=1, batch_axis=0),
        tf.one_hot(at, 5, 2.0, -1.0),
        tf.one_hot(at, 4, axis=0),
        tf.gather(tf.reshape(x, (2, 12, 5)), [[1, 3], [0, 7]], axis=1, batch_dims=1),
        tf.fill((2, 3), 4.5),
        tf.linalg.diag(x[0, 0]),
        tf.scatter_nd([[4], [1], [4]], x[0, :, 0], (6, 5)),
        tf.range(0.5, 3.0, 0.7) + x[0, 0, :, 0],
        tf.linalg.set_diag(x, x[:, :, :, 0]),
    )


@case((None, 3, None, 4))
def open_sizes(x: Any) -> Any:
    shape = tf.shape(x)
    flat = tf.reshape(x, (shape[0], -1))
    rows = tf.reshape(x, tf.stack((shape[0] * 3, shape[2], 4)))
    n = shape[2]
    return (
        tf.reduce_mean(flat, 1),
        rows * 2,
        tf.range(n),
        tf.fill((n, 2), 3.0),
        x[:, :, : n // 2],
        tf.nn.max_pool2d(x, 2, 2, "SAME"),
        tf.nn.conv2d(x, weights(3, 3, 4, 2), 2, "SAME"),
        tf.nn.conv2d(x, weights(3, 3, 4, 2), 1, "SAME"),
        tf.broadcast_to(x[:, :1], tf.concat((shape[:1], (2,), shape[2:]), 0)),
        tf.ones((shape[0], 2)) * 1.0,
        tf.image.resize(x, (6, 7)),
        tf.nn.softmax(tf.matmul(rows, rows, transpose_b=True)),
    )


@case((None, 6), (2, 3, 4), (2, 5, 4))
def products(x: Any, y: Any, z: Any) -> Any:
    dense = tf.nn.relu(tf.matmul(x, weights(6, 5)) + weights(5))
    return (
        dense,
        tf.matmul(y, weights(4, 3)) + weights(3),
        tf.matmul(y, z, transpose_b=True),
        tf.matmul(y, z, transpose_a=False, transpose_b=True)[0],
        tf.einsum("bij,bkj->bik", y, z),
        tf.matmul(tf.transpose(y, (0, 2, 1)), y),
    )


def keras(make: Any, *shape: Any, **options: Any) -> Any:
    """A Keras model of one input without its batch."""

    def register(name: Any) -> Any:
        CASES[name] = (make, [((options.pop("batch", 1), *shape), F)], {"keras": True, **options})

    return register


def lstm(x: Any) -> Any:
    layers = tf.keras.layers
    y = layers.Bidirectional(layers.LSTM(3, return_sequences=True), merge_mode="concat")(x)
    return [y, layers.LSTM(4)(x), layers.SimpleRNN(3, return_sequences=True)(x), layers.GRU(3)(x)]


def wide(x: Any) -> Any:
    """Large enough for the converter to quantise its weights alone."""
    layers = tf.keras.layers
    return [layers.Dense(24)(layers.Flatten()(layers.Conv2D(40, 3, 2, activation="relu")(x)))]


def picture(x: Any) -> Any:
    layers = tf.keras.layers
    y = layers.Conv2D(8, 3, 2, "same", activation="relu")(x)
    z = layers.DepthwiseConv2D(3, padding="same")(y)
    z = layers.Activation("relu6")(layers.BatchNormalization()(z))
    y = layers.Add()([y, layers.Conv2D(8, 1)(z)])
    y = layers.Concatenate()([layers.MaxPooling2D(2)(y), layers.AveragePooling2D(2)(y)])
    y = layers.Conv2DTranspose(6, 3, 2, "same")(y)
    y = layers.UpSampling2D(2, interpolation="bilinear")(y)
    y = layers.Activation("sigmoid")(layers.Conv2D(4, 3, padding="valid")(y)) * y[:, 1:-1, 1:-1, :4]
    y = layers.ZeroPadding2D(1)(y)
    mean = layers.GlobalAveragePooling2D()(y)
    return [layers.Softmax()(layers.Dense(5)(layers.Dense(7, activation="tanh")(mean))), layers.LeakyReLU(0.2)(y)]


keras(lstm, 7, 4)("recurrent")
keras(wide, 7, 7, 12, quantise="dynamic")("hybrid")
for kind in ("float", "dynamic", "int8", "int16", "half", "int8_floats"):
    keras(picture, 16, 16, 3, quantise=kind)(f"picture_{kind}")


@case((3,), ((), INT))
def controlled(x: Any, n: Any) -> Any:
    doubled = tf.cond(n > 2, lambda: x * 2.0, lambda: tf.reverse(x, (0,)) - 1.0)
    count, total = tf.while_loop(lambda i, t: i < n, lambda i, t: (i + 1, t + x * tf.cast(i, F)), (0, tf.zeros(3)))
    return doubled, count, total


class Variables(tf.Module):
    """A variable that is only read."""

    def __init__(self) -> None:
        self.scale = tf.Variable([1.0, 2.0, 3.0])

    @tf.function(input_signature=[tf.TensorSpec((2, 3), F, name="x")])
    def scaled(self, x: Any) -> Any:
        return {"y": x * self.scale + 1.0}


def converter_of(name: Any) -> Any:
    function, specs, options = CASES[name]
    if options.get("keras"):
        tf.keras.utils.set_random_seed(3)
        x = tf.keras.Input(batch_shape=specs[0][0], name="x")
        model = tf.keras.Model(x, function(x))
        for layer in model.layers:  # statistics as after training
            if isinstance(layer, tf.keras.layers.BatchNormalization):
                layer.set_weights(
                    [np.random.default_rng(i).uniform(0.5, 1.5, w.shape) for i, w in enumerate(layer.get_weights())]
                )
        return tf.lite.TFLiteConverter.from_keras_model(model)
    signature = [tf.TensorSpec(shape, dtype, name=f"x{i}") for i, (shape, dtype) in enumerate(specs)]
    made = tf.function(function, input_signature=signature).get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([made])


def samples(specs: Any, seed: Any) -> Any:
    rng = np.random.default_rng(seed)
    sizes = [[n if n is not None else (2, 3, 6)[i % 3] for i, n in enumerate(shape)] for shape, _ in specs]
    kinds = {F: lambda s: rng.normal(0, 1, s).astype(np.float32), INT: lambda s: rng.integers(0, 4, s).astype(np.int32)}
    kinds[tf.bool] = lambda s: rng.random(s) > 0.5
    return [kinds[dtype](size) for size, (_, dtype) in zip(sizes, specs, strict=True)]


def quantise(converter: Any, kind: Any, specs: Any) -> None:
    if kind in (None, "float"):
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "half":
        converter.target_spec.supported_types = [tf.float16]
    if kind in ("int8", "int16", "int8_floats"):
        converter.representative_dataset = lambda: (samples(specs, seed) for seed in range(20, 40))
        int16 = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [int16 if kind == "int16" else tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if kind in ("int8", "int16"):
        converter.inference_input_type = converter.inference_output_type = tf.int8 if kind == "int8" else tf.int16


def run(path: Any, arrays: Any, seed: Any = 1) -> Any:
    """Inputs and outputs by tensor; `arrays` in the order of the inputs' names, or None for normal numbers."""
    interpreter = tf.lite.Interpreter(str(path), experimental_op_resolver_type=PLAIN)
    details = sorted(interpreter.get_input_details(), key=lambda d: d["name"])
    rng = np.random.default_rng(seed)
    arrays = arrays or [rng.normal(0, 0.5, d["shape"]).astype(d["dtype"]) for d in details]
    given = {}
    for detail, plain in zip(details, arrays, strict=True):
        array = plain
        scale, zero = detail["quantization"]
        if scale:
            limits = np.iinfo(detail["dtype"])
            array = np.clip(np.round(array / scale) + zero, limits.min, limits.max).astype(detail["dtype"])
        if list(detail["shape"]) != list(array.shape):
            interpreter.resize_tensor_input(detail["index"], array.shape)
        given[detail["name"]] = (detail["index"], array)
    interpreter.allocate_tensors()
    for index, array in given.values():
        interpreter.set_tensor(index, array)
    interpreter.invoke()
    outputs = {d["name"]: interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()}
    return {name: array for name, (_, array) in given.items()}, outputs


def handmade(*operators: Any, constants: Any = None, inputs: Any = None, **tensors: Any) -> Any:
    """A model of operators by hand, for those that the converter does not write.

    Tensors are (type, shape) or (type, shape, scale, zero point) by name; operators (code, inputs, outputs, options).
    """
    from tensorflow.lite.python import schema_py_generated as s

    constants = constants or {}
    model, graph = s.ModelT(), s.SubGraphT()
    model.version, model.description, model.subgraphs, model.buffers = 3, "made by hand", [graph], [s.BufferT()]
    graph.tensors, graph.operators, model.operatorCodes, places = [], [], [], {}
    graph.name = "main"
    for name, (kind, shape, *scale) in tensors.items():
        tensor = s.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.hasRank = name, list(shape), getattr(s.TensorType, kind), True
        if scale:
            tensor.quantization = s.QuantizationParametersT()
            tensor.quantization.scale = list(np.atleast_1d(scale[0]))
            tensor.quantization.zeroPoint = [int(z) for z in np.atleast_1d(scale[1])]
            tensor.quantization.quantizedDimension = scale[2] if len(scale) > 2 else 0
        if name in constants:
            buffer = s.BufferT()
            buffer.data = list(np.asarray(constants[name]).tobytes())
            model.buffers.append(buffer)
            tensor.buffer = len(model.buffers) - 1
        tensor.isVariable = name.startswith("state")
        places[name] = len(graph.tensors)
        graph.tensors.append(tensor)
    for kind, takes, gives, options in operators:
        code, op = s.OperatorCodeT(), s.OperatorT()
        builtin = getattr(s.BuiltinOperator, kind, None)
        code.builtinCode = s.BuiltinOperator.CUSTOM if builtin is None else builtin
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.customCode = kind if builtin is None else None
        if isinstance(options, bytes):
            op.customOptions = list(options)
        elif options is not None:
            table, fields = options
            op.builtinOptionsType = getattr(s.BuiltinOptions, table)
            op.builtinOptions = getattr(s, table + "T")()
            for key, value in fields.items():
                assert hasattr(op.builtinOptions, key), key
                setattr(op.builtinOptions, key, value)
        op.opcodeIndex = len(model.operatorCodes)
        op.inputs = [places[name] if name else -1 for name in takes.split(",")]
        op.outputs = [places[name] for name in gives.split(",")]
        model.operatorCodes.append(code)
        graph.operators.append(op)
    made = {places[name] for _, _, gives, _ in operators for name in gives.split(",")}
    used = {i for op in graph.operators for i in op.inputs}
    graph.inputs = [i for name, i in places.items() if i not in made and name not in constants and name[:5] != "state"]
    graph.outputs = sorted(made - used) if not inputs else sorted(made)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def floats(seed: Any, *shape: Any, scale: Any = 1.0) -> Any:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def by_hand(target: Any) -> Any:
    """Writes them; returns their names with their inputs."""
    f = "FLOAT32"
    rng = np.random.default_rng(5)
    same = {"padding": 0, "strideW": 2, "strideH": 2, "filterWidth": 3, "filterHeight": 2}
    files = {
        "rare_math": (
            handmade(
                ("ATAN2", "x,y", "angle", None),
                ("RELU_0_TO_1", "x", "unit", None),
                ("GELU", "x", "exact", ("GeluOptions", {"approximate": False})),
                ("RELU_N1_TO_1", "x", "sided", None),
                ("HARD_SWISH", "x", "swish", None),
                ("PRELU", "x,slope", "sloped", None),
                ("L2_POOL_2D", "x", "rooted", ("Pool2DOptions", same)),
                ("L2_NORMALIZATION", "x", "normal", ("L2NormOptions", {})),
                ("SOFTMAX", "x", "soft", ("SoftmaxOptions", {"beta": 0.7})),
                ("BUCKETIZE", "x", "bucket", ("BucketizeOptions", {"boundaries": [-0.5, 0.0, 1.0]})),
                ("FAKE_QUANT", "x", "fake", ("FakeQuantOptions", {"min": -1.0, "max": 2.0, "numBits": 8})),
                constants={"slope": floats(3, 1, 1, 3)},
                x=(f, (2, 5, 6, 3)),
                y=(f, (2, 5, 6, 3)),
                slope=(f, (1, 1, 3)),
                angle=(f, (2, 5, 6, 3)),
                unit=(f, (2, 5, 6, 3)),
                exact=(f, (2, 5, 6, 3)),
                sided=(f, (2, 5, 6, 3)),
                swish=(f, (2, 5, 6, 3)),
                sloped=(f, (2, 5, 6, 3)),
                rooted=(f, (2, 3, 3, 3)),
                normal=(f, (2, 5, 6, 3)),
                soft=(f, (2, 5, 6, 3)),
                bucket=("INT32", (2, 5, 6, 3)),
                fake=(f, (2, 5, 6, 3)),
            ),
            [floats(1, 2, 5, 6, 3), floats(2, 2, 5, 6, 3)],
        ),
        "rare_moves": (
            handmade(
                ("UNIQUE", "n", "unique,place", ("UniqueOptions", {"idxOutType": 2})),
                ("SPARSE_TO_DENSE", "rows,shape,x,zero", "dense", ("SparseToDenseOptions", {})),
                ("DYNAMIC_UPDATE_SLICE", "table,part,at", "updated", None),
                ("SEGMENT_SUM", "table,segments", "sums", None),
                ("EMBEDDING_LOOKUP", "n,table", "found", None),
                ("BROADCAST_ARGS", "left,right", "broad", None),
                constants={
                    "rows": np.int32([1, 3, 4, 6, 8]),
                    "shape": np.int32([9]),
                    "zero": np.float32(-1),
                    "segments": np.int32([0, 0, 1, 2]),
                    "left": np.int32([3, 1]),
                    "right": np.int32([2, 1, 5]),
                    "table": floats(8, 4, 3),
                    "part": floats(9, 2, 2),
                },
                at=("INT32", (2,)),
                n=("INT32", (6,)),
                x=(f, (5,)),
                table=(f, (4, 3)),
                part=(f, (2, 2)),
                rows=("INT32", (5,)),
                shape=("INT32", (1,)),
                zero=(f, ()),
                segments=("INT32", (4,)),
                left=("INT32", (2,)),
                right=("INT32", (3,)),
                unique=("INT32", (4,)),
                place=("INT32", (6,)),
                dense=(f, (9,)),
                updated=(f, (4, 3)),
                sums=(f, (3, 3)),
                found=(f, (6, 3)),
                broad=("INT32", (3,)),
            ),
            [np.int32([1, 2]), np.int32([3, 0, 3, 2, 1, 0]), floats(4, 5)],
        ),
        "suppressed": (
            handmade(
                (
                    "NON_MAX_SUPPRESSION_V4",
                    "boxes,scores,most,overlap,least",
                    "chosen,count",
                    ("NonMaxSuppressionV4Options", {}),
                ),
                (
                    "NON_MAX_SUPPRESSION_V5",
                    "boxes,scores,most,overlap,least,fade",
                    "which,rated,number",
                    ("NonMaxSuppressionV5Options", {}),
                ),
                constants={
                    "most": np.int32(5),
                    "overlap": np.float32(0.5),
                    "least": np.float32(0.2),
                    "fade": np.float32(0),
                },
                boxes=(f, (8, 4)),
                scores=(f, (8,)),
                most=("INT32", ()),
                overlap=(f, ()),
                least=(f, ()),
                fade=(f, ()),
                chosen=("INT32", (5,)),
                count=("INT32", ()),
                which=("INT32", (5,)),
                rated=(f, (5,)),
                number=("INT32", ()),
            ),
            # The second lies half on the first: just the threshold.
            [
                np.float32(
                    [
                        [0, 0, 1, 1],
                        [0, 0, 1, 0.5],
                        [0, 0, 0.9, 1],
                        [2, 2, 3, 3],
                        [2, 2.1, 3, 3.1],
                        [5, 5, 6, 6],
                        [7, 7, 8, 8],
                        [9, 9, 9.5, 9.5],
                    ]
                ),
                np.float32([0.9, 0.8, 0.7, 0.6, 0.95, 0.1, 0.2, 0.3]),
            ],
        ),
        "short_lstm": (lstm_by_hand(7, 10.0, eyes=True), [floats(6, 2, 7, 3)]),
        "clipped_lstm": (lstm_by_hand(24, 1.5, eyes=False), [floats(6, 2, 24, 3)]),
        "plain_rnn": (rnn_by_hand(), [floats(6, 2, 6, 3)]),
        "bidirectional": (bidirectional(), [floats(6, 5, 2, 3)]),
        "layer_normal_lstm": (normalised_lstm(), [floats(6, 2, 5, 3)]),
        "quantised_uint8": (
            handmade(
                (
                    "CONV_2D",
                    "x,w,b",
                    "y",
                    ("Conv2DOptions", {"padding": 0, "strideW": 1, "strideH": 1, "fusedActivationFunction": 3}),
                ),
                ("AVERAGE_POOL_2D", "y", "pooled", ("Pool2DOptions", {**same, "filterHeight": 3})),
                ("RESHAPE", "pooled,flat", "rows", ("ReshapeOptions", {"newShape": [1, 36]})),
                ("FULLY_CONNECTED", "rows,units,c", "z", ("FullyConnectedOptions", {})),
                ("SOFTMAX", "z", "p", ("SoftmaxOptions", {"beta": 1.0})),
                ("PAD", "y,edges", "padded", ("PadOptions", {})),
                ("ADD", "y,y", "doubled", ("AddOptions", {})),
                ("CONCATENATION", "y,doubled", "joined", ("ConcatenationOptions", {"axis": 3})),
                ("QUANTIZE", "joined", "signed", ("QuantizeOptions", {})),
                ("LOGISTIC", "signed", "s", None),
                constants={
                    "w": rng.integers(90, 160, (4, 3, 3, 2)).astype(np.uint8),
                    "b": np.int32([50, -90, 0, 300]),
                    "flat": np.int32([1, 36]),
                    "units": rng.integers(100, 150, (3, 36)).astype(np.uint8),
                    "c": np.int32([5, -5, 0]),
                    "edges": np.int32([[0, 0], [1, 0], [0, 1], [0, 0]]),
                },
                x=("UINT8", (1, 6, 5, 2), 0.02, 120),
                w=("UINT8", (4, 3, 3, 2), 0.01, 125),
                b=("INT32", (4,), 0.0002, 0),
                y=("UINT8", (1, 6, 5, 4), 0.01, 3),
                pooled=("UINT8", (1, 3, 3, 4), 0.01, 3),
                flat=("INT32", (2,)),
                rows=("UINT8", (1, 36), 0.01, 3),
                units=("UINT8", (3, 36), 0.02, 126),
                c=("INT32", (3,), 0.0002, 0),
                z=("UINT8", (1, 3), 0.01, 120),
                p=("UINT8", (1, 3), 1 / 256, 0),
                edges=("INT32", (4, 2)),
                padded=("UINT8", (1, 7, 6, 4), 0.01, 3),
                doubled=("UINT8", (1, 6, 5, 4), 0.02, 5),
                joined=("UINT8", (1, 6, 5, 8), 0.02, 3),
                signed=("INT8", (1, 6, 5, 8), 0.02, -125),
                s=("INT8", (1, 6, 5, 8), 1 / 256, -128),
            ),
            [floats(7, 1, 6, 5, 2)],
        ),
        "detections": (
            detections(),
            [floats(1, 1, 9, 4, scale=0.3), np.random.default_rng(2).random((1, 9, 4)).astype(np.float32)],
        ),
    }
    for name, (data, _) in files.items():
        (target / f"{name}.tflite").write_bytes(data)
    return {name: arrays for name, (_, arrays) in files.items()}


def bidirectional() -> Any:
    tensors, constants, takes = {"x": ("FLOAT32", (5, 2, 3))}, {}, ["x"] + [""] * 47
    for way, start in enumerate((1, 18)):
        for i in range(8):
            shape = (4, 3) if i < 4 else (4, 4)
            takes[start + i] = f"w{way}{i}"
            tensors[f"w{way}{i}"], constants[f"w{way}{i}"] = ("FLOAT32", shape), floats(10 * way + i, *shape, scale=0.5)
        for i in range(4):
            takes[start + 11 + i] = f"b{way}{i}"
            tensors[f"b{way}{i}"], constants[f"b{way}{i}"] = ("FLOAT32", (4,)), floats(30 + 10 * way + i, 4, scale=0.5)
    for i in range(4):
        takes[35 + i] = f"state{i}"
        tensors[f"state{i}"] = ("FLOAT32", (2, 4))
    tensors |= {"forth": ("FLOAT32", (5, 2, 4)), "back": ("FLOAT32", (5, 2, 4))}
    options = (
        "BidirectionalSequenceLSTMOptions",
        {"fusedActivationFunction": 4, "timeMajor": True, "mergeOutputs": False},
    )
    return handmade(
        ("BIDIRECTIONAL_SEQUENCE_LSTM", ",".join(takes), "forth,back", options), constants=constants, **tensors
    )


def lstm_by_hand(length: Any, clip: Any, *, eyes: Any) -> Any:
    tensors, constants, takes = {"x": ("FLOAT32", (2, length, 3))}, {}, ["x"] + [""] * 19
    sizes = {
        **dict.fromkeys(range(1, 5), (4, 3)),
        **dict.fromkeys(range(5, 9), (4, 4)),
        **dict.fromkeys(range(12, 16), (4,)),
    }
    sizes |= dict.fromkeys(range(9, 12), (4,)) if eyes else {}
    for place, shape in sizes.items():
        takes[place] = f"w{place}"
        tensors[f"w{place}"], constants[f"w{place}"] = ("FLOAT32", shape), floats(place, *shape, scale=0.8)
    takes[18], takes[19] = "state_h", "state_c"
    tensors |= {"state_h": ("FLOAT32", (2, 4)), "state_c": ("FLOAT32", (2, 4)), "y": ("FLOAT32", (2, length, 4))}
    options = ("UnidirectionalSequenceLSTMOptions", {"fusedActivationFunction": 4, "cellClip": clip})
    return handmade(("UNIDIRECTIONAL_SEQUENCE_LSTM", ",".join(takes), "y", options), constants=constants, **tensors)


def rnn_by_hand() -> Any:
    shapes = {"w": (4, 3), "r": (4, 4), "b": (4,)}
    constants = {
        f"{key}{way}": floats(way + len(shape), *shape, scale=0.6) for way in (1, 2, 3) for key, shape in shapes.items()
    }
    tensors = {f"{key}{way}": ("FLOAT32", shape) for way in (1, 2, 3) for key, shape in shapes.items()}
    tensors |= {f"state{way}": ("FLOAT32", (2, 4)) for way in (1, 2, 3)}
    one = ("SequenceRNNOptions", {"fusedActivationFunction": 4})
    two = ("BidirectionalSequenceRNNOptions", {"fusedActivationFunction": 1, "mergeOutputs": True})
    return handmade(
        ("UNIDIRECTIONAL_SEQUENCE_RNN", "x,w1,r1,b1,state1", "y", one),
        ("BIDIRECTIONAL_SEQUENCE_RNN", "x,w2,r2,b2,state2,w3,r3,b3,state3,,,", "both", two),
        constants=constants,
        x=("FLOAT32", (2, 6, 3)),
        y=("FLOAT32", (2, 6, 4)),
        both=("FLOAT32", (2, 6, 8)),
        **tensors,
    )


def normalised_lstm() -> Any:
    """Coupled gates are left out of its first gate; peepholes, layer normalisation, a projection, both limits."""
    tensors, constants, takes = {"x": ("FLOAT32", (2, 5, 3))}, {}, ["x"] + [""] * 23
    sizes = {
        2: (4, 3),
        3: (4, 3),
        4: (4, 3),
        6: (4, 2),
        7: (4, 2),
        8: (4, 2),
        10: (4,),
        11: (4,),
        13: (4,),
        14: (4,),
        15: (4,),
        16: (2, 4),
        21: (4,),
        22: (4,),
        23: (4,),
    }
    for place, shape in sizes.items():
        takes[place] = f"w{place}"
        tensors[f"w{place}"], constants[f"w{place}"] = ("FLOAT32", shape), floats(place, *shape, scale=0.8)
    takes[18], takes[19] = "state_h", "state_c"
    tensors |= {"state_h": ("FLOAT32", (2, 2)), "state_c": ("FLOAT32", (2, 4)), "y": ("FLOAT32", (2, 5, 2))}
    options = ("UnidirectionalSequenceLSTMOptions", {"fusedActivationFunction": 4, "cellClip": 0.5, "projClip": 0.4})
    return handmade(("UNIDIRECTIONAL_SEQUENCE_LSTM", ",".join(takes), "y", options), constants=constants, **tensors)


def detections() -> Any:
    from flatbuffers import flexbuffers

    options = {
        "max_detections": 6,
        "max_classes_per_detection": 1,
        "num_classes": 3,
        "nms_score_threshold": 0.3,
        "nms_iou_threshold": 0.4,
        "y_scale": 10.0,
        "x_scale": 10.0,
        "h_scale": 5.0,
        "w_scale": 5.0,
        "use_regular_nms": False,
    }
    anchors = np.random.default_rng(3).uniform(0.2, 0.8, (9, 4)).astype(np.float32)
    f = "FLOAT32"
    return handmade(
        (
            "TFLite_Detection_PostProcess",
            "boxes,scores,anchors",
            "places,kinds,rated,count",
            bytes(flexbuffers.Dumps(options)),
        ),
        constants={"anchors": anchors},
        boxes=(f, (1, 9, 4)),
        scores=(f, (1, 9, 4)),
        anchors=(f, (9, 4)),
        places=(f, (1, 6, 4)),
        kinds=(f, (1, 6)),
        rated=(f, (1, 6)),
        count=(f, (1,)),
    )


def record(target: Any) -> None:
    stored = {}
    for name, arrays in by_hand(target).items():
        inputs, outputs = run(target / f"{name}.tflite", arrays)
        stored |= {f"{name}/in/{key}": array for key, array in inputs.items()}
        stored |= {f"{name}/out/{key}": array for key, array in outputs.items()}
    for name, (_, specs, options) in CASES.items():
        converter = converter_of(name)
        quantise(converter, options.get("quantise"), specs)
        path = target / f"{name}.tflite"
        path.write_bytes(converter.convert())
        inputs, outputs = run(path, samples(specs, 7))
        stored |= {f"{name}/in/{key}": array for key, array in inputs.items()}
        stored |= {f"{name}/out/{key}": array for key, array in outputs.items()}
    module = Variables()
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"scaled": module.scaled})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["scaled"])
        converter.experimental_enable_resource_variables = True
        (target / "variables.tflite").write_bytes(converter.convert())
    inputs, outputs = run(target / "variables.tflite", None)
    stored |= {f"variables/in/{key}": array for key, array in inputs.items()}
    stored |= {f"variables/out/{key}": array for key, array in outputs.items()}
    np.savez_compressed(target / "recorded.npz", **stored)


def record_steps(target: Any) -> None:
    """What the interpreter computes in the middle of quantised models, on their recorded inputs: steps.npz."""
    stored, recorded = {}, np.load(target / "recorded.npz")
    for name in ("picture_int8", "picture_int16", "quantised_uint8"):
        interpreter = tf.lite.Interpreter(
            str(target / f"{name}.tflite"), experimental_op_resolver_type=PLAIN, experimental_preserve_all_tensors=True
        )
        inputs = [(d["index"], recorded[f"{name}/in/{d['name']}"]) for d in interpreter.get_input_details()]
        for index, array in inputs:
            interpreter.resize_tensor_input(index, array.shape)
        interpreter.allocate_tensors()
        for index, array in inputs:
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        names = {detail["index"]: detail["name"] for detail in interpreter.get_tensor_details()}
        made = [index for operator in interpreter._get_ops_details() for index in operator["outputs"]]
        stored |= {f"{name}/{names[index]}": interpreter.get_tensor(index) for index in made}
    np.savez_compressed(target / "steps.npz", **stored)


def record_real(target: Any, folder: Any) -> None:
    stored = {}
    for path in sorted(folder.rglob("*.tflite")):
        _, outputs = run(path, None, 2)
        stored |= {f"{path.stem}/out/{key}": array.ravel()[::7] for key, array in outputs.items()}
    np.savez_compressed(target / "real.npz", **stored)


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[2] != "-":
        record_real(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        record(Path(sys.argv[1]))
        record_steps(Path(sys.argv[1]))
