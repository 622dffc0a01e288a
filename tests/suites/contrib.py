"""Operators of com.microsoft and of early exporters, in the forms that optimised and quantised models have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.suites.case import Array, floats, node

MICROSOFT = "com.microsoft"
_RANDOM = np.random.default_rng(31)


@dataclass(frozen=True)
class Contrib:
    """A model of nodes from `feeds` and `weights` to `outputs`.

    `tolerance` is of a result's largest number; `steps` how far quantised results may be off.
    """

    name: str
    nodes: Sequence[onnx.NodeProto]
    feeds: Mapping[str, Array]
    weights: Mapping[str, Array] = field(default_factory=dict)
    outputs: Sequence[str] = ("y",)
    opset: int = 17
    tolerance: float = 1e-5
    steps: int = 1

    def model(self) -> onnx.ModelProto:
        """The model, its results without types."""
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in self.feeds.items()
        ]
        graph = helper.make_graph(
            self.nodes,
            "case",
            inputs,
            [helper.make_empty_tensor_value_info(name) for name in self.outputs],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in self.weights.items()],
        )
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def ms(op: str, inputs: str, outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    """A node of com.microsoft."""
    return node(op, inputs, outputs, domain=MICROSOFT, **attributes)


def ints(low: int, high: int, *dims: int, kind: Any = np.int64) -> Array:
    """Seeded integers."""
    return _RANDOM.integers(low, high, dims).astype(kind)


def bytes_(*dims: int, kind: Any = np.uint8) -> Array:
    """Seeded integers over the whole range of a type of one byte."""
    limits = np.iinfo(kind)
    return ints(limits.min, limits.max + 1, *dims, kind=kind)


def signed(*dims: int) -> Array:
    """Seeded int8 numbers of 7 bits: onnxruntime's products of uint8 and int8 saturate beyond on some processors."""
    return ints(-64, 64, *dims, kind=np.int8)


def scalar(value: float, kind: Any = np.float32) -> Array:
    """A constant of no dims."""
    return np.array(value, kind)


def _one(
    op: str, feeds: Mapping[str, Array], weights: Mapping[str, Array] = {}, name: str = "", **more: Any
) -> Contrib:
    """A node whose inputs are feeds, then weights; `imports`, `tolerance`, `steps`, `outputs` are the case's."""
    case = {key: more.pop(key) for key in ("tolerance", "steps", "outputs") if key in more}
    if "imports" in more:
        case["opset"] = more.pop("imports")
    inputs = more.pop("inputs", " ".join([*feeds, *weights]))
    written = ms(op, inputs, " ".join(case.get("outputs", ("y",))), **more)
    return Contrib(name or op, [written], feeds, weights, **case)


def _activations() -> list[Contrib]:
    x = floats(2, 3, 16)
    return [
        _one("Gelu", {"x": x}),
        _one("QuickGelu", {"x": x}),
        _one("QuickGelu", {"x": x}, name="QuickGelu_alpha", alpha=1.0),
        _one("FastGelu", {"x": x}),
        _one("FastGelu", {"x": x}, {"b": floats(16)}, name="FastGelu_bias"),
        _one("BiasGelu", {"x": x}, {"b": floats(16)}),
        _one("Gelu", {"x": x}, name="Gelu_11", imports=11),
    ]


