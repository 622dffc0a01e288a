"""Keras models to ONNX, without Keras.

First every layer's options and weights are checked (a plan for each), then the plans are carried out in the
order of the network. Whatever cannot be converted is gathered on the way and told in one error.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.base import Converted, Options, Source
from sardonyx.convert.graph import GraphBuilder
from sardonyx.convert.keras import config as kc
from sardonyx.convert.keras.activations import ACTIVATION_LAYERS
from sardonyx.convert.keras.archive import open_archive
from sardonyx.convert.keras.attention import ATTENTION_LAYERS, TAKES_MASKS
from sardonyx.convert.keras.base import (
    MAX_DIM,
    MIXED,
    Emitter,
    Plan,
    Settings,
    Tensor,
    UnsupportedError,
    Weight,
    brief,
    policy,
)
from sardonyx.convert.keras.embedding import EMBEDDING_LAYERS
from sardonyx.convert.keras.file import KerasFile, WeightError, open_model
from sardonyx.convert.keras.inputs import Hints
from sardonyx.convert.keras.layers import PLAIN_LAYERS
from sardonyx.convert.keras.live import saved
from sardonyx.convert.keras.masks import MaskUse
from sardonyx.convert.keras.normalization import NORMALIZATION_LAYERS
from sardonyx.convert.keras.operations import OPERATIONS
from sardonyx.convert.keras.oracles import oracles
from sardonyx.convert.keras.pictures import PICTURE_LAYERS
from sardonyx.convert.keras.probe import probe
from sardonyx.convert.keras.recurrent import RECURRENT_LAYERS
from sardonyx.convert.keras.refused import REFUSED
from sardonyx.convert.keras.weights import Leaf, by_name, by_place, places
from sardonyx.convert.keras.windows import WINDOW_LAYERS
from sardonyx.errors import ConversionError

LAYERS = {
    **WINDOW_LAYERS,
    **ACTIVATION_LAYERS,
    **NORMALIZATION_LAYERS,
    **PLAIN_LAYERS,
    **PICTURE_LAYERS,
    **EMBEDDING_LAYERS,
    **RECURRENT_LAYERS,
    **ATTENTION_LAYERS,
    **OPERATIONS,
}
"""What reads the options of each class of layer."""

KEEP_MASKS = frozenset(
    {
        *("Activation", "ActivityRegularization", "AlphaDropout", "BatchNormalization", "Dense", "Dropout", "ELU"),
        *("GaussianDropout", "GaussianNoise", "GroupNormalization", "LayerNormalization", "LeakyReLU", "PReLU"),
        *("ReLU", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "ThresholdedReLU", "UnitNormalization"),
    }
)
"""Layers that pass their input's mask on (`supports_masking`, and no `compute_mask` of their own)."""

KEEP_MASKS_3 = frozenset({"Identity", "Normalization", "Rescaling"})
"""Those that do in Keras 3 alone."""

MAX_CALLS = 50_000
"""Applications of layers in one model; models within models could multiply them without end."""

_INPUT_TYPES = {
    "float32": ir.DataType.FLOAT,
    "float64": ir.DataType.DOUBLE,
    "float16": ir.DataType.FLOAT16,
    "uint8": ir.DataType.UINT8,
    "int8": ir.DataType.INT8,
    "int32": ir.DataType.INT32,
    "int64": ir.DataType.INT64,
    "bool": ir.DataType.BOOL,
}
_FLOATS = {ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16}

Outputs = list[Tensor] | None
"""What a call gave; None where it depends on a layer that cannot be converted."""


def read(source: Source, options: Options) -> Converted:
    """The Keras model as ONNX, opset and IR version of the newest release known.

    Inputs and outputs keep Keras's names (outputs: their layers'), order and layout, with an open batch as
    `options.batch`. Nodes are named after layers, initializers after weights. Code in the file is never run.

    Raises ModelFileError when the file is damaged, ConversionError when it holds no model of Keras 2 or 3 or one with
    layers that cannot be converted (all are listed), and MissingExtraError when h5py is not installed.
    """
    with saved(source) as path, _opened(path) as file:
        version = _checked_version(file)
        try:
            network = _ends(kc.parse(file.config), options, file.where)
            made = _Conversion(file, version, options)
            model = made.run(network)
        except kc.MalformedError as error:
            raise ConversionError(
                f"the model's configuration is not one that Keras writes: {error}", where=file.where
            ) from error
    mixed = sorted({name for leaf in made.leaves.values() if (name := policy(leaf.layer.config)) in MIXED})
    arrays = {path: {key: weight.array for key, weight in mine.items()} for path, mine in made.weights.items()}
    return Converted(
        model,
        format=f"Keras {file.version}",
        oracles=oracles(source, options, network, output_names(network), arrays, version),
        layers={value.name or "": label for label, value in made.values.items()},
        make_inputs=made.hints.maker(model),
        metadata={"keras_version": file.version, "name": network.name},
        channels_last=_channels_last(network, model),
        notes=[f"layers of the policy {name} are computed in float32" for name in mixed],
        tolerance=max((MIXED[name] for name in mixed), default=None),
    )


