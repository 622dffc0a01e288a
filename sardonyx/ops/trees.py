"""Tree ensembles: TreeEnsembleClassifier, TreeEnsembleRegressor and TreeEnsemble of ai.onnx.ml.

A row of int32 or int64 is compared as float32, or as float64 where thresholds are of that type: as onnxruntime and
onnx.reference do. Rows of floats are compared as they are, whatever the type of thresholds.

Of a single score only PROBIT is a transform, as in onnxruntime, on which converters test what they write.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.compiler.dims import hint, least, most
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.classify import COMPLEMENT, NEGATED, Classify
from sardonyx.compiler.kernels.trees import CHAINS, Ensemble, Votes
from sardonyx.compiler.lower import arguments
from sardonyx.compiler.program import View
from sardonyx.ops.ensemble import AGGREGATES, TRANSFORMS, invalid, numbers, read_ensemble, simplified
from sardonyx.ops.limits import check_result
from sardonyx.ops.table import FLOATS, lowers
from sardonyx.ops.tree_tables import tables

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.lower import Lowering

_DOMAIN = "ai.onnx.ml"
_ROWS = FLOATS | {DType.I32, DType.I64}
_BLOCK_BYTES = 3 << 16
"""Of rows and scores that one item works on, beside which a tree must find room in the second-level cache."""
_MOST_ROWS = 1024
_FEW = CHAINS
"""Rows from which several at a time go through a tree; fewer go through several trees at a time."""
_ITEMS = 8
"""For each thread, if there are so many rows."""
_MOST_TARGETS = 1 << 20


@lowers("TreeEnsembleRegressor", dtypes=_ROWS, domain=_DOMAIN, folds=False)
def tree_ensemble_regressor(ctx: Lowering, node: ir.Node) -> None:
    """Scores of n_targets; a float32 result, whatever the rows."""
    targets = _target_count(node)
    aggregate = _named(node, "aggregate_function", AGGREGATES, "SUM")
    _regression(ctx, node, targets, aggregate, _transform(node), DType.F32)


@lowers("TreeEnsemble", dtypes=FLOATS, domain=_DOMAIN, folds=False)
def tree_ensemble(ctx: Lowering, node: ir.Node) -> None:
    """Scores of n_targets, of the rows' type."""
    targets = _target_count(node)
    aggregate = _numbered(node, "aggregate_function", AGGREGATES, 1)
    transform = _numbered(node, "post_transform", TRANSFORMS, 0)
    _regression(ctx, node, targets, aggregate, transform, ctx.view(node.inputs[0]).dtype)


def _regression(ctx: Lowering, node: ir.Node, targets: int, aggregate: str, transform: str, dtype: DType) -> None:
    x = _rows(ctx, node)
    dims = (x.dims[0], targets)
    check_result(node, dims, dtype)
    if targets == 1 and transform != "PROBIT":
        transform = "NONE"
    if transform == "NONE":
        _scores(ctx, node, x, aggregate, ctx.result(node.outputs[0], dims, dtype), targets)
        return
    scores = ctx.temporary(dims, _compared(node, x.dtype))
    _scores(ctx, node, x, aggregate, scores, targets)
    made = ctx.result(node.outputs[0], dims, dtype)
    kernel = Classify(transform, scores.dtype, dtype, labelled=False)
    given = arguments(x=scores, z=made, given=targets, made=targets)
    ctx.step(kernel, given, domain=x.dims[0], label=node.name or node.op_type, cost=16 * targets, writes=("z",))


@lowers("TreeEnsembleClassifier", dtypes=_ROWS, domain=_DOMAIN, folds=False)
def tree_ensemble_classifier(ctx: Lowering, node: ir.Node) -> None:
    """A label and float32 scores of all classes.

    Where the standard is silent, that is with two classes of which the trees vote for one, this is onnxruntime's rule:
    the second label from a score above 0.5 on if no weight is negative, else above 0; and no softmax of that score.
    """
    attribute = node.attributes.get("classlabels_int64s")
    labels = np.array(attribute.as_ints() if attribute is not None else (), np.int64)
    if not len(labels):
        raise invalid(node, "there are no class labels")
    x, classes = _rows(ctx, node), len(labels)
    check_result(node, (x.dims[0], classes), DType.F32)
    transform, ids = _transform(node), node.attributes.get("class_ids")
    voted = set(ids.as_ints()) if ids is not None else set()
    pair, threshold = None, None
    if classes == 1:
        labels, threshold = np.array([0, 1]), 0.0
        transform = transform if transform == "PROBIT" else "NONE"
    elif classes == 2 and len(voted) == 1:
        positive = bool((numbers(node, "class_weights") >= 0).all())
        threshold = 0.5 if positive else 0.0
        if voted == {0}:
            transform = "NONE" if transform in ("SOFTMAX", "SOFTMAX_ZERO") else transform
            pair = COMPLEMENT if transform == "PROBIT" or (transform == "NONE" and positive) else NEGATED
    given = 1 if pair else classes
    scores = ctx.temporary((x.dims[0], given), _compared(node, x.dtype))
    _scores(ctx, node, x, "SUM", scores, classes)
    y = ctx.result(node.outputs[0], x.dims[:1], DType.I64)
    z = ctx.result(node.outputs[1], (x.dims[0], classes), DType.F32) if len(node.outputs) > 1 else None
    if z is None:
        z = ctx.temporary((x.dims[0], classes), DType.F32)
    ctx.step(
        Classify(transform, scores.dtype, DType.F32, True, threshold, pair),
        arguments(x=scores, labels=ctx.constant(labels), y=y, z=z, given=given, made=classes),
        domain=x.dims[0],
        label=node.name or node.op_type,
        cost=16 * classes,
        writes=("y", "z"),
    )