def _norms() -> list[Contrib]:
    x, skip = floats(2, 3, 16), floats(2, 3, 16)
    gamma, beta, bias = ({name: floats(16)} for name in ("gamma", "beta", "bias"))
    both = {"x": x, "skip": skip}
    skips = "SkipLayerNormalization"
    sums = ("y", "_mean", "_root", "sum")
    plain = [
        Contrib(
            "LayerNormalization_1",
            [node("LayerNormalization", "x gamma beta", axis=-1)],
            {"x": x},
            gamma | beta,
            opset=11,
        ),
        Contrib(
            "LayerNormalization_statistics",
            [node("LayerNormalization", "x gamma beta", "y mean root", epsilon=1e-3)],
            {"x": x},
            gamma | beta,
            ("y", "mean", "root"),
            opset=12,
        ),
        Contrib("SimplifiedLayerNormalization", [node("SimplifiedLayerNormalization", "x gamma")], {"x": x}, gamma),
        Contrib(
            "SimplifiedLayerNormalization_root",
            [node("SimplifiedLayerNormalization", "x gamma", "y root", axis=-1, epsilon=1e-6)],
            {"x": x},
            gamma,
            ("y", "root"),
        ),
    ]
    return [
        *plain,
        _one(skips, both, gamma | beta),
        _one(skips, both, gamma | beta | bias, name=f"{skips}_bias", epsilon=1e-5),
        Contrib(
            f"{skips}_sum",
            [ms(skips, "x skip gamma beta bias", " ".join(sums))],
            both,
            gamma | beta | bias,
            ("y", "sum"),
        ),
        _one(skips, {"x": x, "skip": skip[0]}, gamma, name=f"{skips}_broadcast"),
        _one("SkipSimplifiedLayerNormalization", both, gamma),
        Contrib(
            "SkipSimplifiedLayerNormalization_sum",
            [ms("SkipSimplifiedLayerNormalization", "x skip gamma bias", " ".join(sums))],
            both,
            gamma | bias,
            ("y", "sum"),
        ),
    ]


def _embeddings() -> list[Contrib]:
    tokens = {"ids": ints(0, 30, 2, 5, kind=np.int32), "kinds": ints(0, 2, 2, 5, kind=np.int32)}
    tables = {"words": floats(30, 8), "places": floats(10, 8), "segments": floats(2, 8)}
    ends = {"gamma": floats(8), "beta": floats(8)}
    mask = {"mask": np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)}
    places = {"at": ints(0, 10, 2, 5, kind=np.int32)}
    given, op = tables | ends, "EmbedLayerNormalization"
    order = "ids kinds words places segments gamma beta"
    short = "ids _ words places _ gamma beta"
    bare = {"words": tables["words"], "places": tables["places"]} | ends
    return [
        _one(op, tokens | mask, given, inputs=f"{order} mask", outputs=("y", "counts")),
        _one(op, tokens, given, inputs=order, outputs=("y", "counts"), name=f"{op}_no_mask"),
        _one(
            op,
            tokens | mask | places,
            given,
            inputs=f"{order} mask at",
            outputs=("y", "counts", "sum"),
            name=f"{op}_all",
        ),
        _one(op, {"ids": tokens["ids"]}, bare, inputs=short, outputs=("y", "counts"), name=f"{op}_words"),
    ]


def _attention() -> list[Contrib]:
    x, weights = {"x": floats(2, 5, 16)}, {"w": floats(16, 48, scale=0.3), "b": floats(48)}
    op, order = "Attention", "x w b"
    lengths = {"m": np.array([3, 5], np.int32)}
    past = {"past": floats(2, 2, 4, 3, 4)}
    cases = [
        _one(op, x, weights, num_heads=4),
        _one(op, x, {"w": weights["w"]}, num_heads=4, name="no_bias"),
        _one(op, x, weights, num_heads=4, unidirectional=1, scale=0.2, name="causal"),
        _one(op, x | lengths, weights, inputs=f"{order} m", num_heads=4, name="lengths"),
        _one(op, x | {"m": np.array([4, 5, 1, 0], np.int32)}, weights, inputs=f"{order} m", num_heads=4, name="ends"),
        _one(op, x | {"m": ints(0, 2, 2, 5, kind=np.int32)}, weights, inputs=f"{order} m", num_heads=4, name="keys"),
        _one(
            op, x | {"m": ints(0, 2, 2, 5, 5, kind=np.int32)}, weights, inputs=f"{order} m", num_heads=4, name="pairs"
        ),
        _one(
            op,
            x | {"m": ints(0, 2, 2, 5, kind=np.int32)},
            weights,
            inputs=f"{order} m",
            num_heads=4,
            mask_filter_value=-3.0,
            name="filter",
        ),
        _one(op, x | {"bias": floats(2, 4, 5, 5)}, weights, inputs=f"{order} _ _ bias", num_heads=4, name="scores"),
        _one(op, x | past, weights, inputs=f"{order} _ past", outputs=("y", "present"), num_heads=4, name="past"),
        _one(
            op,
            x | past | {"m": ints(0, 2, 2, 8, kind=np.int32)},
            weights,
            inputs=f"{order} m past",
            outputs=("y", "present"),
            num_heads=4,
            unidirectional=1,
            name="past_mask",
        ),
        _one(
            op,
            x,
            {"w": floats(16, 40, scale=0.3), "b": floats(40)},
            num_heads=4,
            qkv_hidden_sizes=[16, 16, 8],
            name="narrow",
        ),
        _one(op, x, weights, num_heads=4, imports=11, name="opset_11"),
    ]
    return [_named(case, op) for case in cases] + _quantized_attention()


