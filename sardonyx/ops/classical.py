"""Linear models and support vector machines of ai.onnx.ml.

Scores of float32 features are added up in float32; those of other types, and all of support vector machines, in
float64. Where the standard is silent, about the scores of two classes that have one between them, this does what
onnxruntime does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import Expr, ExprBuilder
from sardonyx.compiler.kernels.classify import COMPLEMENT, NEGATED, Classify
from sardonyx.compiler.kernels.pairs import Pairs
from sardonyx.compiler.kernels.scores import Scores
from sardonyx.compiler.lower import arguments
from sardonyx.compiler.program import View
from sardonyx.errors import InvalidModelError
from sardonyx.ops.table import lowers

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.lower import Lowering

Array = np.ndarray[Any, Any]
DOMAIN = "ai.onnx.ml"
FEATURES = frozenset({DType.F32, DType.F64, DType.I32, DType.I64})
"""Types of features."""
_TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")
_KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")
_ROWS = 4
_FLOPS_PER_FLOAT = 16
"""A kernel's multiply-adds weighed against elementwise work, when a chunk is chosen."""


def _transform_of(node: ir.Node) -> str:
    return node.attributes.get_string("post_transform", "NONE")


def _transform(node: ir.Node) -> str | None:
    name = _transform_of(node)
    return None if name in _TRANSFORMS else f"post_transform {name!r}"


def _int_labels(node: ir.Node) -> str | None:
    return "labels that are strings" if node.attributes.get_strings("classlabels_strings", None) else _transform(node)


def _kernel_type(node: ir.Node) -> str | None:
    name = node.attributes.get_string("kernel_type", "LINEAR")
    return None if name in _KERNELS else f"kernel_type {name!r}"


@lowers("LinearRegressor", dtypes=FEATURES, domain=DOMAIN, supports=_transform, folds=False)
def linear_regressor(ctx: Lowering, node: ir.Node) -> None:
    """x times coefficients plus intercepts, transformed: [rows, targets].

    Of one target only PROBIT transforms, as in onnxruntime, on which converters test what they write.
    """
    x, targets = _rows(ctx, node), node.attributes.get_int("targets", 1)
    scores = _linear(ctx, node, x, targets)
    kind = _transform_of(node)
    _transformed(ctx, node, scores, node.outputs[0], kind if targets > 1 or kind == "PROBIT" else "NONE")


@lowers("LinearClassifier", dtypes=FEATURES, domain=DOMAIN, supports=_int_labels, folds=False)
def linear_classifier(ctx: Lowering, node: ir.Node) -> None:
    """The label of the largest score, and the scores, transformed; one score may stand for two classes."""
    x, labels = _rows(ctx, node), _labels(node)
    count = len(node.attributes.get_floats("intercepts", ())) or len(labels)
    if count != len(labels) and (count, len(labels)) != (1, 2):
        raise _misfit(node, f"{len(labels)} labels", f"{count} intercepts")
    scores = _linear(ctx, node, x, count)
    if count < len(labels):
        _two_classes(ctx, node, scores, COMPLEMENT, labels)
    else:
        _transformed(ctx, node, scores, node.outputs[1], _transform_of(node), labels)


@lowers("SVMRegressor", dtypes=FEATURES, domain=DOMAIN, supports=_kernel_type, folds=False)
def svm_regressor(ctx: Lowering, node: ir.Node) -> None:
    """The sum of the kernel with each support vector times its coefficient: [rows, 1]; of one class its sign.

    Without support vectors, the coefficients are one that is multiplied with. The standard's post_transform has no
    effect, as in onnxruntime.
    """
    x, supports = _rows(ctx, node), node.attributes.get_int("n_supports", 0)
    coefficients, rho = _floats(node, "coefficients"), _floats(node, "rho")[:1]
    e = ExprBuilder()
    result = e.leaf(DType.F64)
    if bool(node.attributes.get_int("one_class", 0)):
        one = e.const(1.0, DType.F64)
        result = e.op(
            "select", e.op("greater", result, e.const(0.0, DType.F64), dtype=DType.BOOL), one, e.op("neg", one)
        )
    after = e.build(e.cast(result, DType.F32))
    y = ctx.result(node.outputs[0], (x.dims[0], 1), DType.F32)
    if supports <= 0:
        weights = _matrix(node, coefficients, 1, x.dims[1])
        _score(ctx, node, x, weights.T, _padded(rho, 1, node), after, y)
        return
    kernels = _kernels(ctx, node, x, supports)
    _score(ctx, node, kernels, _matrix(node, coefficients, 1, supports).T, _padded(rho, 1, node), after, y)