def _scores(ctx: Lowering, node: ir.Node, x: View, aggregate: str, y: View, targets: int) -> None:
    """Write to y what trees say of each row of x; its columns are the first of so many targets."""
    dtype = _compared(node, x.dtype)
    read = simplified(read_ensemble(node, targets), dtype.numpy)
    made = tables(node, replace(read, targets=y.dims[1], base=read.base[: y.dims[1]]), aggregate, dtype)
    if x.dims[1] < made.features:
        raise invalid(
            node, "a tree asks for a feature that rows do not have", f"{made.features} columns", str(x.dims[1])
        )
    targets, pitch = y.dims[1], _pitch(made.columns)
    row_bytes = Ensemble.scratch(1, pitch, targets, dtype)
    few = x.dims[0] < _FEW
    block = 1 if few else _block(x.dims[0], row_bytes, ctx.threads)
    kernel = Ensemble(x.dtype, dtype, y.dtype, Votes(aggregate, made.weight, made.lists), few, pitch)
    given = arguments(x=x, y=y, rows=x.dims[0], x_row=x.strides[0], x_column=x.strides[1], columns=made.columns)
    given |= arguments(block=block, trees=made.trees, counted=made.counted, targets=targets, inner=made.inner)
    given |= {name: ctx.constant(array, name) for name, array in made.arrays.items()}
    if not made.lists:
        given |= arguments(width=made.width)
    ctx.step(
        kernel,
        given,
        domain=-(-x.dims[0] // block),
        label=node.name or node.op_type,
        cost=hint(block) * (made.columns + 8.0 * made.trees),
        scratch=block * row_bytes,
    )


def _block(rows: int, row_bytes: int, threads: int) -> int:
    """Rows of an item: as many as stay in a cache, if that leaves several items to each thread."""
    largest = min(_MOST_ROWS, _BLOCK_BYTES // row_bytes) // CHAINS
    return CHAINS * most(1, least(largest, rows // (CHAINS * _ITEMS * threads)))


def _pitch(columns: int) -> int:
    """Elements from one row to the next: few values, for they shape the code, and not all rows in one cache set."""
    rounded = 1 << max(2, (columns - 1).bit_length())
    return rounded if rounded < 64 else rounded + 16


def _rows(ctx: Lowering, node: ir.Node) -> View:
    """The input as rows: one that has a single dim is one row."""
    x = ctx.view(node.inputs[0])
    if len(x.dims) == 1:
        return View(x.buffer, x.dtype, (1, *x.dims), (0, *x.strides), x.offset)
    if len(x.dims) != 2:
        raise ValueError(f"{len(x.dims)} dims where rows of features belong")
    return x


def _compared(node: ir.Node, rows: DType) -> DType:
    """The type in which rows and thresholds are compared."""
    if rows.is_float:
        return rows.register
    return DType.F64 if numbers(node, "nodes_values").dtype == np.float64 else DType.F32


def _target_count(node: ir.Node) -> int:
    count = node.attributes.get_int("n_targets", 1)
    if not 1 <= count <= _MOST_TARGETS:
        raise invalid(node, "n_targets is no number of targets", f"1 to {_MOST_TARGETS:,}", str(count))
    return count


def _transform(node: ir.Node) -> str:
    return _named(node, "post_transform", TRANSFORMS, "NONE")


def _named(node: ir.Node, name: str, known: tuple[str, ...], default: str) -> str:
    value = node.attributes.get_string(name, default)
    if value not in known:
        raise invalid(node, f"{name} has no such value", ", ".join(known), str(value))
    return value


def _numbered(node: ir.Node, name: str, known: tuple[str, ...], default: int) -> str:
    value = node.attributes.get_int(name, default)
    if not 0 <= value < len(known):
        raise invalid(node, f"{name} has no such value", f"0 to {len(known) - 1}", str(value))
    return known[value]