@contextmanager
def _opened(path: Path) -> Iterator[KerasFile]:
    from sardonyx.convert.keras.archive import is_archive

    if is_archive(path):
        with open_archive(path) as file:
            yield file
    else:
        probe(path)
        with open_model(path) as file:
            yield file


def _checked_version(file: KerasFile) -> tuple[int, int]:
    match = re.match(r"(\d{1,4})\.(\d{1,4})", file.version)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    reasons = {
        0: "the file does not say which Keras wrote it; Keras takes such files as version 1",
        1: "in Keras 1 layers, options and the order of weights meant other things",
    }
    if version[0] not in (2, 3):
        raise ConversionError(
            reasons.get(version[0], "files of this version of Keras are not known"),
            where=file.where,
            expected="a file of Keras 2 or 3",
            got=f"keras_version {file.version[:40]!r}",
            fix="load it in tf_keras (Keras 2) and save it again with model.save('model.h5')",
        )
    if version[0] == 2 and file.backend not in ("", "tensorflow"):
        raise ConversionError(
            "weights of other backends than TensorFlow are stored in another order",
            where=file.where, expected="backend 'tensorflow'", got=repr(file.backend[:40]),
            fix="load it in Keras 2 on TensorFlow and save it again",
        )  # fmt: skip
    return version


def _ends(network: kc.Network, options: Options, where: str) -> kc.Network:
    """The network with the outputs that were asked for, by layer."""
    known = [ref.layer for ref in network.inputs]
    if options.inputs and set(options.inputs) != set(known):
        raise ConversionError(
            "a Keras model is converted from its own inputs", where=where, expected=", ".join(known),
            got=", ".join(options.inputs),
        )  # fmt: skip
    called = {call.layer for call in network.calls}
    for name in options.outputs:
        if name not in called:
            raise ConversionError(f"there is no layer {name!r} to take as an output", where=where)
    if not options.outputs:
        return network
    return replace(network, outputs=tuple(kc.Ref(name, 0, 0) for name in options.outputs), output_keys=())


