"""Preparation of features, ai.onnx.ml: scaling, imputing, encoding and choosing of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.compiler.dims import least
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import ExprBuilder
from sardonyx.compiler.kernels.encode import Lookup, UnitRows
from sardonyx.compiler.lower import arguments
from sardonyx.compiler.program import View
from sardonyx.errors import InvalidModelError
from sardonyx.ops.classical import DOMAIN, FEATURES
from sardonyx.ops.indexing import gather_slices
from sardonyx.ops.table import elementwise, lowers

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.lower import Lowering

Array = np.ndarray[Any, Any]
_KEYS = FEATURES | {DType.I16}
_BLOCK = 1024
"""Elements that one item looks up."""


@elementwise("Binarizer", dtypes=FEATURES, domain=DOMAIN)
def binarizer(e: ExprBuilder, node: ir.Node, x: list[int]) -> int:
    """1 above the threshold, else 0."""
    kind = e.dtype(x[0])
    wide = kind if kind.is_float else DType.F64
    threshold = e.const(node.attributes.get_float("threshold", 0.0), wide)
    above = e.op("greater", e.cast(x[0], wide), threshold, dtype=DType.BOOL)
    return e.cast(e.op("select", above, e.const(1, kind), e.const(0, kind)), kind)


@lowers("Scaler", dtypes=FEATURES, domain=DOMAIN, folds=False)
def scaler(ctx: Lowering, node: ir.Node) -> None:
    """(x - offset) * scale, in float32 or, of other types, in float64."""
    x = ctx.view(node.inputs[0])
    kind = DType.F32 if x.dtype is DType.F32 else DType.F64
    pair = [_per_feature(ctx, node, name, default, x, kind) for name, default in (("offset", 0.0), ("scale", 1.0))]
    e = ExprBuilder()
    value, offset, scale = e.leaf(x.dtype), e.leaf(kind), e.leaf(kind)
    made = e.cast(e.op("mul", e.op("sub", e.cast(value, kind), offset), scale), DType.F32)
    y = ctx.result(node.outputs[0], x.dims, DType.F32)
    ctx.elementwise(e.build(made), [x, *pair], y, node.name or node.op_type)


@lowers("Imputer", dtypes=FEATURES, domain=DOMAIN, folds=False)
def imputer(ctx: Lowering, node: ir.Node) -> None:
    """Another value, one for all features or one for each, in place of elements that equal one or are NaN."""
    x = ctx.view(node.inputs[0])
    named = "imputed_value_floats" if x.dtype.is_float else "imputed_value_int64s"
    if named not in node.attributes:
        raise _misfit(node, named, "none")
    imputed = _per_feature(ctx, node, named, 0, x, x.dtype)
    e = ExprBuilder()
    value, other = e.leaf(x.dtype), e.leaf(x.dtype)
    replaced: float
    if x.dtype.is_float:
        replaced = node.attributes.get_float("replaced_value_float", 0.0)
    else:
        replaced = node.attributes.get_int("replaced_value_int64", 0)
    if np.isnan(replaced):
        missing = e.op("is_nan", value, dtype=DType.BOOL)
    elif _holds(x.dtype, replaced):
        missing = e.op("equal", value, e.const(replaced, x.dtype), dtype=DType.BOOL)
    else:
        missing = e.const(False, DType.BOOL)
    y = ctx.result(node.outputs[0], x.dims, x.dtype)
    ctx.elementwise(e.build(e.op("select", missing, other, value)), [x, imputed], y, node.name or node.op_type)


@lowers("Normalizer", dtypes=FEATURES, domain=DOMAIN, folds=False)
def normalizer(ctx: Lowering, node: ir.Node) -> None:
    """Rows over their largest element, sum of absolute values or length; where that is 0, as they are."""
    x, norm = ctx.view(node.inputs[0]), node.attributes.get_string("norm", "MAX")
    if norm not in ("MAX", "L1", "L2") or len(x.dims) not in (1, 2):
        raise _misfit(node, "MAX, L1 or L2 of a matrix or a vector", f"{norm} of {len(x.dims)} dimensions")
    y = ctx.result(node.outputs[0], x.dims, DType.F32)
    if y.size == 0:
        return
    n = x.dims[-1]
    ctx.step(
        UnitRows(norm.lower(), x.dtype),
        arguments(x=x, y=y, n=n, x_row=x.strides[0] if len(x.dims) > 1 else 0, x_step=x.strides[-1]),
        domain=prod(x.dims[:-1]),
        label=node.name or node.op_type,
        cost=n * 2,
    )


def _categories(node: ir.Node) -> str | None:
    categories = node.attributes.get_ints("cats_int64s", None)
    if not categories:
        return "categories that are strings" if node.attributes.get_strings("cats_strings", None) else "no categories"
    return None if len(set(categories)) == len(categories) else "a category twice"


@lowers("OneHotEncoder", dtypes=FEATURES, domain=DOMAIN, supports=_categories, folds=False)
def one_hot_encoder(ctx: Lowering, node: ir.Node) -> None:
    """A new last axis: 1 at the element's category. Floats are truncated. Without `zeros` all must have a category."""
    x = ctx.view(node.inputs[0])
    kind = x.dtype if not x.dtype.is_float else DType.F64
    given = node.attributes.get_ints("cats_int64s")
    known = [c for c in given if _holds(kind, c)]
    if not node.attributes.get_int("zeros", 1):
        _require_known(ctx, node, x, np.array(sorted(known), np.int64))
    held = [c if _holds(kind, c) else (known or [0])[0] for c in given]
    categories = ctx.constant(np.array(held, np.int64).astype(kind.numpy))
    possible = ctx.constant(np.array([_holds(kind, c) for c in given]))
    e = ExprBuilder()
    value, category, can_be = e.leaf(x.dtype), e.leaf(kind), e.leaf(DType.BOOL)
    value = e.op("truncate", e.cast(value, kind)) if x.dtype.is_float else value
    same = e.op("and", e.op("equal", value, category, dtype=DType.BOOL), can_be)
    dims = (*x.dims, len(held))
    spread = View(x.buffer, x.dtype, dims, (*x.strides, 0), x.offset)
    y = ctx.result(node.outputs[0], dims, DType.F32)
    views = [spread, categories.broadcast(dims), possible.broadcast(dims)]
    ctx.elementwise(e.build(e.cast(same, DType.F32)), views, y, node.name or node.op_type)


