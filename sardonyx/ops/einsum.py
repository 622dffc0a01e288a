"""Einsum: diagonals are strides, sums are reductions, and two operands at a time become a product."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, TypeAlias

from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import ExprBuilder, identity
from sardonyx.compiler.fuse import Fusion
from sardonyx.compiler.kernels.epilogue import Epilogue
from sardonyx.compiler.kernels.reduce import COLUMN_VECTORS, Reduce
from sardonyx.compiler.layout import uniform_stride
from sardonyx.compiler.lower import arguments
from sardonyx.compiler.program import View
from sardonyx.errors import InvalidModelError
from sardonyx.ops.linear import PRODUCTS, Axes, multiply, product
from sardonyx.ops.reduction import Walk, walk_over
from sardonyx.ops.table import lowers

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.lower import Lowering

Labels: TypeAlias = tuple[str, ...]
"""Of the axes of a tensor: a letter each, or `.` and how far from the last one the ellipsis stands for."""


@dataclass(frozen=True)
class Equation:
    """What each axis of the operands and of the result is called."""

    operands: tuple[Labels, ...]
    result: Labels

    @classmethod
    def parse(cls, text: str, ranks: tuple[int, ...]) -> Equation:
        """The equation for operands of these ranks; ValueError when it is none or does not fit them.

        Without an arrow the result has what the ellipsis stands for, then the letters that stand once, in order.
        """
        left, arrow, right = text.replace(" ", "").partition("->")
        terms = left.split(",")
        if len(terms) != len(ranks):
            raise ValueError(f"{len(terms)} terms in {text!r} for {len(ranks)} inputs")
        operands = tuple(_labels(term, rank) for term, rank in zip(terms, ranks, strict=True))
        broadcast = max((tuple(o for o in labels if o[0] == ".") for labels in operands), key=len)
        if arrow:
            before, dots, after = right.partition("...")
            result = (*_letters(before), *(broadcast if dots else ()), *_letters(after))
        else:
            result = (*broadcast, *sorted(c for c in set(left) if c.isalpha() and left.count(c) == 1))
        unknown = set(result) - {label for labels in operands for label in labels}
        if unknown or len(set(result)) != len(result):
            raise ValueError(f"the result of {text!r} names {sorted(unknown) or 'an axis'} that is not there, or twice")
        return cls(operands, result)


def _letters(text: str) -> Labels:
    if not all(letter.isascii() and letter.isalpha() for letter in text):
        raise ValueError(f"{text!r} holds more than letters")
    return tuple(text)


def _labels(term: str, rank: int) -> Labels:
    before, dots, after = term.partition("...")
    first, last = _letters(before), _letters(after)
    rest = rank - len(first) - len(last)
    if rest < 0 or (rest and not dots):
        raise ValueError(f"the term {term!r} for {rank} dimensions")
    return (*first, *(f".{back}" for back in range(rest, 0, -1)), *last)


@dataclass(frozen=True)
class _Operand:
    """A tensor with its axes' labels, all different; `value` is the node's input if it is that, in any layout."""

    view: View
    labels: Labels
    value: ir.Value | None = None

    def part(self, labels: Labels) -> tuple[list[int], list[int]]:
        """Sizes and strides of some axes."""
        places = [self.labels.index(label) for label in labels]
        return [self.view.dims[i] for i in places], [self.view.strides[i] for i in places]

    def ordered(self, labels: Labels) -> View:
        """The view with its axes in this order, those it lacks with a size of 1."""
        dims, strides = self.part(tuple(label for label in labels if label in self.labels))
        for place, label in enumerate(labels):
            if label not in self.labels:
                dims.insert(place, 1)
                strides.insert(place, 0)
        return View(self.view.buffer, self.view.dtype, tuple(dims), tuple(strides), self.view.offset)


def _supported(node: ir.Node) -> str | None:
    return None if node.attributes.get_string("equation") else "no equation"


@lowers("Einsum", dtypes=PRODUCTS, supports=_supported)
def einsum(ctx: Lowering, node: ir.Node) -> None:
    """Operands one after another, from the left: what only one has is summed first, what no other needs with it."""
    views = [ctx.view(value) for value in node.inputs]
    equation = Equation.parse(node.attributes.get_string("equation") or "", tuple(len(v.dims) for v in views))
    operands = [
        _diagonal(value, view, labels)
        for value, view, labels in zip(node.inputs, views, equation.operands, strict=True)
    ]
    operands = _stretched(node, operands)
    for index, operand in enumerate(operands):
        needed = {label for other in [*operands[:index], *operands[index + 1 :]] for label in other.labels}
        operands[index] = _summed(ctx, node, operand, needed | set(equation.result))
    total = operands[0]
    for index, operand in enumerate(operands[1:], 2):
        later = {label for other in operands[index:] for label in other.labels}
        last = index == len(operands)
        made = _multiplied(ctx, node, (total, operand), (equation.result, later), last=last)
        if made is None:
            return
        total = made
    ctx.define(node.outputs[0], total.ordered(equation.result))


def _diagonal(value: ir.Value | None, view: View, labels: Labels) -> _Operand:
    """An axis for each label: one that stands twice walks both axes at once."""
    own = tuple(dict.fromkeys(labels))
    dims, strides = [], []
    for label in own:
        places = [i for i, other in enumerate(labels) if other == label]
        sizes = [view.dims[i] for i in places]
        if any(size != sizes[0] for size in sizes):
            raise ValueError(f"axes of sizes {sizes} are all called {label!r}")
        dims.append(view.dims[places[0]])
        strides.append(sum(view.strides[i] for i in places))
    return _Operand(View(view.buffer, view.dtype, tuple(dims), tuple(strides), view.offset), own, value)


def _stretched(node: ir.Node, operands: list[_Operand]) -> list[_Operand]:
    """With the same size for the same label everywhere: an axis of 1 stretches."""
    sizes: dict[str, int] = {}
    for operand in operands:
        for label, size in zip(operand.labels, operand.view.dims, strict=True):
            known = sizes.get(label, 1)
            if known != 1 and size not in (1, known):
                raise InvalidModelError(
                    f"the axes {label!r} differ", where=node.name, expected=str(known), got=str(size)
                )
            sizes[label] = size if known == 1 else known
    return [
        _Operand(operand.view.broadcast(tuple(sizes[label] for label in operand.labels)), operand.labels, operand.value)
        for operand in operands
    ]


def _summed(ctx: Lowering, node: ir.Node, operand: _Operand, needed: set[str]) -> _Operand:
    """Without the axes that nobody needs."""
    x, rank = operand.view, len(operand.labels)
    axes = [i for i in range(rank) if operand.labels[i] not in needed]
    kept = [i for i in range(rank) if operand.labels[i] in needed]
    if not axes:
        return operand
    length, dims = prod(x.dims[i] for i in axes), tuple(x.dims[i] for i in kept)
    walk = walk_over(x, kept, axes)
    if walk is None:
        x, walk = ctx.copied(x.permute((*kept, *axes))), Walk(True, length, 1)
    y = ctx.temporary(dims, x.dtype)
    columns = 1 if walk.along or not dims else dims[-1]
    if prod(dims):
        blocks = 1 if walk.along else -(-columns // (COLUMN_VECTORS * ctx.target.lanes(DType.F32)))
        sizes = arguments(length=length, columns=columns, column_blocks=blocks, y_outer=columns)
        ctx.step(
            Reduce("sum", identity(x.dtype), walk.along, Epilogue.plain(x.dtype)),
            arguments(x=x, y=y, x_outer=walk.outer, x_step=walk.step) | sizes,
            domain=prod(dims) // columns * blocks,
            label=f"{node.name} sum",
            cost=length * columns // blocks,
        )
    return _Operand(y, tuple(operand.labels[i] for i in kept))


def _multiplied(
    ctx: Lowering, node: ir.Node, pair: tuple[_Operand, _Operand], needed: tuple[Labels, set[str]], *, last: bool
) -> _Operand | None:
    """Two operands as one; None when that is the node's result, and was defined."""
    (left, right), (result, later) = pair, needed
    shared = [label for label in left.labels if label in right.labels]
    keep = {*result, *later}
    inner = tuple(label for label in shared if label not in keep)
    if not inner:
        return _outer(ctx, node, left, right, result)
    both = tuple(label for label in shared if label in keep)
    rows, columns = (tuple(label for label in operand.labels if label not in shared) for operand in (left, right))
    if last and (*both, *columns, *rows) == result != (*both, *rows, *columns):
        left, right, rows, columns = right, left, columns, rows
    a, b = _matrices(ctx, left, both, rows, inner), _matrices(ctx, right, both, inner, columns)
    labels = (*both, *rows, *columns)
    dims = (*left.part((*both, *rows))[0], *right.part(columns)[0])
    value = right.value if b.buffer is right.view.buffer else None
    if last and labels == result and len(columns) == 1:
        at = len(both)
        axes = Axes(tuple(range(at, at + len(rows))), at + len(rows), tuple(range(at)))
        product(ctx, node, a, (value, b), dims, axes)
        return None
    y = ctx.temporary(dims, a.dtype)
    if prod(dims):
        multiply(ctx, node, a, (value, b), y, Fusion((node,), identity(a.dtype), (), node.outputs[0]))
    return _Operand(y, labels)


