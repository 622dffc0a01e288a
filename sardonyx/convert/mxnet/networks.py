"""MXNet's layers of networks in ONNX: convolution, pooling, normalisation, activations, recurrence, outputs."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from sardonyx.convert.mxnet.call import Call, Rule, Weight
from sardonyx.convert.shaped import Array, Tensor, Unsupported, average, text

_MAX_WINDOW = 2**16
_CUDNN = ("workspace", "cudnn_tune", "cudnn_off", "cudnn_algo_verbose", "cudnn_algo_fwd", "cudnn_algo_bwd_data",
          "cudnn_algo_bwd_filter")  # fmt: skip


def _window(c: Call, rank: int) -> tuple[list[int], list[int], list[int]]:
    """Kernel, stride and padding along the spatial axes."""
    if not 1 <= rank <= 3:
        raise Unsupported(f"its input has the shape {text(c.t().shape)}")
    kernel = list(c.p.ints("kernel"))
    stride = list(c.p.ints("stride")) or [1] * rank
    pad = list(c.p.ints("pad")) or [0] * rank
    if not len(kernel) == len(stride) == len(pad) == rank or min(*kernel, *stride) < 1 or min(pad) < 0:
        raise Unsupported(f"kernel {kernel[:5]}, stride {stride[:5]} and pad {pad[:5]} do not fit {rank} axes")
    if max(*kernel, *stride, *pad) > _MAX_WINDOW:
        raise Unsupported(f"kernel {kernel[:5]} is too large")
    return kernel, stride, pad


def _layout(c: Call, rank: int) -> None:
    if not 1 <= rank <= 3 or c.p.text("layout", "") not in ("", ("NCW", "NCHW", "NCDHW")[rank - 1]):
        raise Unsupported(f"its layout is {c.p.text('layout', 'the usual')[:20]} for a shape of {text(c.t().shape)}")


def _convolution(c: Call) -> list[Tensor]:
    x = c.t()
    rank = x.rank - 2
    kernel, stride, pad = _window(c, rank)
    _layout(c, rank)
    c.p.ignore(*_CUDNN)
    dilate, outputs, group = list(c.p.ints("dilate")) or [1] * rank, c.p.int("num_filter", 0), c.p.int("num_group", 1)
    channels = x.known(1)[0]
    if len(dilate) != rank or min(dilate) < 1 or group < 1 or channels % group or outputs % group or outputs < 1:
        raise Unsupported(f"{channels} channels and {outputs} filters are not {group} groups")
    values = [x.value, c.weight(1, (outputs, channels // group, *kernel))]
    if not c.p.bool("no_bias", False):
        values.append(c.weight(2, (outputs,)))
    spans = [d * (k - 1) + 1 for d, k in zip(dilate, kernel, strict=True)]
    sizes = [None if n is None else (n + 2 * p - k) // s + 1 if n + 2 * p >= k else 0
             for n, p, k, s in zip(x.shape[2:], pad, spans, stride, strict=True)]  # fmt: skip
    value = c.node("Conv", values, kernel_shape=kernel, strides=stride, pads=pad * 2, dilations=dilate, group=group)
    return [c.tensor(value, (x.shape[0], outputs, *sizes))]


def _deconvolution(c: Call) -> list[Tensor]:
    x = c.t()
    rank = x.rank - 2
    kernel, stride, pad = _window(c, rank)
    _layout(c, rank)
    c.p.ignore(*_CUDNN)
    dilate, adjust = list(c.p.ints("dilate")) or [1] * rank, list(c.p.ints("adj")) or [0] * rank
    if any(c.p.ints("target_shape")):
        raise Unsupported("its size is given as target_shape")
    channels, outputs, group = x.known(1)[0], c.p.int("num_filter", 0), c.p.int("num_group", 1)
    if group < 1 or channels % group or outputs % group or len(adjust) != rank or len(dilate) != rank:
        raise Unsupported(f"{channels} channels and {outputs} filters are not {group} groups")
    if any(not 0 <= a < s for a, s in zip(adjust, stride, strict=True)):
        raise Unsupported(f"adj is {adjust} for strides {stride}")
    values = [x.value, c.weight(1, (channels, outputs // group, *kernel))]
    if not c.p.bool("no_bias", True):
        values.append(c.weight(2, (outputs,)))
    sizes = [None if n is None else (n - 1) * s + d * (k - 1) + 1 - 2 * p + a for n, s, d, k, p, a
             in zip(x.shape[2:], stride, dilate, kernel, pad, adjust, strict=True)]  # fmt: skip
    value = c.node("ConvTranspose", values, kernel_shape=kernel, strides=stride, pads=pad * 2, dilations=dilate,
                   group=group, output_padding=adjust)  # fmt: skip
    return [c.tensor(value, (x.shape[0], outputs, *sizes))]


def _pooling(c: Call) -> list[Tensor]:
    x, kind = c.t(), c.p.text("pool_type", "max")
    rank = x.rank - 2
    _layout(c, rank)
    c.p.ignore("cudnn_off")
    if kind not in ("max", "avg", "sum"):
        raise Unsupported(f"pool_type is {kind[:20]}")
    counted = c.p.bool("count_include_pad", True)
    full = c.p.text("pooling_convention", "valid")
    if full not in ("valid", "full"):
        raise Unsupported(f"pooling_convention is {full[:20]}")
    if c.p.bool("global_pool", False):
        c.p.ignore("kernel", "stride", "pad")
        op_type = "GlobalMaxPool" if kind == "max" else "GlobalAveragePool"
        value = c.node(op_type, [x.value], "mean" if kind == "sum" else "")
        if kind == "sum":
            value = c.node("Mul", [value, c.scalar("area", math.prod(x.known(*range(2, x.rank))))])
        return [c.tensor(value, (*x.shape[:2], *[1] * rank))]
    kernel, stride, pad = _window(c, rank)
    if kind == "max" and full == "full" and None in x.shape[2:]:
        return [_pooled_open(c, x, kernel, stride, pad)]
    found = [_pooled(*axis, full == "full") for axis in zip(x.shape[2:], kernel, stride, pad, strict=True)]
    sizes, after = [size for size, _ in found], [end for _, end in found]
    if kind == "max":
        value = c.node("MaxPool", [x.value], kernel_shape=kernel, strides=stride, pads=pad + after)
    elif kind == "sum":
        value = c.node("AveragePool", [x.value], "mean", kernel_shape=kernel, strides=stride, pads=pad + after,
                       count_include_pad=1)  # fmt: skip
        value = c.node("Mul", [value, c.scalar("area", math.prod(kernel))])
    elif counted:
        value = average(c, x.value, kernel, stride, pad, after)
    else:
        value = c.node("AveragePool", [x.value], kernel_shape=kernel, strides=stride, pads=pad + after)
    return [c.tensor(value, (*x.shape[:2], *sizes))]


def _pooled(size: int | None, kernel: int, stride: int, pad: int, full: bool) -> tuple[int | None, int]:
    """How many windows fit, and the padding after the end that they cover (pooling.cc, PoolingShape)."""
    if pad >= kernel:
        raise Unsupported(f"a window of {kernel} with a padding of {pad} can hold nothing")
    if size is None:
        if full and stride > 1:
            raise Unsupported("it rounds up sizes that are open: give the input's whole shape in shapes")
        return None, pad
    span = size + 2 * pad - kernel
    if span < 0:
        raise Unsupported(f"a window of {kernel} does not fit an input of {size}")
    count = (-(-span // stride) if full else span // stride) + 1
    if (count - 1) * stride - pad >= size:
        raise Unsupported(f"its last window lies outside the input of {size}")
    return count, max(0, (count - 1) * stride + kernel - size - pad)


def _pooled_open(c: Call, x: Tensor, kernel: list[int], stride: list[int], pad: list[int]) -> Tensor:
    """The largest of windows whose number is rounded up, where sizes are open: ONNX's ceil_mode does the same as long
    as no window lies outside the input."""
    if any(p + s > k for k, s, p in zip(kernel, stride, pad, strict=True)):
        raise Unsupported("it rounds up sizes that are open: give the input's whole shape in shapes")
    sizes = [None if n is None else -(-(n + 2 * p - k) // s) + 1
             for n, k, s, p in zip(x.shape[2:], kernel, stride, pad, strict=True)]  # fmt: skip
    value = c.node("MaxPool", [x.value], kernel_shape=kernel, strides=stride, pads=pad * 2, ceil_mode=1)
    return c.tensor(value, (*x.shape[:2], *sizes))


def _adaptive_pooling(c: Call) -> list[Tensor]:
    """To one number, or sizes that divide the input's."""
    x, wanted = c.t(), list(c.p.ints("output_size"))
    wanted = wanted * 2 if len(wanted) == 1 else wanted or [1, 1]
    if wanted == [1, 1]:
        return [c.tensor(c.node("GlobalAveragePool", [x.value]), (*x.shape[:2], 1, 1))]
    sizes = x.known(2, 3)
    if any(n < 1 or size % n for size, n in zip(sizes, wanted, strict=True)):
        raise Unsupported(f"{sizes} are no multiples of {wanted}")
    steps = [size // n for size, n in zip(sizes, wanted, strict=True)]
    return [c.tensor(c.node("AveragePool", [x.value], kernel_shape=steps, strides=steps), (*x.shape[:2], *wanted))]


def _batch_norm(c: Call) -> list[Tensor]:
    """By the stored statistics; with fix_gamma, which is the default, the stored gamma counts as 1."""
    x, axis = c.t(), c.t().axis(c.p.int("axis", 1))
    c.p.ignore("momentum", "use_global_stats", "cudnn_off", "min_calib_range", "max_calib_range")
    if c.p.bool("output_mean_var", False):
        raise Unsupported("it gives mean and variance as well")
    size, eps = x.known(axis)[0], c.p.float("eps", 1e-3)
    gamma, beta, mean, variance = (c.a(i, [size]) for i in range(1, 5))
    if c.p.bool("fix_gamma", True):
        gamma = np.ones_like(gamma)
    if float(variance.min()) + eps <= 0:
        raise Unsupported("a stored variance is negative")
    if axis == 1:
        stored = [c.constant(name, array) for name, array in
                  (("gamma", gamma), ("beta", beta), ("mean", mean), ("variance", variance))]  # fmt: skip
        return [c.like(x, c.node("BatchNormalization", [x.value, *stored], epsilon=eps))]
    factor = gamma.astype(float) / np.sqrt(variance.astype(float) + eps)
    shape = [size, *[1] * (x.rank - axis - 1)]
    scaled = c.node("Mul", [x.value, c.constant("factor", factor.reshape(shape))], "scaled")
    return [c.like(x, c.node("Add", [scaled, c.constant("shift", (beta - mean * factor).reshape(shape))]))]


def _layer_norm(c: Call) -> list[Tensor]:
    x, axis = c.t(), c.t().axis(c.p.int("axis", -1))
    if c.p.bool("output_mean_var", False) or axis != x.rank - 1:
        raise Unsupported("its axis is not the last, or it gives mean and variance as well")
    size = x.known(axis)[0]
    values = [x.value, c.weight(1, (size,)), c.weight(2, (size,))]
    return [c.like(x, c.node("LayerNormalization", values, axis=-1, epsilon=c.p.float("eps", 1e-5)))]


def _instance_norm(c: Call) -> list[Tensor]:
    size = c.t().known(1)[0]
    values = [c.t().value, c.weight(1, (size,)), c.weight(2, (size,))]
    return [c.like(c.t(), c.node("InstanceNormalization", values, epsilon=c.p.float("eps", 1e-3)))]


def _group_norm(c: Call) -> list[Tensor]:
    x, groups = c.t(), c.p.int("num_groups", 1)
    size = x.known(1)[0]
    if groups < 1 or size % groups or c.p.bool("output_mean_var", False):
        raise Unsupported(f"{size} channels are not {groups} groups, or it gives mean and variance as well")
    # MXNet 1.x stores numbers for groups, 2.x for channels.
    gamma, beta = (c.a(i, [groups] if c.a(i).shape == (groups,) else [size]) for i in (1, 2))
    stored = [c.constant(name, array.repeat(size // array.size)) for name, array in (("gamma", gamma), ("beta", beta))]
    value = c.node("GroupNormalization", [x.value, *stored], num_groups=groups, epsilon=c.p.float("eps", 1e-5))
    return [c.like(x, value)]


def _l2_normalization(c: Call) -> list[Tensor]:
    x, mode = c.t(), c.p.text("mode", "instance")
    axes = {"instance": list(range(1, x.rank)), "channel": [1], "spatial": list(range(2, x.rank))}.get(mode)
    if axes is None:
        raise Unsupported(f"mode is {mode[:20]}")
    square = c.node("Mul", [x.value, x.value], "square")
    total = c.node("ReduceSum", [square, c.constant("axes", axes, np.int64)], "sum")
    root = c.node("Sqrt", [c.node("Add", [total, c.scalar("eps", c.p.float("eps", 1e-10))], "more")], "root")
    return [c.like(x, c.node("Div", [x.value, root]))]


def _lrn(c: Call) -> list[Tensor]:
    size = c.p.int("nsize", 0)
    if size < 1 or size % 2 == 0 or c.t().rank != 4:
        raise Unsupported(f"nsize is {size} for an input of {c.t().rank} dims")
    return c.unary("LRN", size=size, alpha=c.p.float("alpha", 1e-4), beta=c.p.float("beta", 0.75),
                   bias=c.p.float("knorm", 2.0))  # fmt: skip


def _activation(c: Call) -> list[Tensor]:
    kinds = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus", "softsign": "Softsign",
             "log_sigmoid": "", "mish": "Mish"}  # fmt: skip
    kind = c.p.text("act_type")
    if kind not in kinds:
        raise Unsupported(f"act_type is {kind[:20]!r}")
    if kind == "log_sigmoid":
        minus = c.node("Softplus", [c.node("Neg", [c.t().value], "negative")], "softplus")
        return [c.like(c.t(), c.node("Neg", [minus]))]
    return c.unary(kinds[kind])


def _leaky_relu(c: Call) -> list[Tensor]:
    """Of whichever kind; the random one has the mean of its bounds for its slope."""
    x, kind = c.t(), c.p.text("act_type", "leaky")
    slope, low, high = c.p.float("slope", 0.25), c.p.float("lower_bound", 0.125), c.p.float("upper_bound", 0.334)
    if kind == "leaky":
        return c.unary("LeakyRelu", alpha=slope)
    if kind == "rrelu":
        return c.unary("LeakyRelu", alpha=(low + high) / 2)
    if kind == "elu":
        return c.unary("Elu", alpha=slope)
    if kind == "selu":
        return c.unary("Selu", alpha=1.6732632423543772848170429916717, gamma=1.0507009873554804934193349852946)
    if kind == "gelu":
        return c.unary("Gelu")
    if kind != "prelu":
        raise Unsupported(f"act_type is {kind[:20]}")
    gamma = c.a(1)
    if gamma.ndim != 1 or gamma.size not in (1, x.known(x.axis(1))[0]):
        raise Unsupported(f"its slopes have the shape {text(gamma.shape)} for an input of {text(x.shape)}")
    slopes = c.constant("slopes", gamma.reshape(-1, *[1] * (x.rank - 2)))
    return [c.like(x, c.node("PRelu", [x.value, slopes]))]


def _fully_connected(c: Call) -> list[Tensor]:
    x, outputs = c.t(), c.p.int("num_hidden", 0)
    bias = not c.p.bool("no_bias", False)
    if c.p.bool("flatten", True):
        # Where the input's sizes are open, the weights tell how much they make together.
        size = c.a(1).shape[-1] if None in x.shape[1:] else math.prod(x.known(*range(1, x.rank)))
        flat = x if x.rank == 2 else c.reshape(x, (x.shape[0], size), "flat")
        values = [flat.value, c.weight(1, (outputs, size))] + ([c.weight(2, (outputs,))] if bias else [])
        return [c.tensor(c.node("Gemm", values, transB=1), (x.shape[0], outputs))]
    size = x.known(x.axis(-1))[0]
    turned = c.node("Transpose", [c.weight(1, (outputs, size))], "weight_t", perm=[1, 0])
    value = c.node("MatMul", [x.value, turned], "product" if bias else "")
    value = c.node("Add", [value, c.weight(2, (outputs,))]) if bias else value
    return [c.tensor(value, (*x.shape[:-1], outputs))]


def _softmax(op_type: str) -> Rule:
    def emit(c: Call) -> list[Tensor]:
        x, temperature = c.t(), c.p.float("temperature", 1.0)
        c.p.refuse(use_length="False", dtype="None")
        if len(c.inputs) != 1 or temperature == 0:
            raise Unsupported("it has lengths, or a temperature of 0")
        value = x.value
        if temperature != 1:
            value = c.node("Div", [value, c.scalar("temperature", temperature)], "cooled")
        return [c.like(x, c.node(op_type, [value], axis=x.axis(c.p.int("axis", -1))))]

    return emit


def _softmax_activation(c: Call) -> list[Tensor]:
    """Over the channels, or over the last axis, whatever the documentation says (softmax_activation-inl.h)."""
    mode = c.p.text("mode", "instance")
    if mode not in ("channel", "instance"):
        raise Unsupported(f"mode is {mode[:20]}")
    return c.unary("Softmax", axis=1 if mode == "channel" else -1)


def _softmax_of_rows(c: Call, x: Tensor) -> Tensor:
    """Over all that belongs to an item."""
    if x.rank == 2:
        return c.like(x, c.node("Softmax", [x.value], axis=1))
    size = math.prod(x.known(*range(1, x.rank)))
    rows = c.reshape(x, (x.shape[0], size), "rows")
    return c.reshape(c.like(rows, c.node("Softmax", [rows.value], "softmax", axis=1)), x.shape)


_LOSS = ("grad_scale", "ignore_label", "use_ignore", "normalization", "out_grad", "smooth_alpha")


def _softmax_output(c: Call) -> list[Tensor]:
    c.p.ignore(*_LOSS)
    multi, keep = c.p.bool("multi_output", False), c.p.bool("preserve_shape", False)
    if multi or keep:
        return c.unary("Softmax", axis=1 if multi else -1)
    return [_softmax_of_rows(c, c.t())]


def _logistic(c: Call) -> list[Tensor]:
    c.p.ignore("grad_scale")
    return c.unary("Sigmoid")


def _upsampling(c: Call) -> list[Tensor]:
    """Nearest neighbours; several inputs are brought to the first one's size and joined."""
    c.p.ignore("workspace", "num_args", "num_filter")
    scale, mode = c.p.int("scale", 1), c.p.text("multi_input_mode", "concat")
    if c.p.text("sample_type") != "nearest" or not 1 <= scale <= 1000:
        raise Unsupported(f"its scale is {scale}, or it is not of nearest neighbours")
    inputs = c.all()
    parts, single = [], len(inputs) == 1
    size = [scale * dim for dim in inputs[0].known(2, 3)] if not single else []
    for i, x in enumerate(inputs):
        factors = [scale, scale] if single else [a // b for a, b in zip(size, x.known(2, 3), strict=True)]
        shape = [None if d is None else d * f for d, f in zip(x.shape[2:], factors, strict=True)]
        value = c.node(
            "Resize", [x.value, None, c.constant(f"scales_{i}", [1, 1, *factors])], "" if single else f"part_{i}",
            mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        )  # fmt: skip
        parts.append(c.tensor(value, (*x.shape[:2], *shape)))
    if single:
        return parts
    if len({part.shape[2:] for part in parts}) != 1:
        raise Unsupported("its inputs' sizes do not divide the first one's")
    if mode == "sum":
        return [c.like(parts[0], c.node("Sum", [part.value for part in parts]))]
    total = sum(part.known(1)[0] for part in parts)
    return [
        c.tensor(
            c.node("Concat", [part.value for part in parts], axis=1), (parts[0].shape[0], total, *parts[0].shape[2:])
        )
    ]


def _bilinear(c: Call) -> list[Tensor]:
    """_contrib_BilinearResize2D to a size or by a scale, corners on corners unless told otherwise."""
    x = c.t()
    c.p.refuse(mode="size")
    sizes = [c.p.int("height", 1), c.p.int("width", 1)]
    if c.p.has("scale_height") or c.p.has("scale_width"):
        factors = [c.p.float("scale_height", 1.0), c.p.float("scale_width", 1.0)]
        sizes = [int(n * f) for n, f in zip(x.known(2, 3), factors, strict=True)]
    if min(sizes) < 1 or max(sizes) > 2**20 or len(c.inputs) != 1:
        raise Unsupported(f"its size is {sizes}")
    where = "align_corners" if c.p.bool("align_corners", True) else "half_pixel"
    if where == "half_pixel":
        raise Unsupported("its corners are not aligned")
    value = c.node("Resize", [x.value, None, None, c.constant("sizes", sizes, np.int64)], axes=[2, 3], mode="linear",
                   coordinate_transformation_mode=where)  # fmt: skip
    return [c.tensor(value, (*x.shape[:2], *sizes))]


def _rnn(c: Call) -> list[Tensor]:
    """The fused layers: [time, batch, inputs], all weights in one row, first those of all layers, then all biases."""
    mode, hidden, count = c.p.text("mode"), c.p.int("state_size", 0), c.p.int("num_layers", 0)
    ways = 1 + c.p.bool("bidirectional", False)
    c.p.ignore("p", "pkeep_")
    c.p.refuse(projection_size="None", lstm_state_clip_min="None", lstm_state_clip_max="None",
               lstm_state_clip_nan="False", use_sequence_length="False")  # fmt: skip
    gates = {"rnn_relu": 1, "rnn_tanh": 1, "lstm": 4, "gru": 3}.get(mode, 0)
    if not gates or not 0 < hidden < 2**20 or not 0 < count < 1000 or c.t().rank != 3:
        raise Unsupported(f"mode is {mode[:20]!r} with {hidden} units in {count} layers")
    parts = _rnn_weights(c.a(1).ravel(), c.t().known(2)[0], hidden, count, ways, gates)
    states = [_state(c, i) for i in range(2, 4 if mode == "lstm" else 3)]
    x, finals = c.t(), list[list[Tensor]]()
    for layer in range(count):
        x, last = _rnn_layer(c, x, layer, parts[layer * ways : (layer + 1) * ways], states, mode, layer == count - 1)
        finals.append(last)
    if not c.p.bool("state_outputs", False):
        return [x]
    results = [x]
    for i in range(len(states)):
        tag = ("state", "state_cell")[i]
        values = [last[i].value for last in finals]
        value = values[0] if count == 1 else c.node("Concat", values, tag, axis=0)
        results.append(c.tensor(value, (count * ways, x.shape[1], hidden)))
    return results


def _state(c: Call, index: int) -> Tensor | None:
    """A first state; None for zeros."""
    found = c.inputs[index] if index < len(c.inputs) else None
    if isinstance(found, Weight) and not found.array.any():
        return None
    return c.t(index)


_ORDER = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2]}
"""ONNX's gates (i o f c, z r h) among MXNet's (i f c o, r z h)."""


def _rnn_weights(row: Array, inputs: int, hidden: int, count: int, ways: int, gates: int) -> list[list[Array]]:
    """For each layer and direction its weights for inputs and for states, and both biases."""
    sizes = [(gates * hidden, inputs if layer == 0 else hidden * ways) for layer in range(count) for _ in range(ways)]
    need = sum(rows * (columns + hidden + 2) for rows, columns in sizes)
    if row.size != need:
        raise Unsupported(f"its parameters are {row.size:,} numbers, expected {need:,}")
    at = 0

    def take(*shape: int) -> Array:
        nonlocal at
        at += math.prod(shape)
        return row[at - math.prod(shape) : at].reshape(shape)

    weights = [[take(rows, columns), take(rows, hidden)] for rows, columns in sizes]
    return [[*pair, take(rows), take(rows)] for pair, (rows, _) in zip(weights, sizes, strict=True)]


def _rnn_layer(
    c: Call, x: Tensor, layer: int, parts: list[list[Array]], states: list[Tensor | None], mode: str, is_last: bool
) -> tuple[Tensor, list[Tensor]]:
    ways, hidden = len(parts), parts[0][1].shape[1]
    order = _ORDER.get(mode, [0])

    def gates(array: Array) -> Array:
        apart = array.reshape(len(order), hidden, *array.shape[1:])
        return apart[order].reshape(array.shape)

    tag = f"layer_{layer}"
    w, r = (c.constant(f"{tag}_{name}", np.stack([gates(part[i]) for part in parts])) for i, name in enumerate("wr"))
    b = c.constant(f"{tag}_b", np.stack([np.concatenate([gates(part[2]), gates(part[3])]) for part in parts]))
    first = [_layer_state(c, state, layer, ways, f"{tag}_first_{i}") for i, state in enumerate(states)]
    op_type = {"lstm": "LSTM", "gru": "GRU"}.get(mode, "RNN")
    more: dict[str, object] = {"linear_before_reset": 1} if mode == "gru" else {}
    if op_type == "RNN":
        more["activations"] = ["Relu" if mode == "rnn_relu" else "Tanh"] * ways
    outputs = c.nodes(
        op_type, [x.value, w, r, b, None, *first], 1 + len(states), tag, hidden_size=hidden,
        direction="bidirectional" if ways == 2 else "forward", **more,
    )  # fmt: skip
    time, batch = x.shape[:2]
    # [time, ways, batch, hidden] to [time, batch, ways * hidden]
    moved = c.node("Transpose", [outputs[0]], f"{tag}_moved", perm=[0, 2, 1, 3])
    value = c.node("Reshape", [moved, c.constant("joined", [0, 0, -1], np.int64)], "" if is_last else f"{tag}_joined")
    return c.tensor(value, (time, batch, ways * hidden)), [c.tensor(v, (ways, batch, hidden)) for v in outputs[1:]]


def _layer_state(c: Call, state: Tensor | None, layer: int, ways: int, tag: str) -> ir.Value | None:
    if state is None:
        return None
    if state.shape[0] == ways:
        return state.value
    return c.slices(state, {0: (layer * ways, (layer + 1) * ways)}, tag).value


RULES: dict[str, Rule] = {
    "Activation": _activation,
    "BatchNorm": _batch_norm,
    "BatchNorm_v1": _batch_norm,
    "Convolution": _convolution,
    "Convolution_v1": _convolution,
    "Deconvolution": _deconvolution,
    "FullyConnected": _fully_connected,
    "GroupNorm": _group_norm,
    "InstanceNorm": _instance_norm,
    "L2Normalization": _l2_normalization,
    "LRN": _lrn,
    "LayerNorm": _layer_norm,
    "LeakyReLU": _leaky_relu,
    "LogisticRegressionOutput": _logistic,
    "Pooling": _pooling,
    "Pooling_v1": _pooling,
    "RNN": _rnn,
    "Softmax": _softmax_output,
    "SoftmaxActivation": _softmax_activation,
    "SoftmaxOutput": _softmax_output,
    "UpSampling": _upsampling,
    "_contrib_AdaptiveAvgPooling2D": _adaptive_pooling,
    "_contrib_BilinearResize2D": _bilinear,
    "log_softmax": _softmax("LogSoftmax"),
    "softmax": _softmax("Softmax"),
}
"""By the operator's name."""