def _named(case: Contrib, op: str) -> Contrib:
    name = case.name if case.name.startswith(op) else f"{op}_{case.name}"
    return Contrib(name, case.nodes, case.feeds, case.weights, case.outputs, case.opset, case.tolerance, case.steps)


def _quantized_attention() -> list[Contrib]:
    op, order = "QAttention", "x w b xs ws m xz wz"
    x = {"x": bytes_(2, 5, 16), "m": np.array([3, 5], np.int32)}
    scales = {"xs": scalar(0.02), "ws": scalar(0.01), "xz": scalar(120, np.uint8), "b": floats(48)}
    whole = scales | {"w": signed(16, 48), "wz": scalar(3, np.int8)}
    columns = whole | {"ws": floats(48) ** 2 / 100, "wz": signed(48)}
    past = {"past": floats(2, 2, 4, 3, 4)}
    return [
        _one(op, x, whole, inputs=order, num_heads=4, tolerance=1e-4),
        _one(op, x, columns, inputs=order, num_heads=4, name=f"{op}_columns", tolerance=1e-4),
        _one(
            op,
            {"x": x["x"]} | past,
            whole,
            inputs="x w b xs ws _ xz wz past",
            outputs=("y", "present"),
            num_heads=4,
            unidirectional=1,
            name=f"{op}_past",
            tolerance=1e-4,
        ),
    ]


def _multi_head() -> list[Contrib]:
    op, q, k, v = "MultiHeadAttention", floats(2, 5, 16), floats(2, 7, 16), floats(2, 7, 16)
    three, bias = {"q": q, "k": k, "v": v}, {"bias": floats(48)}
    past = {"pk": floats(2, 4, 3, 4), "pv": floats(2, 4, 3, 4)}
    tail = ("y", "ko", "vo")
    keys = ints(0, 2, 2, 7, kind=np.int32)
    cases = [
        _one(op, three, num_heads=4),
        _one(op, three, bias, num_heads=4, name="bias"),
        _one(op, three | {"m": keys}, inputs="q k v _ m", num_heads=4, name="keys"),
        _one(op, three | {"m": np.array([4, 7], np.int32)}, inputs="q k v _ m", num_heads=4, name="lengths"),
        _one(op, three | {"s": floats(1, 4, 5, 7)}, inputs="q k v _ _ s", num_heads=4, scale=0.7, name="scores"),
        _one(
            op, three | {"m": keys, "s": floats(2, 1, 5, 7)}, inputs="q k v _ m s", num_heads=4, name="mask_and_scores"
        ),
        _one(op, {"q": q, "k": floats(2, 4, 7, 4), "v": floats(2, 4, 7, 4)}, num_heads=4, name="cached_keys"),
        _one(
            op,
            {"q": q, "k": q + 1, "v": q - 1} | past,
            bias,
            inputs="q k v bias _ _ pk pv",
            outputs=tail,
            num_heads=4,
            unidirectional=1,
            name="past",
        ),
    ]
    return [_named(case, op) for case in cases]


