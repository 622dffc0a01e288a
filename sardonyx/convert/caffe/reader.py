"""From Caffe's layers to a model: inputs, layers in order, outputs; and what the result is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from sardonyx.convert.base import Converted, Options, Oracle, Source
from sardonyx.convert.caffe import detection, layers, windows
from sardonyx.convert.caffe.detection import MAX_BOXES
from sardonyx.convert.caffe.files import Layer, Network, open_network
from sardonyx.convert.caffe.layers import Call
from sardonyx.convert.caffe.prototxt import Message
from sardonyx.convert.graph import GraphBuilder
from sardonyx.convert.shaped import Problems, Tensor, Unsupported, finish
from sardonyx.errors import ConversionError

RULES = {**layers.RULES, **windows.RULES, **detection.RULES}

DATA = ("Input", "Data", "ImageData", "HDF5Data", "MemoryData", "WindowData", "DummyData", "AnnotatedData")
"""Layers that only give inputs."""
TRAINING = (
    "Accuracy", "ContrastiveLoss", "DetectionEvaluate", "EuclideanLoss", "HingeLoss", "InfogainLoss", "MultiBoxLoss",
    "MultinomialLogisticLoss", "SigmoidCrossEntropyLoss", "HDF5Output",
)  # fmt: skip
"""Layers that compare with labels, which a network that is used does not have."""

_COMMON: tuple[str, ...] = ("name", "type", "bottom", "top", "include", "exclude", "param")
_COMMON += (
    "blobs",
    "blobs_lr",
    "weight_decay",
    "blob_share_mode",
    "phase",
    "propagate_down",
    "loss_weight",
    "loss_param",
    "engine",
)
_HARMLESS = ("weight_filler", "bias_filler", "filler", "engine")
_MAX_LAYERS = 20_000
_PREPARATION = ("scale", "mean_value", "mean_file")


def operators() -> list[str]:
    """The types of layers that can be converted."""
    return sorted({*RULES, *DATA})


def read(source: Source, options: Options) -> Converted:
    """The network of `source` and its partner as ONNX, with an open batch where its layers allow that."""
    network = open_network(source, options)
    conversion = _Conversion(network, options, source.where)
    try:
        converted, outputs = conversion.run()
    except ConversionError as error:
        # Some networks count on the batch that the prototxt says: they may be right for that alone.
        fixed = _Conversion(network, options, source.where, fixed=True)
        try:
            converted, outputs = fixed.run()
        except ConversionError:
            raise error from None
        reason = "; ".join(f"{layer}: {why}" for layer, why in conversion.problems.found.items()) or error.what
        converted = replace(converted, notes=[*converted.notes, f"the batch is fixed, since {reason}"[:300]])
    return replace(converted, oracles=_oracles(network, outputs, options, source))


def _oracles(
    network: Network, outputs: Mapping[str, str], options: Options, source: Source
) -> list[Callable[[], Oracle | None]]:
    def opencv() -> Oracle | None:
        from sardonyx.convert.caffe.opencv import oracle

        return oracle(network, outputs, options.timeout)

    def evaluated() -> Oracle | None:
        from sardonyx.convert.caffe.evaluate import Evaluation

        return Evaluation(network, outputs)

    return [opencv, evaluated]


@dataclass
class _Conversion:
    network: Network
    options: Options
    where: str
    fixed: bool = False
    problems: Problems = field(init=False)
    values: dict[str, Tensor | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    shown: dict[str, str] = field(default_factory=dict)
    boxes: int = 0
    stored: dict[str, int] = field(default_factory=dict)  # the prototxt's batches, of inputs where it is open

    def __post_init__(self) -> None:
        self.problems = Problems(self.where, "replace them in the prototxt, or convert with Caffe itself")

    def run(self) -> tuple[Converted, dict[str, str]]:
        """The model, and of each of its outputs the blob."""
        if len(self.network.layers) > _MAX_LAYERS:
            raise ConversionError(f"it has more than {_MAX_LAYERS:,} layers", where=self.where)
        graph = GraphBuilder(self.network.name)
        wanted = self._needed()
        for name, shape in self.network.inputs:
            if name in wanted:
                self._input(graph, name, shape)
        unused: dict[str, None] = {}
        for layer in self.network.layers:
            if layer.type in DATA:
                self._data(graph, layer, wanted)
                continue
            if layer.type in TRAINING:
                self.notes.append(f"the layer {layer.name!r} ({layer.type}) is left out, since it needs labels")
                continue
            for name in layer.bottoms:
                unused.pop(name, None)
            self._layer(graph, layer)
            unused |= dict.fromkeys(layer.tops)
        self.problems.check()
        names = self.options.outputs or tuple(unused)
        missing = [name for name in names if self.values.get(name) is None]
        if missing or not names:
            raise ConversionError("it has no such outputs", where=self.where, got=", ".join(missing) or "none")
        batches = set(self.stored.values())
        if not self.fixed and len(batches) > 1:
            raise ConversionError(f"its inputs have several batches: {sorted(batches)}", where=self.where)
        results = [(name, tensor) for name in names if (tensor := self.values[name]) is not None]
        model = finish(graph, results, batch=self._batch(), batched=not self.fixed)
        metadata = {"caffe.name": self.network.name}
        format_name = f"Caffe v1 ({self.network.version} layers)"
        layers_by_value = {name: layer for name, layer in self.shown.items() if name in self._made(model)}
        converted = Converted(model, format_name, layers=layers_by_value, metadata=metadata, notes=self.notes)
        return converted, {name: name for name in names}

    def _made(self, model: ir.Model) -> set[str]:
        return {value.name or "" for node in model.graph for value in node.outputs}

    def _batch(self) -> int | str:
        return self.options.batch

    def _needed(self) -> set[str]:
        """Blobs that some layer other than those of training takes; labels are not among them."""
        needed: set[str] = set()
        for layer in self.network.layers:
            if layer.type not in (*TRAINING, "Silence"):
                needed |= set(_used(layer))
        return needed

    # Inputs

    def _input(self, graph: GraphBuilder, name: str, stored: Sequence[int]) -> None:
        given = self.options.shapes.get(name)
        dims: list[int | str | None] = list(given) if given is not None else list(stored)
        if not 0 < len(dims) <= 8 or any(isinstance(dim, int) and not 0 < dim < 2**24 for dim in dims):
            self.problems.add(f"the input {name!r}", f"its shape is {dims[:8] or 'not known'}: give it in shapes")
            return
        if any(not isinstance(dim, int) for dim in dims[1:]):
            self.problems.add(f"the input {name!r}", "Caffe's layers need sizes: only the batch can be open")
            return
        # A batch that the user gave stays; what the prototxt says is what it was deployed with.
        if not self.fixed and (given is None or not isinstance(dims[0], int)):
            self.stored[name] = stored[0] if stored else 1
            dims[0] = dims[0] if isinstance(dims[0], str) else self._batch()
        value = graph.input(name, ir.DataType.FLOAT, dims)
        self.values[name] = Tensor(value, tuple(dim if isinstance(dim, int) else None for dim in dims))

    def _data(self, graph: GraphBuilder, layer: Layer, wanted: set[str]) -> None:
        """A layer that gives inputs: those of its blobs that something needs."""
        p = layer.message
        try:
            shapes = _data_shapes(layer, self.network)
            prepared = p.message("transform_param").fields
            if layer.type != "Input" and any(name in prepared for name in _PREPARATION):
                told = ", ".join(f"{name} {' '.join(prepared[name])}" for name in _PREPARATION if name in prepared)
                self.notes.append(f"Caffe's {layer.name!r} prepares pictures before the network ({told})")
        except Unsupported as error:
            self.problems.add(f"{layer.name!r} ({layer.type})", error)
            return
        for name, shape in zip(layer.tops, shapes, strict=False):
            if name in wanted:
                self._input(graph, name, shape)

    # Layers

    def _layer(self, graph: GraphBuilder, layer: Layer) -> None:
        for name in _used(layer):
            if name not in self.values:
                self.problems.add(f"{layer.name!r} ({layer.type})", f"its input {name!r} comes from nowhere")
                self.values[name] = None
        try:
            found = self._emit(graph, layer)
        except Unsupported as error:
            self.problems.add(f"{layer.name!r} ({layer.type})", error)
            found = None
        for i, top in enumerate(layer.tops):
            self.values[top] = found[i] if found else None
            if found:
                self.shown[found[i].value.name or ""] = layer.name

    def _count_boxes(self, boxes: Tensor) -> None:
        """Priors are constants that no file holds: a short text could ask for more than fits into memory."""
        self.boxes += boxes.known(2)[0] // 4
        if self.boxes > MAX_BOXES:
            raise ConversionError(f"it has more than {MAX_BOXES:,} prior boxes", where=self.where)

    def _emit(self, graph: GraphBuilder, layer: Layer) -> list[Tensor] | None:
        if layer.type not in RULES:
            raise Unsupported("layers of this type are not supported")
        field_name, rule = RULES[layer.type]
        layer.message.ignore(*_COMMON)
        p = layer.message.message(field_name) if field_name else Message()
        inputs = [self.values[name] for name in _used(layer)]
        if layer.type == "SoftmaxWithLoss":
            self.notes.append(f"the layer {layer.name!r} gives probabilities instead of the loss")
        given = [x for x in inputs if x is not None]
        if len(given) < len(inputs):
            return None
        if not given and layer.type not in ("Parameter", "Silence"):
            raise Unsupported("it has no input")
        call = Call(graph, layer.name, p, given, self.network.weights.get(layer.name, ()), len(layer.tops))
        found = rule(call)
        _check_read(layer, field_name, p)
        if len(call.blobs) > call.taken:
            raise Unsupported(f"the caffemodel holds {len(call.blobs)} blobs for it, expected {call.taken}")
        if layer.type == "PriorBox":
            self._count_boxes(found[0])
        if len(found) != len(layer.tops):
            raise Unsupported(f"it has {len(layer.tops)} outputs, expected {len(found)}")
        return found


def _used(layer: Layer) -> tuple[str, ...]:
    """What a layer takes that is no label."""
    return layer.bottoms[:1] if layer.type == "SoftmaxWithLoss" else layer.bottoms


def _check_read(layer: Layer, field_name: str, p: Message) -> None:
    """Refuse options that nobody read, since they may change what the layer computes."""
    p.ignore(*_HARMLESS)
    unread = [f"{field_name}.{name}" for name in p.unread()]
    unread += [name for name in layer.message.unread() if "." not in name and not _is_other_layers(name)]
    if unread:
        raise Unsupported(f"options that are not supported: {', '.join(unread[:10])}")


def _is_other_layers(name: str) -> bool:
    """Whether it holds options of another type of layer, which Caffe does not look at."""
    return name == "transform_param" or any(name == field_name for field_name, _ in RULES.values())


def _data_shapes(layer: Layer, network: Network) -> list[tuple[int, ...]]:
    """The shapes of a data layer's blobs, as far as its options and its consumers' weights tell; () is unknown."""
    p = layer.message
    for name in ("input_param", "dummy_data_param"):
        shapes = [tuple(shape.ints("dim")) for shape in p.message(name).messages("shape")]
        if shapes:
            return shapes * len(layer.tops) if len(shapes) == 1 else shapes
    memory = p.message("memory_data_param")
    if memory.fields:
        return [(1, *(memory.int(name, 0) for name in ("channels", "height", "width"))), ()]
    side = max(p.message(name).int("crop_size", 0) for name in ("transform_param", "data_param", "image_data_param"))
    channels = _channels(layer.tops[0], network) if layer.tops and side else 0
    return [(1, channels, side, side) if channels else (), *[()] * len(layer.tops)]


def _channels(blob: str, network: Network) -> int:
    """How many channels a convolution of this blob has weights for."""
    for layer in network.layers:
        stored = network.weights.get(layer.name, ())
        if blob in layer.bottoms and layer.type == "Convolution" and stored and np.ndim(stored[0]) == 4:
            return int(stored[0].shape[1]) * layer.message.message("convolution_param").int("group", 1)
    return 0
