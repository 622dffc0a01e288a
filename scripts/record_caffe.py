"""Record what OpenCV (below 5) makes of the Caffe networks of tests/convert/caffe_cases.py.

    python scripts/record_caffe.py        with opencv-python-headless<5 installed

Layers that OpenCV refuses, or computes otherwise than Caffe, are left out. Writes tests/convert/data/caffe/recorded.npz
and, of the published networks of tests/convert/test_caffe_real.py, which it fetches, real.npz.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "convert"))

from caffe_cases import DATA, NETWORKS, Net, layers, write  # noqa: E402
from test_caffe_real import NAMES, RECORDED, files, picture  # noqa: E402

from sardonyx.convert import opencv_oracle  # noqa: E402
from sardonyx.convert.base import Options, Source  # noqa: E402
from sardonyx.convert.caffe import read  # noqa: E402
from sardonyx.convert.caffe.files import open_network  # noqa: E402
from sardonyx.convert.caffe.opencv import agrees  # noqa: E402


def record(net: Net, folder: Path) -> dict[str, np.ndarray[Any, Any]] | None:
    """The unconnected outputs by layer, or None where OpenCV refuses the network or has other ideas."""
    path = write(folder, net)
    network = open_network(Source(path), Options())
    if not all(agrees(layer) and len(layer.tops) == 1 for layer in network.layers):
        return None
    weights = path.with_suffix(".caffemodel")
    try:
        names = cv2.dnn.readNetFromCaffe(str(path), str(weights)).getUnconnectedOutLayersNames()
        arguments = {
            "kind": "caffe", "structure": str(path), "weights": str(weights), "outputs": {name: name for name in names},
        }  # fmt: skip
        return opencv_oracle.run(arguments, net.values())[1]
    except cv2.error:
        return None


def published(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The outputs of published networks."""
    found = {}
    for name in NAMES:
        converted = read(Source(files(name, folder)), Options())
        oracle, value = converted.oracles[0](), converted.model.graph.inputs[0]
        assert oracle is not None, "OpenCV is not there, or has other ideas"
        assert oracle.name.startswith("OpenCV")
        values = oracle.run({value.name: picture(name, [1, *(int(dim) for dim in value.shape[1:])])})
        found |= {f"{name}/{output.name}": values[output.name] for output in converted.model.graph.outputs}
    return found


def main() -> None:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, net in (layers() | {name: make() for name, make in NETWORKS.items()}).items():
            outputs = record(net, Path(folder))
            print(name, "refused" if outputs is None else {key: value.shape for key, value in outputs.items()})
            found |= {f"{name}/{key}": value for key, value in (outputs or {}).items()}
    DATA.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(DATA / "recorded.npz", **found)
    with tempfile.TemporaryDirectory() as folder:
        np.savez_compressed(RECORDED, **published(Path(folder)))


if __name__ == "__main__":
    main()
