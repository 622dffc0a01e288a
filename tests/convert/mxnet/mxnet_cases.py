"""MXNet networks made here, with seeded weights. `scripts/record_mxnet.py` records what MXNet 1.9.1 makes of them."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parent.parent / "data" / "mxnet"
Array = np.ndarray[Any, Any]
Key = tuple[int, int]


@dataclass(frozen=True)
class Net:
    """A symbol's text, its parameters and inputs for it."""

    symbol: str
    params: Mapping[str, Array]
    inputs: Mapping[str, Array]

    def write(self, folder: Path, name: str = "net", **options: Any) -> Path:
        """Both files; the path of the symbol."""
        path = folder / f"{name}-symbol.json"
        path.write_text(self.symbol)
        (folder / f"{name}-0000.params").write_bytes(arrays_file(self.params, **options))
        return path

    @property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """The inputs' shapes with an open first dim."""
        return {name: (None, *array.shape[1:]) for name, array in self.inputs.items()}


@dataclass
class Builder:
    """Collects nodes as they stand in a symbol.json."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    params: dict[str, Array] = field(default_factory=dict)
    inputs: dict[str, Array] = field(default_factory=dict)

    def variable(self, name: str, **attributes: Any) -> Key:
        self.nodes.append({"op": "null", "name": name, "attrs": _texts(attributes), "inputs": []})
        return len(self.nodes) - 1, 0

    def input(self, name: str, array: Array) -> Key:
        self.inputs[name] = array
        return self.variable(name, **({} if array.dtype == np.float32 else {"__dtype__": "4"}))

    def param(self, name: str, array: Array) -> Key:
        self.params[name] = array
        return self.variable(name)

    def op(self, op: str, *inputs: Key, name: str = "", **attributes: Any) -> Key:
        name = name or f"{op.lower()}{len(self.nodes)}"
        links = [[source, result, 0] for source, result in inputs]
        self.nodes.append({"op": op, "name": name, "attrs": _texts(attributes), "inputs": links})
        return len(self.nodes) - 1, 0

    def net(self, *heads: Key, style: str = "attrs") -> Net:
        """The network; `style` is how MXNet of before 1.0 (`attr`) or before 0.9 (`param`) wrote it."""
        nodes = [_styled(node, style) for node in self.nodes]
        graph: dict[str, Any] = {
            "nodes": nodes,
            "arg_nodes": [i for i, node in enumerate(nodes) if node["op"] == "null"],
            "heads": [list(head) + [0] * (style != "param") for head in heads],
        }
        if style != "param":
            graph |= {"node_row_ptr": list(range(len(nodes) + 1))}
            graph["attrs"] = {"mxnet_version": ["int", 10901 if style == "attrs" else 905]}
        return Net(json.dumps(graph), dict(self.params), dict(self.inputs))


def _styled(node: Mapping[str, Any], style: str) -> dict[str, Any]:
    made: dict[str, Any] = {"op": node["op"], "name": node["name"], "inputs": node["inputs"]}
    if node["attrs"] or style == "param":
        made[style] = node["attrs"]
    if style == "param":
        made |= {"backward_source_id": -1, "inputs": [link[:2] for link in node["inputs"]]}
    return made


def _texts(attributes: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in attributes.items()}


def arrays_file(arrays: Mapping[str, Array], *, version: int = 2, names: bool = True) -> bytes:
    """A .params file as MXNet 1.x (2), 0.12 (1) or 0.5 (0) wrote it; 3 is that of arrays with NumPy's shapes."""
    codes = {"f4": 0, "f8": 1, "f2": 2, "u1": 3, "i4": 4, "i1": 5, "i8": 6}
    made = struct.pack("<QQQ", 0x112, 0, len(arrays))
    for array in arrays.values():
        dims = struct.pack(f"<{array.ndim}{'q' if version else 'I'}", *array.shape)
        head = {3: struct.pack("<Iii", 0xF993FACA, 0, array.ndim), 2: struct.pack("<Iii", 0xF993FAC9, 0, array.ndim),
                1: struct.pack("<II", 0xF993FAC8, array.ndim), 0: struct.pack("<I", array.ndim)}[version]  # fmt: skip
        made += head + dims + struct.pack("<iii", 1, 0, codes[array.dtype.str[1:]]) + array.tobytes()
    made += struct.pack("<Q", len(arrays) if names else 0)
    for name in arrays if names else ():
        text = f"{'aux' if 'moving' in name else 'arg'}:{name}".encode()
        made += struct.pack("<Q", len(text)) + text
    return made