@lowers(
    "SVMClassifier",
    dtypes=FEATURES,
    domain=DOMAIN,
    supports=lambda node: _int_labels(node) or _kernel_type(node),
    folds=False,
)
def svm_classifier(ctx: Lowering, node: ir.Node) -> None:
    """Votes of a machine for each pair of classes; scores are coupled probabilities or the pairs' decisions.

    Without support vectors, a linear model with one number added to all scores.
    """
    x, labels = _rows(ctx, node), _labels(node)
    counts = node.attributes.get_ints("vectors_per_class", ())
    if not counts or sum(counts) == 0:
        _linear_machine(ctx, node, x, labels)
        return
    classes = len(labels)
    if len(counts) != classes or min(counts) < 0 or classes < 2:
        raise _misfit(node, f"vectors of {classes} classes, two at least", str(list(counts)[:8]))
    pairs = classes * (classes - 1) // 2
    decisions = ctx.temporary((x.dims[0], pairs), DType.F64)
    kernels = _kernels(ctx, node, x, sum(counts))
    _score(ctx, node, kernels, _pair_weights(node, counts), _padded(_floats(node, "rho"), pairs, node), None, decisions)
    slopes, offsets = _floats(node, "prob_a"), _floats(node, "prob_b")
    coupled = slopes.size > 0
    label = ctx.result(node.outputs[0], x.dims[:1], DType.I64)
    scores = ctx.temporary((x.dims[0], classes), DType.F64) if coupled else decisions
    if label.size:
        ctx.step(
            Pairs(coupled),
            arguments(x=decisions, label=label, labels=ctx.constant(labels), y=scores, classes=classes, pairs=pairs)
            | arguments(slope=ctx.constant(_padded(slopes, pairs if coupled else 0, node)))
            | arguments(offset=ctx.constant(_padded(offsets, pairs if coupled else 0, node))),
            domain=x.dims[0],
            label=node.name or node.op_type,
            writes=("label", "y") if coupled else ("label",),
            cost=pairs * 4 + (classes * classes * 64 if coupled else 0),
            scratch=Pairs.scratch(classes),
        )
    if classes == 2 and not coupled:
        _two_classes(ctx, node, scores, NEGATED if _transform_of(node) == "NONE" else COMPLEMENT)
    else:
        _transformed(ctx, node, scores, node.outputs[1], _transform_of(node))


def _linear_machine(ctx: Lowering, node: ir.Node, x: View, labels: Array) -> None:
    """One score for each class. Of two classes the second is chosen whenever a score is above 0 (of coefficients none
    of which is negative: 1/2 at least), as in onnxruntime.
    """
    classes = len(labels)
    coefficients, rho = _floats(node, "coefficients"), _floats(node, "rho")[:1]
    scores = ctx.temporary((x.dims[0], classes), DType.F64)
    start = np.repeat(_padded(rho, 1, node), classes)
    _score(ctx, node, x, _matrix(node, coefficients, classes, x.dims[1]).T, start, None, scores)
    if classes == 2 and not _floats(node, "prob_a").size:
        e = ExprBuilder()
        first, second = e.leaf(DType.F64), e.leaf(DType.F64)
        bound = e.const(0.5 if bool((coefficients >= 0).all()) else np.nextafter(0, 1), DType.F64)
        high = e.op("greater_equal", e.op("max", first, second), bound, dtype=DType.BOOL)
        either = e.op("or", high, e.op("greater", second, first, dtype=DType.BOOL))
        made = e.build(e.op("select", either, *(e.const(int(labels[place]), DType.I64) for place in (1, 0))))
        label = ctx.result(node.outputs[0], x.dims[:1], DType.I64)
        ctx.elementwise(made, [_column(scores, 0), _column(scores, 1)], label, node.name or node.op_type)
        _transformed(ctx, node, scores, node.outputs[1], _transform_of(node))
    else:
        _transformed(ctx, node, scores, node.outputs[1], _transform_of(node), labels)


