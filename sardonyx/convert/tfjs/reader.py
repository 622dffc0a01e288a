"""A TensorFlow.js model as ONNX: its graph through TensorFlow's reader, its layers through Keras's."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sardonyx.convert.base import Converted, Options, Oracle, Source
from sardonyx.convert.tfjs.manifest import read_json, weights
from sardonyx.errors import ConversionError, MissingExtraError, ModelFileError, SardonyxError

Array = np.ndarray[Any, Any]


def read(source: Source, options: Options) -> Converted:
    """The model in a `model.json` as ONNX, its inputs and outputs called as TensorFlow.js calls them.

    A manifest of weights alone needs `options.structure`: the `model.json`, or the topology in JSON.

    Raises ModelFileError on damage (shards that are missing, or lie outside the folder), ConversionError with all
    that cannot be converted, MissingExtraError for layers models without h5py.
    """
    path = source.file()
    model = read_json(path)
    if isinstance(model, list):
        model = {"weightsManifest": model, "modelTopology": _structure(options, source.where)}
    if not isinstance(model, dict):
        raise ModelFileError("the JSON is no TensorFlow.js model", where=source.where)
    topology = model.get("modelTopology")
    if not isinstance(topology, dict):
        raise ModelFileError("the model has no topology, or a damaged one", where=source.where)
    values = weights(model.get("weightsManifest", []), path.parent, source.where)
    is_graph = "node" in topology or model.get("format") == "graph-model"
    made = _graph(model, topology, values, source, options) if is_graph else _layers(topology, values, source, options)
    return replace(made, metadata={**made.metadata, **_metadata(model)})


def _structure(options: Options, where: str) -> Any:
    if options.structure is None:
        raise ConversionError(
            "these are weights alone, without the network that they belong to", where=where,
            expected="a model.json with its topology", fix="give the network's topology: structure",
        )  # fmt: skip
    given = options.structure if isinstance(options.structure, dict) else read_json(Path(options.structure))
    return given.get("modelTopology", given) if isinstance(given, dict) else given


def _metadata(model: Mapping[str, Any]) -> dict[str, str]:
    """What the file says of its making, and class names and the like that users put in."""
    found = {
        f"tfjs_{key}": str(model[key])[:200]
        for key in ("format", "generatedBy", "convertedBy")
        if isinstance(model.get(key), str)
    }
    own = model.get("userDefinedMetadata")
    if isinstance(own, dict) and (rest := {key: value for key, value in own.items() if key != "signature"}):
        found["tfjs_user_metadata"] = json.dumps(rest)[:10_000]
    return found


# Graphs


def _graph(
    model: Mapping[str, Any], topology: Mapping[str, Any], values: Mapping[str, Array], source: Source, options: Options
) -> Converted:
    from sardonyx.convert.process import versions
    from sardonyx.convert.tensorflow.graph import Endpoint, from_json
    from sardonyx.convert.tensorflow.oracle import PACKAGES
    from sardonyx.convert.tensorflow.ports import ports
    from sardonyx.convert.tensorflow.reader import Loaded, finish
    from sardonyx.convert.tensorflow.writing import Port

    if model.get("modelInitializer"):
        raise ConversionError("tables that are filled before the first run are not supported", where=source.where)
    folder = tempfile.TemporaryDirectory(prefix="sardonyx-")
    path = Path(folder.name) / "graph.pb"
    try:
        _require_weights(topology, values, source.where)
        graph = from_json(topology, source.where, values)
        inputs, outputs = ports(graph, options)
        sides = _signature(model)
        for key, wished, found in (("inputs", options.inputs, inputs), ("outputs", options.outputs, outputs)):
            named = [(name, Endpoint.of(name)) for name in sides[key]]
            if named and not wished and all(at.node in graph.nodes for _, at in named):
                found[:] = [Port(name.removesuffix(":0"), at) for name, at in named]
        if versions(PACKAGES, "tensorflow"):
            _freeze(topology, values, path)
        how = {"kind": "graph", "path": str(path), "text": False}
        made = finish(Loaded(graph, inputs, outputs, _format(model, "graph model"), how), source, options)
    except (UnicodeDecodeError, TypeError, AttributeError) as error:  # texts and numbers in each other's places
        raise ModelFileError("the graph is damaged", where=source.where, got=str(error)[:200]) from error

    return replace(made, oracles=[_kept(make, folder) for make in made.oracles])


def _signature(model: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names of the tensors in the signature, in its order."""
    own = model.get("userDefinedMetadata")
    signature = model.get("signature") or (own.get("signature") if isinstance(own, dict) else None)
    found: dict[str, list[str]] = {}
    for key in ("inputs", "outputs"):
        side = signature.get(key) if isinstance(signature, dict) else None
        entries = side.items() if isinstance(side, dict) else []
        # What was a variable of the source is listed with the inputs, by a resource.
        plain = [
            str(entry.get("name") or name)
            for name, entry in entries
            if isinstance(entry, dict) and "resourceId" not in entry
        ]
        found[key] = plain
    return found