@dataclass
class _Conversion:
    file: KerasFile
    version: tuple[int, int]
    options: Options
    leaves: dict[tuple[str, ...], Leaf] = field(default_factory=dict)
    weights: dict[tuple[str, ...], Mapping[str, Weight]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)  # the first of each layer
    values: dict[str, ir.Value] = field(default_factory=dict)  # of each application of a layer
    hints: Hints = field(default_factory=Hints)
    masks: MaskUse = field(default_factory=MaskUse)
    calls: int = 0

    def run(self, network: kc.Network) -> ir.Model:
        self._plan(network, ())
        if self.file.numbered:
            self._read_by_place(network)
        else:
            self._read_by_name(network)
        graph = GraphBuilder(network.name)
        inputs = [self._input(graph, network.layers[ref.layer]) for ref in network.inputs]
        batch = self.options.batch if isinstance(self.options.batch, str) else None
        outputs = self._emit(graph, network, inputs, (), batch)
        if self.problems:
            raise self._error()
        return graph.model(_named(graph, network, outputs, batch))

    def _error(self) -> ConversionError:
        count = len(self.problems)
        layers = f"{count} layers" if count > 1 else "a layer"
        reasons = "; ".join(f"{layer}: {reason}" for layer, reason in self.problems.items())
        return ConversionError(
            f"{layers} cannot be converted: {reasons}",
            where=self.file.where,
            fix="replace them in Keras, or convert the model with TensorFlow and tf2onnx",
        )

    def _refuse(self, path: Sequence[str], layer: kc.Layer, reason: object) -> None:
        self.problems.setdefault(f"{'/'.join(path)!r} ({layer.class_name})", str(reason))

    # Plans

    def _plan(self, network: kc.Network, prefix: tuple[str, ...]) -> None:
        for layer in network.layers.values():
            path = (*prefix, layer.name)
            if layer.network is not None:
                self._plan(layer.network, path)
            elif layer.class_name != "InputLayer":
                try:
                    self.leaves[path] = Leaf(path, layer, _plan(layer, self.version))
                except UnsupportedError as error:
                    self._refuse(path, layer, error)

    def _read_by_name(self, network: kc.Network) -> None:
        within: dict[str, list[Leaf]] = {}
        for path, leaf in self.leaves.items():
            within.setdefault(path[0], []).append(leaf)
        for layer in network.layers.values():
            leaves = within.get(layer.name, [])
            expected = 1 if layer.network is None else _count_leaves(layer.network)
            if layer.class_name == "InputLayer" or len(leaves) < expected:
                continue  # Without every plan within a model it is not known whose its weights are.
            if layer.is_operation:
                self.weights[layer.name,] = {}
                continue
            try:
                for leaf, mine in by_name(self.file.weights, layer.name, leaves):
                    self.weights[leaf.path] = mine
            except WeightError as error:
                self._refuse((layer.name,), layer, error)

    def _read_by_place(self, network: kc.Network) -> None:
        place = dict(places(network))
        for path, leaf in self.leaves.items():
            try:
                self.weights[path] = by_place(self.file.weights, place[path], leaf) if path in place else {}
            except WeightError as error:
                self._refuse(path, leaf.layer, error)

    # Emission

    def _input(self, graph: GraphBuilder, layer: kc.Layer) -> Tensor | None:
        try:
            return _declare_input(graph, layer, self.options)
        except UnsupportedError as error:
            self._refuse((layer.name,), layer, error)
            return None

    def _emit(
        self,
        graph: GraphBuilder,
        network: kc.Network,
        inputs: Sequence[Tensor | None],
        prefix: tuple[str, ...],
        batch: str | None,
    ) -> list[Tensor | None]:
        """The network's outputs; None for those that depend on a layer that cannot be converted."""
        known: dict[tuple[str, int], Outputs] = {
            (ref.layer, 0): None if tensor is None else [tensor]
            for ref, tensor in zip(network.inputs, inputs, strict=True)
        }

        def find(ref: Any) -> Any:
            if not isinstance(ref, kc.Ref):
                return ref
            tensors = known.get((ref.layer, ref.call), [])
            if tensors is not None and ref.tensor >= len(tensors):
                raise kc.MalformedError(f"there is no output {ref.tensor} of {ref.layer!r} (call {ref.call})")
            return _GONE if tensors is None else tensors[ref.tensor]

        self.masks.enter(prefix, network)
        for call in network.calls:
            self.calls += 1
            if self.calls > MAX_CALLS:
                raise kc.MalformedError(f"it has more than {MAX_CALLS:,} applications of layers")
            layer, path = network.layers[call.layer], (*prefix, call.layer)
            given = replace(call, args=kc.mapped(call.args, find), kwargs=kc.mapped(call.kwargs, find))
            known[call.layer, call.index] = self._apply(graph, layer, path, given, batch)
        ends = [find(ref) for ref in network.outputs]
        return [None if end is _GONE else end for end in ends]

    def _apply(
        self, graph: GraphBuilder, layer: kc.Layer, path: tuple[str, ...], call: kc.Call, batch: str | None
    ) -> Outputs:
        if call.problem:
            self._refuse(path, layer, call.problem)
            return None
        if layer.network is not None:
            return self._network(graph, layer, path, call, batch)
        given = list(kc.leaves((call.args, call.kwargs)))
        leaf = self.leaves.get(path)
        if leaf is None or path not in self.weights or any(value is _GONE for value in given):
            return None
        e = Emitter(graph, "/".join(path), self.weights[path], call.args, call.kwargs, batch, self.hints)
        try:
            if self.version >= TAKES_MASKS and leaf.plan.masking != "drop":
                taker = layer.class_name == "MultiHeadAttention"
                used = (path[:-1], call.layer, call.index)
                seen = self.masks.seen(used, taker=taker, told="mask" in call.kwargs)
                e = replace(e, args=kc.mapped(e.args, seen), arguments=kc.mapped(e.arguments, seen))
            outputs = _emit_layer(leaf.plan, e)
        except UnsupportedError as error:
            self._refuse(path, layer, error)
            return None
        self._remember(path, outputs)
        return outputs

    def _remember(self, path: tuple[str, ...], outputs: Sequence[Tensor]) -> None:
        label = kc.label(path, self.values)
        self.values[label] = outputs[0].value

    def _network(
        self, graph: GraphBuilder, layer: kc.Layer, path: tuple[str, ...], call: kc.Call, batch: str | None
    ) -> Outputs:
        network = layer.network
        assert network is not None
        inputs = [None if leaf is _GONE else leaf for leaf in kc.leaves(call.args)]
        inputs += [None if leaf is _GONE else leaf for key, leaf in call.kwargs.items() if key == "inputs"]
        if len(inputs) != len(network.inputs) or not all(x is None or isinstance(x, Tensor) for x in inputs):
            raise kc.MalformedError(f"{layer.name!r} gets {len(inputs)} inputs, not {len(network.inputs)}")
        repeated = layer.class_name == "TimeDistributed"
        extra = call.kwargs.keys() - ({"mask", "inputs"} if repeated else {"inputs"})
        if extra:
            self._refuse(path, layer, f"the call's arguments {', '.join(map(repr, sorted(extra)))} are not supported")
            return None
        if not repeated:
            outputs = self._emit(graph, network, inputs, path, batch)
            return None if any(y is None for y in outputs) else [y for y in outputs if y is not None]
        (x,) = inputs
        if x is None:
            self._emit(graph, network, [None], path, None)
            return None
        e = Emitter(graph, "/".join(path), batch=batch)
        try:
            folded = _fold(e, x)
            (y,) = self._emit(graph, network, [folded], path, None)
            return None if y is None else [_unfold(e, y, x)]
        except UnsupportedError as error:
            self._refuse(path, layer, error)
            return None