@dataclass(frozen=True)
class Values:
    """What an input or a parameter of a case holds: normal numbers, or those that `kind` says."""

    shape: tuple[int, ...]
    stored: bool = False
    kind: str = "normal"

    def array(self, rng: np.random.Generator) -> Array:
        if self.kind == "positive":
            return rng.uniform(0.5, 3, self.shape).astype(np.float32)
        if self.kind == "above":
            return rng.uniform(1.1, 4, self.shape).astype(np.float32)
        if self.kind == "unit":
            return rng.uniform(-0.9, 0.9, self.shape).astype(np.float32)
        if self.kind == "halves":
            return (rng.integers(-7, 8, self.shape) / 2).astype(np.float32)
        if self.kind == "whole":
            return rng.integers(-1, 4, self.shape).astype(np.float32)
        if self.kind == "int32":
            return rng.integers(-5, 6, self.shape).astype(np.int32)
        if self.kind == "apart":  # all elements differ, so that the largest is one
            return rng.permutation(np.prod(self.shape)).reshape(self.shape).astype(np.float32)
        if self.kind == "small":
            return rng.normal(0, 0.3, self.shape).astype(np.float32)
        return rng.normal(0, 1, self.shape).astype(np.float32)


def x(*shape: int, kind: str = "normal") -> Values:
    return Values(shape, kind=kind)


def w(*shape: int, kind: str = "normal") -> Values:
    return Values(shape, stored=True, kind=kind)


def case(op: str, *values: Values, outputs: int = 1, label: bool = False, **attributes: Any) -> Net:
    """One operator."""
    built, rng = Builder(), np.random.default_rng(zlib.crc32(f"{op}{attributes}".encode()))
    keys = []
    for i, value in enumerate(values):
        make = built.param if value.stored else built.input
        keys.append(make(f"w{i}_moving_x" if op.startswith("BatchNorm") and i > 2 else f"x{i}", value.array(rng)))
    keys += [built.variable("result_label")] if label else []
    index, _ = built.op(op, *keys, name="result", **attributes)
    return built.net(*[(index, i) for i in range(outputs)])


def norm(op: str = "BatchNorm", channels: int = 4, shape: Sequence[int] = (2, 4, 3, 5), **attributes: Any) -> Net:
    return case(op, x(*shape), w(channels), w(channels), w(channels), w(channels, kind="positive"), **attributes)


def rnn_size(mode: str, inputs: int, hidden: int, layers: int, ways: int) -> int:
    gates = {"lstm": 4, "gru": 3}.get(mode, 1) * hidden
    columns = [inputs if layer == 0 else hidden * ways for layer in range(layers)]
    return sum(ways * gates * (size + hidden + 2) for size in columns)


def rnn(mode: str, layers: int, ways: int, outputs: int = 1) -> Net:
    """Six steps of two sequences; states come in, and go out where there are outputs for them."""
    state = (layers * ways, 2, 3)
    values = [x(6, 2, 5), w(rnn_size(mode, 5, 3, layers, ways), kind="small"), x(*state)]
    values += [x(*state)] * (mode == "lstm")
    return case("RNN", *values, mode=mode, state_size=3, num_layers=layers, bidirectional=ways == 2,
                state_outputs=outputs > 1, p=0.5, outputs=outputs)  # fmt: skip


