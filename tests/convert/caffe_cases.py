# ruff: noqa: E501  # networks as their users write them
"""Caffe networks made here: layers one by one, and narrow ones of the well-known architectures. Weights are seeded.

`scripts/record_caffe.py` records what OpenCV makes of them.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sardonyx.convert.caffe.files import schema

DATA = Path(__file__).parent / "data" / "caffe"
Array = np.ndarray[Any, Any]


@dataclass
class Net:
    """A prototxt and the blobs of its caffemodel."""

    shapes: dict[str, tuple[int, ...]]
    text: str = ""
    blobs: dict[str, list[Array]] = field(default_factory=dict)
    channels: dict[str, int] = field(default_factory=dict)
    inputs: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.channels = {name: shape[1] for name, shape in self.shapes.items() if len(shape) > 1}

    def add(
        self, kind: str, name: str, bottoms: Any, *, tops: Any = None, blobs: list[Array] | None = None,
        channels: int | None = None, **options: str,
    ) -> str:  # fmt: skip
        """A layer; options are messages by name. It gives its first blob."""
        bottoms = [bottoms] if isinstance(bottoms, str) else bottoms
        tops = [name] if tops is None else [tops] if isinstance(tops, str) else tops
        parts = [f'bottom: "{b}"' for b in bottoms] + [f'top: "{t}"' for t in tops]
        parts += [f"{key} {{ {value} }}" for key, value in options.items()]
        self.text += f'layer {{ name: "{name}" type: "{kind}" {" ".join(parts)} }}\n'
        if blobs is not None:
            self.blobs[name] = blobs
        for top in tops:
            self.channels[top] = (
                channels if channels is not None else self.channels.get(bottoms[0], 0) if bottoms else 0
            )
        return tops[0]

    def conv(
        self, name: str, bottom: str, outputs: int, size: int, *, group: int = 1, rest: str = "", **more: Any
    ) -> str:
        """A convolution with a bias, whose weights keep the size of values."""
        inputs = self.channels[bottom]
        rng = seeded(name)
        weights = rng.normal(0, (2 / (inputs // group * size * size)) ** 0.5, (outputs, inputs // group, size, size))
        bias = rng.normal(0, 0.1, outputs)
        options = f"num_output: {outputs} kernel_size: {size} group: {group} {rest}"
        return self.add(
            "Convolution", name, bottom, blobs=[weights, bias], channels=outputs, convolution_param=options, **more
        )

    def relu(self, blob: str) -> str:
        """In place."""
        return self.add("ReLU", f"{blob}_relu", blob, tops=blob)

    def pool(self, name: str, bottom: str, options: str) -> str:
        return self.add("Pooling", name, bottom, pooling_param=options)

    def dense(self, name: str, bottom: str, inputs: int, outputs: int) -> str:
        rng = seeded(name)
        blobs = [rng.normal(0, inputs**-0.5, (outputs, inputs)), rng.normal(0, 0.1, outputs)]
        options = f"num_output: {outputs}"
        return self.add("InnerProduct", name, bottom, blobs=blobs, channels=outputs, inner_product_param=options)

    def norm(self, blob: str) -> str:
        """BatchNorm and Scale, in place."""
        count, rng = self.channels[blob], seeded(blob)
        stored = [rng.normal(0, 1, count), rng.uniform(1, 4, count), np.array([2.0])]
        self.add("BatchNorm", f"{blob}_bn", blob, tops=blob, blobs=stored)
        scale = [rng.uniform(0.5, 1.5, count), rng.normal(0, 0.2, count)]
        return self.add("Scale", f"{blob}_scale", blob, tops=blob, blobs=scale, scale_param="bias_term: true")

    def prototxt(self) -> str:
        head = 'name: "made"\n'
        for name, shape in self.shapes.items():
            dims = " ".join(f"dim: {dim}" for dim in shape)
            head += f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
        return head + self.text

    def values(self) -> dict[str, Array]:
        """Seeded inputs of the declared shapes."""
        made = {name: seeded(name).normal(0, 1, shape) for name, shape in self.shapes.items()}
        return {name: array.astype(np.float32) for name, array in (made | self.inputs).items()}


def seeded(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def caffemodel(blobs: dict[str, list[Array]], *, half: bool = False, old: bool = False, version: int = 2) -> bytes:
    """The weights as a file: as float16 in field 12, with dims of 2013 (`old`), in layers of V0, V1 or V2."""
    net = schema().new("Net")
    net.name = b"made"
    for name, arrays in blobs.items():
        if version == 2:
            layer = holder = net.layer.add(name=name.encode(), type=b"Any")
        else:
            layer = holder = net.layers.add()
            if version == 0:
                holder = layer.layer
            holder.name = name.encode()
        for array in arrays:
            blob = holder.blobs.add()
            if half:
                blob.raw_data_type, blob.raw_data = 2, np.asarray(array, "<f2").tobytes()
            else:
                blob.data.append(np.asarray(array, "<f4").tobytes())
            dims = np.shape(array)
            if old:
                blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - len(dims)) + dims
            else:
                blob.shape.dim.extend(dims)
    return net.SerializeToString()


def write(folder: Path, net: Net, name: str = "net", **options: Any) -> Path:
    """Both files; the path of the prototxt."""
    path = folder / f"{name}.prototxt"
    path.write_text(net.prototxt())
    blobs = net.blobs or {"unused": [np.ones(1)]}
    path.with_suffix(".caffemodel").write_bytes(caffemodel(blobs, **options))
    return path


# Layers


def _one(
    kind: str, shape: tuple[int, ...] = (2, 4, 7, 6), blobs: list[tuple[int, ...]] | None = None, **options: str
) -> Net:
    net = Net({"data": shape})
    rng = seeded(kind + str(options))
    net.add(kind, "out", "data", blobs=[rng.uniform(0.2, 1.5, b) for b in blobs] if blobs else None, **options)
    return net


def _many(kind: str, *shapes: tuple[int, ...], **options: str) -> Net:
    net = Net({f"data{i}": shape for i, shape in enumerate(shapes)})
    net.add(kind, "out", list(net.shapes), **options)
    return net


def _conv(
    options: str,
    weight: tuple[int, ...],
    shape: tuple[int, ...] = (2, 4, 9, 8),
    kind: str = "Convolution",
    bias: int = 0,
) -> Net:
    net = Net({"data": shape})
    rng = seeded(options + kind)
    blobs = [rng.normal(0, 0.3, weight)] + ([rng.normal(0, 1, bias)] if bias else [])
    net.add(kind, "out", "data", blobs=blobs, convolution_param=options)
    return net


def _cut(kind: str, tops: int, **options: str) -> Net:
    net = Net({"data": (2, 6, 5, 4)})
    net.add(kind, "out", "data", tops=[f"out{i}" for i in range(tops)], **options)
    return net


def _pool(options: str, shape: tuple[int, ...] = (2, 3, 10, 11)) -> Net:
    return _one("Pooling", shape, pooling_param=options)


def _positive(net: Net) -> Net:
    net.inputs = {name: np.abs(seeded(name).normal(0, 1, shape)) + 0.1 for name, shape in net.shapes.items()}
    return net


def _indices(net: Net, count: int) -> Net:
    net.inputs = {name: seeded(name).integers(0, count, shape) for name, shape in net.shapes.items()}
    return net


def layers() -> dict[str, Net]:
    """A network of one layer for each case."""
    cases = {
        "conv": _conv("num_output: 6 kernel_size: 3 pad: 1 stride: 2", (6, 4, 3, 3), bias=6),
        "conv_hw": _conv("num_output: 6 kernel_h: 3 kernel_w: 2 pad_h: 1 pad_w: 0 stride_h: 2 stride_w: 1 bias_term: false", (6, 4, 3, 2)),
        "conv_grouped": _conv("num_output: 6 kernel_size: 3 group: 2", (6, 2, 3, 3), bias=6),
        "conv_dilated": _conv("num_output: 5 kernel_size: 3 dilation: 2 pad: 2", (5, 4, 3, 3), bias=5),
        "conv_3d": _conv("num_output: 5 kernel_size: 2 kernel_size: 3 kernel_size: 2 pad: 1", (5, 4, 2, 3, 2), (2, 4, 4, 6, 5), bias=5),
        "depthwise": _conv("num_output: 4 kernel_size: 3 group: 4", (4, 1, 3, 3), kind="DepthwiseConvolution", bias=4),
        "deconv": _conv("num_output: 6 kernel_size: 4 stride: 2 pad: 1", (4, 6, 4, 4), kind="Deconvolution", bias=6),
        "deconv_grouped": _conv("num_output: 4 kernel_size: 4 stride: 2 pad: 1 group: 4 bias_term: false", (4, 1, 4, 4), kind="Deconvolution"),
        "pool_max": _pool("pool: MAX kernel_size: 3 stride: 2"),
        "pool_max_padded": _pool("pool: MAX kernel_size: 3 stride: 2 pad: 1"),
        "pool_max_clipped": _pool("pool: MAX kernel_size: 2 stride: 2 pad: 1", (1, 2, 5, 6)),
        "pool_ave": _pool("pool: AVE kernel_size: 3 stride: 2"),
        "pool_ave_padded": _pool("pool: AVE kernel_size: 3 stride: 2 pad: 1"),
        "pool_ave_beyond": _pool("pool: AVE kernel_size: 4 stride: 3 pad: 1", (1, 2, 10, 12)),
        "pool_ave_mixed": _pool("pool: AVE kernel_h: 3 kernel_w: 5 stride_h: 2 stride_w: 4 pad_h: 1 pad_w: 2", (1, 2, 8, 12)),
        "pool_floor": _pool("pool: MAX kernel_size: 3 stride: 2 round_mode: FLOOR", (1, 2, 8, 10)),
        "pool_ceil_mode": _pool("pool: AVE kernel_size: 3 stride: 2 ceil_mode: false", (1, 2, 8, 10)),
        "pool_global_ave": _pool("pool: AVE global_pooling: true"),
        "pool_global_max": _pool("pool: MAX global_pooling: true"),
        "lrn": _one("LRN", (2, 9, 4, 5), lrn_param="local_size: 5 alpha: 0.3 beta: 0.75 k: 2"),
        "lrn_within": _one("LRN", lrn_param="local_size: 3 alpha: 0.3 beta: 0.75 norm_region: WITHIN_CHANNEL k: 7"),
        "inner": _one("InnerProduct", (3, 2, 3, 4), [(5, 24), (5,)], inner_product_param="num_output: 5"),
        "inner_transposed": _one("InnerProduct", (3, 24), [(24, 5), (5,)], inner_product_param="num_output: 5 transpose: true"),
        "inner_axis": _one("InnerProduct", (3, 2, 6), [(5, 6), (5,)], inner_product_param="num_output: 5 axis: 2"),
        "inner_axis_plain": _one("InnerProduct", (3, 2, 3, 2), [(6, 5)], inner_product_param="num_output: 5 axis: -2 transpose: true bias_term: false"),
        "embed": _indices(_one("Embed", (2, 5), [(7, 4), (4,)], embed_param="input_dim: 7 num_output: 4"), 7),
        "batch_norm": _one("BatchNorm", blobs=[(4,), (4,), (1,)], batch_norm_param="eps: 0.01 moving_average_fraction: 0.9"),
        "batch_norm_zero": _one("BatchNorm", batch_norm_param="use_global_stats: true"),
        "scale": _one("Scale", blobs=[(4,)]),
        "scale_bias": _one("Scale", blobs=[(4,), (4,)], scale_param="bias_term: true"),
        "scale_axes": _one("Scale", blobs=[(4, 7), (4, 7)], scale_param="bias_term: true num_axes: 2"),
        "scale_last": _one("Scale", blobs=[(6,)], scale_param="axis: -1 num_axes: -1"),
        "scale_scalar": _one("Scale", blobs=[()], scale_param="num_axes: 0"),
        "scale_two": _many("Scale", (2, 4, 3, 5), (2, 4), scale_param="axis: 0"),
        "bias": _one("Bias", blobs=[(4,)]),
        "relu": _one("ReLU"),
        "relu_leaky": _one("ReLU", relu_param="negative_slope: 0.1"),
        "relu6": _one("ReLU6"),
        "prelu": _one("PReLU", blobs=[(4,)]),
        "prelu_shared": _one("PReLU", blobs=[(1,)], prelu_param="channel_shared: true"),
        "prelu_dense": _one("PReLU", (3, 4), blobs=[(4,)]),
        "elu": _one("ELU", elu_param="alpha: 0.7"),
        "sigmoid": _one("Sigmoid"),
        "tanh": _one("TanH"),
        "abs": _one("AbsVal"),
        "bnll": _one("BNLL"),
        "mish": _one("Mish"),
        "swish": _one("Swish", swish_param="beta: 1.5"),
        "clip": _one("Clip", clip_param="min: -0.5 max: 0.7"),
        "threshold": _one("Threshold", threshold_param="threshold: 0.3"),
        "power": _one("Power", power_param="power: 2 scale: 0.5 shift: -1"),
        "power_root": _positive(_one("Power", power_param="power: 0.5 scale: 2 shift: 1")),
        "power_linear": _one("Power", power_param="scale: 2 shift: 1"),
        "exp": _one("Exp"),
        "exp_base": _one("Exp", exp_param="base: 2 scale: 0.5 shift: 1"),
        "log": _positive(_one("Log")),
        "log_base": _positive(_one("Log", log_param="base: 2 scale: 0.5 shift: 1")),
        "dropout": _one("Dropout", dropout_param="dropout_ratio: 0.4"),
        "dropout_unscaled": _one("Dropout", dropout_param="dropout_ratio: 0.4 scale_train: false"),
        "softmax": _one("Softmax"),
        "softmax_axis": _one("Softmax", softmax_param="axis: -1"),
        "concat": _many("Concat", (2, 3, 4, 5), (2, 1, 4, 5)),
        "concat_axis": _many("Concat", (2, 3, 4, 5), (2, 3, 4, 2), concat_param="axis: 3"),
        "concat_batch": _many("Concat", (2, 3), (3, 3), concat_param="concat_dim: 0"),
        "slice": _cut("Slice", 3),
        "slice_points": _cut("Slice", 3, slice_param="axis: 2 slice_point: 1 slice_point: 3"),
        "split": _cut("Split", 2),
        "eltwise_sum": _many("Eltwise", (2, 3, 4), (2, 3, 4)),
        "eltwise_coeff": _many("Eltwise", (2, 3, 4), (2, 3, 4), (2, 3, 4), eltwise_param="operation: SUM coeff: 1 coeff: -0.5 coeff: 2"),
        "eltwise_prod": _many("Eltwise", (2, 3, 4), (2, 3, 4), (2, 3, 4), eltwise_param="operation: PROD"),
        "eltwise_max": _many("Eltwise", (2, 3, 4), (2, 3, 4), eltwise_param="operation: MAX"),
        "axpy": _many("Axpy", (2, 3, 1, 1), (2, 3, 4, 5), (2, 3, 4, 5)),
        "flatten": _one("Flatten"),
        "flatten_axes": _one("Flatten", (2, 3, 4, 5, 2), flatten_param="axis: 2 end_axis: -2"),
        "reshape": _one("Reshape", (2, 4, 6), reshape_param="shape { dim: 0 dim: -1 dim: 3 }"),
        "reshape_axis": _one("Reshape", (2, 4, 6), reshape_param="shape { dim: 2 dim: 2 } axis: 1 num_axes: 1"),
        "reshape_batch": _one("Reshape", (2, 4, 6), reshape_param="shape { dim: -1 dim: 12 }"),
        "permute": _one("Permute", permute_param="order: 0 order: 2 order: 3 order: 1"),
        "permute_part": _one("Permute", permute_param="order: 0 order: 3"),
        "crop": _many("Crop", (2, 3, 9, 8), (2, 3, 5, 4), crop_param="axis: 2 offset: 2 offset: 3"),
        "crop_one": _many("Crop", (2, 3, 9, 8), (2, 3, 5, 4), crop_param="offset: 1"),
        "reduction": _one("Reduction", reduction_param="axis: 1 operation: MEAN coeff: 2"),
        "reduction_abs": _one("Reduction", reduction_param="axis: 2 operation: ASUM"),
        "reduction_squares": _one("Reduction", reduction_param="operation: SUMSQ"),
        "argmax": _one("ArgMax", argmax_param="top_k: 2"),
        "argmax_values": _one("ArgMax", argmax_param="top_k: 3 out_max_val: true"),
        "argmax_axis": _one("ArgMax", argmax_param="axis: 1"),
        "argmax_axis_values": _one("ArgMax", argmax_param="axis: -1 top_k: 2 out_max_val: true"),
        "tile": _one("Tile", tile_param="axis: 2 tiles: 3"),
        "mvn": _one("MVN"),
        "mvn_across": _one("MVN", mvn_param="across_channels: true normalize_variance: false"),
        "normalize": _one("Normalize", blobs=[(4,)], norm_param="across_spatial: false channel_shared: false"),
        "normalize_all": _one("Normalize", blobs=[(1,)]),
        "shuffle": _one("ShuffleChannel", shuffle_channel_param="group: 2"),
        "interp": _one("Interp", interp_param="height: 11 width: 9"),
        "interp_zoom": _one("Interp", interp_param="zoom_factor: 3 pad_beg: -1 pad_end: -1"),
        "interp_shrink": _one("Interp", interp_param="shrink_factor: 2"),
        "interp_like": _many("Interp", (2, 3, 4, 5), (2, 3, 8, 9)),
        "upsample": _one("Upsample", upsample_param="scale: 2"),
        "prior_box": _many("PriorBox", (1, 4, 3, 5), (1, 3, 30, 40), prior_box_param="min_size: 8 max_size: 13 aspect_ratio: 2 aspect_ratio: 3 flip: true clip: true variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2"),
        "prior_box_step": _many("PriorBox", (1, 4, 3, 5), (1, 3, 30, 40), prior_box_param="min_size: 8 min_size: 9 aspect_ratio: 1.5 flip: false step: 8 offset: 0.4 clip: false variance: 0.3"),
    }  # fmt: skip
    cases["batch_norm_zero"].blobs["out"] = [np.ones(4), np.ones(4), np.zeros(1)]
    for name, options in {
        "detection": "share_location: true code_type: CENTER_SIZE keep_top_k: 9 confidence_threshold: 0.2 nms_param { nms_threshold: 0.3 top_k: 12 }",
        "detection_all": "share_location: true code_type: CORNER keep_top_k: -1 nms_param { nms_threshold: 0.5 }",
        "detection_own": "share_location: false code_type: CENTER_SIZE keep_top_k: 20 confidence_threshold: 0.3 nms_param { nms_threshold: 0.4 top_k: 15 }",
        "detection_size": "share_location: true code_type: CORNER_SIZE variance_encoded_in_target: true keep_top_k: 7 confidence_threshold: 0.3 background_label_id: 1 nms_param { nms_threshold: 0.4 }",
        "detection_none": "share_location: true code_type: CENTER_SIZE keep_top_k: 20 confidence_threshold: 0.9999 nms_param { nms_threshold: 0.4 top_k: 15 }",
    }.items():  # fmt: skip
        cases[name] = _detection(name, options)
    return cases


def _detection(name: str, options: str, count: int = 30, classes: int = 3, images: int = 2) -> Net:
    sets = classes if "share_location: false" in options else 1
    net = Net({"loc": (images, count * 4 * sets), "conf": (images, count * classes), "prior": (1, 2, count * 4)})
    rng = seeded(name)
    centres, sizes = rng.uniform(0.2, 0.8, (count, 2)), rng.uniform(0.1, 0.3, (count, 2))
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], 1).ravel()
    logits = rng.normal(0, 1, (images, count, classes))
    scores = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    net.inputs = {
        "loc": rng.normal(0, 0.02 if "CORNER" in options else 0.5, net.shapes["loc"]),
        "conf": scores.reshape(images, -1),
        "prior": np.stack([boxes, np.tile([0.1, 0.1, 0.2, 0.2], count)])[None],
    }
    net.add(
        "DetectionOutput", "out", ["loc", "conf", "prior"], detection_output_param=f"num_classes: {classes} {options}"
    )
    return net


# Networks, narrow


def alexnet() -> Net:
    net = Net({"data": (2, 3, 67, 67)})
    x = net.relu(net.conv("conv1", "data", 12, 11, rest="stride: 4"))
    x = net.add("LRN", "norm1", x, lrn_param="local_size: 5 alpha: 0.0001 beta: 0.75")
    x = net.pool("pool1", x, "pool: MAX kernel_size: 3 stride: 2")
    x = net.relu(net.conv("conv2", x, 16, 5, group=2, rest="pad: 2"))
    x = net.add("LRN", "norm2", x, lrn_param="local_size: 5 alpha: 0.0001 beta: 0.75")
    x = net.pool("pool2", x, "pool: MAX kernel_size: 3 stride: 2")
    x = net.relu(net.conv("conv3", x, 24, 3, rest="pad: 1"))
    x = net.relu(net.conv("conv4", x, 24, 3, group=2, rest="pad: 1"))
    x = net.relu(net.conv("conv5", x, 16, 3, group=2, rest="pad: 1"))
    x = net.relu(net.dense("fc6", x, 16 * 9, 32))
    x = net.add("Dropout", "drop6", x, tops=x)
    net.add("Softmax", "prob", net.dense("fc7", x, 32, 10))
    return net


def _inception(net: Net, x: str, name: str, sizes: tuple[int, ...]) -> str:
    one = net.relu(net.conv(f"{name}/1x1", x, sizes[0], 1))
    three = net.relu(net.conv(f"{name}/3x3_reduce", x, sizes[1], 1))
    three = net.relu(net.conv(f"{name}/3x3", three, sizes[2], 3, rest="pad: 1"))
    five = net.relu(net.conv(f"{name}/5x5_reduce", x, sizes[3], 1))
    five = net.relu(net.conv(f"{name}/5x5", five, sizes[4], 5, rest="pad: 2"))
    pool = net.pool(f"{name}/pool", x, "pool: MAX kernel_size: 3 stride: 1 pad: 1")
    pool = net.relu(net.conv(f"{name}/pool_proj", pool, sizes[5], 1))
    total = sizes[0] + sizes[2] + sizes[4] + sizes[5]
    return net.add("Concat", f"{name}/output", [one, three, five, pool], channels=total)


def googlenet() -> Net:
    net = Net({"data": (2, 3, 64, 64)})
    x = net.relu(net.conv("conv1/7x7_s2", "data", 8, 7, rest="stride: 2 pad: 3"))
    x = net.pool("pool1/3x3_s2", x, "pool: MAX kernel_size: 3 stride: 2")
    x = net.add("LRN", "pool1/norm1", x, lrn_param="local_size: 5 alpha: 0.0001 beta: 0.75")
    x = net.relu(net.conv("conv2/3x3", x, 12, 3, rest="pad: 1"))
    x = net.pool("pool2/3x3_s2", x, "pool: MAX kernel_size: 3 stride: 2")
    x = _inception(net, x, "inception_3a", (8, 6, 8, 4, 4, 4))
    x = _inception(net, x, "inception_3b", (8, 6, 12, 4, 6, 4))
    x = net.pool("pool3/3x3_s2", x, "pool: MAX kernel_size: 3 stride: 2")
    x = _inception(net, x, "inception_4a", (12, 6, 12, 4, 4, 4))
    x = net.pool("pool5", x, "pool: AVE kernel_size: 4 stride: 1")
    x = net.add("Dropout", "pool5/drop", x, tops=x)
    net.add("Softmax", "prob", net.dense("loss3/classifier", x, 32, 10))
    return net


def resnet50() -> Net:
    net = Net({"data": (2, 3, 56, 56)})
    x = net.relu(net.norm(net.conv("conv1", "data", 8, 7, rest="stride: 2 pad: 3")))
    x = net.pool("pool1", x, "pool: MAX kernel_size: 3 stride: 2")
    for stage, (count, width) in enumerate(((3, 4), (4, 6), (6, 8), (3, 10)), 2):
        for block in range(count):
            name, stride = f"res{stage}{'abcdef'[block]}", 2 if stage > 2 and not block else 1
            y = x
            if not block:
                x = net.norm(net.conv(f"{name}_branch1", x, width * 4, 1, rest=f"stride: {stride}"))
            y = net.relu(net.norm(net.conv(f"{name}_branch2a", y, width, 1, rest=f"stride: {stride}")))
            y = net.relu(net.norm(net.conv(f"{name}_branch2b", y, width, 3, rest="pad: 1")))
            y = net.norm(net.conv(f"{name}_branch2c", y, width * 4, 1))
            x = net.relu(net.add("Eltwise", name, [x, y]))
    x = net.pool("pool5", x, "pool: AVE kernel_size: 2 stride: 1")
    net.add("Softmax", "prob", net.dense("fc10", x, 40, 10))
    return net


def squeezenet() -> Net:
    net = Net({"data": (2, 3, 67, 67)})
    x = net.relu(net.conv("conv1", "data", 8, 3, rest="stride: 2"))
    x = net.pool("pool1", x, "pool: MAX kernel_size: 3 stride: 2")
    for i, (squeezed, wide) in enumerate(((4, 8), (4, 8), (6, 12)), 2):
        name = f"fire{i}"
        s = net.relu(net.conv(f"{name}/squeeze1x1", x, squeezed, 1))
        one = net.relu(net.conv(f"{name}/expand1x1", s, wide, 1))
        three = net.relu(net.conv(f"{name}/expand3x3", s, wide, 3, rest="pad: 1"))
        x = net.add("Concat", f"{name}/concat", [one, three], channels=2 * wide)
        if i == 3:
            x = net.pool("pool3", x, "pool: MAX kernel_size: 3 stride: 2")
    x = net.relu(net.conv("conv10", x, 10, 1))
    net.add("Softmax", "prob", net.pool("pool10", x, "pool: AVE global_pooling: true"))
    return net


def ssd() -> Net:
    net = Net({"data": (1, 3, 64, 64)})
    x = net.relu(net.conv("conv1", "data", 8, 3, rest="stride: 2 pad: 1"))
    x = net.relu(net.conv("conv2", x, 12, 3, rest="stride: 2 pad: 1"))
    first = net.add("Normalize", "conv2_norm", x, blobs=[np.full(12, 4.0)],
                    norm_param="across_spatial: false channel_shared: false")  # fmt: skip
    second = net.relu(
        net.conv("conv3", net.pool("pool2", x, "pool: MAX kernel_size: 2 stride: 2"), 12, 3, rest="pad: 6 dilation: 6")
    )
    heads: dict[str, list[str]] = {"loc": [], "conf": [], "priors": []}
    for source, small, large in ((first, 12, 24), (second, 24, 40)):
        for kind, outputs in (("loc", 16), ("conf", 12)):
            y = net.conv(f"{source}_{kind}", source, outputs, 3, rest="pad: 1")
            y = net.add("Permute", f"{y}_perm", y, permute_param="order: 0 order: 2 order: 3 order: 1")
            heads[kind].append(net.add("Flatten", f"{y}_flat", y, flatten_param="axis: 1"))
        options = f"min_size: {small} max_size: {large} aspect_ratio: 2 flip: true clip: false"
        options += " variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2"
        heads["priors"].append(net.add("PriorBox", f"{source}_prior", [source, "data"], prior_box_param=options))
    loc = net.add("Concat", "mbox_loc", heads["loc"])
    conf = net.add("Concat", "mbox_conf", heads["conf"])
    priors = net.add("Concat", "mbox_priorbox", heads["priors"], concat_param="axis: 2")
    conf = net.add("Reshape", "mbox_conf_reshape", conf, reshape_param="shape { dim: 0 dim: -1 dim: 3 }")
    conf = net.add("Softmax", "mbox_conf_softmax", conf, softmax_param="axis: 2")
    conf = net.add("Flatten", "mbox_conf_flatten", conf)
    options = "num_classes: 3 share_location: true background_label_id: 0 code_type: CENTER_SIZE keep_top_k: 20"
    options += " confidence_threshold: 0.35 nms_param { nms_threshold: 0.45 top_k: 100 }"
    net.add("DetectionOutput", "detection_out", [loc, conf, priors], detection_output_param=options)
    return net


NETWORKS = {
    "alexnet": alexnet, "googlenet": googlenet, "resnet50": resnet50, "squeezenet": squeezenet, "ssd": ssd,
}  # fmt: skip
