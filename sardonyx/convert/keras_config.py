"""A Keras configuration as a network: layers, their calls in an order that runs, inputs and outputs.

Sequential models become the chain they stand for, so that nothing after this file knows two kinds of model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

MAX_NESTING = 32
"""Models within models; real files have two or three."""

NETWORKS = ("Sequential", "Functional", "Model")


class MalformedError(Exception):
    """The configuration is not one that Keras writes; the message says where."""


@dataclass(frozen=True)
class Ref:
    """A tensor: output `tensor` of call number `call` of a layer, both counted from 0."""

    layer: str
    call: int
    tensor: int


@dataclass(frozen=True)
class Call:
    """One application of a layer. `inputs` is None where it could not be understood; `problem` says why."""

    layer: str
    index: int
    inputs: tuple[Ref, ...] | None
    problem: str = ""


@dataclass(frozen=True)
class Layer:
    """A layer with its options, or a network used as one."""

    name: str
    class_name: str
    config: Mapping[str, Any]
    network: Network | None = None

    @property
    def trainable(self) -> bool:
        """Whether training changes its weights, which decides on their order in the file."""
        return self.config.get("trainable", True) is not False


@dataclass(frozen=True)
class Network:
    """`calls` are in an order in which every input is there before it is needed; InputLayers have none."""

    name: str
    layers: Mapping[str, Layer]
    calls: tuple[Call, ...]
    inputs: tuple[Ref, ...]
    outputs: tuple[Ref, ...]


def parse(config: Mapping[str, Any]) -> Network:
    """The network that a `model_config` describes. Raises MalformedError."""
    class_name = config.get("class_name")
    if class_name not in NETWORKS:
        raise MalformedError(f"the model's class is {class_name!r}, expected {' or '.join(NETWORKS)}")
    return _network(class_name, config.get("config"), "model", 0)


def _network(class_name: str, config: Any, fallback_name: str, depth: int) -> Network:
    if depth > MAX_NESTING:
        raise MalformedError(f"models lie within models more than {MAX_NESTING} deep")
    # Before Keras 2.2.3 a Sequential was the bare list of its layers.
    if class_name == "Sequential" and isinstance(config, list):
        config = {"layers": config}
    if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
        raise MalformedError(f"{fallback_name!r} ({class_name}) has no list of layers")
    name = config.get("name", fallback_name)
    if not isinstance(name, str):
        raise MalformedError(f"the name of {fallback_name!r} is not text")
    if class_name == "Sequential":
        return _sequential(name, config, depth)
    return _functional(name, config, depth)


def _layer(data: Any, depth: int) -> Layer:
    if not isinstance(data, dict) or not isinstance(data.get("class_name"), str):
        raise MalformedError(f"a layer is no object with a class_name: {str(data)[:60]}")
    class_name, config = data["class_name"], data.get("config")
    inner = config if isinstance(config, dict) else {}
    name = data.get("name", inner.get("name"))
    if not isinstance(name, str) or not name:
        if class_name != "Sequential" or not isinstance(config, list):
            raise MalformedError(f"a layer of class {class_name} has no name")
        name = "sequential"
    network = _network(class_name, config, name, depth + 1) if class_name in NETWORKS else None
    return Layer(name, class_name, inner, network)


def _sequential(name: str, config: Mapping[str, Any], depth: int) -> Network:
    layers = [_layer(data, depth) for data in config["layers"]]
    if not layers:
        raise MalformedError(f"{name!r} (Sequential) has no layers")
    if layers[0].class_name != "InputLayer":
        layers.insert(0, _implied_input(layers[0], config))
    if any(layer.class_name == "InputLayer" for layer in layers[1:]):
        raise MalformedError(f"{name!r} (Sequential) has an InputLayer that is not its first layer")
    calls = [Call(layer.name, 0, (Ref(before.name, 0, 0),)) for before, layer in pairwise(layers)]
    first, last = Ref(layers[0].name, 0, 0), Ref(layers[-1].name, 0, 0)
    return Network(name, _by_name(name, layers), tuple(calls), (first,), (last,))


def _implied_input(first: Layer, config: Mapping[str, Any]) -> Layer:
    """The InputLayer that Keras makes before a Sequential's first layer."""
    shape = first.config.get("batch_input_shape")
    source: Layer = first
    while shape is None and source.network is not None:
        source = source.network.layers[source.network.inputs[0].layer]
        shape = source.config.get("batch_input_shape")
    shape = config.get("build_input_shape") if shape is None else shape
    name = f"{first.name}_input"
    return Layer(name, "InputLayer", {"name": name, "batch_input_shape": shape})