UNARY = {
    "positive": "sqrt log rsqrt rcbrt log1p log2 log10 reciprocal",
    "above": "arccosh",
    "unit": "arcsin arccos arctanh",
    "normal": "abs exp sin cos tan sinh cosh tanh sigmoid relu softsign erf floor ceil sign arctan arcsinh negative "
    "square cbrt expm1 degrees radians BlockGrad Dropout MakeLoss _copy identity make_loss stop_gradient zeros_like "
    "ones_like Flatten flatten smooth_l1 hard_sigmoid _contrib_div_sqrt_dim softmax log_softmax SoftmaxActivation",
    "halves": "rint round fix trunc logical_not",
}
BINARY = (
    "_plus _Plus _minus _Minus _mul _Mul _div _Div _maximum _Maximum _minimum _Minimum _mod elemwise_add elemwise_sub "
)
BINARY += "elemwise_mul elemwise_div _greater _greater_equal _lesser _lesser_equal _equal _not_equal _logical_and "
BINARY += "_logical_or _logical_xor _power _Power _grad_add"
BROADCAST = "add sub mul div power maximum minimum plus minus mod greater greater_equal lesser lesser_equal equal "
BROADCAST += "not_equal logical_and logical_or logical_xor"
SCALAR = (
    "plus minus mul div power maximum minimum rminus rdiv rpower mod rmod greater greater_equal lesser lesser_equal "
)
SCALAR += "equal not_equal logical_and logical_or logical_xor"
OLD_SCALAR = "Plus Minus Mul Div Power Maximum Minimum RMinus RDiv RPower"


def _elementwise() -> dict[str, Net]:
    made = {}
    for kind, names in UNARY.items():
        made |= {name: case(name, x(2, 3, 4, kind=kind)) for name in names.split()}
    for name in BINARY.split():
        kind = "positive" if "ower" in name else "halves"
        made[name] = case(name, x(2, 3, 4, kind=kind), x(2, 3, 4, kind="positive" if "iv" in name else kind))
    for name in BROADCAST.split():
        kind = "positive" if name in ("power", "div") else "halves"
        made[f"broadcast_{name}"] = case(f"broadcast_{name}", x(2, 3, 1, kind=kind), x(2, 1, 4, kind=kind))
    for name in SCALAR.split():
        kind = "positive" if "power" in name or "div" in name else "halves"
        made[f"_{name}_scalar"] = case(f"_{name}_scalar", x(2, 3, 4, kind=kind), scalar=1.5)
    for name in OLD_SCALAR.split():
        made[f"_{name}Scalar"] = case(f"_{name}Scalar", x(2, 3, 4, kind="positive"), scalar=1.5)
    return made