def _grouped() -> list[Contrib]:
    """First calls, calls with a cache that grows, and calls with one that has room; of rows of different lengths."""
    op, tail = "GroupQueryAttention", ("y", "ko", "vo")
    heads = {"num_heads": 4, "kv_num_heads": 2}
    angles = floats(32, 8)
    turns = {"cos": np.cos(angles), "sin": np.sin(angles)}
    order, turned = "q k v pk pv ends total", "q k v pk pv ends total cos sin"

    def call(rows: int, room: int, ends: Sequence[int], total: int) -> dict[str, Array]:
        count = len(ends)
        filled = (np.arange(room) < np.reshape(ends, (-1, 1, 1)) + 1 - rows)[..., None]
        return {
            "q": floats(count, rows, 64),
            "k": floats(count, rows, 32),
            "v": floats(count, rows, 32),
            "pk": floats(count, 2, room, 16) * filled,
            "pv": floats(count, 2, room, 16) * filled,
            "ends": np.array(ends, np.int32),
            "total": np.array(total, np.int32),
        }

    first, grown, roomy = call(5, 0, [4, 4], 5), call(1, 6, [6, 6], 7), call(1, 16, [6, 3], 7)
    packed = {"q": floats(2, 1, 128), **{name: grown[name] for name in ("pk", "pv", "ends", "total")}}
    given: list[tuple[str, dict[str, Array], str, dict[str, Any]]] = [
        ("first", first, order, {}),
        ("first_turned", first, turned, {"do_rotary": 1}),
        ("grown", grown, order, {}),
        ("grown_turned", grown, turned, {"do_rotary": 1, "rotary_interleaved": 1}),
        ("roomy", roomy, turned, {"do_rotary": 1}),
        ("window", roomy, order, {"local_window_size": 3}),
        ("first_window", first, order, {"local_window_size": 2}),
        ("softcap", grown, order, {"softcap": 2.0, "scale": 0.5}),
        ("packed", packed, "q _ _ pk pv ends total cos sin", {"do_rotary": 1}),
        ("smooth", grown, order, {"smooth_softmax": 1}),
        ("chunk", call(3, 6, [8], 9), order, {}),
        ("bias", grown | {"bias": floats(2, 4, 1, 7)}, f"{order} _ _ _ bias", {}),
        ("first_bias", first | {"bias": floats(1, 1, 5, 5)}, f"{order} _ _ _ bias", {}),
        ("sink", grown | {"sink": floats(4)}, f"{order} _ _ _ _ sink", {}),
        ("first_sink", first | {"sink": floats(4)}, f"{turned} _ _ sink", {"do_rotary": 1}),
    ]
    return [
        _one(
            op,
            feeds,
            turns if "cos" in inputs else {},
            name=f"{op}_{name}",
            inputs=inputs,
            outputs=tail,
            **heads,
            **more,
        )
        for name, feeds, inputs, more in given
    ]


def _rotary() -> list[Contrib]:
    op, angles = "RotaryEmbedding", floats(20, 4)
    tables = {"cos": np.cos(angles), "sin": np.sin(angles)}
    flat, split = floats(2, 5, 16), floats(2, 3, 5, 8)
    places, start = ints(0, 20, 2, 5), np.array([7])
    return [
        _one(op, {"x": flat, "at": places}, tables),
        _one(op, {"x": flat, "at": start}, tables, name=f"{op}_start", interleaved=1),
        _one(op, {"x": split, "at": start}, tables, name=f"{op}_heads"),
        _one(
            op,
            {"x": split, "at": places},
            {name: table[:, :2] for name, table in tables.items()},
            name=f"{op}_part",
            rotary_embedding_dim=4,
            num_heads=3,
        ),
    ]


