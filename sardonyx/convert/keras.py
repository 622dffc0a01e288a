"""Keras 2 models in HDF5 files (`model.save("model.h5")`) to ONNX, without Keras or TensorFlow.

First every layer's options and weights are checked (a plan for each), then the plans are carried out in the
order of the network. Whatever cannot be converted is gathered on the way and told in one error.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir

from sardonyx.convert import keras_config as kc
from sardonyx.convert.graph import GraphBuilder
from sardonyx.convert.keras_activations import ACTIVATION_LAYERS
from sardonyx.convert.keras_base import (
    MAX_DIM,
    Emitter,
    Options,
    Plan,
    Tensor,
    UnsupportedError,
    Weight,
    brief,
)
from sardonyx.convert.keras_file import KerasFile, StoredWeight, WeightError, open_keras
from sardonyx.convert.keras_layers import PLAIN_LAYERS
from sardonyx.convert.keras_probe import probe
from sardonyx.convert.keras_windows import WINDOW_LAYERS
from sardonyx.errors import ConversionError

LAYERS = {**WINDOW_LAYERS, **ACTIVATION_LAYERS, **PLAIN_LAYERS}
"""What reads the options of each class of layer."""

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
}
_INTEGERS = {ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.INT32, ir.DataType.INT64}


def convert_keras(path: Path, *, inputs_as_nchw: bool = False) -> ir.Model:
    """The Keras model in the HDF5 file at `path` as ONNX, opset and IR version of the newest release known.

    Inputs and outputs keep Keras's names, order and layout, with the batch as the symbol `batch`; with
    `inputs_as_nchw` inputs of four dimensions are taken as [N, C, H, W] unless the model itself is
    channels-first. Nodes are named after layers, initializers after weights. Code in the file is never run.

    Raises ModelFileError when the file is damaged, ConversionError when it holds no Keras 2 model or one with
    layers that cannot be converted (all are listed), and MissingExtraError when h5py is not installed.
    """
    probe(path)
    with open_keras(path) as file:
        version = _checked_version(file)
        try:
            network = kc.parse(file.config)
            return _Conversion(file, version).run(network, inputs_as_nchw)
        except kc.MalformedError as error:
            raise ConversionError(
                f"the model's configuration is not one that Keras 2 writes: {error}", where=file.where
            ) from error


def _checked_version(file: KerasFile) -> tuple[int, int]:
    match = re.match(r"(\d{1,4})\.(\d{1,4})", file.version)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    reasons = {
        0: "the file does not say which Keras wrote it; Keras takes such files as version 1",
        1: "in Keras 1 layers, options and the order of weights meant other things",
    }
    if version[0] != 2:
        raise ConversionError(
            reasons.get(version[0], "files of Keras 3 are not supported yet"),
            where=file.where,
            expected="a file of Keras 2",
            got=f"keras_version {file.version[:40]!r}",
            fix="load it in tf_keras (Keras 2) and save it again with model.save('model.h5')",
        )
    if file.backend not in ("", "tensorflow"):
        raise ConversionError(
            "weights of other backends than TensorFlow are stored in another order",
            where=file.where, expected="backend 'tensorflow'", got=repr(file.backend[:40]),
            fix="load it in Keras 2 on TensorFlow and save it again",
        )  # fmt: skip
    return version


@dataclass(frozen=True)
class _Leaf:
    """A planned layer; `path` leads to it through models within models."""

    path: tuple[str, ...]
    layer: kc.Layer
    plan: Plan

    def stored_order(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The weights among the trainable ones of a model, and those among the others."""
        if self.layer.trainable:
            return self.plan.weights, self.plan.state
        return (), self.plan.weights + self.plan.state


