"""Cases of matrix products: rows from none to many, every layout of both operands, what follows them, and Einsum."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from tests.suites.case import Case, floats, node

_INTEGERS = (np.int32, np.int64, np.uint32, np.uint64)


def _gemm() -> Iterator[Case]:
    for m, k, n in ((1, 1, 1), (1, 33, 19), (5, 64, 16), (7, 31, 50), (64, 40, 33), (3, 0, 4), (13, 1100, 70)):
        yield Case(
            f"Gemm-{m}x{k}x{n}",
            [node("Gemm", "x w b", transB=1)],
            {"x": floats(m, k)},
            {"w": floats(n, k), "b": floats(n)},
        )
    yield Case(
        "Gemm-scaled",
        [node("Gemm", "x w b", transA=1, alpha=0.5, beta=2.0)],
        {"x": floats(33, 5), "w": floats(33, 19), "b": floats(5, 1)},
    )
    for left, right, known in product((0, 1), (0, 1), (False, True)):
        x, w = {"x": floats(*((21, 9) if left else (9, 21)))}, {"w": floats(*((35, 21) if right else (21, 35)))}
        scaled = node("Gemm", "x w c", transA=left, transB=right, alpha=1.5, beta=-0.25)
        feeds, weights = ({**x, "c": floats(9, 35)}, w) if known else ({**x, **w, "c": floats(35)}, {})
        yield Case(f"Gemm-trans-{left}{right}-{'known' if known else 'given'}", [scaled], feeds, weights)
    yield Case(
        "Gemm-double",
        [node("Gemm", "x w")],
        {"x": floats(9, 12).astype(np.float64), "w": floats(12, 11).astype(np.float64)},
    )


def _matmul() -> Iterator[Case]:
    shapes = [
        ((2, 3, 5, 33), (3, 33, 19)),
        ((2, 3, 5, 33), (33, 19)),
        ((4, 5, 33), (33,)),
        ((33,), (4, 33, 5)),
        ((33,), (33,)),
        ((1, 4, 8), (6, 8, 3)),
        ((6, 4, 8), (1, 8, 3)),
        ((2, 1, 4, 8), (1, 3, 8, 5)),
        ((3, 1, 2, 4, 8), (5, 1, 8, 9)),
        ((7, 33), (33, 1)),
        ((2, 7, 33), (2, 33, 1)),
        ((4, 1, 70), (4, 70, 150)),
        ((2, 0, 5), (2, 5, 3)),
        ((2, 4, 0), (2, 0, 3)),
        ((0, 4, 5), (0, 5, 3)),
        ((29, 700), (700, 83)),
    ]
    for a, b in shapes:
        feeds = {"a": floats(*a), "b": floats(*b)}
        yield Case(f"MatMul-{a}-{b}", [node("MatMul", "a b")], feeds)
        yield Case(f"MatMul-{a}-{b}-known", [node("MatMul", "a b")], {"a": feeds["a"]}, {"b": feeds["b"]})
    for rows in (*range(1, 18), 200):
        x, w = {"x": floats(rows, 130)}, {"w": floats(130, 70)}
        yield Case(f"MatMul-{rows}-rows-known", [node("MatMul", "x w")], x, w)
        if rows in (1, 2, 7, 200):
            yield Case(f"MatMul-{rows}-rows", [node("MatMul", "x w")], {**x, **w})
            turned = [node("Transpose", "v", "w", perm=[1, 0]), node("MatMul", "x w")]
            yield Case(f"MatMul-{rows}-rows-turned", turned, {**x, "v": floats(70, 130)})
    yield Case(
        "MatMul-many-blocks",
        [node("MatMul", "x w")],
        {"x": floats(420, 600)},
        {"w": floats(600, 40)},
    )
    for dtype in _INTEGERS:
        pair = {"a": (floats(3, 7, 40) * 99).astype(dtype), "b": (floats(3, 40, 21) * 99).astype(dtype)}
        yield Case(f"MatMul-{np.dtype(dtype)}", [node("MatMul", "a b")], pair)
    double = {"a": floats(2, 1, 37).astype(np.float64), "b": floats(2, 21, 37).astype(np.float64)}
    turned = [node("Transpose", "b", "t", perm=[0, 2, 1]), node("MatMul", "a t")]
    yield Case("MatMul-double-row", turned, double)
    special = floats(5, 20)
    special[2, 3], special[4, 1] = np.nan, np.inf
    yield Case("MatMul-special", [node("MatMul", "x w")], {"x": special}, {"w": np.abs(floats(20, 19))})


def _layouts() -> Iterator[Case]:
    yield Case(
        "MatMul-transposed",
        [node("Transpose", "a", "t", perm=[0, 2, 1]), node("MatMul", "b t")],
        {"a": floats(3, 17, 9), "b": floats(3, 4, 9)},
    )
    heads = {"q": floats(2, 13, 3, 20), "k": floats(2, 30, 3, 20), "v": floats(2, 30, 3, 20)}
    for queries in (13, 1):
        split = [
            node("Transpose", "q", "a", perm=[0, 2, 1, 3]),
            node("Transpose", "k", "b", perm=[0, 2, 3, 1]),
            node("Transpose", "v", "c", perm=[0, 2, 1, 3]),
            node("MatMul", "a b", "s"),
            node("MatMul", "s c", "o"),
            node("Transpose", "o", perm=[0, 2, 1, 3]),
        ]
        yield Case(f"MatMul-heads-{queries}", split, heads | {"q": floats(2, queries, 3, 20)})
    sliced = [
        node("Slice", "x s e a t", "p"),
        node("Slice", "w s e a t", "q"),
        node("MatMul", "p q"),
    ]
    bounds = {"s": np.array([-1, 1]), "e": np.array([-99, 9]), "a": np.array([1, 2]), "t": np.array([-2, 1])}
    yield Case("MatMul-sliced", sliced, {"x": floats(2, 11, 10), "w": floats(2, 15, 12)}, bounds)
    both = bounds | {"t": np.array([-2, 2]), "e": np.array([-99, 17])}
    yield Case("MatMul-sliced-both", sliced, {"x": floats(2, 11, 20), "w": floats(2, 15, 18)}, both)
    yield Case(
        "MatMul-of-one",
        [node("Transpose", "x", "t", perm=[1, 0]), node("MatMul", "x t")],
        {"x": floats(9, 40)},
    )
    yield Case(
        "MatMul-vector-known",
        [node("MatMul", "a x")],
        {"x": floats(50)},
        {"a": floats(3, 21, 50)},
    )


def _fused() -> Iterator[Case]:
    yield Case(
        "MatMul-constant-fused",
        [node("MatMul", "a b", "m"), node("Add", "m c", "s"), node("Relu", "s")],
        {"a": floats(2, 7, 12)},
        {"b": floats(12, 21), "c": floats(21)},
    )
    for rows in (1, 8):
        yield Case(
            f"MatMul-gelu-residual-{rows}",
            [
                node("MatMul", "a b", "m"),
                node("Add", "m c", "s"),
                node("Gelu", "s", "g"),
                node("MatMul", "g d", "n"),
                node("Add", "n a"),
            ],
            {"a": floats(2, rows, 40)},
            {"b": floats(40, 83), "c": floats(83), "d": floats(83, 40)},
        )
    scores = {"q": floats(1, 3, 9, 16), "k": floats(1, 3, 16, 21), "m": floats(1, 1, 1, 21)}
    masked = [node("MatMul", "q k", "p"), node("Div", "p d", "s"), node("Add", "s m")]
    yield Case("MatMul-masked", masked, scores, {"d": np.array(4, np.float32)})
    yield Case("MatMul-masked-row", masked, scores | {"q": floats(1, 3, 1, 16)}, {"d": np.array(4, np.float32)})
    column = [node("MatMul", "x w", "m"), node("Add", "m c", "s"), node("Relu", "s")]
    yield Case("MatMul-column-fused", column, {"x": floats(19, 33), "c": floats(19, 1)}, {"w": floats(33, 1)})
    shared = [node("MatMul", f"x {w}", f"{w}x") for w in "qkv"]
    sums = [node("Add", "qx kx", "s"), node("Mul", "s vx")]
    yield Case("MatMul-three-of-one", [*shared, *sums], {"x": floats(2, 6, 24)}, {w: floats(24, 24) for w in "qkv"})
    cast = [node("MatMul", "x w", "m"), node("Cast", "m", "c", to=7), node("Add", "c i")]
    yield Case("MatMul-cast", cast, {"x": floats(9, 12) * 9}, {"w": floats(12, 21), "i": np.arange(21)})


_EQUATIONS: dict[str, tuple[tuple[int, ...], ...]] = {
    "ij->ji": ((4, 5),),
    "ij->i": ((4, 5),),
    "ij->": ((4, 5),),
    "ijk->j": ((4, 5, 6),),
    "ijk->ki": ((4, 5, 6),),
    "ii": ((6, 6),),
    "ii->i": ((6, 6),),
    "...ii->...i": ((2, 3, 5, 5),),
    "iji->j": ((4, 5, 4),),
    "i,i": ((9,), (9,)),
    "i,j->ij": ((9,), (7,)),
    "i,j->ji": ((9,), (7,)),
    "ij,jk": ((9, 21), (21, 19)),
    "ij, jk -> ki": ((9, 21), (21, 19)),
    "ij,kj->ik": ((9, 21), (19, 21)),
    "bij,bjk->bik": ((3, 9, 21), (3, 21, 19)),
    "bij,bjk->ibk": ((3, 9, 21), (3, 21, 19)),
    "...ij,...jk->...ik": ((2, 3, 9, 21), (1, 3, 21, 19)),
    "...ij,jk": ((2, 3, 9, 21), (21, 19)),
    "bqhd,bkhd->bhqk": ((2, 9, 3, 20), (2, 11, 3, 20)),
    "bhqk,bkhd->bqhd": ((2, 3, 9, 11), (2, 11, 3, 20)),
    "bij,bij->b": ((3, 5, 7), (3, 5, 7)),
    "bij,bij->bij": ((3, 5, 7), (3, 5, 7)),
    "abcd,dcef->abef": ((2, 3, 4, 5), (5, 4, 6, 7)),
    "ij,jk,kl->il": ((4, 9), (9, 8), (8, 5)),
    "ij,jk,ki->": ((4, 9), (9, 8), (8, 4)),
    "a,b,c->cba": ((3,), (4,), (5,)),
    "ij,k->i": ((4, 9), (8,)),
    "Ab,bC->AC": ((4, 9), (9, 8)),
    "bi,bj,bk->ijk": ((6, 4), (6, 5), (6, 3)),
    "ij,jk->ik": ((4, 0), (0, 8)),
    "iij,jk->ik": ((4, 4, 9), (9, 8)),
}


def _einsum() -> Iterator[Case]:
    for equation, shapes in _EQUATIONS.items():
        names = "abc"[: len(shapes)]
        feeds = {name: floats(*shape) for name, shape in zip(names, shapes, strict=True)}
        yield Case(f"Einsum-{equation}-{len(shapes[0])}", [node("Einsum", " ".join(names), equation=equation)], feeds)
    fused = [node("Einsum", "x w", "e", equation="bsd,dhk->bshk"), node("Neg", "e")]
    yield Case("Einsum-known", fused, {"x": floats(2, 7, 20)}, {"w": floats(20, 3, 8)})
    fused = [node("Einsum", "x w", "e", equation="bsd,dk->bsk"), node("Add", "e c", "s"), node("Relu", "s")]
    yield Case("Einsum-fused", fused, {"x": floats(2, 7, 20)}, {"w": floats(20, 24), "c": floats(24)})
    whole = {"a": (floats(4, 9) * 9).astype(np.int64), "b": (floats(9, 8) * 9).astype(np.int64)}
    yield Case("Einsum-integers", [node("Einsum", "a b", equation="ij,jk->ki")], whole)


CASES: tuple[Case, ...] = (*_gemm(), *_matmul(), *_layouts(), *_fused(), *_einsum())