def _require_known(ctx: Lowering, node: ir.Node, x: View, categories: Array) -> None:
    """Report an element that is none of the categories."""
    e = ExprBuilder()
    value = e.leaf(x.dtype)
    whole = e.cast(e.op("truncate", value) if x.dtype.is_float else value, DType.I64)
    numbers = ctx.temporary(x.dims, DType.I64)
    if numbers.size:
        ctx.elementwise(e.build(whole), [x], numbers, node.name or node.op_type)
        table = _Mapping(categories, np.zeros(categories.size + 2, np.int64))
        _look_up(ctx, node, numbers, table, ctx.temporary(x.dims, DType.I64), strict=True)


@lowers("FeatureVectorizer", dtypes=FEATURES, domain=DOMAIN, folds=False)
def feature_vectorizer(ctx: Lowering, node: ir.Node) -> None:
    """The features of all inputs in one matrix, each as many as is said: what is missing is 0."""
    sizes = node.attributes.get_ints("inputdimensions", ())
    views = [_as_rows(ctx.view(value)) for value in node.inputs if value is not None]
    if len(sizes) != len(views) or any(size < 0 for size in sizes) or any(v.dims[0] != views[0].dims[0] for v in views):
        raise _misfit(node, f"sizes of {len(views)} inputs with as many rows each", str(list(sizes)[:8]))
    y = ctx.result(node.outputs[0], (views[0].dims[0], sum(sizes)), DType.F32)
    zero, at, label = ctx.constant(np.zeros(1, np.float32)), 0, node.name or node.op_type
    for view, size in zip(views, sizes, strict=True):
        taken = least(view.dims[1], size)
        for source, start, count in ((view, at, taken), (zero, at + taken, size - taken)):
            part = View(y.buffer, DType.F32, (y.dims[0], count), y.strides, y.offset + start)
            e = ExprBuilder()
            expr = e.build(e.cast(e.leaf(source.dtype), DType.F32))
            if source is zero:
                given = zero.broadcast(part.dims)
            else:
                given = View(view.buffer, view.dtype, part.dims, view.strides, view.offset)
            ctx.elementwise(expr, [given], part, label)
        at += size


def _as_rows(view: View) -> View:
    """A vector is a column."""
    if len(view.dims) == 1:
        return View(view.buffer, view.dtype, (*view.dims, 1), (*view.strides, 0), view.offset)
    if len(view.dims) != 2:
        raise ValueError(f"features of {len(view.dims)} dimensions")
    return view


@lowers("ArrayFeatureExtractor", dtypes=FEATURES, domain=DOMAIN, folds=False)
def array_feature_extractor(ctx: Lowering, node: ir.Node) -> None:
    """Chosen elements of the last axis; of a vector as a matrix with one row."""
    x, count = ctx.view(node.inputs[0]), prod(ctx.dims(node.inputs[1]))
    if not x.dims:
        raise ValueError("no axis to choose from")
    dims = (*x.dims[:-1], count) if len(x.dims) > 1 else (1, count)
    gather_slices(ctx, node, x, dims, batch=len(x.dims) - 1, depth=1, each=False)


# ---- LabelEncoder ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Labels:
    """What a LabelEncoder's attributes say: keys, as many values, and the value for what is no key."""

    keys: Array
    values: Array
    default: Any


