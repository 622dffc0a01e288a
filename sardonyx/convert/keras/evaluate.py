"""A Keras model computed in float64 with NumPy, from its configuration, as Keras documents it.

This shares the parsed configuration and the weights with the conversion and nothing else: what each layer does is
written down again in the files `evaluate_*`, by loops over taps and steps, so that a mistake is not made twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sardonyx.convert.base import Array, Values
from sardonyx.convert.keras import config as kc
from sardonyx.convert.keras.evaluate_base import Call, Value
from sardonyx.convert.keras.evaluate_layers import LAYERS as PLAIN
from sardonyx.convert.keras.evaluate_operations import LAYERS as OPERATIONS
from sardonyx.convert.keras.evaluate_pictures import LAYERS as PICTURES
from sardonyx.convert.keras.evaluate_sequences import KEEPS, KEEPS_3
from sardonyx.convert.keras.evaluate_sequences import LAYERS as SEQUENCES

LAYERS = {**PLAIN, **PICTURES, **SEQUENCES, **OPERATIONS}

Path = tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """An oracle. Values of layers are computed again, all kept, when one is asked for."""

    network: kc.Network
    weights: Mapping[Path, Mapping[str, Array]]
    version: tuple[int, int]
    outputs: tuple[str, ...]
    name: str = "float64 evaluation of the Keras model"

    def run(self, inputs: Values) -> Values:
        """float64 values by output, and by layer as `Converted.layers` calls them."""
        made = _Walk(self.weights, self.version).model(self.network, inputs)

        def layers() -> dict[str, Array]:
            walk = _Walk(self.weights, self.version, kept={})
            walk.model(self.network, inputs)
            assert walk.kept is not None
            return walk.kept

        return _Computed(dict(zip(self.outputs, made, strict=True)), layers)


class _Computed(Mapping[str, Array]):
    """The outputs, and the layers' values from the moment one of them is asked for."""

    def __init__(self, outputs: Mapping[str, Array], layers: Callable[[], Mapping[str, Array]]) -> None:
        self._outputs, self._make = outputs, layers
        self._layers: Mapping[str, Array] | None = None

    def __getitem__(self, name: str) -> Array:
        if name in self._outputs:
            return self._outputs[name]
        if self._layers is None:
            self._layers = self._make()
        return self._layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)


@dataclass
class _Walk:
    """One run. With `kept` every layer's first output is kept by its label."""

    weights: Mapping[Path, Mapping[str, Array]]
    version: tuple[int, int]
    kept: dict[str, Array] | None = None
    wide: dict[Path, dict[str, Array]] = field(default_factory=dict)

    def model(self, network: kc.Network, inputs: Values) -> list[Array]:
        given = [Value(_wide(inputs[ref.layer])) for ref in network.inputs]
        return [value.x for value in self.network(network, given, ())]

    def network(self, network: kc.Network, inputs: Sequence[Value], prefix: Path) -> list[Value]:
        known: dict[tuple[str, int], list[Value]] = {
            (ref.layer, 0): [value] for ref, value in zip(network.inputs, inputs, strict=True)
        }
        left = Counter((ref.layer, ref.call) for call in network.calls for ref in call.refs())
        left.update((ref.layer, ref.call) for ref in network.outputs)

        def find(leaf: Any) -> Any:
            if not isinstance(leaf, kc.Ref):
                return leaf
            value = known[leaf.layer, leaf.call][leaf.tensor]
            left[leaf.layer, leaf.call] -= 1
            if not left[leaf.layer, leaf.call]:
                del known[leaf.layer, leaf.call]
            return value

        for call in network.calls:
            layer, path = network.layers[call.layer], (*prefix, call.layer)
            args, kwargs = kc.mapped(call.args, find), kc.mapped(call.kwargs, find)
            made = self._layer(layer, path, args, kwargs)
            if left[call.layer, call.index]:
                known[call.layer, call.index] = made
        return [find(ref) for ref in network.outputs]

    def _layer(self, layer: kc.Layer, path: Path, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Value]:
        if layer.network is not None and layer.class_name == "TimeDistributed":
            (value,) = (leaf for leaf in kc.leaves(args) if isinstance(leaf, Value))
            return [self._repeated(layer.network, value, path)]
        if layer.network is not None:
            values = [leaf for leaf in kc.leaves((args, kwargs)) if isinstance(leaf, Value)]
            return self.network(layer.network, values, path)
        if path not in self.wide:
            self.wide[path] = {key: array.astype(np.float64) for key, array in self.weights[path].items()}
        call = Call(layer.config, self.wide[path], self.version, args, dict(kwargs))
        made = LAYERS[layer.class_name](call)
        values = made if isinstance(made, list) else [made]
        keeps = layer.class_name in KEEPS or (self.version[0] == 3 and layer.class_name in KEEPS_3)
        if keeps and values[0] is not call.values[0]:
            values = [Value(values[0].x, call.mask()), *values[1:]]
        if self.kept is not None:
            self.kept[kc.label(path, self.kept)] = values[0].x
        return values

    def _repeated(self, network: kc.Network, value: Value, path: Path) -> Value:
        """TimeDistributed: the layer on each step alone."""
        if self.kept is not None:  # all steps at once, as they are labelled once
            flat = value.x.reshape(-1, *value.x.shape[2:])
            (out,) = self.network(network, [Value(flat)], path)
            return Value(out.x.reshape(*value.x.shape[:2], *out.x.shape[1:]), value.mask)
        steps = [self.network(network, [Value(value.x[:, t])], path)[0].x for t in range(value.x.shape[1])]
        return Value(np.stack(steps, axis=1), value.mask)


def _wide(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype.kind == "f" else array