def _require_weights(topology: Mapping[str, Any], values: Mapping[str, Array], where: str) -> None:
    """Constants have their elements in the manifest. TensorFlow would take those that are nowhere as zeros."""
    functions = topology.get("library", {}).get("function", [])
    nodes = [*topology.get("node", []), *(node for function in functions for node in function.get("nodeDef", []))]
    missing = []
    for node in nodes:
        tensor = node.get("attr", {}).get("value", {}).get("tensor", {}) if node.get("op") == "Const" else None
        held = tensor is None or any(key == "tensorContent" or key.endswith("Val") for key in tensor)
        if not held and node.get("name") not in values:
            missing.append(str(node.get("name")))
    if missing:
        raise ModelFileError("the manifest lacks weights of the graph", where=where, got=", ".join(missing[:5]))


def _freeze(topology: Mapping[str, Any], values: Mapping[str, Array], path: Path) -> None:
    """Write the graph as a GraphDef with its weights, for TensorFlow."""
    from google.protobuf import json_format

    from sardonyx.convert.tensorflow.schema import schema

    message = json_format.ParseDict(topology, schema().new("GraphDef"), ignore_unknown_fields=True)
    for node in message.node:
        if node.op == "Const" and node.name in values and values[node.name].dtype != object:
            node.attr["value"].tensor.tensor_content = np.ascontiguousarray(values[node.name]).tobytes()
    path.write_bytes(message.SerializeToString())


class _Kept:
    """An oracle over files in a folder that is there as long as it is."""

    def __init__(self, oracle: Oracle, folder: Any) -> None:
        self._oracle, self._folder = oracle, folder
        self.name = oracle.name
        self.run = oracle.run


def _kept(make: Callable[[], Oracle | None], folder: Any) -> Callable[[], Oracle | None]:
    def kept() -> Oracle | None:
        oracle = make()
        return _Kept(oracle, folder) if oracle is not None else None

    return kept


def _format(model: Mapping[str, Any], kind: str) -> str:
    version = re.search(r"v?(\d+(?:\.\d+)+)", str(model.get("convertedBy") or model.get("generatedBy") or ""))
    return f"TensorFlow.js {version[1]} {kind}" if version else f"TensorFlow.js {kind}"


# Layers


def _layers(topology: Mapping[str, Any], values: Mapping[str, Array], source: Source, options: Options) -> Converted:
    """Through a Keras file: the configuration is Keras's own, and weights are called as Keras calls them."""
    from sardonyx.convert import keras

    config = topology.get("model_config", topology)
    folder = tempfile.TemporaryDirectory(prefix="sardonyx-")
    path = Path(folder.name) / "model.h5"
    _write_keras(path, config, values, str(topology.get("keras_version", "")), source.where)
    try:
        made = keras.read(Source(path), options)
    except SardonyxError as error:
        fields = {key: value for key, value in error.as_dict().items() if key not in ("code", "what", "where")}
        raise type(error)(error.what, where=source.where, **fields) from error

    kind = f"TensorFlow.js layers model ({made.format})"
    return replace(made, format=kind, oracles=[_kept(make, folder) for make in made.oracles])


def _write_keras(path: Path, config: Any, values: Mapping[str, Array], version: str, where: str) -> None:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError.of("h5py", "keras", "reading layers models of TensorFlow.js") from error
    if not re.match(r"\d", version):
        version = "2.15.0"  # TensorFlow.js writes its own; its layers are those of Keras 2.
    owners = _owners(config)
    if strange := [name for name in values if name.partition("/")[0] not in owners]:
        raise ModelFileError("weights belong to no layer of the topology", where=where, got=", ".join(strange[:5]))
    try:
        with h5py.File(path, "w") as file:
            # More than 64 KB do not fit into an attribute but as text of open length.
            file.attrs.create("model_config", json.dumps(config), dtype=h5py.string_dtype())
            file.attrs["keras_version"], file.attrs["backend"] = version, "tensorflow"
            groups = file.create_group("model_weights")
            for layer in dict.fromkeys(owners.values()):
                group = groups.create_group(layer)
                mine = [name for name in values if owners[name.partition("/")[0]] == layer]
                if mine:
                    group.attrs.create("weight_names", [f"{name}:0".encode() for name in mine])
                for name in mine:
                    group.create_dataset(f"{name}:0", data=values[name])
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        raise ModelFileError("the weights' names are damaged", where=where, got=str(error)[:200]) from error


def _owners(config: Any, owner: str = "", depth: int = 0) -> dict[str, str]:
    """The outermost layer that each layer lies in, by the layer's name."""
    inner = config.get("config") if isinstance(config, dict) else None
    layers = inner.get("layers") if isinstance(inner, dict) else inner if isinstance(inner, list) else None
    found: dict[str, str] = {}
    for layer in layers if isinstance(layers, list) and depth < 32 else []:
        body = layer.get("config") if isinstance(layer, dict) else None
        name = layer.get("name") or (body.get("name") if isinstance(body, dict) else None) if body is not None else None
        if not isinstance(name, str) or not name or "/" in name:
            continue
        found[name] = owner or name
        found |= _owners(layer, owner or name, depth + 1)
        wrapped = body.get("layer") if isinstance(body, dict) else None
        if isinstance(wrapped, dict) and isinstance(wrapped.get("config"), dict):
            within = str(wrapped["config"].get("name", ""))
            # A wrapper's weights go by its own name, or by that of the layer in it.
            found |= {within: owner or name, f"forward_{within}": owner or name, f"backward_{within}": owner or name}
    return found