def labels_of(node: ir.Node, value_type: np.dtype[Any]) -> Labels:
    """Of any version from 2 on; of strings as objects. InvalidModelError when it has no keys or values that match."""
    keys, values = (_listed(node, name) for name in ("keys", "values"))
    if keys is None or values is None or keys.size != values.size:
        raise _misfit(
            node, "as many values as keys", " and ".join("none" if a is None else str(a.size) for a in (keys, values))
        )
    default = node.attributes.get("default_tensor")
    if default is not None:
        made = _texts(default.as_tensor().numpy()).reshape(-1)
        if made.size != 1:
            raise _misfit(node, "one default", str(made.size))
        return Labels(keys, values, made[0])
    if value_type.kind == "O":
        return Labels(keys, values, node.attributes.get_string("default_string", "_Unused"))
    if value_type.kind == "f":
        return Labels(keys, values, node.attributes.get_float("default_float", -0.0))
    return Labels(keys, values, node.attributes.get_int("default_int64", -1))


def _listed(node: ir.Node, name: str) -> Array | None:
    if f"{name}_tensor" in node.attributes:
        return _texts(node.attributes[f"{name}_tensor"].as_tensor().numpy()).reshape(-1)
    for kind, dtype in (("int64s", np.int64), ("floats", np.float32), ("strings", object)):
        attribute = node.attributes.get(f"{name}_{kind}")
        if attribute is not None:
            return np.array(attribute.value, dtype)
    return None


def _texts(array: Array) -> Array:
    """Strings as text, other types as they are."""
    if array.dtype.kind not in "OSUT":
        return array
    text = [item.decode() if isinstance(item, bytes) else item for item in array.flat]
    return np.array(text, object).reshape(array.shape)


@dataclass(frozen=True)
class _Mapping:
    """Ascending keys, their values, and after these the default and the value of NaN."""

    keys: Array
    values: Array


@lowers("LabelEncoder", dtypes=_KEYS, domain=DOMAIN, folds=False)
def label_encoder(ctx: Lowering, node: ir.Node) -> None:
    """A value for each key, numbers both. Of equal keys the first counts, and NaN is one."""
    x = ctx.view(node.inputs[0])
    result = node.outputs[0].dtype
    kind = DType.of(result.numpy()) if result is not None else None
    assert kind is not None
    labels = labels_of(node, kind.numpy)
    if object in (labels.keys.dtype, labels.values.dtype):
        raise _misfit(node, "keys and values of the types of input and output", "strings")
    keys = labels.keys.astype(x.dtype.numpy)
    nan = np.isnan(keys)
    unique, first = np.unique(keys[~nan], return_index=True)
    values = labels.values.astype(kind.numpy)
    ends = np.array([labels.default]).astype(kind.numpy)
    of_nan = values[nan][:1] if nan.any() else ends
    mapping = _Mapping(unique, np.concatenate([values[~nan][first], ends, of_nan]))
    _look_up(ctx, node, x, mapping, ctx.result(node.outputs[0], x.dims, kind))


def _look_up(ctx: Lowering, node: ir.Node, x: View, mapping: _Mapping, y: View, *, strict: bool = False) -> None:
    if y.size == 0:
        return
    x = x if x.is_row_major else ctx.copied(x)
    count = mapping.keys.size
    keys = mapping.keys if count else np.zeros(1, x.dtype.numpy)
    check = "an element of no category", "one of the operator's categories"
    status = arguments(status=ctx.check(node, *check)) if strict else {}
    ctx.step(
        Lookup(x.dtype, y.dtype, strict),
        arguments(x=x, keys=ctx.constant(keys), values=ctx.constant(mapping.values), y=y)
        | status
        | arguments(size=y.size, block=_BLOCK, count=count, steps=count.bit_length()),
        domain=-(-y.size // _BLOCK),
        label=node.name or node.op_type,
        writes=("y", *status),
        cost=_BLOCK * 4 * count.bit_length(),
    )


# ---- helpers -----------------------------------------------------------------------------------------------------


def _per_feature(ctx: Lowering, node: ir.Node, name: str, default: float, x: View, kind: DType) -> View:
    """Numbers of an attribute, one for each feature (the last axis) or one for all, spread over x."""
    attribute = node.attributes.get(name)
    numbers = np.array([default] if attribute is None or not attribute.value else attribute.value)
    if numbers.size != 1 and (not x.dims or x.dims[-1] != numbers.size):
        raise _misfit(node, f"{name} of 1 or {x.dims[-1] if x.dims else 1} numbers", str(numbers.size))
    made = numbers.astype(kind.numpy)
    return ctx.constant(made).broadcast(x.dims) if x.dims else ctx.constant(made.reshape(()))


def _holds(kind: DType, value: float) -> bool:
    """Whether a number is one of the type's."""
    if kind.is_float:
        return True
    limits = np.iinfo(kind.numpy)
    return int(limits.min) <= value <= int(limits.max)


def _misfit(node: ir.Node, expected: str, got: str) -> InvalidModelError:
    where = f"node {node.name or node.outputs[0].name!r} ({node.op_type})"
    return InvalidModelError("attributes that do not fit", where=where, expected=expected, got=got)