def _pair_weights(node: ir.Node, counts: Any) -> Array:
    """[vectors, pairs]: for each pair of classes the coefficients of their vectors, 0 for others."""
    classes, vectors = len(counts), sum(counts)
    rows = _matrix(node, _floats(node, "coefficients"), classes - 1, vectors)
    ends = np.cumsum(counts)
    parts = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
    weights = np.zeros((vectors, classes * (classes - 1) // 2))
    pairs = ((i, j) for i in range(classes) for j in range(i + 1, classes))
    for pair, (i, j) in enumerate(pairs):
        weights[parts[i], pair] = rows[j - 1, parts[i]]
        weights[parts[j], pair] = rows[i, parts[j]]
    return weights


def _kernels(ctx: Lowering, node: ir.Node, x: View, supports: int) -> View:
    """The kernel of each row with each support vector, in float64."""
    kind = node.attributes.get_string("kernel_type", "LINEAR")
    vectors = _matrix(node, _floats(node, "support_vectors"), supports, x.dims[1])
    numbers = np.concatenate([_floats(node, "kernel_params"), np.zeros(3)])[:3]
    e = ExprBuilder()
    value, gamma, shift, degree = (e.leaf(DType.F64) for _ in range(4))
    if kind == "RBF":
        value = e.op("exp", e.op("neg", e.op("mul", gamma, value)))
    elif kind != "LINEAR":
        value = e.op("add", e.op("mul", gamma, value), shift)
        value = e.op("tanh", value) if kind == "SIGMOID" else e.op("power", value, degree)
    made = ctx.temporary((x.dims[0], supports), DType.F64)
    start = np.zeros(supports)
    _score(ctx, node, x, vectors.T, start, e.build(value), made, distance=kind == "RBF", numbers=numbers)
    return made


def _linear(ctx: Lowering, node: ir.Node, x: View, count: int) -> View:
    """x times `count` vectors of coefficients, plus intercepts."""
    if count < 1:
        raise _misfit(node, "one target at least", str(count))
    kind = DType.F32 if x.dtype is DType.F32 else DType.F64
    weights = _matrix(node, _floats(node, "coefficients"), count, x.dims[1])
    intercepts = _floats(node, "intercepts")
    scores = ctx.temporary((x.dims[0], count), kind)
    start = _padded(intercepts, count, node) if intercepts.size else np.zeros(count)
    _score(ctx, node, x, weights.T, start, None, scores)
    return scores


def _score(
    ctx: Lowering,
    node: ir.Node,
    x: View,
    weights: Array,
    start: Array,
    after: Expr | None,
    y: View,
    *,
    distance: bool = False,
    numbers: Array | None = None,
) -> None:
    """The step of `Scores`: `weights` are [features, columns], y [rows, columns]; without `after` sums as they are."""
    after = after if after is not None else Expr((y.dtype,))
    kind, (depth, n), m = after.leaves[0], weights.shape, x.dims[0]
    if y.size == 0:
        return
    lanes = ctx.target.lanes(kind)
    vectors = 1 if n <= lanes else 2
    width, rows = lanes * vectors, 1 if m == 1 else _ROWS
    panels = -(-n // width)
    packed = np.zeros((panels * width, depth), kind.numpy)
    packed[:n] = weights.T
    packed = np.ascontiguousarray(packed.reshape(panels, width, depth).transpose(0, 2, 1))
    begin = np.zeros(panels * width, kind.numpy)
    begin[:n] = start
    given = np.zeros(3) if numbers is None else numbers
    ctx.step(
        Scores(distance, rows, vectors, x.dtype, after),
        arguments(x=x, w=ctx.constant(packed), start=ctx.constant(begin), y=y, m=m, n=n, depth=depth, panels=panels)
        | arguments(numbers=ctx.constant(given.astype(kind.numpy)), x_row=x.strides[0], x_step=x.strides[1], y_row=n),
        domain=-(-m // rows) * panels,
        label=node.name or node.op_type,
        cost=rows * depth * width / _FLOPS_PER_FLOAT,
    )


def _two_classes(ctx: Lowering, node: ir.Node, score: View, pair: str, labels: Array | None = None) -> None:
    """One score s of two classes: s is the second's, above 0 if that is chosen, and `pair` says what the first's is.
    LOGISTIC takes -s and s, PROBIT transforms both, others have no effect.
    """
    kind = _transform_of(node)
    pair = NEGATED if kind == "LOGISTIC" else pair
    kind = kind if kind in ("LOGISTIC", "PROBIT") else "NONE"
    _transformed(ctx, node, score, node.outputs[1], kind, labels, pair)


def _transformed(
    ctx: Lowering,
    node: ir.Node,
    scores: View,
    result: ir.Value,
    kind: str,
    labels: Array | None = None,
    pair: str | None = None,
) -> None:
    """Write float32 scores, transformed; with `labels` those chosen as the first output. `pair` is as of Classify."""
    rows, given = scores.dims
    made = given if pair is None else 2
    z = ctx.result(result, (rows, made), DType.F32)
    named = arguments(x=scores, z=z, given=given, made=made)
    if labels is not None:
        named |= arguments(labels=ctx.constant(labels), y=ctx.result(node.outputs[0], (rows,), DType.I64))
    if z.size:
        threshold = 0.0 if pair is not None and labels is not None else None
        ctx.step(
            Classify(kind, scores.dtype, DType.F32, labels is not None, threshold, pair),
            named,
            domain=rows,
            label=node.name or node.op_type,
            writes=("z",) if labels is None else ("y", "z"),
            cost=made * (2 if kind == "NONE" else 16),
        )


def _column(matrix: View, place: int) -> View:
    return View(matrix.buffer, matrix.dtype, matrix.dims[:1], matrix.strides[:1], matrix.offset + place)


# ---- what the node says ------------------------------------------------------------------------------------------


def _rows(ctx: Lowering, node: ir.Node) -> View:
    """The features [rows, features]; a vector is one row."""
    x = ctx.view(node.inputs[0])
    if len(x.dims) == 1:
        return View(x.buffer, x.dtype, (1, *x.dims), (0, *x.strides), x.offset)
    if len(x.dims) != 2:
        raise ValueError(f"features of {len(x.dims)} dimensions")
    return x


def _floats(node: ir.Node, name: str) -> Array:
    return np.asarray(node.attributes.get_floats(name, ()), np.float64)


def _labels(node: ir.Node) -> Array:
    labels = np.asarray(node.attributes.get_ints("classlabels_ints", ()), np.int64)
    if not labels.size:
        raise _misfit(node, "classlabels_ints", "none")
    return labels


def _matrix(node: ir.Node, numbers: Array, rows: int, columns: int) -> Array:
    if numbers.size != rows * columns:
        raise _misfit(node, f"{rows} times {columns} numbers for these features", str(numbers.size))
    return numbers.reshape(rows, int(columns))


def _padded(numbers: Array, count: int, node: ir.Node) -> Array:
    """The first `count` numbers; at least one."""
    if numbers.size < count:
        raise _misfit(node, f"{count} numbers added or multiplied with", str(numbers.size))
    return numbers[:count] if count else np.zeros(1)


def _misfit(node: ir.Node, expected: str, got: str) -> InvalidModelError:
    where = f"node {node.name or node.outputs[0].name!r} ({node.op_type})"
    return InvalidModelError("attributes that do not fit", where=where, expected=expected, got=got)