def _of_shapes() -> dict[str, Net]:
    one = x(2, 4, 6)
    return {
        "slice": case("slice", one, begin="(0, 1, None)", end="(None, 3, -1)"),
        "slice_back": case("slice", one, begin="(None, None, -1)", end="(None, None, None)", step="(None, 2, -2)"),
        "crop": case("crop", one, begin=(0, 1), end=(2, 3)),
        "slice_axis": case("slice_axis", one, axis=-1, begin=-4, end=-1),
        "slice_axis_rest": case("slice_axis", one, axis=1, begin=1, end="None"),
        "slice_like": case("slice_like", one, x(2, 3, 5)),
        "slice_like_open": case("slice_like", x(2, 3, 7), x(2, 3, 5), axes="(0, 2)"),
        "slice_like_axes": case("slice_like", one, x(2, 3, 5), axes="(-1,)"),
        "reverse": case("reverse", one, axis=(1, 2)), "flip": case("flip", one, axis="(2,)"),
        "repeat": case("repeat", one, repeats=3, axis=1), "tile": case("tile", one, reps=(1, 2, 3)),
        "tile_deeper": case("tile", one, reps=(2, 1, 1, 2)),
        "reshape_like": case("reshape_like", one, x(2, 8, 3)),
        "reshape": case("reshape", one, shape=(0, -1)), "Reshape": case("Reshape", one, shape=(0, 2, 2, -1)),
        "reshape_keep": case("reshape", one, shape=(-2, 1)), "reshape_join": case("reshape", one, shape=(0, -3)),
        "reshape_split": case("reshape", one, shape=(0, -4, 2, -1, 0)),
        "reshape_other": case("reshape", one, shape=(-1, 3)), "reshape_batch": case("reshape", one, shape=(-3, 0)),
        "transpose": case("transpose", one, axes=(0, 2, 1)), "transpose_all": case("transpose", one),
        "swapaxes": case("swapaxes", one, dim1=1, dim2=2), "SwapAxis": case("SwapAxis", one, dim1=0, dim2=2),
        "expand_dims": case("expand_dims", one, axis=-1), "squeeze": case("squeeze", x(2, 1, 4, 1), axis="(1, 3)"),
        "squeeze_one": case("squeeze", x(2, 1, 4, 1), axis=-1),
        "concat": case("concat", one, x(2, 3, 6), num_args=2, dim=1), "Concat": case("Concat", one, one, num_args=2),
        "concat_batch": case("Concat", one, x(3, 4, 6), num_args=2, dim=0),
        "stack": case("stack", one, one, num_args=2, axis=1),
        "stack_last": case("stack", one, one, num_args=2, axis=-1),
        "split": case("split", one, num_outputs=3, axis=2, outputs=3),
        "SliceChannel": case("SliceChannel", one, num_outputs=4, squeeze_axis=True, outputs=4),
        "pad_edge": case("Pad", x(2, 3, 4, 5), mode="edge", pad_width=(0, 0, 0, 0, 1, 2, 3, 0)),
        "Pad": case("Pad", x(2, 3, 4, 5), mode="constant", pad_width=(0, 0, 0, 0, 1, 2, 3, 0), constant_value=2.5),
        "pad": case("pad", x(2, 3, 4, 5), mode="reflect", pad_width=(0, 0, 0, 0, 1, 2, 3, 0)),
        "broadcast_axis": case("broadcast_axis", x(2, 1, 4, 1), axis=(1, 3), size=(3, 5)),
        "broadcast_axes": case("broadcast_axes", x(2, 1, 4), axis=1, size=3),
        "broadcast_to": case("broadcast_to", x(2, 1, 4), shape=(0, 3, 4)),
        "broadcast_like": case("broadcast_like", x(2, 1, 4), x(2, 3, 4)),
        "depth_to_space": case("depth_to_space", x(2, 8, 3, 4), block_size=2),
        "space_to_depth": case("space_to_depth", x(2, 3, 4, 6), block_size=2),
        "Crop": case("Crop", x(2, 3, 7, 8), num_args=1, offset=(1, 2), h_w=(4, 5)),
        "Crop_like": case("Crop", x(2, 3, 7, 8), x(2, 1, 4, 5), num_args=2, center_crop=True),
    }  # fmt: skip