def _products() -> list[Contrib]:
    a, b = floats(2, 3, 4, 5), floats(2, 3, 5, 6)
    image, filters = {"x": floats(1, 3, 8, 8)}, {"w": floats(4, 3, 3, 3), "b": floats(4)}
    conv = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    gemm = {"a": floats(3, 4)}, {"b": floats(5, 4), "c": floats(5)}
    shorts = {"a": ints(-3000, 3000, 4, 5, kind=np.int16), "b": ints(-3000, 3000, 5, 6, kind=np.int16)}
    points = {"a": floats(4, 3), "b": floats(5, 3)}
    cases = [
        _one("FusedMatMul", {"a": a, "b": b}, alpha=0.3),
        _one("FusedMatMul", {"a": np.swapaxes(a, 2, 3).copy(), "b": b}, transA=1, name="FusedMatMul_left"),
        _one("FusedMatMul", {"a": a, "b": np.swapaxes(b, 2, 3).copy()}, transB=1, name="FusedMatMul_right"),
        _one("FusedMatMul", {"a": floats(4, 2, 3, 5), "b": b}, transBatchA=1, name="FusedMatMul_batch"),
        _one("FusedMatMul", {"a": floats(5, 2, 3, 4), "b": b}, transBatchA=1, transA=1, name="FusedMatMul_batch_left"),
        _one("TransposeMatMul", {"a": a, "b": b}),
        _one("FusedGemm", *gemm, transB=1, activation="Relu", alpha=0.5, beta=2.0),
        _one("FusedGemm", *gemm, transB=1, activation="LeakyRelu", activation_alpha=0.2, name="FusedGemm_leaky"),
        _one("FusedConv", image, filters, activation="Relu", **conv),
        _one(
            "FusedConv",
            image | {"z": floats(1, 4, 8, 8)},
            filters,
            inputs="x w b z",
            activation="Relu",
            name="FusedConv_sum",
            **conv,
        ),
        _one(
            "FusedConv", image, filters, activation="Clip", activation_params=[-0.5, 0.5], name="FusedConv_clip", **conv
        ),
        _one(
            "FusedConv", image, filters, activation="LeakyRelu", activation_params=[0.3], name="FusedConv_leaky", **conv
        ),
        _one(
            "FusedConv",
            image,
            filters,
            activation="HardSigmoid",
            activation_params=[0.2, 0.5],
            name="FusedConv_hard",
            **conv,
        ),
        _one("MatMulInteger16", shorts),
        _one("CDist", points, metric="sqeuclidean"),
        _one("CDist", points, metric="euclidean", name="CDist_root"),
        _one("Trilu", {"x": floats(2, 4, 5)}, {"k": scalar(1, np.int64)}),
        _one("Trilu", {"x": floats(2, 4, 5)}, upper=0, name="Trilu_lower"),
        _one("ExpandDims", {"x": floats(2, 3)}, {"axis": scalar(1, np.int32)}),
    ]
    return cases + _few_bits()


