"""A CoreML model computed in float64, by what its format says: the oracle for converted models.

CoreML itself runs on Apple's systems only. Operations of programs are computed in NumPy by `evaluate_operations`,
layers of networks by `evaluate_network`, `evaluate_recurrent` and `evaluate_exact`, classical models and transformers
by `evaluate_classical`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sardonyx.convert.base import Array, Values
from sardonyx.convert.coreml import evaluate_classical
from sardonyx.convert.coreml.evaluate_exact import LAYERS
from sardonyx.convert.coreml.evaluate_network import Call
from sardonyx.convert.coreml.evaluate_operations import RULES
from sardonyx.convert.coreml.file import Files
from sardonyx.convert.coreml.network_base import RECURRENT, kind_of
from sardonyx.convert.coreml.operations import Ref
from sardonyx.convert.coreml.program import parse
from sardonyx.convert.reading.protobuf import which

_COLOURS = {10: ("gray",), 20: ("red", "green", "blue"), 30: ("blue", "green", "red"), 40: ("gray",)}


@dataclass(frozen=True)
class Evaluation:
    """The oracle. `run` gives outputs by name and values of layers by their outputs' names."""

    model: Any
    files: Files
    name: str = "float64 evaluation of the source graph"

    def run(self, inputs: Values) -> Values:
        """Values by name, of float64 (labels: int64 or text)."""
        return self._model(self.model, {name: _wide(value) for name, value in inputs.items()})

    def _model(self, model: Any, values: dict[str, Any]) -> dict[str, Array]:
        networks = ("neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor")
        if (kind := which(model, *networks)) is not None:
            return self._network(model, getattr(model, kind), values)
        if model.HasField("mlProgram"):
            return self._program(model, values)
        if (kind := which(model, "pipeline", "pipelineClassifier", "pipelineRegressor")) is not None:
            pipeline = getattr(model, kind)
            known = dict(values)
            for part in (pipeline if kind == "pipeline" else pipeline.pipeline).models:
                known.update(self._model(part, known))
            return {item.name: known[item.name] for item in model.description.output}
        return evaluate_classical.run(model, values)

    def _program(self, model: Any, values: dict[str, Any]) -> dict[str, Array]:
        program = parse(model.mlProgram, model.description.defaultFunctionName or "main", self.files, {})
        known = dict(values)
        run(program.operations, known)
        return {name: value for name, value in known.items() if name not in values}

    def _network(self, model: Any, network: Any, values: dict[str, Any]) -> dict[str, Array]:
        exact = bool(network.arrayInputShapeMapping)
        sequence = not exact and any(kind_of(layer) in RECURRENT for layer in network.layers)
        optional = frozenset(item.name for item in model.description.input if item.type.isOptional)
        known = {name: _planes(value, exact, sequence) for name, value in values.items()}
        for item in network.preprocessing:
            for feature in model.description.input:
                if item.featureName in (feature.name, "") and feature.type.HasField("imageType"):
                    known[feature.name] = _prepared(known[feature.name], item, feature.type.imageType.colorSpace)
        for proto in network.layers:
            given = [None if name in optional and name not in known else known[name] for name in proto.input]
            made = LAYERS[kind_of(proto) or ""](Call(proto, given, None if exact else 5 if sequence else 4))
            known |= zip(proto.output, made if isinstance(made, list) else [made], strict=False)
        found = {name: value for name, value in known.items() if name not in values}
        found |= self._described(model, network, known, exact, sequence)
        return found

    def _described(
        self, model: Any, network: Any, known: dict[str, Any], exact: bool, sequence: bool
    ) -> dict[str, Array]:
        found = {}
        for item in model.description.output:
            if item.name in known:
                flat = not exact and (sequence or len(item.type.multiArrayType.shape) == 1)
                found[item.name] = known[item.name][..., 0, 0] if flat else known[item.name]
        labels = evaluate_classical.labels(network)
        if labels is not None:
            described = model.description
            source = network.labelProbabilityLayerName or described.predictedProbabilitiesName
            source = source if source in known else network.layers[-1].output[0]
            rows = known[source].reshape(-1, len(labels))
            found[described.predictedFeatureName] = labels[rows.argmax(1)]
            found[described.predictedProbabilitiesName] = rows
        return found


def run(operations: Any, known: dict[str, Any]) -> None:
    """Compute operations in order; `known` are values by name, and get the results."""
    for op in operations:
        given = {key: _given(value, known) for key, value in op.inputs.items()}
        made = _classified(given) if op.kind == "classify" else RULES[op.kind](given)
        results = made if isinstance(made, list | tuple) else [made]
        for typed, value in zip(op.outputs, results, strict=False):
            known[typed.name] = np.asarray(value)


def _classified(given: dict[str, Any]) -> list[Array]:
    classes = given["classes"]
    rows = given["probabilities"].reshape(-1, classes.size)
    return [classes[rows.argmax(1)], rows if given["probabilities"].ndim > 1 else rows[0]]


def _given(value: Any, known: dict[str, Any]) -> Any:
    if isinstance(value, Ref):
        return known[value.name]
    if isinstance(value, tuple):
        return [_given(item, known) for item in value]
    if isinstance(value, np.ndarray):
        return value.item() if value.shape == () and value.dtype.kind in "bif" else _wide(value)
    return value


def _wide(value: Array) -> Array:
    array = np.asarray(value)
    return array.astype(np.float64) if array.dtype.kind == "f" or array.dtype.name == "bfloat16" else array


def _planes(value: Array, exact: bool, sequence: bool) -> Array:
    """[batch, C] and [sequence, batch, C] as [..., C, 1, 1] where the network sees rank-5 arrays."""
    flat = not exact and value.ndim == (3 if sequence else 2)
    return value[..., None, None] if flat else value


def _prepared(value: Array, item: Any, colours: int) -> Array:
    if item.HasField("meanImage"):
        return value - np.array(item.meanImage.meanImage, np.float64).reshape(value.shape[1:])
    biases = [getattr(item.scaler, f"{colour}Bias") for colour in _COLOURS[colours]]
    return np.stack([value[:, i] * item.scaler.channelScale + bias for i, bias in enumerate(biases)], 1)
