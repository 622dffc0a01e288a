"""Caffe's layers over windows: convolution, pooling with its own way of rounding up, normalisation, resizing."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sardonyx.convert.caffe.layers import Call, Rule
from sardonyx.convert.caffe.prototxt import Message
from sardonyx.convert.shaped import Tensor, Unsupported, average

MAX_WINDOW = 2**16


def _sizes(p: Message, name: str, short: str, rank: int, default: int | None) -> list[int]:
    """An option of a convolution: one number, one for each axis, or those with _h and _w."""
    given = p.ints(name)
    pair = [p.ints(f"{short}_h"), p.ints(f"{short}_w")] if short else [[], []]
    if any(pair):
        if given or rank != 2 or not all(pair):
            raise Unsupported(f"{name} is given twice or in part")
        given = [pair[0][-1], pair[1][-1]]
    if not given and default is not None:
        given = [default]
    sizes = given * rank if len(given) == 1 else given
    least = 0 if name == "pad" else 1
    if len(sizes) != rank or not all(least <= size <= MAX_WINDOW for size in sizes):
        raise Unsupported(f"{name} is {given[:10]} for {rank} axes")
    return sizes


def _convolution(c: Call) -> list[Tensor]:
    return [_convolve(c, x, turned=False, last=i) for i, x in enumerate(c.inputs)]


def _deconvolution(c: Call) -> list[Tensor]:
    return [_convolve(c, x, turned=True, last=i) for i, x in enumerate(c.inputs)]


def _convolve(c: Call, x: Tensor, *, turned: bool, last: int) -> Tensor:
    rank = x.rank - 2
    if c.p.int("axis", 1) not in (1, 1 - x.rank) or rank < 1:
        raise Unsupported(f"its channels are not axis 1 of an input of {x.rank} dims")
    c.p.ignore("force_nd_im2col")
    kernel = _sizes(c.p, "kernel_size", "kernel", rank, None)
    stride, pad = _sizes(c.p, "stride", "stride", rank, 1), _sizes(c.p, "pad", "pad", rank, 0)
    dilation = _sizes(c.p, "dilation", "", rank, 1)
    channels, outputs, group = x.known(1)[0], c.p.int("num_output", 0), c.p.int("group", 1)
    if group < 1 or channels % group or outputs % group or outputs < 1:
        raise Unsupported(f"{channels} channels and {outputs} outputs are not {group} groups")
    # Either kind stores what a Convolution from its output to its input would, turned around (ConvolutionLayer).
    shape = (channels, outputs // group, *kernel) if turned else (outputs, channels // group, *kernel)
    values: list[ir.Value | None] = [x.value, c.weight(0, shape, "weight")]
    if c.p.bool("bias_term", True):
        values.append(c.weight(1, (outputs,), "bias"))
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    axes = list(zip(x.known(*range(2, x.rank)), spans, stride, pad, strict=True))
    if turned:
        sizes = [(size - 1) * s + k - 2 * p for size, k, s, p in axes]
    else:
        sizes = [(size + 2 * p - k) // s + 1 if size + 2 * p >= k else 0 for size, k, s, p in axes]
    value = c.node(
        "ConvTranspose" if turned else "Conv", values, f"{last}" if last else "",
        kernel_shape=kernel, strides=stride, pads=pad * 2, dilations=dilation, group=group,
    )  # fmt: skip
    return c.tensor(value, (x.shape[0], outputs, *sizes))


def _pair(p: Message, name: str, default: int | None) -> list[int]:
    """An option of a pooling layer, which keeps defaults for _h and _w."""
    short = name.partition("_")[0]
    pair = [p.ints(f"{short}_h"), p.ints(f"{short}_w")]
    whole = p.ints(name)
    if any(pair) and ((whole and any(whole)) or (not all(pair) and name == "kernel_size")):
        raise Unsupported(f"{name} is given twice or in part")
    single = whole[-1] if whole else default
    sizes = [found[-1] if found else single for found in pair]
    if any(size is None or not (0 if name == "pad" else 1) <= size <= MAX_WINDOW for size in sizes):
        raise Unsupported(f"{name} is {sizes}")
    return [size for size in sizes if size is not None]


def pooled_size(size: int, kernel: int, stride: int, pad: int, *, up: bool, cut: bool) -> tuple[int, int]:
    """How many windows fit, and the zeros after the end that the last one covers (PoolingLayer::Reshape).

    `up` counts a window that is not whole; with `cut`, where either axis is padded, not if it lies in the padding.
    Raises Unsupported where a window would hold nothing.
    """
    span = size + 2 * pad - kernel
    if span < 0 or pad >= kernel:
        raise Unsupported(f"a window of {kernel} with a padding of {pad} does not fit an input of {size}")
    count = (-(-span // stride) if up else span // stride) + 1
    if cut and (count - 1) * stride >= size + pad:
        count -= 1
    if (count - 1) * stride - pad >= size:
        raise Unsupported(f"its last window lies outside the input of {size}; Caffe gives no meaningful value there")
    return count, max(0, (count - 1) * stride + kernel - size - pad)


def _pooling(c: Call) -> list[Tensor]:
    method = c.p.choice("pool", ("MAX", "AVE", "STOCHASTIC"), "MAX")
    if method == "STOCHASTIC":
        raise Unsupported("stochastic pooling is not supported")
    x, top = c.inputs[0], "Max" if method == "MAX" else "Average"
    if x.rank != 4 or len(c.inputs) != 1 or c.tops != 1:
        raise Unsupported("it needs one input of four dims and gives one output (no mask)")
    up = _rounds_up(c.p)
    if c.p.bool("global_pooling", False):
        _pair(c.p, "pad", 0), _pair(c.p, "stride", 1)
        if any(c.p.ints(name) for name in ("pad", "pad_h", "pad_w") if c.p.int(name, 0)):
            raise Unsupported("it pools over everything with a padding")
        return [c.tensor(c.node(f"Global{top}Pool", [x.value]), (*x.shape[:2], 1, 1))]
    kernel, stride, pad = _pair(c.p, "kernel_size", None), _pair(c.p, "stride", 1), _pair(c.p, "pad", 0)
    axes = zip(x.known(2, 3), kernel, stride, pad, strict=True)
    found = [pooled_size(size, k, s, p, up=up, cut=any(pad)) for size, k, s, p in axes]
    sizes, after = [count for count, _ in found], [end for _, end in found]
    shape = (*x.shape[:2], *sizes)
    if method == "MAX":
        return [c.tensor(c.node("MaxPool", [x.value], kernel_shape=kernel, strides=stride, pads=pad + after), shape)]
    return [c.tensor(average(c, x.value, kernel, stride, pad, after), shape)]


def _rounds_up(p: Message) -> bool:
    """Whether a window that is cut at the end counts: `round_mode` of BVLC, `ceil_mode` of forks."""
    mode = p.choice("round_mode", ("CEIL", "FLOOR"), "CEIL")
    return p.bool("ceil_mode", mode == "CEIL")


def _lrn(c: Call) -> list[Tensor]:
    size, alpha, beta = c.p.int("local_size", 5), c.p.float("alpha", 1.0), c.p.float("beta", 0.75)
    bias = c.p.float("k", 1.0)
    if not 0 < size <= MAX_WINDOW or size % 2 == 0 or c.x.rank != 4:
        raise Unsupported(f"its window is {size} for an input of {c.x.rank} dims, expected an odd number and 4")
    x = c.x.value
    if c.p.choice("norm_region", ("ACROSS_CHANNELS", "WITHIN_CHANNEL"), "ACROSS_CHANNELS") == "ACROSS_CHANNELS":
        return [c.like(c.x, c.node("LRN", [x], size=size, alpha=alpha, beta=beta, bias=bias))]
    # Within a channel Caffe is built of other layers, which do not know of k: x * (1 + alpha * mean(x^2)) ^ -beta.
    half = [size // 2] * 2
    mean = average(c, c.node("Mul", [x, x], "square"), [size] * 2, [1, 1], half, half)
    power = c.node("Pow", [c.scaled(mean, alpha, 1, ""), c.constant("power", -beta)], "power")
    return [c.like(c.x, c.node("Mul", [x, power]))]


def _padding(c: Call) -> list[Tensor]:
    """A layer of its own in 2013."""
    pad = c.p.int("pad", 0)
    height, width = c.x.known(2, 3)
    value = c.node("Pad", [c.x.value, c.constant("pads", [0, 0, pad, pad] * 2, np.int64)])
    return [c.tensor(value, (*c.x.shape[:2], height + 2 * pad, width + 2 * pad))]


def _resized(c: Call, x: Tensor, sizes: list[int], mode: str, where: str, **attributes: str) -> Tensor:
    if min(sizes) < 1 or max(sizes) > 2**20:
        raise Unsupported(f"its output would be {sizes}")
    x.known(2, 3)
    value = c.node(
        "Resize", [x.value, None, None, c.constant("sizes", sizes, np.int64)], axes=[2, 3], mode=mode,
        coordinate_transformation_mode=where, **attributes,
    )  # fmt: skip
    return c.tensor(value, (*x.shape[:2], *sizes))


def _interp(c: Call) -> list[Tensor]:
    """DeepLab's bilinear resizing, corners on corners, after cutting its (negative) padding off."""
    x = c.inputs[0]
    before, after = c.p.int("pad_beg", 0), c.p.int("pad_end", 0)
    if before > 0 or after > 0 or x.rank != 4:
        raise Unsupported("its padding is positive or its input has not four dims")
    height, width = (size + before + after for size in x.known(2, 3))
    if before or after:
        x = c.slices(x, {2: (-before, height - before), 3: (-before, width - before)}, "cut")
    shrink, zoom = c.p.int("shrink_factor", 0), c.p.int("zoom_factor", 0)
    sizes = [c.p.int("height", 0), c.p.int("width", 0)]
    if len(c.inputs) == 2:
        sizes = c.inputs[1].known(2, 3)
    elif shrink or zoom:
        sizes = [height, width]
        sizes = [(size - 1) // shrink + 1 for size in sizes] if shrink > 0 else sizes
        sizes = [size + (size - 1) * (zoom - 1) for size in sizes] if zoom > 0 else sizes
    if len(c.inputs) > 2:
        raise Unsupported(f"it has {len(c.inputs)} inputs")
    return [_resized(c, x, sizes, "linear", "align_corners")]


def _upsample(c: Call) -> list[Tensor]:
    """Nearest neighbours by a whole factor (YOLO's forks); with a mask it would be SegNet's unpooling."""
    scale = c.p.int("scale", c.p.int("stride", 2))
    if c.x.rank != 4 or not 1 <= scale <= 64:
        raise Unsupported(f"its scale is {scale}")
    sizes = [size * scale for size in c.x.known(2, 3)]
    return [_resized(c, c.x, sizes, "nearest", "asymmetric", nearest_mode="floor")]


RULES: dict[str, tuple[str, Rule]] = {
    "Convolution": ("convolution_param", _convolution),
    "ConvolutionDepthwise": ("convolution_param", _convolution),
    "Deconvolution": ("convolution_param", _deconvolution),
    "DepthwiseConvolution": ("convolution_param", _convolution),
    "Interp": ("interp_param", _interp),
    "LRN": ("lrn_param", _lrn),
    "Padding": ("convolution_param", _padding),
    "Pooling": ("pooling_param", _pooling),
    "Upsample": ("upsample_param", _upsample),
}
"""By type, as in `layers`."""
