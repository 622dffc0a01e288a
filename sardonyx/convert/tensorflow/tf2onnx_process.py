"""Runs tf2onnx. A process of its own does so: see `takeover`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from sardonyx.convert.process import serve
from sardonyx.convert.tensorflow.framework import load

OPSET = 18


def run(arguments: dict[str, Any], arrays: dict[str, np.ndarray[Any, Any]]) -> tuple[Any, Mapping[str, Any]]:
    """The graph with its variables as constants, through tf2onnx, under the names that were asked."""
    tf: Any = import_module("tensorflow")
    constants: Any = import_module("tensorflow.python.framework.convert_to_constants")
    convert: Any = import_module("tf2onnx.convert")
    v1 = tf.compat.v1
    v1.disable_eager_execution()
    inputs, outputs = arguments["inputs"], arguments["outputs"]
    graph = tf.Graph()
    with graph.as_default(), v1.Session(graph=graph) as session:
        load(tf, session, arguments)
        # Copies of the outputs, under names that nothing else has.
        for target, tensor in zip(_targets(outputs), outputs.values(), strict=True):
            tf.identity(graph.get_tensor_by_name(tensor), name=target)
        definition = graph.as_graph_def()
        if any("VarHandle" in node.op or node.op.startswith("Variable") for node in definition.node):
            definition = constants.convert_variables_to_constants_from_session_graph(
                session, definition, _targets(outputs)
            )
    model, _ = convert.from_graph_def(
        definition, input_names=list(inputs.values()), output_names=[f"{name}:0" for name in _targets(outputs)],
        opset=OPSET,
    )  # fmt: skip
    renamed = dict(zip((tensor for tensor in inputs.values()), inputs, strict=True))
    renamed |= {f"{target}:0": name for target, name in zip(_targets(outputs), outputs, strict=True)}
    _rename(model.graph, renamed)
    with open(arguments["target"], "wb") as file:  # noqa: PTH123
        file.write(model.SerializeToString())
    return None, {}


def _targets(outputs: Mapping[str, str]) -> list[str]:
    return [f"sardonyx_output_{i}" for i in range(len(outputs))]


def _rename(graph: Any, names: Mapping[str, str]) -> None:
    for node in graph.node:
        for items in (node.input, node.output):
            for i, name in enumerate(items):
                items[i] = names.get(name, name)
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                _rename(inner, names)
    for value in [*graph.input, *graph.output, *graph.value_info]:
        value.name = names.get(value.name, value.name)


if __name__ == "__main__":
    serve(run)
