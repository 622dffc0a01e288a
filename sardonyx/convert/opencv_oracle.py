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
    kind: str, structure: Path, weights: Path, outputs: Mapping[str, str], timeout: float
) -> SubprocessOracle | None:
    """OpenCV on a network of `kind` caffe or darknet; None where it is not installed or too new.

    `outputs` maps the ONNX model's outputs and other names of interest to OpenCV's layers.
    """
    found = [version for version in versions(_PACKAGES, "opencv").values() if int(version.split(".")[0]) < 5]
    if not found:
        return None
    arguments = {
        "kind": kind, "structure": str(structure.absolute()), "weights": str(weights.absolute()),
        "outputs": dict(outputs),
    }  # fmt: skip
    return SubprocessOracle(
        f"OpenCV {found[0]}", "sardonyx.convert.opencv_oracle", arguments, timeout=timeout, framework="opencv"
    )


def run(arguments: dict[str, Any], inputs: dict[str, Array]) -> tuple[None, dict[str, Array]]:
    """The outputs by their ONNX names."""
    import cv2

    read = {"caffe": cv2.dnn.readNetFromCaffe, "darknet": cv2.dnn.readNetFromDarknet}[arguments["kind"]]
    net = read(arguments["structure"], arguments["weights"])
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    net.enableFusion(False)
    net.enableWinograd(False)  # a way to convolve with larger errors
    for name, array in inputs.items():
        # Darknet's only input has no name.
        net.setInput(np.ascontiguousarray(array, np.float32), name if arguments["kind"] == "caffe" else "")
    names = list(dict.fromkeys(arguments["outputs"].values()))
    found = dict(zip(names, net.forward(names), strict=True))
    return None, {name: _rows(found[layer]) for name, layer in arguments["outputs"].items()}


def _rows(array: Array) -> Array:
    """Detections in Caffe's order: by image and label. OpenCV has them by score, and rows of zeros after them."""
    if array.ndim == 4 and array.shape[:2] == (1, 1) and array.shape[3] == 7:
        rows = array[0, 0][np.any(array[0, 0] != 0, axis=1)]
        return rows[np.lexsort((rows[:, 1], rows[:, 0]))][None, None]
    return array


if __name__ == "__main__":
    serve(run)
