"""From a CoreML model's protobuf to a `Converted`: its features become inputs and outputs, its kind says the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.base import Converted, Options, Oracle, Source
from sardonyx.convert.coreml import classical
from sardonyx.convert.coreml.emit import OPERATIONS
from sardonyx.convert.coreml.file import Files, open_files
from sardonyx.convert.coreml.network_base import RECURRENT, Layer, kind_of
from sardonyx.convert.coreml.network_exact import LAYERS
from sardonyx.convert.coreml.operations import Operations, Tensor, Typed, UnsupportedError, ir_type
from sardonyx.convert.coreml.program import Program, parse
from sardonyx.convert.coreml.schema import SCHEMA
from sardonyx.convert.graph import GraphBuilder
from sardonyx.convert.reading.protobuf import which
from sardonyx.errors import ConversionError, ModelFileError

NETWORKS = ("neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor")
PIPELINES = ("pipeline", "pipelineClassifier", "pipelineRegressor")
_DTYPES = {65568: "float32", 65600: "float64", 131104: "int32", 131080: "int8", 65552: "float16"}
_IMAGES = {10: ("grayscale", 1), 20: ("RGB", 3), 30: ("BGR", 3), 40: ("grayscale", 1)}
MAX_MODELS = 256


def operators() -> list[str]:
    """Layers, operations and kinds of models that can be converted."""
    layers = [f"layer {name}" for name in LAYERS]
    return sorted([*layers, *(f"operation {name}" for name in OPERATIONS), *(f"model {k}" for k in classical.MODELS)])


def read(source: Source, options: Options) -> Converted:
    """The model of a file or package. Raises ModelFileError for damage, ConversionError with all that is missing."""
    files = open_files(source)
    model = SCHEMA.parse(files.read(), "Model", source.where)
    try:
        return _Conversion(model, files, options, GraphBuilder(source.stem)).run()
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise ModelFileError(
            "the model is damaged, or is not as CoreML's format says", where=source.where, got=str(error)[:200],
            fix="fetch or save the model again",
        ) from error  # fmt: skip


def kind_of_model(model: Any) -> str:
    """Which of CoreML's models this is. Raises UnsupportedError for those that the schema does not know."""
    kinds = (*NETWORKS, *PIPELINES, "mlProgram", *classical.MODELS, "nonMaximumSuppression")
    kind = which(model, *kinds)
    if kind is None:
        raise UnsupportedError("models of this kind are not supported")
    return kind