def _matrices(ctx: Lowering, operand: _Operand, both: Labels, rows: Labels, columns: Labels) -> View:
    """The operand as [groups, rows, columns]; a copy when no stride walks the axes of one of them."""
    order = (*both, *rows, *columns)
    view = operand.ordered(order)
    for attempt in (view, None):
        found = attempt if attempt is not None else ctx.copied(view)
        at, parts = 0, []
        for labels in (both, rows, columns):
            part = slice(at, at + len(labels))
            parts.append((prod(found.dims[part]), uniform_stride(found.dims[part], found.strides[part])))
            at += len(labels)
        steps = [step for _, step in parts if step is not None]
        if len(steps) == len(parts):
            return View(found.buffer, found.dtype, tuple(size for size, _ in parts), tuple(steps), found.offset)
    raise AssertionError("a dense copy has strides")


def _outer(ctx: Lowering, node: ir.Node, left: _Operand, right: _Operand, result: Labels) -> _Operand:
    """Nothing to sum over: each element times each."""
    union = dict.fromkeys((*left.labels, *right.labels))
    labels = (*(label for label in result if label in union), *(label for label in union if label not in result))
    views = [operand.ordered(labels) for operand in (left, right)]
    dims = tuple(a if a != 1 else b for a, b in zip(views[0].dims, views[1].dims, strict=True))
    e = ExprBuilder()
    leaves = [e.leaf(view.dtype) for view in views]
    target = ctx.temporary(dims, views[0].dtype)
    ctx.elementwise(e.build(e.op("mul", *leaves)), [view.broadcast(dims) for view in views], target, f"{node.name} mul")
    return _Operand(target, labels)
