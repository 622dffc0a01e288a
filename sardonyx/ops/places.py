"""How kernels with rows and columns address an epilogue's operand."""

from __future__ import annotations

from collections.abc import Sequence

from sardonyx.compiler.dims import is_one
from sardonyx.compiler.fuse import Fusion, Placement
from sardonyx.compiler.kernels.epilogue import Epilogue
from sardonyx.compiler.layout import uniform_stride
from sardonyx.compiler.program import View


def matrix_place(rows: Sequence[int], column: int | None, group: Sequence[int] = (), columns: int = 0) -> Placement:
    """The placement (column stride, row stride, group stride) of a kernel whose row index walks the axes `rows`.

    `column` is the axis its vectors run along (none when a row is one value), `group` the axes its outermost index
    walks; without those, a group is `columns` columns further on.
    """

    def place(view: View) -> tuple[int, ...] | None:
        along = view.strides[column] if column is not None and not is_one(view.dims[column]) else 0
        row = uniform_stride([view.dims[a] for a in rows], [view.strides[a] for a in rows])
        if along not in (0, 1) or row is None:
            return None
        outer: int | None = along * columns
        if group:
            outer = uniform_stride([view.dims[a] for a in group], [view.strides[a] for a in group])
        return None if outer is None else (along, row, outer)

    return place


def planes_place(view: View) -> tuple[int, ...] | None:
    """The same for a kernel that takes the image [N, C, spatial...] plane by plane: rows are channels, groups images,
    and vectors run along the pixels.
    """
    along = uniform_stride(view.dims[2:], view.strides[2:])
    return (along, *view.strides[1::-1]) if along in (0, 1) else None


def pixel_stride(view: View) -> int | None:
    """Elements from a pixel of the image [N, C, spatial...] to the next, over rows and images; None if they vary."""
    return uniform_stride((view.dims[0], *view.dims[2:]), (view.strides[0], *view.strides[2:]))


def result_stride(view: View) -> int:
    """The same for a result that is laid out channels-last, be it a part of a wider tensor (`matrix_place` took it)."""
    stride = pixel_stride(view)
    assert stride is not None
    return stride


def epilogue_of(fusion: Fusion) -> tuple[Epilogue, dict[str, View | int]]:
    """The epilogue of a fusion placed by `matrix_place`, and its arguments."""
    columns, rows = (tuple(place[i] for _, place in fusion.operands) for i in (0, 1))
    epilogue = Epilogue(fusion.expr, columns, tuple(row != 0 for row in rows))
    return epilogue, epilogue.arguments([(view, place[1], place[2]) for view, place in fusion.operands])


def consumed(epilogue: Epilogue) -> tuple[str, ...]:
    """The operands of an epilogue that its kernel reads before it stores, and never again (see `Step.consumes`)."""
    both = zip(epilogue.columns, epilogue.moves, strict=True)
    return tuple(f"e{index}" for index, (column, moves) in enumerate(both) if column and moves)