@dataclass
class _Conversion:
    file: KerasFile
    version: tuple[int, int]
    leaves: dict[tuple[str, ...], _Leaf] = field(default_factory=dict)
    weights: dict[tuple[str, ...], Mapping[str, Weight]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)  # the first of each layer
    calls: int = 0

    def run(self, network: kc.Network, inputs_as_nchw: bool) -> ir.Model:
        self._plan(network, ())
        self._read_weights(network)
        graph = GraphBuilder(network.name)
        moved = inputs_as_nchw and not _is_channels_first(network)
        inputs = [self._input(graph, network.layers[ref.layer], moved) for ref in network.inputs]
        outputs = self._emit(graph, network, inputs, ())
        if self.problems:
            raise self._error()
        return graph.model(_named(graph, network, outputs))

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
                    self.leaves[path] = _Leaf(path, layer, _plan(layer, self.version))
                except UnsupportedError as error:
                    self._refuse(path, layer, error)

    def _read_weights(self, network: kc.Network) -> None:
        within: dict[str, list[_Leaf]] = {}
        for path, leaf in self.leaves.items():
            within.setdefault(path[0], []).append(leaf)
        for layer in network.layers.values():
            leaves = within.get(layer.name, [])
            expected = 1 if layer.network is None else _count_leaves(layer.network)
            if layer.class_name == "InputLayer" or len(leaves) < expected:
                continue  # Without every plan within a model it is not known whose its weights are.
            try:
                stored = self.file.weights(layer.name)
                for leaf, names, mine in _distribute(leaves, stored):
                    self.weights[leaf.path] = _read(names, mine)
            except WeightError as error:
                self._refuse((layer.name,), layer, error)

    # Emission

    def _input(self, graph: GraphBuilder, layer: kc.Layer, moved: bool) -> Tensor | None:
        try:
            return _declare_input(graph, layer, moved)
        except UnsupportedError as error:
            self._refuse((layer.name,), layer, error)
            return None

    def _emit(
        self,
        graph: GraphBuilder,
        network: kc.Network,
        inputs: Sequence[Tensor | None],
        prefix: tuple[str, ...],
    ) -> list[Tensor | None]:
        """The network's outputs; None for those that depend on a layer that cannot be converted."""
        known: dict[tuple[str, int], list[Tensor | None]] = {
            (ref.layer, 0): [tensor] for ref, tensor in zip(network.inputs, inputs, strict=True)
        }

        def find(ref: kc.Ref) -> Tensor | None:
            tensors = known.get((ref.layer, ref.call), [])
            if ref.tensor >= len(tensors):
                raise kc.MalformedError(f"there is no output {ref.tensor} of {ref.layer!r} (call {ref.call})")
            return tensors[ref.tensor]

        for call in network.calls:
            self.calls += 1
            if self.calls > MAX_CALLS:
                raise kc.MalformedError(f"it has more than {MAX_CALLS:,} applications of layers")
            layer, path = network.layers[call.layer], (*prefix, call.layer)
            if call.inputs is None:
                self._refuse(path, layer, call.problem)
                known[call.layer, call.index] = [None] * _output_count(layer)
                continue
            known[call.layer, call.index] = self._apply(graph, layer, path, [find(ref) for ref in call.inputs])
        return [find(ref) for ref in network.outputs]

    def _apply(
        self, graph: GraphBuilder, layer: kc.Layer, path: tuple[str, ...], inputs: Sequence[Tensor | None]
    ) -> list[Tensor | None]:
        if layer.network is not None:
            if len(inputs) != len(layer.network.inputs):
                raise kc.MalformedError(f"{layer.name!r} gets {len(inputs)} inputs, not {len(layer.network.inputs)}")
            return self._emit(graph, layer.network, inputs, path)
        leaf, given = self.leaves.get(path), [tensor for tensor in inputs if tensor is not None]
        ready = leaf is not None and path in self.weights and len(given) == len(inputs)
        if leaf is None or not ready:
            return [None]
        try:
            return [_emit_layer(leaf.plan, Emitter(graph, "/".join(path), self.weights[path]), given)]
        except UnsupportedError as error:
            self._refuse(path, layer, error)
            return [None]


def _plan(layer: kc.Layer, version: tuple[int, int]) -> Plan:
    if layer.class_name == "Lambda":
        raise UnsupportedError("it holds Python code, which is never run")
    if layer.class_name not in LAYERS:
        raise UnsupportedError("layers of this class are not supported")
    options = Options(layer.config, version)
    plan = LAYERS[layer.class_name](options)
    options.finish()
    return plan


