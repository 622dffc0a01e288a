"""Recorded Keras models (`scripts/record_keras.py`), and files like Keras's written by hand to be broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from sardonyx.convert.base import Options, Source
from sardonyx.convert.keras import read

DATA = Path(__file__).parent / "data"
NAMES = sorted(path.stem for path in DATA.glob("*.h5"))

Array = np.ndarray[Any, Any]


def convert(path: Path) -> ir.Model:
    """The model as the reader makes it."""
    return read(Source(path), Options()).model


def recorded(name: str) -> tuple[dict[str, Array], list[Array]]:
    """The inputs by name and the outputs in order, as Keras computed them."""
    with np.load(DATA / "recorded.npz") as stored:
        keys = [key for key in stored.files if key.startswith(f"{name}/")]
        inputs = {key.rpartition("/")[2]: stored[key] for key in keys if "/in/" in key}
        outputs = {int(key.rpartition("/")[2]): stored[key] for key in keys if "/out/" in key}
    return inputs, [outputs[i] for i in range(len(outputs))]


def proto(model: ir.Model) -> onnx.ModelProto:
    """The model as protobuf, fully checked by onnx: shapes that we declare must be those it infers."""
    checked = ir.to_proto(model)
    onnx.checker.check_model(checked, full_check=True)
    return checked


def run(model: ir.Model, inputs: dict[str, Array]) -> list[Array]:
    """The outputs by onnxruntime."""
    session = onnxruntime.InferenceSession(proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def assert_close(actual: list[Array], expected: list[Array], tolerance: float = 1e-5) -> None:
    """Equal in count, shape and type, and within `tolerance` of each output's largest element."""
    assert len(actual) == len(expected)
    for got, want in zip(actual, expected, strict=True):
        assert got.shape == want.shape
        assert got.dtype == want.dtype
        scale = float(np.abs(want).max())
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * scale)


def layer(class_name: str, name: str, inbound: list[Any] | None = None, **config: Any) -> dict[str, Any]:
    """A layer as Keras writes it; `inbound` names layers whose first output goes in."""
    nodes = [] if inbound is None else [[[source, 0, 0, {}] for source in inbound]]
    return {"class_name": class_name, "name": name, "config": {"name": name, **config}, "inbound_nodes": nodes}


def network(*layers: dict[str, Any], outputs: list[Any] | None = None) -> dict[str, Any]:
    """A functional model that ends in its last layer."""
    inputs = [[item["name"], 0, 0] for item in layers if item["class_name"] == "InputLayer"]
    config = {
        "name": "made",
        "layers": list(layers),
        "input_layers": inputs,
        "output_layers": outputs or [[layers[-1]["name"], 0, 0]],
    }
    return {"class_name": "Model", "config": config}


def image(*shape: int | None, name: str = "x") -> dict[str, Any]:
    return layer("InputLayer", name, batch_input_shape=[None, *shape], dtype="float32")


def write(
    path: Path,
    config: Any,
    weights: dict[str, dict[str, Any]] | None = None,
    *,
    version: str | None = "2.3.1",
    backend: str = "tensorflow",
) -> Path:
    """A Keras file: `weights` are arrays by layer and name; a config that is text is written as it is."""
    with h5py.File(path, "w") as file:
        if version:
            file.attrs["keras_version"] = version
        file.attrs["backend"] = backend
        if config is not None:
            file.attrs["model_config"] = config if isinstance(config, str) else json.dumps(config)
        groups = file.create_group("model_weights")
        for name, arrays in (weights or {}).items():
            group = groups.create_group(name)
            group.attrs["weight_names"] = [weight.encode() for weight in arrays]
            for weight, array in arrays.items():
                group[weight] = array
    return path