def _few_bits() -> list[Contrib]:
    cases = []
    for bits, block, n, k, rows in (
        (4, 32, 24, 64, 1),
        (4, 32, 20, 80, 3),
        (8, 32, 24, 64, 2),
        (4, 16, 17, 48, 1),
        (4, 128, 40, 256, 1),
    ):
        blocks = -(-k // block)
        packed = {"w": bytes_(n, blocks, block * bits // 8), "s": floats(n * blocks) ** 2 + 0.01}
        shape = {"bits": bits, "block_size": block, "N": n, "K": k}
        zeros = {"z": bytes_(n * -(-blocks * bits // 8))}
        x, name = {"x": floats(2, rows, k)}, f"MatMulNBits_{bits}_{block}_{n}_{k}"
        cases += [
            _one("MatMulNBits", x, packed, name=name, tolerance=2e-5, **shape),
            _one("MatMulNBits", x, packed | zeros, name=f"{name}_zeros", tolerance=2e-5, **shape),
            _one(
                "MatMulNBits",
                x,
                packed | {"b": floats(n)},
                name=f"{name}_bias",
                inputs="x w s _ _ b",
                tolerance=2e-5,
                **shape,
            ),
        ]
    return cases


def _quantized() -> list[Contrib]:
    x = {"x": floats(2, 4, 8)}
    w = {"w": signed(8, 6), "ws": scalar(0.02), "wz": scalar(3, np.int8)}
    columns = {"w": bytes_(8, 6), "ws": floats(6) ** 2 / 50, "wz": bytes_(6)}
    bias = {"b": floats(6)}
    integers = {"a": bytes_(2, 4, 8)}
    a = {"as": scalar(0.05), "az": scalar(100, np.uint8)}
    order = "a w as ws az wz"
    lstm = {
        "w": signed(1, 5, 24),
        "r": signed(1, 6, 24),
        "b": floats(1, 48),
        "ws": scalar(0.01).reshape(1),
        "wz": np.zeros(1, np.int8),
        "rs": scalar(0.01).reshape(1),
        "rz": np.zeros(1, np.int8),
    }
    return [
        _one("DynamicQuantizeMatMul", x, w),
        _one("DynamicQuantizeMatMul", x, columns | bias, name="DynamicQuantizeMatMul_bias"),
        _one("MatMulIntegerToFloat", integers, w | a, inputs=order, tolerance=1e-4),
        _one(
            "MatMulIntegerToFloat",
            integers,
            columns | a | bias,
            inputs=f"{order} b",
            name="MatMulIntegerToFloat_bias",
            tolerance=1e-4,
        ),
        _one(
            "DynamicQuantizeLSTM",
            {"x": floats(4, 2, 5)},
            lstm,
            inputs="x w r b _ _ _ _ ws wz rs rz",
            outputs=("y", "h", "c"),
            hidden_size=6,
            tolerance=2e-2,  # of the states' rounding, which only onnxruntime does
        ),
        *_linear(np.uint8),
        *_linear(np.int8),
    ]


def _linear(kind: Any) -> list[Contrib]:
    zero = 120 if kind is np.uint8 else -5
    q = {"xs": scalar(0.05), "xz": scalar(zero, kind)}
    r = {"rs": scalar(0.03), "rz": scalar(zero + 4, kind)}
    y = {"ys": scalar(0.06), "yz": scalar(zero + 7, kind)}
    x, other = {"x": bytes_(2, 4, 6, 6, kind=kind)}, {"z": bytes_(2, 4, 6, 6, kind=kind)}
    two, unary, tail = "x xs xz z rs rz ys yz", "x xs xz ys yz", f"_{np.dtype(kind).name}"
    unit = {"ys": scalar(1 / 256), "yz": scalar(0 if kind is np.uint8 else -128, kind)}
    pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    given = [
        ("QLinearAdd", x | other, q | r | y, two, {}),
        ("QLinearMul", x | other, q | r | y, two, {}),
        ("QLinearConcat", x | other, q | r | y, "ys yz x xs xz z rs rz", {"axis": 1}),
        ("QLinearSigmoid", x, q | unit, unary, {}),
        ("QLinearLeakyRelu", x, q | y, unary, {"alpha": 0.1}),
        ("QLinearGlobalAveragePool", x, q | y, unary, {"channels_last": 0}),
        ("QLinearGlobalAveragePool", x, q | y, unary, {"channels_last": 1}),
        ("QLinearAveragePool", x, q | y, unary, {"count_include_pad": 0, **pool}),
        ("QLinearAveragePool", x, q | y, unary, {"channels_last": 1, "count_include_pad": 1, **pool}),
        ("QLinearSoftmax", x, q | unit, unary, {"axis": -1, "opset": 13}),
        ("QLinearSoftmax", x, q | unit, unary, {"axis": 1, "opset": 11}),
        ("QLinearWhere", x | other | {"c": ints(0, 2, 6, 6, kind=bool)}, q | r | y, "c x xs xz z rs rz ys yz", {}),
        ("NhwcMaxPool", x, {}, "x", pool),
    ]
    cases: dict[str, Contrib] = {}
    for op, feeds, weights, inputs, more in given:
        name = f"{op}{tail}" + ("_again" if f"{op}{tail}" in cases else "")
        cases[name] = _one(op, feeds, weights, inputs=inputs, name=name, **more)
    return list(cases.values())


def _experimental() -> list[Contrib]:
    """Of domain ai.onnx; onnxruntime still knows them."""
    x = {"x": floats(1, 3, 6, 8)}
    given: list[tuple[str, dict[str, Any]]] = [
        ("Affine", {"alpha": 1.5, "beta": -0.5}),
        ("ParametricSoftplus", {"alpha": 2.0, "beta": 0.5}),
        ("ScaledTanh", {"alpha": 2.0, "beta": 0.5}),
        ("ImageScaler", {"scale": 2.0, "bias": [0.1, 0.2, 0.3]}),
        ("ThresholdedRelu", {"alpha": 0.5}),
        ("Crop", {"border": [1, 2, 3, 0]}),
        ("Crop", {"border": [1, 2, 0, 0], "scale": [3, 4]}),
        ("Scale", {"scale": 0.25}),
    ]
    return [Contrib(f"{op}_{index}", [node(op, "x", **more)], x, opset=9) for index, (op, more) in enumerate(given)]


CASES = [
    *_activations(),
    *_norms(),
    *_embeddings(),
    *_attention(),
    *_multi_head(),
    *_grouped(),
    *_rotary(),
    *_products(),
    *_quantized(),
    *_experimental(),
]
