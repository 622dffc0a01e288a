"""OpenCV's dnn module below 5 as an oracle for Caffe and Darknet, in a process of its own: it can abort on odd files.

OpenCV 5 reads neither. `SARDONYX_OPENCV_PYTHON` may name a Python that has an older one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sardonyx.convert.process import serve, versions
from sardonyx.convert.subprocess_oracle import SubprocessOracle

Array = np.ndarray[Any, Any]

_PACKAGES = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")


def opencv(
    kind: str, structure: Path | str, weights: Path, outputs: Mapping[str, str], timeout: float
) -> SubprocessOracle | None:
    """OpenCV on a network of `kind` caffe or darknet; None where it is not installed or too new.

    `structure` is the path of a prototxt, or the text of a cfg. `outputs` maps the ONNX model's outputs to OpenCV's
    layers; Darknet's have other names there, but the same order.
    """
    found = [version for version in versions(_PACKAGES, "opencv").values() if int(version.split(".")[0]) < 5]
    if not found:
        return None
    arguments = {
        "kind": kind,
        "structure": structure if isinstance(structure, str) else str(structure.absolute()),
        "weights": str(weights.absolute()),
        "outputs": dict(outputs),
    }
    return SubprocessOracle(
        f"OpenCV {found[0]}", "sardonyx.convert.opencv_oracle", arguments, timeout=timeout, framework="opencv"
    )


def run(arguments: dict[str, Any], inputs: dict[str, Array]) -> tuple[None, dict[str, Array]]:
    """The outputs by their ONNX names."""
    from cv2 import dnn as networks

    dnn: Any = networks  # OpenCV 5 has neither reader any more

    darknet = arguments["kind"] == "darknet"
    if darknet:
        text = np.frombuffer(arguments["structure"].encode(), np.uint8)
        net = dnn.readNetFromDarknet(text, np.fromfile(arguments["weights"], np.uint8))
    else:
        net = dnn.readNetFromCaffe(arguments["structure"], arguments["weights"])
    net.setPreferableBackend(dnn.DNN_BACKEND_OPENCV)
    net.enableFusion(False)
    net.enableWinograd(False)  # a way to convolve with larger errors
    for name, array in inputs.items():
        # Darknet's only input has no name.
        net.setInput(np.ascontiguousarray(array, np.float32), "" if darknet else name)
    if darknet:
        ends = net.getUnconnectedOutLayersNames()
        results = net.forward(ends)
        found = dict(zip(arguments["outputs"], [_boxes(x, len(array)) for x in results], strict=True))
        # Darknet's softmax gives a row; what OpenCV gives has as many dims as its input.
        return None, {key: x.reshape(len(x), -1) if key.startswith("soft") else x for key, x in found.items()}
    names = list(dict.fromkeys(arguments["outputs"].values()))
    found = dict(zip(names, net.forward(names), strict=True))
    return None, {name: _rows(found[layer]) for name, layer in arguments["outputs"].items()}


def _boxes(array: Array, batch: int) -> Array:
    """Rows of boxes apart by picture, which OpenCV has one after the other."""
    return array.reshape(batch, -1, array.shape[-1]) if array.ndim == 2 and len(array) != batch else array


def _rows(array: Array) -> Array:
    """Detections in Caffe's order: by image and label. OpenCV has them by score, and rows of zeros after them."""
    if array.ndim == 4 and array.shape[:2] == (1, 1) and array.shape[3] == 7:
        rows = array[0, 0][np.any(array[0, 0] != 0, axis=1)]
        return np.asarray(rows[np.lexsort((rows[:, 1], rows[:, 0]))])[None, None]
    return array


if __name__ == "__main__":
    serve(run)
