"""Cases of padding: every mode, either layout, cuts, pads longer than what they repeat."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.suites.case import Case, floats, node


def _pads() -> Iterator[Case]:
    image = {"x": floats(2, 5, 6, 7)}
    for mode in ("constant", "reflect", "edge", "wrap"):
        opset = 19 if mode == "wrap" else 13
        for name, pads in (
            ("borders", [0, 0, 2, 3, 0, 0, 1, 4]),
            ("one-side", [0, 0, 0, 3, 0, 0, 0, 0]),
            ("all", [1, 2, 3, 4, 1, 4, 2, 1]),
            ("cut", [0, -1, 2, -2, 0, -2, -1, 1]),
            ("none", [0] * 8),
        ):
            nodes = [node("Pad", "x p", mode=mode)]
            yield Case(f"Pad-{mode}-{name}", nodes, image, {"p": np.array(pads)}, opset=opset)
            yield Case(
                f"Pad-{mode}-{name}-last",
                [node("Conv", "x k", "c"), node("Pad", "c p", "d", mode=mode), node("Relu", "d")],
                image,
                {"p": np.array(pads), "k": floats(5, 5, 1, 1)},
                opset=opset,
            )
        yield Case(
            f"Pad-{mode}-axes",
            [node("Pad", "x p _ a", mode=mode)],
            image,
            {"p": np.array([1, 2, 2, 0]), "a": np.array([-1, 1])},
            opset=19,
        )
        for dtype in (np.int64, np.int8, np.bool_, np.float64):
            values, ones = {"x": np.arange(40).reshape(5, 8).astype(dtype)}, {"p": np.ones(4, int)}
            yield Case(f"Pad-{mode}-{np.dtype(dtype)}", [node("Pad", "x p", mode=mode)], values, ones, opset=19)
        line = {"p": np.array([4, 3])}
        yield Case(f"Pad-{mode}-1d", [node("Pad", "x p", mode=mode)], {"x": floats(9)}, line, opset=opset)
    yield Case("Pad-value", [node("Pad", "x p v")], image, {"p": np.ones(8, int), "v": np.float32(-2.5)})
    yield Case("Pad-value-fed", [node("Pad", "x p v")], {**image, "v": np.array(3, np.float32)}, {"p": np.ones(8, int)})
    yield Case("Pad-attribute", [node("Pad", "x", pads=[0, 1, 2, 3, 0, 0, 1, 0], value=0.5)], image, opset=10)
    filled = {"p": np.array([1, 2, 0, 1]), "v": np.float32(4)}
    yield Case("Pad-empty", [node("Pad", "x p v")], {"x": floats(2, 0)}, filled)
    reflected = [node("Pad", "x p", "d", mode="reflect"), node("Conv", "d k")]
    weights = {"p": np.array([0, 0, 4, 4] * 2), "k": floats(32, 3, 9, 9)}
    yield Case("Pad-reflect-conv", reflected, {"x": floats(1, 3, 9, 8)}, weights)


CASES: tuple[Case, ...] = tuple(_pads())