def _functional(name: str, config: Mapping[str, Any], depth: int) -> Network:
    layers = [_layer(data, depth) for data in config["layers"]]
    by_name = _by_name(name, layers)
    raw_calls = {
        layer.name: _list(data.get("inbound_nodes", []), f"inbound_nodes of {layer.name!r}")
        for layer, data in zip(layers, config["layers"], strict=True)
    }
    calls = [_call(layer, i, node) for layer, nodes in raw_calls.items() for i, node in enumerate(nodes)]
    inputs = _refs(config.get("input_layers"), f"input_layers of {name!r}")
    outputs = _refs(config.get("output_layers"), f"output_layers of {name!r}")
    calls, outputs = _from_zero(by_name, calls, outputs)
    if not inputs or not outputs:
        raise MalformedError(f"{name!r} has no inputs or no outputs")
    for ref in inputs:
        if ref.layer not in by_name or by_name[ref.layer].class_name != "InputLayer":
            raise MalformedError(f"the input {ref.layer!r} of {name!r} is no InputLayer")
    return Network(name, by_name, tuple(_in_order(name, by_name, calls, outputs)), tuple(inputs), tuple(outputs))


def _by_name(name: str, layers: Sequence[Layer]) -> dict[str, Layer]:
    by_name = {layer.name: layer for layer in layers}
    if len(by_name) < len(layers):
        raise MalformedError(f"two layers of {name!r} have the same name")
    return by_name


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedError(f"{what} is no list")
    return value


def _is_ref(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) >= 3
        and isinstance(value[0], str)
        and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in value[1:3])
    )


def _refs(value: Any, what: str) -> list[Ref]:
    """One ref, a list of such, or an object with such as values."""
    items = [value] if _is_ref(value) else list(value.values()) if isinstance(value, dict) else _list(value, what)
    if not all(_is_ref(item) for item in items):
        raise MalformedError(f"{what} is not made of [layer, node, tensor]")
    return [Ref(*item[:3]) for item in items]


def _call(layer: str, index: int, node: Any) -> Call:
    """A call as `inbound_nodes` holds it: refs, each perhaps with the call's other arguments."""
    items = [node] if _is_ref(node) else node
    if not isinstance(items, list) or not items or not all(_is_ref(item) for item in items):
        return Call(layer, index, None, "its inputs are not plain tensors")
    for item in items:
        arguments = item[3] if len(item) > 3 else {}
        if not isinstance(arguments, dict):
            return Call(layer, index, None, "the arguments of its call are not understood")
        given = {key: value for key, value in arguments.items() if value is not None and value is not False}
        if given:
            return Call(layer, index, None, f"the call's arguments {', '.join(map(repr, given))} are not supported")
    return Call(layer, index, tuple(Ref(*item[:3]) for item in items))


def _from_zero(
    layers: Mapping[str, Layer], calls: Sequence[Call], outputs: Sequence[Ref]
) -> tuple[list[Call], list[Ref]]:
    """Count every layer's calls from 0. Where a layer is a model, most versions of Keras start at 1, as the
    model's own making counts as a call. All calls of a file are referred to, so the lowest number tells."""
    everything = [ref for call in calls for ref in call.inputs or ()] + list(outputs)
    lowest: dict[str, int] = {}
    for ref in everything:
        lowest[ref.layer] = min(ref.call, lowest.get(ref.layer, ref.call))

    def shifted(ref: Ref) -> Ref:
        starts_at_one = ref.layer in layers and layers[ref.layer].network is not None and lowest[ref.layer] == 1
        return Ref(ref.layer, ref.call - starts_at_one, ref.tensor)

    renamed = [
        Call(c.layer, c.index, None if c.inputs is None else tuple(map(shifted, c.inputs)), c.problem) for c in calls
    ]
    return renamed, list(map(shifted, outputs))


def _in_order(name: str, layers: Mapping[str, Layer], calls: Sequence[Call], outputs: Sequence[Ref]) -> list[Call]:
    """The calls, each after those it takes inputs from (Kahn 1962). A ring or a gap is malformed."""
    made = {(layer.name, 0) for layer in layers.values() if layer.class_name == "InputLayer"}
    by_key = {(call.layer, call.index): call for call in calls if (call.layer, call.index) not in made}
    users: dict[tuple[str, int], list[tuple[str, int]]] = {}
    missing: dict[tuple[str, int], int] = {}
    for key, call in by_key.items():
        needed = {(ref.layer, ref.call) for ref in call.inputs or ()} - made
        missing[key] = len(needed)
        for source in needed:
            if source not in by_key:
                raise MalformedError(
                    f"{call.layer!r} takes call {source[1]} of {source[0]!r}, which is not in {name!r}"
                )
            users.setdefault(source, []).append(key)
    for ref in outputs:
        if (ref.layer, ref.call) not in by_key and (ref.layer, ref.call) not in made:
            raise MalformedError(f"the output {ref.layer!r} (call {ref.call}) is not in {name!r}")
    ready = [key for key, count in missing.items() if count == 0]
    for key in ready:  # grows while it is walked
        for user in users.get(key, ()):
            missing[user] -= 1
            if missing[user] == 0:
                ready.append(user)
    if len(ready) < len(by_key):
        ring = sorted({repr(layer) for layer, _ in by_key.keys() - set(ready)})
        raise MalformedError(f"layers of {name!r} take inputs from each other in a ring: {', '.join(ring[:20])}")
    return [by_key[key] for key in ready]
