# ruff: noqa: E501  # networks as their users write them
"""Darknet networks made here, with seeded weights. `scripts/record_darknet.py` records what OpenCV makes of them."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parent / "data" / "darknet"
Array = np.ndarray[Any, Any]

NET = "[net]\nwidth={width}\nheight={height}\nchannels={channels}\nbatch=64\nmomentum=0.9\n"


def conv(filters: int, size: int = 3, stride: int = 1, activation: str = "leaky", norm: int = 1, **more: Any) -> str:
    rest = "".join(f"{key}={value}\n" for key, value in more.items())
    return (
        f"[convolutional]\nbatch_normalize={norm}\nfilters={filters}\nsize={size}\nstride={stride}\npad=1\n"
        f"activation={activation}\n{rest}\n"
    )


def layer(kind: str, **options: Any) -> str:
    return f"[{kind}]\n" + "".join(f"{key.rstrip('_')}={value}\n" for key, value in options.items()) + "\n"


def net(*layers: str, width: int = 16, height: int = 12, channels: int = 3) -> str:
    return NET.format(width=width, height=height, channels=channels) + "\n" + "".join(layers)


def values(text: str, batch: int = 2) -> dict[str, Array]:
    sizes = [int(re.search(f"{key}=(\\d+)", text)[1]) for key in ("channels", "height", "width")]  # type: ignore[index]
    return {"data": np.random.default_rng(7).uniform(0, 1, (batch, *sizes)).astype(np.float32)}


def weights(text: str, *, version: tuple[int, int, int] = (0, 2, 5), extra: int = 0) -> bytes:
    """Floats in Darknet's order, for a network whose layers' channels are counted here."""
    rng = np.random.default_rng(zlib.crc32(text.encode()))
    sections = [
        (kind, dict(line.split("=", 1) for line in body.split("\n") if "=" in line and not line.startswith("#")))
        for kind, body in re.findall(r"\[(\w+)\]\n([^\[]*)", text)
    ]
    head = sections.pop(0)[1]
    shape = tuple(int(head[key]) for key in ("channels", "height", "width"))
    shapes: list[tuple[int, ...]] = []
    parts: list[Array] = []
    for index, (kind, options) in enumerate(sections):
        shape = _sized(kind, {key: value.strip() for key, value in options.items()}, shape, shapes, index, parts, rng)
        shapes.append(shape)
    floats = np.concatenate([*(part.ravel() for part in parts), np.zeros(extra)]).astype("<f4")
    wide = version[0] * 10 + version[1] >= 2 and version[0] < 1000 and version[1] < 1000
    return struct.pack("<3i", *version) + struct.pack("<q" if wide else "<i", 32_013_312) + floats.tobytes()


def _sized(
    kind: str, o: dict[str, str], shape: tuple[int, ...], shapes: list[tuple[int, ...]], index: int, parts: list[Array],
    rng: np.random.Generator,
) -> tuple[int, ...]:  # fmt: skip
    number = {key: int(value) for key, value in o.items() if re.fullmatch(r"-?\d+", value)}
    stride = number.get("stride", 1)
    if kind == "convolutional":
        size, filters, inputs = number.get("size", 1), number.get("filters", 1), shape[0] // number.get("groups", 1)
        parts.append(rng.normal(0, 0.1, filters))
        if number.get("batch_normalize"):
            parts += [rng.uniform(1, 3, filters), rng.normal(0, 0.5, filters), rng.uniform(4, 9, filters)]
        parts.append(rng.normal(0, (2 / (inputs * size * size)) ** 0.5, (filters, inputs, size, size)))
        pad = number.get("dilation", 1) * (size // 2 if number.get("pad") else number.get("padding", 0))
        span = number.get("dilation", 1) * (size - 1) + 1
        steps = [number.get("stride_y", stride), number.get("stride_x", stride)]
        return (filters, *((n + 2 * pad - span) // s + 1 for n, s in zip(shape[1:], steps, strict=True)))
    if kind == "connected":
        inputs, outputs = int(np.prod(shape)), number["output"]
        parts += [rng.normal(0, 0.1, outputs), rng.normal(0, inputs**-0.5, (outputs, inputs))]
        if number.get("batch_normalize"):
            parts += [rng.uniform(0.5, 1.5, outputs), rng.normal(0, 0.5, outputs), rng.uniform(0.5, 1.5, outputs)]
        return (outputs,)
    if kind == "maxpool":
        size = number.get("size", stride)
        padding = number.get("padding", size - 1)
        return (shape[0], *((n + padding - size) // stride + 1 for n in shape[1:]))
    if kind == "avgpool":
        return (shape[0], 1, 1)
    if kind == "route":
        indices = [int(part) for part in o["layers"].split(",")]
        sources = [shapes[index + i if i < 0 else i] for i in indices]
        return (sum(source[0] // number.get("groups", 1) for source in sources), *sources[0][1:])
    if kind == "upsample":
        return (shape[0], *(n * number.get("stride", 2) for n in shape[1:]))
    if kind == "reorg":
        return (shape[0] * stride**2, *(n // stride for n in shape[1:]))
    if kind == "crop":
        return (shape[0], number["crop_height"], number["crop_width"])
    if kind in ("scale_channels", "sam"):
        return shapes[index + number["from"] if number["from"] < 0 else number["from"]]
    return shape


ANCHORS = "4,5, 8,6, 12,10, 3,9, 14,4, 7,7"


def _yolo(mask: str, **more: Any) -> str:
    return layer("yolo", mask=mask, anchors=ANCHORS, classes=3, num=6, jitter=".3", ignore_thresh=".7", **more)


NETWORKS: dict[str, str] = {
    "tiny_yolo2": net(
        conv(8), layer("maxpool", size=2, stride=2), conv(8), layer("maxpool", size=2, stride=1), conv(24, 1, 1, "linear", 0),
        layer("region", anchors="1.1,1.2, 2.3,1.4, 0.8,3.1", classes=3, coords=4, num=3, softmax=1, thresh=".6"),
    ),
    "yolo2": net(
        conv(8), conv(8, 3, 2), layer("route", layers="-2"), conv(4, 1), layer("reorg", stride=2), layer("route", layers="-1,-4"),
        conv(16, 1, 1, "linear", 0), layer("region", anchors="1.1,1.2, 2.3,1.4", classes=3, coords=4, num=2, softmax=1),
    ),
    "yolo3": net(
        conv(8, 3, 2), conv(4, 1), conv(8), layer("shortcut", from_=-3, activation="linear"), conv(12, 3, 2),
        conv(24, 1, 1, "linear", 0), _yolo("3,4,5"), layer("route", layers="-3"), conv(4, 1), layer("upsample", stride=2),
        layer("route", layers="-1,3"), conv(24, 1, 1, "linear", 0), _yolo("0,1,2"),
    ),
    "yolo4": net(
        conv(8, 3, 2, "mish"), layer("route", layers="-1", groups=2, group_id=1), conv(8, 1, 1, "mish"),
        layer("maxpool", stride=1, size=5), layer("route", layers="-2"), layer("maxpool", stride=1, size=9),
        layer("route", layers="-1,-3,0"), conv(24, 1, 1, "logistic", 0), _yolo("1,2,3", scale_x_y="1.2", beta_nms=0.6),
    ),
    "yolo4_scaled": net(
        conv(8, 3, 2, "swish"), conv(24, 1, 1, "logistic", 0), _yolo("1,2,3", scale_x_y="2.0", new_coords=1),
    ),
    "resnet": net(
        conv(8), layer("maxpool", size=2, stride=2), conv(8), conv(8, 3, 1, "linear"),
        layer("shortcut", from_=-3, activation="leaky"), layer("avgpool"), conv(10, 1, 1, "linear", 0), layer("softmax", groups=1),
        layer("cost", type="sse"),
    ),
    "alexnet": net(
        layer("crop", crop_height=10, crop_width=12, flip=0, angle=0, saturation=1, exposure=1, shift=".2"),
        conv(8, 3, 2, "relu", 0), layer("maxpool", size=3, stride=2, padding=0), layer("connected", output=12, activation="relu"),
        layer("dropout", probability=".5"), layer("connected", output=10, activation="linear", batch_normalize=1),
        layer("softmax", groups=2, temperature=2), width=16, height=12,
    ),
    "conv_parts": net(
        conv(6, 3, 1, "linear", 0, groups=3), conv(6, 3, 1, "linear", 1, dilation=2), conv(4, 4, 2, "linear"),
        layer("convolutional", filters=3, size=3, padding=2, stride_x=2, stride_y=1),
    ),
    "pools": net(
        layer("maxpool", size=3, stride=2), layer("maxpool", size=2, stride=1), layer("maxpool", size=3, stride=1, padding=1),
        layer("maxpool", stride=2), width=17, height=14,
    ),
    "channels": net(
        conv(4), conv(8), layer("shortcut", from_=-2, activation="linear"), layer("shortcut", from_=0, activation="relu"),
        conv(4, 1), layer("shortcut", from_="-2", activation="linear"), layer("avgpool"),
        conv(4, 1, 1, "logistic", 0), layer("scale_channels", from_=-3), layer("sam", from_=4),
        layer("route", layers="-1,0"), layer("upsample", stride=2, scale="0.5"), layer("dropout"),
    ),
    "region_plain": net(
        conv(16, 1, 1, "linear", 0), layer("region", anchors="1.1,1.2, 2.3,1.4", classes=3, coords=4, num=2),
    ),
}  # fmt: skip
for _name in [
    "elu",
    "gelu",
    "hard_mish",
    "hardtan",
    "leaky",
    "lhtan",
    "linear",
    "loggy",
    "logistic",
    "mish",
    "plse",
    "ramp",
    "relie",
    "relu",
    "relu6",
    "selu",
    "swish",
    "tanh",
]:
    NETWORKS[f"activation_{_name}"] = net(conv(5, 1, 1, "linear"), layer("activation", activation=_name), channels=4)


def write(folder: Path, text: str, name: str = "net", **options: Any) -> Path:
    """Both files; the path of the cfg."""
    path = folder / f"{name}.cfg"
    path.write_text(text)
    path.with_suffix(".weights").write_bytes(weights(text, **options))
    return path
