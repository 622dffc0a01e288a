"""Operator cases that move pixels: resizing, transposed convolution, sampling at places, blocks as channels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.suites.case import Case, floats, node

COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
)


def _resized() -> Iterator[Case]:
    """Every way of finding coordinates, in every mode, both layouts."""
    image, roi = floats(2, 3, 8, 6), np.array([0, 0, 0.21, 0.13, 1, 1, 0.87, 1.23], np.float32)
    for coordinates in COORDINATES:
        attributes = {"coordinate_transformation_mode": coordinates, "extrapolation_value": 0.5}
        for size in ([2, 3, 11, 13], [2, 3, 3, 5], [2, 3, 1, 7]):
            weights = {"s": np.array(size), "r": roi}
            for mode in ("linear", "cubic"):
                nodes = [node("Resize", "x r _ s", mode=mode, **attributes)]
                yield Case(f"Resize-{mode}-{coordinates}-{size[2:]}", nodes, {"x": image}, weights)
            for nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
                nodes = [node("Resize", "x r _ s", nearest_mode=nearest, **attributes)]
                yield Case(f"Resize-{nearest}-{coordinates}-{size[2:]}", nodes, {"x": image}, weights)


def _resized_in_networks() -> Iterator[Case]:
    """Between convolutions, with their layout, and with elementwise nodes and joined tensors behind."""
    image, filters = {"x": floats(2, 6, 9, 7)}, floats(37, 6, 1, 1)
    double, odd = np.array([1, 1, 2, 2], np.float32), np.array([1, 1, 1.7, 0.6], np.float32)
    for mode in ("nearest", "linear", "cubic"):
        for name, scales in (("double", double), ("odd", odd)):
            nodes = [node("Conv", "x w", "c"), node("Resize", "c _ s", "r", mode=mode), node("Relu", "r")]
            yield Case(f"Resize-{mode}-{name}-channels-last", nodes, image, {"w": filters, "s": scales})
        nodes = [
            node("Conv", "x w", "c"),
            node("Resize", "c _ s", "r", mode=mode),
            node("Add", "r l", "a"),
            node("Mul", "a b", "m"),
            node("Sigmoid", "m"),
        ]
        lateral = {"l": floats(2, 37, 18, 14)}
        yield Case(f"Resize-{mode}-lateral", nodes, image | lateral, {"w": filters, "s": double, "b": floats(37, 1, 1)})
        nodes = [
            node("Conv", "x w", "c"),
            node("Resize", "c _ s", "r", mode=mode),
            node("ConvTranspose", "c v", "t", strides=[2, 2]),
            node("Concat", "r t", "j", axis=1),
            node("Conv", "j u"),
        ]
        weights = {"w": filters, "s": double, "v": floats(37, 20, 2, 2), "u": floats(9, 57, 1, 1)}
        yield Case(f"Resize-{mode}-joined", nodes, image, weights)
    for axis in (2, 3):
        scales = np.array([1, 1, 1, 1], np.float32)
        scales[axis] = 2.5
        nodes = [node("Conv", "x w", "c"), node("Resize", "c _ s", mode="linear")]
        yield Case(f"Resize-axis-{axis}", nodes, image, {"w": filters, "s": scales})


def _resized_otherwise() -> Iterator[Case]:
    image = {"x": floats(1, 3, 16, 12)}
    for mode, more in (
        ("linear", {}),
        ("cubic", {}),
        ("cubic", {"cubic_coeff_a": -0.5}),
        ("linear", {"exclude_outside": 1}),
        ("cubic", {"exclude_outside": 1}),
    ):
        for sizes in ([5, 7], [31, 4]):
            nodes = [node("Resize", "x _ _ s", mode=mode, antialias=1, axes=[2, 3], **more)]
            yield Case(f"Resize-antialias-{mode}-{[*more]}-{sizes}", nodes, image, {"s": np.array(sizes)})
    for mode in ("cubic",):
        nodes = [node("Resize", "x _ s", mode=mode, exclude_outside=1, cubic_coeff_a=-0.5)]
        yield Case("Resize-exclude-outside", nodes, image, {"s": np.array([1, 1, 1.5, 2], np.float32)})
    for policy in ("not_larger", "not_smaller", "stretch"):
        for axes in ([2, 3], [3, 2], [3]):
            nodes = [node("Resize", "x _ _ s", mode="linear", keep_aspect_ratio_policy=policy, axes=axes)]
            yield Case(f"Resize-{policy}-{axes}", nodes, image, {"s": np.array([9, 20][: len(axes)])})
    for rank, size in ((1, [5]), (2, [4, 6]), (3, [2, 5, 6]), (5, [1, 2, 4, 5, 6])):
        scales = np.array([1.0] * max(0, rank - 3) + [2.0] * min(3, rank), np.float32)
        for mode in ("nearest", "linear")[: 1 if rank == 1 else 2]:
            nodes = [node("Resize", "x _ s", mode=mode, coordinate_transformation_mode="asymmetric")]
            yield Case(f"Resize-{mode}-rank-{rank}", nodes, {"x": floats(*size)}, {"s": scales})
    volume = [node("Conv", "x w", "c"), node("Resize", "c _ s", mode="linear")]
    weights = {"w": floats(19, 2, 1, 1, 1), "s": np.array([1, 1, 2, 1.5, 2], np.float32)}
    yield Case("Resize-linear-volume-channels-last", volume, {"x": floats(1, 2, 3, 4, 5)}, weights)
    for dtype in (np.uint8, np.int32, np.int8):
        nodes = [node("Resize", "x _ s")]
        values = (floats(1, 3, 5, 9) * 40).astype(dtype)
        yield Case(f"Resize-nearest-{np.dtype(dtype)}", nodes, {"x": values}, {"s": np.array([1, 1, 2, 3], np.float32)})
    nodes = [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), node("Resize", "t _ s")]
    values = (floats(1, 5, 6, 35) * 40).astype(np.uint8)
    yield Case("Resize-nearest-bytes-channels-last", nodes, {"x": values}, {"s": np.array([1, 1, 2, 3], np.float32)})
    nodes = [node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("Resize", "t _ s", mode="linear")]
    yield Case("Resize-channels-named-last", nodes, image, {"s": np.array([1, 2, 1.5, 1], np.float32)})
    nodes = [
        node("Slice", "x b e a t", "v"),
        node("Resize", "v _ s", mode="linear"),
    ]
    cut = {"b": np.array([15, 1]), "e": np.array([0, 11]), "a": np.array([2, 3]), "t": np.array([-2, 3])}
    yield Case("Resize-of-a-slice", nodes, image, cut | {"s": np.array([1, 1, 2, 2], np.float32)})
    yield Case(
        "Resize-to-itself", [node("Resize", "x _ s", "r"), node("Neg", "r")], image, {"s": np.ones(4, np.float32)}
    )
    yield Case(
        "Resize-10", [node("Resize", "x s", mode="linear")], image, {"s": np.array([1, 1, 2, 3], np.float32)}, 10
    )
    for times in (2, 3, 8, 9):
        scales = np.array([1, 1, 2, times], np.float32)
        nodes = [node("Resize", "x _ s", "r"), node("Mul", "r b")]
        weights = {"s": scales, "b": floats(3, 1, 1)}
        yield Case(f"Resize-nearest-{times}-times", nodes, {"x": floats(2, 3, 5, 43)}, weights)
    yield Case("Resize-nearest-long", [node("Resize", "x _ s")], {"x": floats(1, 3000)}, {"s": scales[[0, 2]] * 1.5})
    for mode in ("nearest", "linear"):
        scales = np.array([1, 1, 2, 3], np.float32)
        yield Case(f"Upsample-9-{mode}", [node("Upsample", "x s", mode=mode)], image, {"s": scales}, 9)
        yield Case(f"Upsample-7-{mode}", [node("Upsample", "x", mode=mode, scales=scales.tolist())], image, opset=7)


def _transposed() -> Iterator[Case]:
    shapes: list[tuple[int, int, int, list[int], list[int], dict[str, Any]]] = [
        # channels, filters a group, groups, size, window
        (6, 20, 1, [5, 7], [2, 2], {"strides": [2, 2]}),
        (6, 3, 1, [5, 7], [2, 2], {"strides": [2, 2]}),
        (8, 20, 1, [5, 7], [4, 4], {"strides": [2, 2], "pads": [1] * 4}),
        (8, 3, 1, [5, 7], [4, 4], {"strides": [2, 2], "pads": [1] * 4}),
        (8, 20, 1, [5, 7], [3, 3], {"strides": [2, 2], "pads": [1] * 4, "output_padding": [1, 1]}),
        (8, 3, 1, [5, 7], [3, 3], {"strides": [2, 2], "pads": [0, 1, 2, 1], "output_padding": [1, 0]}),
        (8, 20, 1, [5, 7], [3, 3], {"pads": [1] * 4}),
        (8, 18, 1, [5, 7], [3, 3], {"dilations": [2, 2], "strides": [3, 2]}),
        (8, 5, 1, [5, 7], [3, 3], {"dilations": [4, 3], "strides": [6, 2]}),
        (8, 18, 1, [5, 7], [1, 2], {"strides": [3, 4]}),
        (8, 17, 1, [4, 3], [2, 2], {"strides": [9, 9]}),
        (8, 10, 2, [5, 7], [3, 3], {"strides": [2, 2]}),
        (8, 1, 8, [5, 7], [3, 3], {"strides": [2, 2], "pads": [1, 0, 0, 1]}),
        (36, 1, 36, [5, 7], [4, 4], {"strides": [2, 2], "pads": [1] * 4}),
        (8, 20, 1, [9], [5], {"strides": [3]}),
        (8, 2, 1, [9], [16], {"strides": [8], "pads": [4, 4]}),
        (8, 20, 1, [2, 3, 4], [3, 2, 4], {"strides": [2, 2, 2], "pads": [1, 0, 1, 1, 0, 1]}),
        (8, 2, 1, [2, 3, 4], [3, 2, 4], {"strides": [2, 2, 2]}),
        (8, 20, 1, [5, 7], [3, 3], {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
        (8, 20, 1, [5, 7], [3, 3], {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
        (8, 20, 1, [5, 7], [3, 3], {"strides": [2, 2], "auto_pad": "VALID"}),
        (8, 20, 1, [5, 7], [3, 3], {"strides": [3, 2], "output_shape": [13, 15]}),
    ]
    for channels, filters, group, size, window, attributes in shapes:
        x, w = floats(2, channels, *size), floats(channels, filters, *window)
        nodes = [node("ConvTranspose", "x w b", "c", group=group, **attributes), node("Relu", "c")]
        name = f"ConvTranspose-{channels}-{filters}-{group}-{size}-{window}-{[*attributes.values()]}"
        yield Case(name, nodes, {"x": x}, {"w": w, "b": floats(filters * group)})
        yield Case(f"{name}-fed", nodes, {"x": x, "w": w}, {"b": floats(filters * group)})
    image = floats(1, 6, 5, 4)
    for filters in (3, 21):
        nodes = [
            node("ConvTranspose", "x w", "c", strides=[2, 2]),
            node("Add", "c r", "a"),
            node("Mul", "a s", "m"),
            node("Relu", "m"),
        ]
        residual = {"x": image, "r": floats(1, filters, 10, 8)}
        weights = {"w": floats(6, filters, 2, 2), "s": floats(filters, 1, 1)}
        yield Case(f"ConvTranspose-residual-{filters}", nodes, residual, weights)


def _sampled() -> Iterator[Case]:
    for channels in (3, 37):
        x = floats(2, channels, 5, 6)
        grid = floats(2, 7, 4, 2, scale=0.9)
        for mode in ("nearest", "linear", "cubic"):
            for padding in ("zeros", "border", "reflection"):
                for corners in (0, 1):
                    nodes = [node("GridSample", "x g", mode=mode, padding_mode=padding, align_corners=corners)]
                    yield Case(f"GridSample-{channels}-{mode}-{padding}-{corners}", nodes, {"x": x, "g": grid})
    planes = {"x": floats(2, 3, 9, 7), "s": floats(3, 1, 1), "g": floats(2, 11, 67, 2, scale=0.9)}
    nodes = [node("GridSample", "x g", "p"), node("Mul", "p s", "m"), node("Relu", "m")]
    yield Case("GridSample-planes-epilogue", nodes, planes)
    far = np.array([[[[1e6, -1e6], [1e6, 3], [-1, 1], [1, 1]]]], np.float32)
    nodes = [
        node("GridSample", "x g"),
    ]
    yield Case("GridSample-far-away", nodes, {"x": floats(1, 5, 4, 4), "g": far})
    nodes = [node("GridSample", "x g", "s", mode="bicubic"), node("Relu", "s")]
    yield Case("GridSample-16", nodes, {"x": floats(1, 5, 4, 4), "g": floats(1, 3, 3, 2)}, opset=16)
    for mode in ("nearest", "linear"):
        volume = {"x": floats(2, 4, 3, 4, 5), "g": floats(2, 2, 3, 4, 3)}
        yield Case(f"GridSample-volume-{mode}", [node("GridSample", "x g", mode=mode)], volume)
    for corners in (0, 1):
        for size in ([2, 3, 5, 6], [2, 3, 4, 5, 6], [2, 3, 5, 45], [2, 3, 2, 4, 45]):
            rank = len(size) - 2
            theta = {"t": floats(2, rank, rank + 1)}
            nodes = [node("AffineGrid", "t s", align_corners=corners)]
            yield Case(f"AffineGrid-{size[2:]}-{corners}", nodes, theta, {"s": np.array(size)})


def _regions() -> Iterator[Case]:
    places = np.array([[1, 1, 9, 8], [0, 0, 3, 3], [-4, 5, 30, 6], [7, 2, 7, 9], [40, 40, 50, 60]], np.float32)
    images = np.array([0, 1, 1, 0, 1])
    for channels in (3, 70):
        feeds = {"x": floats(2, channels, 10, 12), "r": places, "i": images}
        for mode in ("avg", "max"):
            for ratio in (0, 2):
                for shift in ("half_pixel", "output_half_pixel"):
                    attributes = {"mode": mode, "sampling_ratio": ratio, "coordinate_transformation_mode": shift}
                    nodes = [
                        node("RoiAlign", "x r i", output_height=3, output_width=2, spatial_scale=0.5, **attributes)
                    ]
                    yield Case(f"RoiAlign-{channels}-{mode}-{ratio}-{shift}", nodes, feeds)
    yield Case("RoiAlign-10", [node("RoiAlign", "x r i", output_height=2, output_width=2)], feeds, opset=10)


def _blocks() -> Iterator[Case]:
    for channels, side in ((8, 2), (9, 3), (96, 4)):
        image, deep = floats(2, 3, 4 * side, 5 * side), floats(2, channels, 4, 5)
        for mode in ("DCR", "CRD"):
            nodes = [node("DepthToSpace", "x", blocksize=side, mode=mode)]
            yield Case(f"DepthToSpace-{mode}-{channels}", nodes, {"x": deep})
            nodes = [
                node("Conv", "x w", "c"),
                node("DepthToSpace", "c", "d", blocksize=side, mode=mode),
                node("Relu", "d"),
            ]
            weights = {"w": floats(channels, channels, 1, 1)}
            yield Case(f"DepthToSpace-{mode}-{channels}-channels-last", nodes, {"x": deep}, weights)
        yield Case(f"SpaceToDepth-{side}", [node("SpaceToDepth", "x", blocksize=side)], {"x": image})
        nodes = [node("Conv", "x w", "c"), node("SpaceToDepth", "c", "d", blocksize=side), node("Relu", "d")]
        yield Case(f"SpaceToDepth-{side}-channels-last", nodes, {"x": image}, {"w": floats(7, 3, 1, 1)})


CASES: tuple[Case, ...] = (
    *_resized(),
    *_resized_in_networks(),
    *_resized_otherwise(),
    *_transposed(),
    *_sampled(),
    *_regions(),
    *_blocks(),
)