def _emit_layer(plan: Plan, e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
    if plan.inputs is not None and len(inputs) != plan.inputs:
        raise UnsupportedError(f"it has {len(inputs)} inputs, expected {plan.inputs}")
    tensors = []
    for x in inputs:
        if x.dtype in _INTEGERS and plan.takes == "floats":
            raise UnsupportedError(f"its input holds {x.dtype.name.lower()}, expected floating-point numbers")
        # Keras casts floating-point inputs of every layer to the type it computes in.
        tensors.append(x if x.dtype in _INTEGERS and plan.takes == "anything" else e.cast(x))
    return plan.emit(e, tensors)


def _declare_input(graph: GraphBuilder, layer: kc.Layer, moved: bool) -> Tensor:
    shape = layer.config.get("batch_input_shape")
    if not isinstance(shape, list) or not shape or len(shape) > 8:
        raise UnsupportedError(f"its shape {brief(shape)} is not known")
    for dim in shape:
        if dim is not None and (not isinstance(dim, int) or isinstance(dim, bool) or not 0 < dim <= MAX_DIM):
            raise UnsupportedError(f"its shape {brief(shape)} is not one of positive whole numbers")
    if layer.config.get("sparse") or layer.config.get("ragged"):
        raise UnsupportedError("sparse and ragged inputs are not supported")
    dtype = layer.config.get("dtype", "float32")
    if dtype not in _INPUT_TYPES:
        raise UnsupportedError(f"inputs of type {brief(dtype)} are not supported")
    names = ["batch", *(f"{layer.name}_dim_{axis}" for axis in range(1, len(shape)))]
    dims = [name if dim is None else dim for name, dim in zip(names, shape, strict=True)]
    moved = moved and len(shape) == 4
    if moved:
        dims = [dims[0], dims[3], dims[1], dims[2]]
    return Tensor(graph.input(layer.name, _INPUT_TYPES[dtype], dims), tuple(shape), moved)


def _named(graph: GraphBuilder, network: kc.Network, outputs: Sequence[Tensor | None]) -> list[tuple[str, ir.Value]]:
    """The outputs in Keras's layout and by Keras's names: the layers', numbered where a name is taken."""
    named: list[tuple[str, ir.Value]] = []
    taken = {ref.layer for ref in network.inputs}
    copies: Counter[str] = Counter()
    for ref, tensor in zip(network.outputs, outputs, strict=True):
        assert tensor is not None
        name = ref.layer
        while name in taken:
            copies[ref.layer] += 1
            name = f"{ref.layer}_{copies[ref.layer]}"
        taken.add(name)
        named.append((name, Emitter(graph, ref.layer).plain(tensor).value))
    return named


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


def _output_count(layer: kc.Layer) -> int:
    return len(layer.network.outputs) if layer.network is not None else 1


# Weights


def _distribute(
    leaves: Sequence[_Leaf], stored: Sequence[StoredWeight]
) -> list[tuple[_Leaf, tuple[str, ...], list[StoredWeight]]]:
    """Which weights of a layer of the outermost model belong to which layer within, with their plain names.

    Keras stores a model's trainable weights before all others and trusts the order. Names, where they say it
    without doubt, are safer: which weights were trainable is not always kept.
    """
    total = sum(len(leaf.plan.weights) + len(leaf.plan.state) for leaf in leaves)
    if len(stored) != total:
        raise WeightError(f"the file holds {len(stored)} weights for it, expected {total}")
    scopes: dict[str, list[StoredWeight]] = {}
    for weight in stored:
        for scope in set(weight.name.split("/")[:-1]):
            scopes.setdefault(scope, []).append(weight)
    by_name = [scopes.get(leaf.layer.name, []) for leaf in leaves]
    wanted = [leaf.plan.weights + leaf.plan.state for leaf in leaves]
    fits = all(len(group) == len(names) for group, names in zip(by_name, wanted, strict=True))
    if len(leaves) > 1 and fits and len({id(weight) for group in by_name for weight in group}) == total:
        return list(zip(leaves, wanted, by_name, strict=True))
    mine: dict[int, list[StoredWeight]] = {index: [] for index in range(len(leaves))}
    remaining = iter(stored)
    for part in (0, 1):
        for index, leaf in enumerate(leaves):
            mine[index] += [next(remaining) for _ in leaf.stored_order()[part]]
    return [(leaf, names, mine[i]) for i, (leaf, names) in enumerate(zip(leaves, wanted, strict=True))]


def _read(names: Sequence[str], stored: Sequence[StoredWeight]) -> dict[str, Weight]:
    """The weights by their plain names, which the names in the file must end with."""
    weights: dict[str, Weight] = {}
    for name, weight in zip(names, stored, strict=True):
        last: Any = re.sub(r"(_\d+)?(:\d+)?$", "", weight.name.rpartition("/")[2])
        if last != name:
            raise WeightError(f"expected the weight {name!r}, got {weight.name!r}")
        weights[name] = Weight(weight.name, weight.read())
    return weights