@dataclass
class _Conversion:
    model: Any
    files: Files
    options: Options
    graph: GraphBuilder
    problems: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    layers: dict[str, str] = field(default_factory=dict)
    values: dict[str, Tensor] = field(default_factory=dict)
    tolerance: float | None = None
    count: int = 0

    def run(self) -> Converted:
        kind = "model"
        evaluation: Callable[[], Oracle | None] = self._evaluation
        try:
            kind = kind_of_model(self.model)
            outputs = self._converted(self.model, kind)
        except UnsupportedError as error:
            self.problems.setdefault(f"the model ({kind})", str(error))
            outputs = {}
        if self.problems:
            raise self._error()
        named = [(name, self._typed(tensor)) for name, tensor in outputs.items()]
        if not named:
            raise ConversionError("the model has no outputs", where=self.files.where)
        return Converted(
            self.graph.model(named),
            f"CoreML {self.model.specificationVersion} ({kind})",
            oracles=(evaluation,),
            layers=self.layers,
            metadata=self._metadata(kind),
            notes=tuple(self.notes),
            tolerance=self.tolerance,
        )

    def _evaluation(self) -> Oracle:
        from sardonyx.convert.coreml.evaluate import Evaluation

        return Evaluation(self.model, self.files)

    def _error(self) -> ConversionError:
        count = len(self.problems)
        what = f"{count} layers" if count > 1 else "a layer"
        reasons = "; ".join(f"{layer}: {reason}" for layer, reason in self.problems.items())
        return ConversionError(
            f"{what} cannot be converted: {reasons}", where=self.files.where,
            fix="replace them in the framework that the model comes from, or export that to ONNX",
        )  # fmt: skip

    def _typed(self, tensor: Tensor) -> ir.Value:
        """An output of the graph, with the type and rank that are known of it."""
        value = tensor.value
        if tensor.dtype == "float16":
            value = self.graph.node("Cast", [value], name=f"{value.name}/half", to=ir.DataType.FLOAT16.value)
        dtype = ir.DataType.FLOAT16 if tensor.dtype == "float16" else ir_type(tensor.dtype)
        value.type = ir.TensorType(dtype)
        if tensor.shape is not None and value.shape is None:
            value.shape = ir.Shape(tensor.shape)
        return value

    def _metadata(self, kind: str) -> dict[str, str]:
        stored = self.model.description.metadata
        pairs = {
            "description": stored.shortDescription, "version": stored.versionString, "author": stored.author,
            "license": stored.license, **{key: stored.userDefined[key] for key in stored.userDefined},
        }  # fmt: skip
        labels = classical.labels(getattr(self.model, kind))
        if labels is not None:
            pairs["classes"] = json.dumps(labels)
        for feature in self.model.description.input:
            if feature.type.HasField("imageType"):
                pairs[f"image.{feature.name}"] = _IMAGES.get(feature.type.imageType.colorSpace, ("unknown", 0))[0]
        return {key: value for key, value in pairs.items() if value}

    # Models

    def _converted(self, model: Any, kind: str) -> dict[str, Tensor]:
        """The model's outputs, by name in its order; inputs are `values`, or become inputs of the graph."""
        self.count += 1
        if self.count > MAX_MODELS:
            raise UnsupportedError(f"it is made of more than {MAX_MODELS} models")
        if kind == "mlProgram":
            return self._program(model)
        if kind in NETWORKS:
            return self._network(model, getattr(model, kind))
        if kind in PIPELINES:
            return self._pipeline(model, getattr(model, kind))
        if kind not in classical.MODELS:
            raise UnsupportedError("models of this kind are not supported")
        inputs = {feature.name: self._feature(feature) for feature in model.description.input}
        return classical.emit(self.graph, model, kind, inputs)

    def _pipeline(self, model: Any, pipeline: Any) -> dict[str, Tensor]:
        inner = pipeline if hasattr(pipeline, "models") else pipeline.pipeline
        for feature in model.description.input:
            self.values[feature.name] = self._feature(feature)
        for part in inner.models:
            self.values.update(self._converted(part, kind_of_model(part)))
        missing = [feature.name for feature in model.description.output if feature.name not in self.values]
        if missing:
            raise UnsupportedError(f"no part of the pipeline makes {', '.join(missing)}")
        return {feature.name: self.values[feature.name] for feature in model.description.output}

    def _feature(self, feature: Any) -> Tensor:
        """An input of a classical model: [batch, features] or [batch, 1]."""
        if feature.name in self.values:
            return self.values[feature.name]
        dtype, width = classical.feature_type(feature)
        shape = (self.options.batch, width)
        kind = ir_type(dtype)
        self.values[feature.name] = Tensor(self.graph.input(feature.name, kind, shape), dtype, (None, width))
        return self.values[feature.name]

    def _program(self, model: Any) -> dict[str, Tensor]:
        name = model.description.defaultFunctionName or "main"
        program: Program = parse(model.mlProgram, name, self.files, self.problems)
        run = Operations(self.graph, OPERATIONS, problems=self.problems)
        for item in program.inputs:
            run.known[item.name] = self._program_input(item)
        run.lost.update(op.split("'")[1] for op in self.problems)
        run.run(program.operations)
        self.layers.update(run.layers)
        if any(out.dtype == "float16" for op in program.operations for out in op.outputs):
            self.tolerance = 2e-3
            self.notes.append("the program computes in float16, the ONNX model in float32")
        if self.problems:
            return {}
        missing = [name for name in program.outputs if name not in run.known]
        if missing:
            raise UnsupportedError(f"nothing makes the outputs {', '.join(missing)}")
        return {name: run.known[name] for name in program.outputs}

    def _program_input(self, item: Typed) -> Tensor:
        if item.name in self.values:
            return self.values[item.name]
        if item.shape is None or item.dtype not in ("float16", "float32", "int32", "int8", "uint8", "bool"):
            raise UnsupportedError(f"the input {item.name!r} is of a type that is not supported")
        given = self.options.shapes.get(item.name, item.shape)
        named = [f"{item.name}_dim_{axis}" if dim is None else dim for axis, dim in enumerate(given)]
        if given and given[0] is None:
            named[0] = self.options.batch
        half = item.dtype == "float16"
        value = self.graph.input(item.name, ir.DataType.FLOAT16 if half else ir_type(item.dtype), named)
        if half:
            value = self.graph.node("Cast", [value], name=f"{item.name}/wide", to=ir.DataType.FLOAT.value)
        return Tensor(value, "float32" if half else item.dtype, item.shape)

    # Networks

    def _network(self, model: Any, network: Any) -> dict[str, Tensor]:
        exact = bool(network.arrayInputShapeMapping)
        kinds = [kind_of(layer) for layer in network.layers]
        sequence = not exact and any(kind in RECURRENT for kind in kinds)
        optional = frozenset(item.name for item in model.description.input if item.type.isOptional)
        run = Operations(self.graph, OPERATIONS, problems=self.problems)
        for feature in model.description.input:
            if feature.name in optional and sequence:
                self.notes.append(f"the state {feature.name!r} is left out, and starts at zero")
                continue
            try:
                given = self._network_input(feature, exact, sequence)
                run.known[feature.name] = self._prepared(given, feature, network.preprocessing, exact)
            except UnsupportedError as error:
                self.problems.setdefault(f"{feature.name!r} (input)", str(error))
                run.lost.add(feature.name)
        ranks = {name: tensor.rank for name, tensor in run.known.items()}
        ranks |= {n: t.rank for x in network.layers for n, t in zip(x.output, x.outputTensor, strict=False)}
        for proto, kind in zip(network.layers, kinds, strict=True):
            layer = Layer(proto, None if exact else 5 if sequence else 4, ranks, optional)
            if kind in LAYERS and run.lost.intersection(proto.input):
                run.lost.update(proto.output)
                continue
            try:
                if kind not in LAYERS:
                    raise UnsupportedError("layers of this kind are not supported")
                LAYERS[kind](layer)
            except UnsupportedError as error:
                self.problems.setdefault(f"{proto.name!r} ({kind or 'unknown'})", str(error))
                run.lost.update(proto.output)
                continue
            run.run(layer.made)
            ranks |= {n: run.known[n].rank for n in proto.output if n in run.known and run.known[n].shape is not None}
        self.layers.update(run.layers)
        return {} if self.problems else self._network_outputs(model, network, run.known, exact, sequence)

    def _network_input(self, feature: Any, exact: bool, sequence: bool) -> Tensor:
        if feature.name in self.values:
            return self.values[feature.name]
        batch = self.options.batch
        if feature.type.HasField("imageType"):
            image = feature.type.imageType
            channels = _IMAGES.get(image.colorSpace, ("", 0))[1]
            if not channels:
                raise UnsupportedError("the colours of the picture are not known")
            dims: list[int | str] = [1 if exact else batch, channels, int(image.height), int(image.width)]
            value = self.graph.input(feature.name, ir.DataType.FLOAT, dims)
            return Tensor(value, "float32", tuple(d if isinstance(d, int) else None for d in dims))
        if not feature.type.HasField("multiArrayType"):
            raise UnsupportedError("inputs that are no arrays or pictures are not supported")
        sizes = [int(size) for size in feature.type.multiArrayType.shape]
        if not sizes and not exact:
            raise UnsupportedError("its shape is not known")
        if exact:
            value = self.graph.input(feature.name, ir.DataType.FLOAT, sizes)
            return Tensor(value, "float32", tuple(sizes))
        if sequence:
            return self._sequence_input(feature.name, sizes)
        if len(sizes) not in (1, 3):
            raise UnsupportedError(f"an array of {len(sizes)} dims is not one of C or C, H, W")
        value = self.graph.input(feature.name, ir.DataType.FLOAT, [batch, *sizes])
        if len(sizes) == 1:
            axes = self.graph.initializer(f"{feature.name}/axes", np.array([2, 3], np.int64))
            value = self.graph.node("Unsqueeze", [value, axes], name=f"{feature.name}/planes")
            sizes = [*sizes, 1, 1]
        return Tensor(value, "float32", (None, *sizes))

    def _sequence_input(self, name: str, sizes: Sequence[int]) -> Tensor:
        if len(sizes) != 1:
            raise UnsupportedError(f"a sequence of arrays of {len(sizes)} dims is not supported")
        value = self.graph.input(name, ir.DataType.FLOAT, ["sequence", self.options.batch, sizes[0]])
        axes = self.graph.initializer(f"{name}/axes", np.array([3, 4], np.int64))
        planes = self.graph.node("Unsqueeze", [value, axes], name=f"{name}/planes")
        return Tensor(planes, "float32", (None, None, sizes[0], 1, 1))

    def _prepared(self, given: Tensor, feature: Any, steps: Sequence[Any], exact: bool) -> Tensor:
        """A picture after scale and bias, or without the mean picture."""
        images = [item for item in steps if item.featureName in (feature.name, "")]
        if not images or not feature.type.HasField("imageType"):
            return given
        value, name = given.value, feature.name
        order = {10: ("gray",), 20: ("red", "green", "blue"), 30: ("blue", "green", "red"), 40: ("gray",)}
        colours = order[feature.type.imageType.colorSpace]
        for index, item in enumerate(images):
            if item.HasField("scaler"):
                scale = self.graph.initializer(f"{name}/scale_{index}", np.array(item.scaler.channelScale, np.float32))
                bias = np.array([getattr(item.scaler, f"{colour}Bias") for colour in colours], np.float32)
                shift = self.graph.initializer(f"{name}/bias_{index}", bias.reshape(-1, 1, 1))
                value = self.graph.node("Mul", [value, scale], name=f"{name}/scaled_{index}")
                value = self.graph.node("Add", [value, shift], name=f"{name}/prepared_{index}")
            elif item.HasField("meanImage"):
                assert given.shape is not None
                sizes = tuple(size or 0 for size in given.shape[1:])
                mean = np.array(item.meanImage.meanImage, np.float32).reshape(sizes)
                stored = self.graph.initializer(f"{name}/mean_{index}", mean)
                value = self.graph.node("Sub", [value, stored], name=f"{name}/prepared_{index}")
        return Tensor(value, given.dtype, given.shape)

    def _network_outputs(
        self, model: Any, network: Any, known: Mapping[str, Tensor], exact: bool, sequence: bool
    ) -> dict[str, Tensor]:
        description = model.description
        label, scores = description.predictedFeatureName, description.predictedProbabilitiesName
        found: dict[str, Tensor] = {}
        classes = classical.labels(network)
        for feature in description.output:
            if feature.name == label or (classes is not None and feature.name == scores):
                continue
            if feature.name not in known:
                raise UnsupportedError(f"nothing makes the output {feature.name!r}")
            found[feature.name] = self._shaped(known[feature.name], feature, exact, sequence)
        if classes is None:
            return found
        source = network.labelProbabilityLayerName or scores
        if source not in known:
            outputs = [name for layer in network.layers[-1:] for name in layer.output]
            source = outputs[0] if outputs and outputs[0] in known else source
        if source not in known:
            raise UnsupportedError(f"no layer makes the probabilities {source!r}")
        shape = self.graph.initializer(f"{source}/rows", np.array([-1, len(classes)], np.int64))
        rows = self.graph.node("Reshape", [known[source].value, shape], name=f"{source}/scores")
        return classical.classified(self.graph, rows, classes, label, scores, "float32") | found

    def _shaped(self, tensor: Tensor, feature: Any, exact: bool, sequence: bool) -> Tensor:
        """An output as its description says: networks of rank-5 arrays have [N, C, H, W] for [C] as well."""
        sizes = list(feature.type.multiArrayType.shape)
        if exact or not (len(sizes) == 1 or sequence):
            return tensor
        axes = self.graph.initializer(f"{feature.name}/flat", np.array([-2, -1], np.int64))
        value = self.graph.node("Squeeze", [tensor.value, axes], name=f"{feature.name}/squeezed")
        return Tensor(value, tensor.dtype, (None,) * (tensor.rank - 2))