_GONE = object()
"""Instead of a tensor that depends on a layer that cannot be converted."""


def _fold(e: Emitter, x: Tensor) -> Tensor:
    """[batch, time, ...] as [batch * time, ...]."""
    x = e.plain(x)
    if x.rank < 3 or None in x.shape[2:]:
        raise UnsupportedError(f"TimeDistributed over an input of {brief(x.shape)} is not supported")
    shape = e.constant("fold_shape", [-1, *x.shape[2:]], np.int64)
    value = e.node("Reshape", [x.value, shape], tag="fold")
    first = None if None in x.shape[:2] else x.shape[0] * x.shape[1]  # type: ignore[operator]
    return replace(e, batch=None).tensor(value, (first, *x.shape[2:]), dtype=x.dtype)


def _unfold(e: Emitter, y: Tensor, x: Tensor) -> Tensor:
    """[batch * time, ...] as [batch, time, ...] with the first two of `x`."""
    y = e.plain(y)
    if x.shape[1] is not None and None not in y.shape[1:]:
        shape = e.constant("unfold_shape", [-1, x.shape[1], *y.shape[1:]], np.int64)
    else:
        first = e.node("Shape", [x.value], tag="unfold_first", start=0, end=2)
        rest = e.node("Shape", [y.value], tag="unfold_rest", start=1)
        shape = e.node("Concat", [first, rest], tag="unfold_shape", axis=0)
    value = e.node("Reshape", [y.value, shape])
    return replace(e.tensor(value, (*x.shape[:2], *y.shape[1:]), dtype=y.dtype), mask=x.mask)


def _plan(layer: kc.Layer, version: tuple[int, int]) -> Plan:
    if layer.class_name not in LAYERS:
        raise UnsupportedError(REFUSED.get(layer.class_name, "layers of this class are not supported"))
    settings = Settings(layer.config, version)
    build: Callable[[Settings], Plan] = LAYERS[layer.class_name]
    plan = build(settings)
    settings.finish()
    keeps = layer.class_name in KEEP_MASKS or (version[0] == 3 and layer.class_name in KEEP_MASKS_3)
    return replace(plan, masking="keep") if keeps else plan


