"""Record small TensorFlow models of every kind and what real TensorFlow computes with them.

Run in an environment of its own: pip install tensorflow-cpu==2.21.0 tf_keras==2.21.0, then
python scripts/record_tensorflow.py tests/convert/data/tensorflow
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
raw = tf.raw_ops
OUT = Path(sys.argv[1])
RECORDED: dict[str, np.ndarray[Any, Any]] = {}
R = np.random.default_rng(11)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return R.standard_normal(shape).astype(np.float32)


def keep(name: str, feeds: dict[str, Any], results: dict[str, Any]) -> None:
    for kind, values in (("in", feeds), ("out", results)):
        for key, value in values.items():
            RECORDED[f"{name}|{kind}|{key}"] = np.asarray(value)


def frozen(
    name: str, build: Callable[[dict[str, Any]], dict[str, Any]], feeds: dict[str, Any], open_: bool = False
) -> None:
    """A GraphDef with these inputs; outputs are identities of their names. With `open_` all dims but the last are."""
    graph = tf.Graph()
    with graph.as_default(), v1.Session() as session:
        held = {}
        for key, value in feeds.items():
            shape = [None] * (value.ndim - 1) + [value.shape[-1]] if open_ else [None, *value.shape[1:]]
            held[key] = v1.placeholder(value.dtype, shape if value.ndim else [], name=key)
        # TensorFlow's names differ in more than case.
        outputs = {f"of_{key}": tf.identity(value, name=f"of_{key}") for key, value in build(held).items()}
        assert all(value.op.name == key for key, value in outputs.items())
        results = session.run(outputs, {held[key]: value for key, value in feeds.items()})
        definition = graph.as_graph_def()
    (OUT / f"{name}.pb").write_bytes(definition.SerializeToString())
    keep(name, feeds, results)


def arithmetic(t: dict[str, Any]) -> dict[str, Any]:
    x, y, i, j = t["x"], t["y"], t["i"], t["j"]
    p = tf.abs(x) + 0.1
    unit = tf.tanh(x) * 0.9
    found = {name: getattr(raw, name)(**{"features" if name in FEATURES else "x": x}) for name in UNARY}
    found |= {name: getattr(raw, name)(x=p) for name in ("Log", "Sqrt", "Rsqrt", "Reciprocal", "Inv")}
    found |= {name: getattr(raw, name)(x=unit) for name in ("Asin", "Acos", "Atanh")}
    found |= {name: getattr(raw, name)(x=x, y=y) for name in BINARY}
    found |= {f"{name}_int": getattr(raw, name)(x=i, y=j) for name in INTEGER}
    found["Acosh"] = raw.Acosh(x=p + 1)
    found["Relu6"] = raw.Relu6(features=x * 4)
    found["LeakyRelu"] = raw.LeakyRelu(features=x, alpha=0.3)
    found["log1p_small"] = raw.Log1p(x=p * 1e-6)
    found["expm1_small"] = raw.Expm1(x=x * 1e-6)
    found["expm1_large"] = raw.Expm1(x=x * 60.0)
    found["Pow"] = raw.Pow(x=p, y=y)
    found["xlogy_zero"] = raw.Xlogy(x=tf.nn.relu(x), y=p)
    found["xdivy_zero"] = raw.Xdivy(x=tf.nn.relu(x), y=p)
    found["div_no_nan_zero"] = raw.DivNoNan(x=x, y=tf.nn.relu(y))
    found["AddN"] = raw.AddN(inputs=[x, y, p])
    found["ClipByValue"] = tf.clip_by_value(x, -0.5, 0.4)
    found["select"] = raw.Select(condition=x > y, x=x, y=y)
    found["select_rows"] = raw.Select(condition=x[:, 0] > 0, x=x, y=y)
    found["SelectV2"] = raw.SelectV2(condition=x > 0, t=x, e=0.5)
    found["Cast_int"] = tf.cast(x * 9, tf.int32)
    found["Cast_bool"] = tf.cast(i, tf.bool)
    found["logical"] = tf.logical_and(x > 0, tf.logical_not(tf.logical_or(y > 0, tf.equal(i, j))))
    found["is_finite"] = tf.math.is_finite(x / tf.nn.relu(y))
    found["nan"] = tf.math.is_nan(tf.sqrt(x))
    found["inf"] = tf.math.is_inf(x / tf.nn.relu(y))
    found["bits"] = tf.bitwise.bitwise_xor(tf.bitwise.bitwise_and(i, j), tf.bitwise.invert(i))
    found["round_half"] = tf.round(tf.cast(i, tf.float32) / 2)
    found["fake_quant"] = tf.quantization.fake_quant_with_min_max_args(x, -1.5, 2.0, narrow_range=True)
    found["fake_quant_vars"] = tf.quantization.fake_quant_with_min_max_vars(x, -1.2, 1.7, num_bits=6)
    lows, highs = tf.constant([-1.0, -0.5, -2.0, -1, -0.1]), tf.constant([1.0, 2.0, 0.5, 1, 0.2])
    found["fake_quant_channels"] = tf.quantization.fake_quant_with_min_max_vars_per_channel(x, lows, highs)
    return found


FEATURES = {"Relu", "Elu", "Selu", "Softplus", "Softsign"}
UNARY = (
    "Abs", "Neg", "Exp", "Floor", "Ceil", "Round", "Rint", "Sign", "Erf", "Erfc", "Sin", "Cos", "Tan", "Atan", "Sinh",
    "Cosh", "Asinh", "Relu", "Elu", "Selu", "Softplus", "Softsign", "Sigmoid", "Tanh", "Square", "Expm1",
)  # fmt: skip
BINARY = (
    "Add", "AddV2", "Sub", "Mul", "RealDiv", "Div", "FloorDiv", "FloorMod", "Maximum", "Minimum", "SquaredDifference",
    "DivNoNan", "MulNoNan", "Atan2", "Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual", "TruncateMod",
)  # fmt: skip
INTEGER = ("FloorDiv", "FloorMod", "TruncateDiv", "TruncateMod", "Maximum", "SquaredDifference", "NotEqual", "Sub")


def products(t: dict[str, Any]) -> dict[str, Any]:
    x = t["x"]  # [n, 4, 5]
    w = tf.constant(normal(5, 6))
    return {
        "sum": tf.reduce_sum(x, [1]), "sum_all": tf.reduce_sum(x), "mean": tf.reduce_mean(x, [0, 2], keepdims=True),
        "max": tf.reduce_max(x, -1), "min": tf.reduce_min(x, 1), "prod": tf.reduce_prod(x, [1, 2]),
        "norm": raw.EuclideanNorm(input=x, axis=[2]), "none": tf.reduce_sum(x, []), "all": tf.reduce_all(x > -1, 1),
        "any": tf.reduce_any(x > 1, [1, 2]), "argmax": tf.argmax(x, 2), "argmin": tf.argmin(x, 1, tf.int32),
        "cumsum": tf.cumsum(x, 1, exclusive=True), "cumsum_back": tf.cumsum(x, -1, reverse=True),
        "top_values": tf.nn.top_k(x, 3)[0], "top_indices": tf.nn.top_k(x, 3)[1], "l2": tf.nn.l2_loss(x),
        "matmul": tf.matmul(tf.reshape(x, [-1, 5]), w), "matmul_b": tf.matmul(x[:, 0], w, transpose_b=False),
        "matmul_ta": tf.matmul(x[0], x[1], transpose_a=True), "batch": tf.matmul(x, x, adjoint_b=True),
        "einsum": tf.einsum("nij,jk->nik", x, w), "einsum_swap": tf.einsum("nij,nkj->kin", x, x),
        "softmax": tf.nn.softmax(x), "log_softmax": tf.nn.log_softmax(x), "moments": tf.nn.moments(x, [1])[1],
        "bias": tf.nn.bias_add(x, normal(5)), "lse": tf.reduce_logsumexp(x, 2), "segments":
        tf.math.unsorted_segment_sum(x[0], [1, 0, -1, 1], 3),
    }  # fmt: skip


def shapes(t: dict[str, Any]) -> dict[str, Any]:
    x = t["x"]  # [n, 4, 6]
    i = t["i"]  # [n, 3] below 4
    n = tf.shape(x)[0]
    return {
        "reshape": tf.reshape(x, [n, 8, 3]), "reshape_size": tf.reshape(x, [n * 4, -1]), "expand": x[:, tf.newaxis],
        "squeeze": tf.squeeze(x[:, :1], [1]), "transpose": tf.transpose(x, [2, 0, 1]), "concat": tf.concat([x, x], 2),
        "pack": tf.stack([x, x * 2], 1), "unpack": tf.unstack(x, axis=1)[2], "split": tf.split(x, 3, 2)[1],
        "split_v": tf.split(x, [1, -1, 2], 2)[1], "slice": tf.slice(x, [0, 1, 2], [-1, 2, 3]),
        "strided": x[:, 1:3, ::2], "strided_back": x[:, ::-1, -2::-2], "strided_ellipsis": x[..., 1],
        "strided_new": x[:, tf.newaxis, ..., tf.newaxis, 2:], "strided_shrink": x[-1, 2], "strided_last": x[:, -1:],
        "strided_dynamic": x[: n - 1], "strided_pick": x[n - 1], "pad": tf.pad(x, [[0, 0], [1, 2], [0, 3]]),
        "pad_value": tf.pad(x, [[0, 0], [1, 0], [2, 1]], constant_values=-3.0),
        "reflect": tf.pad(x, [[0, 0], [2, 1], [3, 2]], "REFLECT"),
        "symmetric": tf.pad(x, [[0, 0], [2, 1], [3, 2]], "SYMMETRIC"), "tile": tf.tile(x, [1, 2, 3]),
        "range": tf.range(n) * 2, "fill": tf.fill([n, 3], 1.5), "zeros": tf.zeros_like(x), "ones": tf.ones_like(x),
        "one_hot": tf.one_hot(i - 1, 4, 5.0, -1.0), "one_hot_axis": tf.one_hot(i, 4, axis=1),
        "broadcast": tf.broadcast_to(x[:, :1], tf.shape(x)), "reverse": tf.reverse(x, [1, 2]),
        "sequence": tf.reverse_sequence(x, i[:, 0], seq_axis=1, batch_axis=0),
        "sequence_first": tf.reverse_sequence(tf.transpose(x, [1, 0, 2]), i[:, 0], seq_axis=0, batch_axis=1),
        "linspace": raw.LinSpace(start=0.0, stop=2.0, num=5) + x[0, 0, 0], "band": tf.linalg.band_part(x, 1, 2),
        "band_upper": tf.linalg.band_part(x, 0, -1), "roll": tf.roll(x, [1, -2], [1, 2]), "where": tf.where(x > 1),
        "unique": tf.unique(tf.reshape(i, [-1]))[0], "unique_idx": tf.unique(tf.reshape(i, [-1]))[1],
        "unique_counts": tf.unique_with_counts(tf.reshape(i * 2, [-1]))[2], "size": tf.size(x),
        "rank": tf.rank(x) + n * 0, "shape": tf.shape(x, tf.int64),
        "gather": tf.gather(x, [2, 0], axis=1), "gather_many": tf.gather(x, i, axis=1),
        "gather_batch": tf.gather(x, i, axis=1, batch_dims=1), "gather_batch_2": tf.gather(x, i, axis=2, batch_dims=1),
        "gather_nd": tf.gather_nd(x, [[0, 1], [1, 3]]), "scatter": tf.scatter_nd([[1], [3], [1]], x[0, :3], [5, 6]),
        "update": tf.tensor_scatter_nd_update(x[0], [[2]], x[1, :1]),
        "add": tf.tensor_scatter_nd_add(x[0], [[2], [2]], x[1, :2]),
        "subtract": tf.tensor_scatter_nd_sub(x[0], [[2], [2]], x[1, :2]),
        "most": tf.tensor_scatter_nd_max(x[0], [[2], [2]], x[1, :2]),
    }  # fmt: skip


def windows(t: dict[str, Any]) -> dict[str, Any]:
    x = t["x"]  # [n, 9, 11, 4]
    k, d = tf.constant(normal(3, 3, 4, 5) / 4), tf.constant(normal(3, 2, 4, 2))
    grouped, back = tf.constant(normal(3, 3, 2, 6)), tf.constant(normal(3, 3, 5, 4) / 4)
    vector = [tf.constant(np.abs(normal(4)) + 0.5) for _ in range(4)]
    conv = tf.nn.conv2d
    y = conv(x, k, 1, "SAME")
    chain = tf.nn.relu(
        tf.nn.bias_add(conv(tf.nn.max_pool2d(y, 2, 2, "SAME"), tf.constant(normal(1, 1, 5, 4)), 1, "SAME"), normal(4))
    )
    n = tf.shape(x)[0]
    return {
        "same": y, "valid": conv(x, k, 2, "VALID"), "same_2": conv(x, k, [2, 3], "SAME"),
        "explicit": conv(x, k, 2, [[0, 0], [1, 2], [0, 3], [0, 0]]), "dilated": conv(x, k, 1, "SAME", dilations=2),
        "grouped": conv(x, grouped, 1, "SAME"), "depthwise": tf.nn.depthwise_conv2d(x, d, [1, 2, 2, 1], "SAME"),
        "depthwise_valid": tf.nn.depthwise_conv2d(x, d, [1, 1, 1, 1], "VALID"),
        "back_same": tf.nn.conv2d_transpose(x, back, [n, 18, 22, 5], 2, "SAME"),
        "back_odd": tf.nn.conv2d_transpose(x, back, [n, 17, 21, 5], 2, "SAME"),
        "back_valid": tf.nn.conv2d_transpose(x, back, [n, 20, 24, 5], 2, "VALID"),
        "back_small": tf.nn.conv2d_transpose(x, back[:1, :1], [n, 18, 22, 5], 2, "SAME"),
        "max": tf.nn.max_pool2d(x, 3, 2, "SAME"), "max_valid": tf.nn.max_pool2d(x, [2, 3], [1, 2], "VALID"),
        "avg": tf.nn.avg_pool2d(x, 3, 2, "SAME"), "avg_valid": tf.nn.avg_pool2d(x, 2, 2, "VALID"),
        "norm": raw.FusedBatchNormV3(x=x, scale=vector[0], offset=vector[1], mean=vector[2], variance=vector[3],
                                     epsilon=0.01, is_training=False)[0],
        "norm_training": raw.FusedBatchNormV3(x=x, scale=vector[0], offset=vector[1], mean=[], variance=[],
                                              epsilon=0.01)[0],
        "lrn": tf.nn.lrn(x, 2, 1.5, 0.3, 0.7), "depth": tf.nn.space_to_depth(x[:, :8, :10], 2),
        "space": tf.nn.depth_to_space(x, 2), "chain": chain, "joined": tf.concat([chain, chain * 2], 3),
        "pooled": tf.reduce_mean(chain, [1, 2]), "kept": tf.reduce_max(chain, [1, 2], keepdims=True) + chain,
        "channels": tf.reduce_sum(chain, 3), "flat": tf.reshape(chain, [n, 5 * 6 * 4]),
        "blocks": tf.batch_to_space(conv(tf.space_to_batch(x, [2, 2], [[2, 3], [2, 3]]), k, 1, "VALID"), [2, 2],
                                    [[0, 1], [0, 1]]),
        "blocks_alone": tf.space_to_batch(x, [3, 2], [[0, 0], [1, 0]]),
        "split": tf.split(chain, 2, 3)[1], "padded": tf.pad(chain, [[0, 0], [1, 0], [0, 2], [0, 0]]),
        "conv1d": tf.nn.conv1d(x[:, 0], normal(3, 4, 6), 2, "SAME"),
        "nine": tf.squeeze(tf.nn.avg_pool2d(x, [9, 11], 1, "VALID"), [1, 2]), "soft": tf.nn.softmax(y),
    }  # fmt: skip


def windows_3d(t: dict[str, Any]) -> dict[str, Any]:
    x = t["x"]  # [n, 5, 6, 7, 2]
    k = tf.constant(normal(3, 2, 3, 2, 3))
    return {
        "conv": tf.nn.conv3d(x, k, [1, 1, 2, 1, 1], "SAME"), "max": tf.nn.max_pool3d(x, 2, 2, "SAME"),
        "avg": tf.nn.avg_pool3d(x, 2, 2, "VALID"),
        "back": tf.nn.conv3d_transpose(x, normal(3, 2, 3, 4, 2), [tf.shape(x)[0], 10, 12, 14, 4], 2, "SAME"),
    }  # fmt: skip


def open_sizes(t: dict[str, Any]) -> dict[str, Any]:
    x = t["x"]  # [n, h, w, 3]
    shape = tf.shape(x)
    k = tf.constant(normal(3, 3, 3, 4))
    double = tf.stack([shape[0], shape[1] * 2, shape[2] * 2, 4])
    y = tf.nn.conv2d(x, k, 2, "SAME")
    return {
        "conv": y, "pool": tf.nn.max_pool2d(x, 3, 2, "SAME"), "mean": tf.nn.avg_pool2d(x, 2, 2, "SAME"),
        "back": tf.nn.conv2d_transpose(x, normal(3, 3, 4, 3), double, 2, "SAME"),
        "back_odd": tf.nn.conv2d_transpose(y, normal(2, 2, 3, 4), shape, 2, "SAME"),
        "bilinear": tf.image.resize(x, shape[1:3] * 2), "legacy": raw.ResizeBilinear(images=x, size=shape[1:3] + 3),
        "nearest": raw.ResizeNearestNeighbor(images=x, size=shape[1:3] * 2, half_pixel_centers=True),
        "flat": tf.reshape(x, [shape[0], -1, 3]), "centred": x - tf.reduce_mean(x, [1, 2], keepdims=True),
        "dilated": tf.batch_to_space(
            tf.nn.conv2d(tf.space_to_batch(x[:, :4, :6], [2, 2], [[2, 2], [2, 2]]), k, 1, "VALID"),
            [2, 2], [[0, 0], [0, 0]]),
    }  # fmt: skip


def pictures(t: dict[str, Any]) -> dict[str, Any]:
    x = t["x"]  # [n, 5, 7, 3]
    found = {}
    for name in ("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic"):
        for suffix, size in (("up", [11, 13]), ("double", [10, 14]), ("down", [3, 4]), ("mixed", [15, 5])):
            for how in ({}, {"align_corners": True}, {"half_pixel_centers": True}):
                key = "_".join([name, suffix, *how])
                found[key] = getattr(raw, name)(images=x, size=size, **how)
    found["ResizeArea"] = raw.ResizeArea(images=x, size=[3, 4])
    found["area_up"] = raw.ResizeArea(images=x, size=[7, 10])
    return found


def boxes(t: dict[str, Any]) -> dict[str, Any]:
    b, s = t["boxes"], t["scores"]
    corners = tf.concat([b[:, :2], b[:, :2] + tf.abs(b[:, 2:]) + 0.5], 1)
    five = raw.NonMaxSuppressionV5(boxes=corners, scores=s[:, 0], max_output_size=6, iou_threshold=0.3,
                                   score_threshold=-1.0, soft_nms_sigma=0.0)  # fmt: skip
    return {
        "three": tf.image.non_max_suppression(corners, s[:, 0], 5, 0.4, 0.1), "five": five[0], "five_scores": five[1],
        "five_count": five[2],
    }  # fmt: skip


def crops(t: dict[str, Any]) -> dict[str, Any]:
    """An operator that only tf2onnx has."""
    return {
        "crops": tf.image.crop_and_resize(t["x"], [[0.1, 0.2, 0.8, 0.9], [0.0, 0.0, 1.0, 1.0]], [0, 1], [3, 4]) + 1.0
    }


def factors(t: dict[str, Any]) -> dict[str, Any]:
    """An operator that neither has, under two that both have."""
    return {"factors": tf.nn.relu(tf.linalg.cholesky(t["x"])), "more": tf.linalg.det(t["x"]), "fine": -t["x"]}


def conditions() -> None:
    """The conditions of TensorFlow 1, on a switch for training, on values, and nested."""
    v1.disable_control_flow_v2()
    graph = tf.Graph()
    x_value = normal(3, 4)
    with graph.as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        training = v1.placeholder(tf.bool, [], name="is_training")
        dropped = v1.cond(training, lambda: tf.nn.dropout(x, rate=0.5), lambda: tf.identity(x * 3.0))
        positive = tf.reduce_sum(x) > 0
        chosen = v1.cond(positive, lambda: x + 1.0, lambda: x * 2.0)
        nested = v1.cond(
            positive, lambda: v1.cond(training, lambda: x, lambda: x - 5.0), lambda: tf.fill(tf.shape(x), 7.0)
        )
        outputs = {"dropped": dropped, "chosen": chosen, "nested": nested}
        outputs = {key: tf.identity(value, name=key) for key, value in outputs.items()}
        for sign in (1, -1):
            value = np.abs(x_value) * sign
            results = session.run(outputs, {x: value, training: False})
            keep("conditions" if sign > 0 else "conditions.2", {"x": value}, results)
        (OUT / "conditions.pb").write_bytes(graph.as_graph_def().SerializeToString())
    v1.enable_control_flow_v2()


def checkpoint() -> None:
    """A checkpoint without a name, with variables in parts, training, and a switch; and the same as SavedModel."""
    v1.disable_resource_variables()
    v1.disable_control_flow_v2()
    graph = tf.Graph()
    with graph.as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 6], name="x")
        labels = v1.placeholder(tf.float32, [None, 3], name="labels")
        training = v1.placeholder(tf.bool, [], name="is_training")
        parts = v1.get_variable("parts", [6, 8], partitioner=v1.fixed_size_partitioner(3, 1),
                                initializer=v1.random_normal_initializer(seed=1))  # fmt: skip
        y = tf.matmul(x, tf.convert_to_tensor(parts))
        mean = v1.get_variable("mean", [8], initializer=v1.random_normal_initializer(seed=2))
        y = tf.nn.relu(v1.cond(training, lambda: y - tf.reduce_mean(y, 0), lambda: y - mean))
        kernel = v1.get_variable("kernel", [8, 3], initializer=v1.random_normal_initializer(seed=3), use_resource=True)
        y = tf.nn.softmax(tf.matmul(y, kernel), name="probabilities")
        loss = tf.reduce_mean(tf.square(y - labels), name="loss")
        v1.train.AdamOptimizer().minimize(loss)
        session.run(v1.global_variables_initializer())
        value = normal(4, 6)
        results = session.run({"probabilities": y}, {x: value, training: False})
        folder = OUT / "checkpoint"
        folder.mkdir(parents=True)
        v1.train.Saver().save(session, str(folder / "made"))
        for path in folder.iterdir():
            path.rename(path.with_name(path.name.removeprefix("made")) if path.name.startswith("made") else path)
        keep("checkpoint", {"x": value}, results)
        builder = v1.saved_model.Builder(str(OUT / "saved_v1"))
        signature = v1.saved_model.predict_signature_def(
            {
                "features": x,
            },
            {"classes": y},
        )
        builder.add_meta_graph_and_variables(session, ["serve", "cpu"], {"predict": signature})
        builder.save()
        keep("saved_v1", {"features": value}, {"classes": results["probabilities"]})
    v1.enable_control_flow_v2()
    v1.enable_resource_variables()


class Module(tf.Module):
    """Functions within functions, a condition, loops, two signatures."""

    def __init__(self) -> None:
        super().__init__()
        self.w = tf.Variable(normal(4, 4) / 2, name="w")
        self.table = tf.Variable(normal(5, 4), name="w")
        self.step = tf.Variable(0.25, name="step")

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "x")])
    def inner(self, x: Any) -> Any:
        return tf.tanh(x @ self.w)

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "x"), tf.TensorSpec([None], tf.int32, "ids")])
    def main(self, x: Any, ids: Any) -> dict[str, Any]:
        y = self.inner(x) + tf.gather(self.table, ids)
        if tf.reduce_sum(y) > 0:
            z = self.inner(y)
        else:
            z = y * self.step
        count = tf.constant(0)
        while tf.logical_and(count < 7, tf.reduce_max(tf.abs(z)) > 0.3):
            z = self.inner(z) * 0.6
            count += 1
        z = z + tf.switch_case(tf.constant(1), [lambda: y, lambda: y * 2.0, lambda: y - 1.0])
        rows = tf.TensorArray(tf.float32, size=5, element_shape=[None, 4])
        state = y
        for i in tf.range(5):
            state = self.inner(state)
            rows = rows.write(i, state)
        return {"z": z, "count": count, "rows": rows.stack()}

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "x")])
    def other(self, x: Any) -> dict[str, Any]:
        return {"y": x * self.step}


def modules() -> None:
    module = Module()
    folder = OUT / "module"
    tf.saved_model.save(module, str(folder), {"main": module.main, "other": module.other})
    for name, sign in (("module", 1), ("module.2", -1)):
        feeds = {"x": sign * np.abs(normal(3, 4)), "ids": np.array([1, 4, 0], np.int32)}
        keep(name, feeds, {key: value.numpy() for key, value in module.main(**feeds).items()})


def keras_models() -> None:
    import tf_keras as k

    tf.random.set_seed(3)
    k.utils.set_random_seed(3)
    L = k.layers
    x = L.Input([12, 10, 3], name="picture")
    y = L.BatchNormalization(momentum=0.5)(L.Conv2D(4, 3, 2, "same", name="first")(x))
    y = L.ReLU(6.0)(y)
    y = L.DepthwiseConv2D(3, padding="same")(y)
    z = L.Conv2DTranspose(3, 3, 2, "same")(y)
    y = L.UpSampling2D(2, interpolation="bilinear")(y)
    y = L.Concatenate()([y, z])
    y = L.Dropout(0.3)(L.Activation("gelu")(y))
    cnn = k.Model(x, [L.Dense(5, "softmax", name="classes")(L.GlobalAveragePooling2D()(y)), L.Flatten(name="flat")(z)])
    cnn(normal(8, 12, 10, 3), training=True)
    save_keras("keras_cnn", cnn, normal(2, 12, 10, 3), whole=True)
    x = L.Input([None, 4], name="steps")
    y = L.Bidirectional(L.LSTM(5, return_sequences=True))(x)
    y = L.GRU(4)(y)
    save_keras("keras_rnn", k.Model(x, L.Dense(2)(y)), normal(2, 6, 4))


def save_keras(name: str, model: Any, value: Any, whole: bool = False) -> None:
    folder = OUT / name
    if whole:
        model.save(folder, include_optimizer=False)
    else:
        model.export(folder)
    signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    key = next(iter(signature.structured_input_signature[1]))
    keep(name, {key: value}, {key: found.numpy() for key, found in signature(**{key: tf.constant(value)}).items()})


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    i, j = R.integers(-9, 9, (3, 5)).astype(np.int32), R.integers(1, 6, (3, 5)).astype(np.int32)
    frozen(
        "arithmetic",
        arithmetic,
        {"x": normal(3, 5), "y": normal(3, 5), "i": i, "j": j * np.where(i % 2, 1, -1).astype(np.int32)},
    )
    frozen("products", products, {"x": normal(3, 4, 5)})
    frozen("shapes", shapes, {"x": normal(2, 4, 6), "i": np.array([[0, 3, 1], [2, 2, 3]], np.int32)})
    frozen("windows", windows, {"x": normal(2, 9, 11, 4)})
    frozen("windows_3d", windows_3d, {"x": normal(2, 5, 6, 7, 2)})
    frozen("open_sizes", open_sizes, {"x": normal(2, 7, 9, 3)}, open_=True)
    frozen("pictures", pictures, {"x": normal(2, 5, 7, 3)})
    frozen("boxes", boxes, {"boxes": normal(12, 4), "scores": np.abs(normal(12, 1))})
    frozen("crops", crops, {"x": normal(2, 6, 7, 3)})
    frozen("factors", factors, {"x": np.eye(3, dtype=np.float32)[None] * 2})
    conditions()
    checkpoint()
    modules()
    keras_models()
    for path in OUT.rglob("fingerprint.pb"):
        path.unlink()
    for path in OUT.rglob("keras_metadata.pb"):
        path.unlink()
    definition = v1.GraphDef.FromString((OUT / "products.pb").read_bytes())
    (OUT / "products.pbtxt").write_text(str(definition))
    np.savez_compressed(OUT / "recorded.npz", **RECORDED)


main()
