"""Cases of attention: heads and lengths that do not fill registers, masks of every shape, caches, positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tests.suites.case import Array, Case, floats, node

_RANDOM = np.random.default_rng(31)
_HEADS = {"q_num_heads": 4, "kv_num_heads": 2}


def heads(
    rows: int, keys: int, size: int = 16, *, batch: int = 2, q: int = 4, kv: int = 2, width: int = 0
) -> dict[str, Array]:
    """Q, K and V, heads first; values of `width` elements if that is not 0."""
    return {
        "q": floats(batch, q, rows, size),
        "k": floats(batch, kv, keys, size),
        "v": floats(batch, kv, keys, width or size),
    }


def attention(name: str, feeds: Mapping[str, Array], inputs: str = "q k v", outputs: str = "y", **given: Any) -> Case:
    """One Attention node."""
    opset = given.pop("opset", 23)
    return Case(f"Attention-{name}", [node("Attention", inputs, outputs, **given)], feeds, opset=opset)


def _plain() -> Iterator[Case]:
    for rows, keys in ((1, 1), (1, 130), (2, 5), (17, 100), (70, 33), (130, 260)):
        yield attention(f"{rows}x{keys}", heads(rows, keys))
        double = {key: array.astype(np.float64) for key, array in heads(rows, keys).items()}
        yield attention(f"{rows}x{keys}-double", double)
    for size, width in ((1, 1), (7, 9), (64, 64), (80, 80), (128, 40), (20, 200)):
        for rows in (1, 19):
            yield attention(f"sizes-{size}-{width}-{rows}", heads(rows, 21, size, width=width))
    for q, kv in ((1, 1), (6, 1), (6, 2), (12, 12), (10, 2)):
        for rows in (1, 9):
            yield attention(f"heads-{q}-{kv}-{rows}", heads(rows, 300, 8, batch=1, q=q, kv=kv))
    for rows in (1, 30):
        feeds = {"q": floats(2, rows, 4 * 16), "k": floats(2, 40, 2 * 16), "v": floats(2, 40, 2 * 24)}
        yield attention(f"matrices-{rows}", feeds, **_HEADS)
        yield attention(f"scale-{rows}", heads(rows, 40), scale=0.7)
        yield attention(f"softcap-{rows}", heads(rows, 40), softcap=1.5)
        yield attention(f"causal-{rows}", heads(rows, 40), is_causal=1)
        loud = {key: array * np.float32(4) for key, array in heads(rows, 250).items()}
        yield attention(f"loud-{rows}", loud)
    yield attention("causal-long", heads(300, 300), is_causal=1)
    turned = [node("Transpose", f"{x}", f"{x}t", perm=[0, 1, 3, 2]) for x in "qkv"]
    feeds = {key: np.ascontiguousarray(array.swapaxes(2, 3)) for key, array in heads(18, 40).items()}
    yield Case("Attention-transposed", [*turned, node("Attention", "qt kt vt")], feeds, opset=23)


def _masks() -> Iterator[Case]:
    shapes = ((30, 40), (4, 30, 40), (1, 30, 40), (2, 4, 30, 40), (2, 1, 30, 40))
    for shape in shapes:
        bias = floats(*shape)
        bits = floats(*shape) > -0.5
        yield attention(f"mask-{shape}", {**heads(30, 40), "m": bias}, "q k v m")
        yield attention(f"mask-{shape}-bool", {**heads(30, 40), "m": bits}, "q k v m")
        yield attention(f"mask-{shape}-causal", {**heads(30, 40), "m": bias}, "q k v m", is_causal=1)
    for shape in ((1, 40), (2, 4, 1, 40), (2, 1, 1, 40)):
        yield attention(f"mask-{shape}-row", {**heads(1, 40), "m": floats(*shape)}, "q k v m", softcap=2.0)


def _caches() -> Iterator[Case]:
    for rows in (1, 6):
        past = {"pk": floats(2, 2, 37, 16), "pv": floats(2, 2, 37, 16)}
        for causal in (0, 1):
            feeds = {**heads(rows, rows), **past}
            for outputs in ("y pk2 pv2", "o y pv2", "o pk2 y"):
                name = f"past-{rows}-{causal}-{outputs.split().index('y')}"
                yield attention(name, feeds, "q k v _ pk pv", outputs, is_causal=causal)
            mask = {"m": floats(rows, 37 + rows)}
            yield attention(f"past-{rows}-{causal}-mask", {**feeds, **mask}, "q k v m pk pv", "y a b", is_causal=causal)
        flat = {"q": floats(2, rows, 64), "k": floats(2, rows, 32), "v": floats(2, rows, 32), **past}
        yield attention(f"past-{rows}-matrices", flat, "q k v _ pk pv", "y a b", **_HEADS)


def _rotations() -> Iterator[Case]:
    for interleaved in (0, 1):
        for size, turned in ((64, 0), (40, 0), (40, 12), (6, 6)):
            half = (turned or size) // 2
            caches = {"c": floats(50, half), "s": floats(50, half), "p": _RANDOM.integers(0, 50, (2, 5))}
            attributes = {"interleaved": interleaved, "rotary_embedding_dim": turned}
            name = f"RotaryEmbedding-{size}-{turned}-{interleaved}"
            rotate = node("RotaryEmbedding", "x c s p", **attributes)
            yield Case(name, [rotate], {"x": floats(2, 3, 5, size), **caches}, opset=23)
            flat = node("RotaryEmbedding", "x c s p", num_heads=3, **attributes)
            yield Case(f"{name}-matrix", [flat], {"x": floats(2, 5, 3 * size), **caches}, opset=23)
            angles = {"c": floats(2, 5, half), "s": floats(2, 5, half)}
            alone = node("RotaryEmbedding", "x c s", **attributes)
            yield Case(f"{name}-angles", [alone], {"x": floats(2, 3, 5, size), **angles}, opset=23)
    feeds = {"x": floats(2, 5, 3, 16), "c": floats(2, 5, 8), "s": floats(2, 5, 8)}
    turned_input = [node("Transpose", "x", "t", perm=[0, 2, 1, 3]), node("RotaryEmbedding", "t c s")]
    yield Case("RotaryEmbedding-transposed", turned_input, feeds, opset=23)


CASES: tuple[Case, ...] = (*_plain(), *_masks(), *_caches(), *_rotations())