def _emit_layer(plan: Plan, e: Emitter) -> list[Tensor]:
    unknown = e.arguments.keys() - plan.arguments
    if unknown:
        raise UnsupportedError(f"the call's arguments {', '.join(map(repr, sorted(unknown)))} are not supported")
    flat = list(kc.leaves(e.args))
    inputs = [leaf for leaf in flat if isinstance(leaf, Tensor)]
    if len(inputs) < len(flat) and not plan.constants:
        raise UnsupportedError("a constant among its inputs is not supported")
    if plan.inputs is not None and len(inputs) != plan.inputs:
        raise UnsupportedError(f"it has {len(inputs)} inputs, expected {plan.inputs}")
    tensors = []
    for x in inputs:
        whole = x.dtype not in _FLOATS
        if whole and plan.takes == "floats":
            raise UnsupportedError(f"its input holds {x.dtype.name.lower()}, expected floating-point numbers")
        # Keras casts floating-point inputs of every layer to the type it computes in.
        tensors.append(x if whole and plan.takes == "anything" else e.cast(x))
    explicit = e.arguments.get("mask")
    if isinstance(explicit, Tensor) and tensors:
        tensors[0] = replace(tensors[0], mask=e.cast(explicit, ir.DataType.BOOL).value)
    made = plan.emit(e, tensors)
    outputs = made if isinstance(made, list) else [made]
    if plan.masking == "own":
        return outputs
    mask = tensors[0].mask if plan.masking == "keep" and tensors else None
    return [replace(outputs[0], mask=mask), *outputs[1:]]


def _declare_input(graph: GraphBuilder, layer: kc.Layer, options: Options) -> Tensor:
    shape = kc.input_shape(layer.config)
    if not isinstance(shape, list) or not shape or len(shape) > 8:
        raise UnsupportedError(f"its shape {brief(shape)} is not known")
    for dim in shape:
        if dim is not None and (not isinstance(dim, int) or isinstance(dim, bool) or not 0 < dim <= MAX_DIM):
            raise UnsupportedError(f"its shape {brief(shape)} is not one of positive whole numbers")
    if layer.config.get("sparse") or layer.config.get("ragged") or layer.config.get("optional"):
        raise UnsupportedError("sparse, ragged and optional inputs are not supported")
    dtype = layer.config.get("dtype", "float32")
    if isinstance(dtype, dict):
        dtype = (dtype.get("config") or {}).get("name")
    if not isinstance(dtype, str) or dtype not in _INPUT_TYPES:
        raise UnsupportedError(f"inputs of type {brief(dtype)} are not supported")
    wanted = options.shapes.get(layer.name, shape)
    if len(wanted) != len(shape) or any(
        dim is not None and want != dim for dim, want in zip(shape, wanted, strict=True)
    ):
        raise UnsupportedError(
            f"the shape {brief(list(wanted))} that is asked for does not fit its own, {brief(shape)}"
        )
    names: list[int | str] = [options.batch, *(f"{layer.name}_dim_{axis}" for axis in range(1, len(shape)))]
    dims = [name if dim is None else dim for name, dim in zip(names, wanted, strict=True)]
    known = tuple(dim if isinstance(dim, int) else None for dim in dims)
    return Tensor(graph.input(layer.name, _INPUT_TYPES[dtype], dims), known)


def _named(
    graph: GraphBuilder, network: kc.Network, outputs: Sequence[Tensor | None], batch: str | None
) -> list[tuple[str, ir.Value]]:
    """The outputs in Keras's layout, by `output_names`."""
    named: list[tuple[str, ir.Value]] = []
    for name, ref, tensor in zip(output_names(network), network.outputs, outputs, strict=True):
        assert tensor is not None
        named.append((name, Emitter(graph, ref.layer, batch=batch).plain(tensor).value))
    return named


def output_names(network: kc.Network) -> list[str]:
    """Keras's names: the layers', numbered where a name is taken."""
    names: list[str] = []
    taken = {ref.layer for ref in network.inputs}
    copies: Counter[str] = Counter()
    for ref in network.outputs:
        name = ref.layer
        while name in taken:
            copies[ref.layer] += 1
            name = f"{ref.layer}_{copies[ref.layer]}"
        taken.add(name)
        names.append(name)
    return names


def _channels_last(network: kc.Network, model: ir.Model) -> frozenset[str] | None:
    """None: all values of four dimensions; none of them in a model that is channels-first itself."""
    return frozenset() if _is_channels_first(network) else None


def _is_channels_first(network: kc.Network) -> bool:
    return any(
        layer.config.get("data_format") == "channels_first"
        or (layer.network is not None and _is_channels_first(layer.network))
        for layer in network.layers.values()
    )


def _count_leaves(network: kc.Network) -> int:
    return sum(
        (layer.class_name != "InputLayer") if layer.network is None else _count_leaves(layer.network)
        for layer in network.layers.values()
    )