def _of_sums() -> dict[str, Net]:
    one, apart = x(2, 3, 5), x(2, 3, 5, kind="apart")
    made = {}
    for name in ("sum", "sum_axis", "mean", "max", "max_axis", "min", "min_axis", "prod"):
        made[name] = case(name, one, axis=1)
        made[f"{name}_kept"] = case(name, one, axis="(1, 2)", keepdims=True)
    made |= {
        "sum_all": case("sum", one), "mean_all_kept": case("mean", one, keepdims=True),
        "max_others": case("max", one, axis="(0, 2)", exclude=True), "sum_none": case("sum", one, axis="()"),
        "norm": case("norm", one, axis=2), "norm_1": case("norm", one, ord=1, axis="(1, 2)", keepdims=True),
        "norm_all": case("norm", one),
        "argmax": case("argmax", apart, axis=1), "argmin": case("argmin", apart, axis=-1, keepdims=True),
        "argmax_channel": case("argmax_channel", x(3, 7, kind="apart")), "argmax_row": case("argmax", x(7), axis=0),
        "clip": case("clip", one, a_min=-0.5, a_max=0.7), "Cast": case("Cast", x(2, 3, kind="halves"), dtype="int32"),
        "cast": case("cast", x(2, 3, kind="int32"), dtype="float32"), "cast_64": case("cast", one, dtype="float64"),
        "int_plus": case("elemwise_add", x(2, 3, kind="int32"), x(2, 3, kind="int32")),
        "int_mul": case("_mul_scalar", x(2, 3, kind="int32"), scalar=3),
        "where": case("where", x(2, 3, kind="whole"), x(2, 3), x(2, 3)),
        "ElementWiseSum": case("ElementWiseSum", one, one, one, num_args=3),
        "add_n": case("add_n", one, one, num_args=2),
        "Embedding": case("Embedding", x(2, 6, kind="whole"), w(4, 3), input_dim=4, output_dim=3),
        "take": case("take", w(4, 3), x(2, 6, kind="whole")),
        "take_axis": case("take", one, x(2, kind="whole"), axis=1),
        "one_hot": case("one_hot", x(2, 3, kind="whole"), depth=3, on_value=2, off_value=-1),
        "pick": case("pick", one, x(2, 3, kind="whole")),
        "pick_kept": case("pick", one, x(2, 5, kind="whole"), axis=1, keepdims=True),
        "dot": case("dot", x(2, 3), w(3, 4)),
        "dot_turned": case("dot", x(3, 2), w(4, 3), transpose_a=True, transpose_b=True),
        "batch_dot": case("batch_dot", x(2, 3, 4), x(2, 5, 4), transpose_b=True),
        "linalg_gemm2": case("_linalg_gemm2", x(2, 3, 4), x(2, 3, 5), transpose_a=True, alpha=0.5),
        "linalg_gemm2_alias": case("linalg_gemm2", x(2, 3, 4), x(2, 4, 5)),
        "smooth_l1_scalar": case("smooth_l1", one, scalar=2.0),
        "hard_sigmoid_more": case("hard_sigmoid", one, alpha=0.5, beta=0.1),
    }  # fmt: skip
    return made


