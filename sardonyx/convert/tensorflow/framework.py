"""Runs a graph in TensorFlow. A process of its own does so: see `oracle`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from sardonyx.convert.process import serve

Array = np.ndarray[Any, Any]


def run(arguments: dict[str, Any], arrays: dict[str, Array]) -> tuple[Any, Mapping[str, Array]]:
    """The outputs by their names, and values of layers by node."""
    tf: Any = import_module("tensorflow")
    v1 = tf.compat.v1
    v1.disable_eager_execution()
    graph = tf.Graph()
    with graph.as_default(), v1.Session(graph=graph) as session:
        load(tf, session, arguments)
        feeds: dict[str, Any] = {arguments["inputs"][name]: _fed(array) for name, array in arrays.items()}
        feeds |= {f"{name}:0": False for name in arguments["switches"]}
        results = session.run(dict(arguments["outputs"]), feeds)
        layers = _layers(tf, session, graph, arguments["layers"], feeds)
        for name in arguments["moved"]:
            if name in layers:
                layers[name] = np.moveaxis(layers[name], -1, 1)
        return None, {**layers, **results}


def load(tf: Any, session: Any, arguments: dict[str, Any]) -> None:
    """Put the model into the session's graph."""
    v1, path = tf.compat.v1, arguments["path"]
    if arguments["kind"] == "saved_model":
        v1.saved_model.loader.load(session, arguments["tags"], path)
    elif arguments["kind"] == "checkpoint":
        meta = v1.MetaGraphDef()
        meta.ParseFromString(_bytes(path))
        _without_shapes(meta.graph_def)
        v1.train.import_meta_graph(meta, clear_devices=True).restore(session, path[: -len(".meta")])
    else:
        definition = v1.GraphDef()
        if arguments["text"]:
            from google.protobuf import text_format

            text_format.Parse(_bytes(path), definition)
        else:
            definition.ParseFromString(_bytes(path))
        _without_shapes(definition)
        v1.import_graph_def(definition, name="")


def _bytes(path: str) -> bytes:
    return Path(path).read_bytes()


def _without_shapes(graph: Any) -> None:
    """Without notes of shapes, which newer releases infer otherwise and then refuse."""
    for node in graph.node:
        node.attr.pop("_output_shapes", None)


def _fed(array: Array) -> Array:
    return array.astype(object) if array.dtype.kind == "U" else array


def _layers(tf: Any, session: Any, graph: Any, names: list[str], feeds: dict[str, Any]) -> dict[str, Array]:
    wanted = {}
    for name in names:
        tensors = graph.get_operation_by_name(name).outputs
        if tensors and tensors[0].dtype in (tf.float32, tf.float64, tf.float16, tf.int32, tf.int64, tf.bool):
            wanted[name] = tensors[0]
    try:
        found: dict[str, Array] = session.run(wanted, feeds)
    except tf.errors.InvalidArgumentError:  # One lies in a branch that is not taken.
        return {}
    return found


if __name__ == "__main__":
    serve(run)
