"""Cases of normalisation: rows, images laid out either way, groups, windows of channels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.suites.case import Array, Case, floats, node


def _double(values: dict[str, Array]) -> dict[str, Array]:
    return {name: array.astype(np.float64) for name, array in values.items()}


def _image_cases() -> Iterator[Case]:
    channels_last = node("Conv", "x k", "c")  # what follows a convolution lies channels-last
    for dims in ((2, 7, 5, 6), (1, 32, 20, 21), (3, 70, 4, 3), (2, 4, 9), (1, 18, 3, 4, 5), (0, 3, 4, 4), (2, 0, 3, 3)):
        c, ones = dims[1], (1,) * (len(dims) - 2)
        given = {"s": floats(c), "b": floats(c)}
        x = {"x": floats(*dims)}
        name = "x".join(map(str, dims))
        yield Case(f"InstanceNormalization-{name}", [node("InstanceNormalization", "x s b")], x, given)
        if 0 not in dims:
            yield Case(
                f"InstanceNormalization-{name}-last",
                [channels_last, node("InstanceNormalization", "c s b", "n", epsilon=0.01), node("Relu", "n")],
                x,
                {**given, "k": floats(c, c, *ones)},
            )
    residual = [channels_last, node("InstanceNormalization", "c s b", "n"), node("Add", "n x", "a"), node("Relu", "a")]
    yield Case(
        "InstanceNormalization-residual",
        residual,
        {"x": floats(1, 24, 12, 10)},
        {"s": floats(24), "b": floats(24), "k": floats(24, 24, 1, 1)},
    )
    yield Case(
        "InstanceNormalization-long",
        [node("InstanceNormalization", "x s b")],
        {"x": floats(1, 2, 190, 191)},
        {"s": floats(2), "b": floats(2)},
    )
    for groups, c in ((1, 6), (3, 6), (6, 6), (4, 64), (2, 70)):
        x = {"x": floats(2, c, 5, 7)}
        for last in (False, True):
            nodes, source = ([channels_last], "c") if last else ([], "x")
            kernel = {"k": floats(c, c, 1, 1)} if last else {}
            yield Case(
                f"GroupNormalization-{groups}-{c}-{last}",
                [*nodes, node("GroupNormalization", f"{source} s b", num_groups=groups)],
                x,
                {"s": floats(c), "b": floats(c), **kernel},
            )
    yield Case(
        "GroupNormalization-silu",
        [
            channels_last,
            node("GroupNormalization", "c s b", "n", num_groups=4),
            node("Sigmoid", "n", "g"),
            node("Mul", "n g"),
        ],
        {"x": floats(1, 32, 9, 9)},
        {"s": floats(32), "b": floats(32), "k": floats(32, 32, 1, 1)},
    )


def _row_cases() -> Iterator[Case]:
    x = {"x": floats(3, 4, 37, scale=2) + np.float32(1)}
    for axis in (-1, 1, 0):
        dims = x["x"].shape[axis:]
        weights = {"s": floats(*dims), "b": floats(*dims)}
        for bias in ("s b", "s"):
            yield Case(
                f"LayerNormalization{axis}-{bias}", [node("LayerNormalization", f"x {bias}", axis=axis)], x, weights
            )
        yield Case(f"RMSNormalization{axis}", [node("RMSNormalization", "x s", axis=axis)], x, weights, opset=23)
    for shape in ((1,), (4, 1), (3, 1, 37), (4, 37)):
        weights = {"s": floats(*shape), "b": floats(37)}
        yield Case(f"LayerNormalization-scale-{shape}", [node("LayerNormalization", "x s b")], x, weights)
    weights = {"s": floats(37), "b": floats(37)}
    yield Case("LayerNormalization-fed", [node("LayerNormalization", "x s b")], {**x, **weights})
    yield Case("LayerNormalization-double", [node("LayerNormalization", "x s b")], _double(x), _double(weights))
    for part in ("Mean", "InvStdDev"):
        stats = node("LayerNormalization", "x s b", "n m" if part == "Mean" else "n q m", axis=1, epsilon=0.1)
        both = {"s": floats(4, 37), "b": floats(4, 37)}
        yield Case(f"LayerNormalization-{part}", [stats, node("Add", "n m")], x, both)
    yield Case(
        "LayerNormalization-residual-gelu",
        [node("Add", "x z", "r"), node("LayerNormalization", "r s b", "n"), node("Gelu", "n", "g"), node("Add", "g r")],
        {**x, "z": floats(3, 4, 37)},
        weights,
    )
    yield Case(
        "LayerNormalization-channels",
        [node("Conv", "i k", "c"), node("Transpose", "c", "t", perm=[0, 2, 3, 1]), node("LayerNormalization", "t s b")],
        {"i": floats(2, 6, 5, 4)},
        {"k": floats(37, 6, 1, 1), **weights},
    )
    yield Case(
        "LayerNormalization-transposed",
        [node("Transpose", "x", "t", perm=[0, 2, 1]), node("LayerNormalization", "t s")],
        x,
        {"s": floats(4)},
    )
    long = {"x": floats(2, 70001)}
    both = {"s": floats(70001), "b": floats(70001)}
    for name, nodes in (
        ("y", [node("LayerNormalization", "x s b")]),
        ("mean", [node("LayerNormalization", "x s b", "n m"), node("Add", "n m")]),
    ):
        yield Case(f"LayerNormalization-long-{name}", nodes, long, both)
    for axes in (None, [0, 1, 2, 3], [1], [2, 3], [-1], [0, 2]):
        given = {} if axes is None else {"axes": axes}
        image = {"x": floats(2, 5, 6, 7, scale=3)}
        yield Case(f"MeanVarianceNormalization-{axes}", [node("MeanVarianceNormalization", "x", **given)], image)
    yield Case(
        "MeanVarianceNormalization-last",
        [node("Conv", "x k", "c"), node("MeanVarianceNormalization", "c")],
        {"x": floats(2, 5, 6, 7, scale=3)},
        {"k": floats(20, 5, 1, 1)},
    )
    for axis in (0, 1, -1):
        for p in (1, 2):
            zeros = np.concatenate([x["x"], np.zeros((3, 4, 37), np.float32)], axis=1)
            yield Case(f"LpNormalization-{axis}-{p}", [node("LpNormalization", "x", axis=axis, p=p)], {"x": zeros})


def _window_cases() -> Iterator[Case]:
    for c, more in (
        (5, {"size": 3}),
        (33, {"size": 5, "alpha": 0.2, "beta": 0.6, "bias": 2.0}),
        (64, {"size": 5, "alpha": 0.1}),
        (7, {"size": 15}),
        (1, {"size": 1}),
    ):
        yield Case(f"LRN-{c}-{more['size']}", [node("LRN", "x", **more)], {"x": floats(2, c, 4, 5, scale=4)})
    yield Case(
        "LRN-fused",
        [node("Conv", "x k", "c"), node("Relu", "c", "r"), node("LRN", "r", "l", size=5, alpha=0.5), node("Neg", "l")],
        {"x": floats(1, 3, 6, 6)},
        {"k": floats(48, 3, 1, 1)},
    )


CASES: tuple[Case, ...] = (*_image_cases(), *_row_cases(), *_window_cases())