def _of_layers() -> dict[str, Net]:
    picture = x(2, 4, 9, 8)
    conv = {"num_filter": 6, "workspace": 1024}
    made = {
        "Convolution": case("Convolution", picture, w(6, 4, 3, 3), w(6), kernel=(3, 3), pad=(1, 1), **conv),
        "conv_groups": case("Convolution", picture, w(6, 2, 3, 2), kernel=(3, 2), stride=(2, 1), num_group=2,
                            no_bias=True,
                            dilate=(2, 3), cudnn_tune="off", layout="NCHW", **conv),
        "conv_1": case("Convolution", x(2, 4, 9), w(6, 4, 3), w(6), kernel="(3,)", pad="(1,)", **conv),
        "conv_3": case("Convolution", x(2, 2, 4, 5, 6), w(6, 2, 3, 1, 2), w(6), kernel=(3, 1, 2), **conv),
        "Convolution_v1": case("Convolution_v1", picture, w(6, 4, 3, 3), w(6), kernel=(3, 3), **conv),
        "Deconvolution": case("Deconvolution", picture, w(4, 3, 4, 3), w(6), kernel=(4, 3), stride=(2, 2), pad=(1, 0),
                              num_group=2, no_bias=False, **conv),
        "deconv_adj": case("Deconvolution", picture, w(4, 6, 3, 3), kernel=(3, 3), stride=(2, 2), pad=(1, 1), adj=(1,
                           1), **conv),
        "FullyConnected": case("FullyConnected", x(2, 3, 4), w(5, 12), w(5), num_hidden=5),
        "dense_last": case("FullyConnected", x(2, 3, 4), w(5, 4), w(5), num_hidden=5, flatten=False),
        "dense_no_bias": case("FullyConnected", x(2, 4), w(5, 4), num_hidden=5, no_bias=True),
        "LRN": case("LRN", picture, nsize=3, alpha=0.3, beta=0.6, knorm=1.5),
        "BatchNorm": norm(), "BatchNorm_v1": norm("BatchNorm_v1", fix_gamma=False),
        "norm_gamma": norm(fix_gamma=False, eps=1e-5, momentum=0.9, use_global_stats=True, cudnn_off=True),
        "norm_last": norm(shape=(2, 3, 4), axis=-1, fix_gamma=False, eps=0.01), "norm_rows": norm(shape=(3, 4)),
        "LayerNorm": case("LayerNorm", x(2, 3, 6), w(6), w(6), axis=-1, eps=1e-4),
        "InstanceNorm": case("InstanceNorm", picture, w(4), w(4), eps=0.01),
        "GroupNorm": case("GroupNorm", picture, w(2), w(2), num_groups=2, eps=0.01),
        "L2Normalization": case("L2Normalization", picture),
        "l2_channel": case("L2Normalization", picture, mode="channel"),
        "l2_spatial": case("L2Normalization", picture, mode="spatial", eps=0.1),
        "softmax_axis": case("softmax", picture, axis=1, temperature=2.0),
        "softmax_ten": case("softmax", x(2, 10), axis=-1),
        "softmax_channel": case("SoftmaxActivation", picture, mode="channel"),
        "SoftmaxOutput": case("SoftmaxOutput", x(2, 5), label=True, grad_scale=2.0, use_ignore=True),
        "Softmax": case("Softmax", x(2, 5), label=True), "softmax_deep": case("SoftmaxOutput", x(2, 3, 4), label=True),
        "softmax_multi": case("SoftmaxOutput", picture, label=True, multi_output=True),
        "softmax_kept": case("SoftmaxOutput", x(2, 3, 4), label=True, preserve_shape=True),
        "LinearRegressionOutput": case("LinearRegressionOutput", x(2, 5), label=True, grad_scale=2),
        "MAERegressionOutput": case("MAERegressionOutput", x(2, 5), label=True),
        "LogisticRegressionOutput": case("LogisticRegressionOutput", x(2, 5), label=True),
        "SVMOutput": case("SVMOutput", x(2, 5), label=True, margin=0.5),
        "UpSampling": case("UpSampling", picture, scale=2, sample_type="nearest", num_args=1),
        "up_sum": case("UpSampling", x(2, 4, 3, 4), x(2, 4, 6, 8), scale=4, sample_type="nearest", num_args=2,
                       multi_input_mode="sum"),
        "up_concat": case("UpSampling", x(2, 4, 3, 4), x(2, 2, 6, 8), scale=4, sample_type="nearest", num_args=2),
        "resize": case("_contrib_BilinearResize2D", picture, height=13, width=5),
        "resize_scale": case("_contrib_BilinearResize2D", picture, scale_height=2, scale_width=1.5),
        "adaptive": case("_contrib_AdaptiveAvgPooling2D", x(2, 3, 6, 8), output_size=(3, 2)),
        "adaptive_1": case("_contrib_AdaptiveAvgPooling2D", picture, output_size=1),
        "IdentityAttachKLSparseReg": case("IdentityAttachKLSparseReg", x(2, 5, kind="unit"), w(5, kind="positive")),
        "prelu": case("LeakyReLU", picture, w(4), act_type="prelu"),
        "prelu_1": case("LeakyReLU", picture, w(1), act_type="prelu"),
    }  # fmt: skip
    for kind in ("leaky", "elu", "selu", "gelu", "rrelu"):
        made[f"leaky_{kind}"] = case("LeakyReLU", picture, act_type=kind, slope=0.3)
    for kind in ("relu", "sigmoid", "tanh", "softrelu", "softsign", "log_sigmoid", "mish"):
        made[f"act_{kind}"] = case("Activation", picture, act_type=kind)
    for kind in ("max", "avg", "sum"):
        made[f"pool_{kind}"] = case("Pooling", picture, pool_type=kind, kernel=(3, 2), stride=(2, 2), pad=(1, 1))
        made[f"pool_{kind}_full"] = case("Pooling", picture, pool_type=kind, kernel=(3, 3), stride=(2, 2), pad=(1, 1),
                                         pooling_convention="full")  # fmt: skip
        made[f"pool_{kind}_full_open"] = case("Pooling", picture, pool_type=kind, kernel=(2, 3), stride=(2, 2),
                                              pooling_convention="full")  # fmt: skip
        made[f"pool_{kind}_all"] = case("Pooling", picture, pool_type=kind, global_pool=True, kernel=(1, 1))
        made[f"pool_{kind}_1"] = case("Pooling", x(2, 3, 9), pool_type=kind, kernel="(3,)", stride="(2,)")
    made["pool_inside"] = case("Pooling", picture, pool_type="avg", kernel=(3, 3), stride=(2, 2), pad=(1, 1),
                               count_include_pad=False)  # fmt: skip
    made["pool_inside_full"] = case("Pooling", picture, pool_type="avg", kernel=(3, 3), stride=(2, 2), pad=(1, 1),
                                    count_include_pad=False, pooling_convention="full")  # fmt: skip
    made["Pooling_v1"] = case("Pooling_v1", picture, pool_type="max", kernel=(3, 3), stride=(2, 2))
    for mode in ("rnn_relu", "rnn_tanh", "gru", "lstm"):
        made[f"rnn_{mode}"] = rnn(mode, 1, 1)
        made[f"rnn_{mode}_deep"] = rnn(mode, 2, 2, outputs=3 if mode == "lstm" else 2)
    return made


OPERATORS: dict[str, Net] = {**_elementwise(), **_of_shapes(), **_of_sums(), **_of_layers()}


def picture(shape: Sequence[int]) -> Array:
    """An input of that shape."""
    return np.random.default_rng(7).normal(0, 1, shape).astype(np.float32)


def seeded(shapes: Mapping[str, Sequence[int]]) -> dict[str, Array]:
    """Weights for parameters of these shapes, which keep a network's values of about one size."""
    made = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if "var" in name:
            array = rng.uniform(0.5, 1.5, shape)
        elif len(shape) > 1:
            array = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
        else:
            array = rng.normal("gamma" in name, 0.1, shape)
        made[name] = array.astype(np.float32)
    return made


def classic(style: str = "param") -> Net:
    """As MXNet's examples of 2015 wrote networks: no moving averages among the inputs, labels at the end."""
    built, legacy = Builder(), style == "param"
    data = built.input("data", picture((2, 3, 16, 15)))

    def weights(name: str, **shapes: tuple[int, ...]) -> list[Key]:
        return [built.param(f"{name}_{key}", array) for key, array in seeded(shapes).items()]

    top = built.op("Convolution", data, *weights("conv1", weight=(8, 3, 3, 3), bias=(8,)), name="conv1",
                   kernel=(3, 3), num_filter=8, pad=(1, 1), workspace=512)  # fmt: skip
    statistics = seeded({"bn1_moving_mean": (8,), "bn1_moving_var": (8,)})
    built.params |= statistics
    more = [] if legacy else [built.variable(name) for name in statistics]
    top = built.op("BatchNorm", top, *weights("bn1", gamma=(8,), beta=(8,)), *more, name="bn1", fix_gamma=False)
    top = built.op("Activation", top, name="relu1", act_type="relu")
    top = built.op("LRN", top, name="norm1", nsize=5)
    top = built.op("Pooling", top, name="pool1", kernel=(3, 3), stride=(2, 2), pool_type="max",
                   pooling_convention="full")  # fmt: skip
    top = built.op("Flatten", top, name="flatten")
    top = built.op("FullyConnected", top, *weights("fc1", weight=(10, 448), bias=(10,)), name="fc1", num_hidden=10)
    top = built.op("Dropout", top, name="drop", p=0.5)
    top = built.op("SoftmaxOutput", top, built.variable("softmax_label"), name="softmax")
    return built.net(top, style=style)


NETWORKS = {f"classic_{style}": classic(style) for style in ("param", "attr", "attrs")}
