"""A Keras configuration as a network: layers, their calls in an order that runs, inputs and outputs.

Reads what Keras 2 and Keras 3 write. Sequential models become the chain they stand for and TimeDistributed a network of
one layer, so that nothing after this file knows several kinds of model.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

MAX_NESTING = 32
"""Models within models, or lists within a call's arguments; real files have two or three."""

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
    """One application of a layer: arguments are refs, constants, slices, and tuples and dicts of such.

    `problem` says what could not be understood of it.
    """

    layer: str
    index: int
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    def refs(self) -> list[Ref]:
        """All tensors it takes."""
        return [leaf for leaf in leaves((self.args, self.kwargs)) if isinstance(leaf, Ref)]


@dataclass(frozen=True)
class Layer:
    """A layer with its options, or a network used as one.

    `class_name` of Keras 3's operations starts with `ops.`, of TensorFlow's in Keras 2 with `tf.`. A layer with a
    `network` that is no model is TimeDistributed, over a network of one layer.
    """

    name: str
    class_name: str
    config: Mapping[str, Any]
    network: Network | None = None

    @property
    def trainable(self) -> bool:
        """Whether training changes its weights, which decides on their order in the file."""
        return self.config.get("trainable", True) is not False

    @property
    def is_operation(self) -> bool:
        """Whether it is a function rather than a layer: it has no weights and no place among the layers' weights."""
        return self.class_name.startswith(("ops.", "tf."))


@dataclass(frozen=True)
class Network:
    """`calls` are in an order in which every input is there before it is needed; InputLayers have none."""

    name: str
    layers: Mapping[str, Layer]
    calls: tuple[Call, ...]
    inputs: tuple[Ref, ...]
    outputs: tuple[Ref, ...]
    input_keys: tuple[str, ...] = ()
    output_keys: tuple[str, ...] = ()
    """What inputs and outputs are called where the model takes or gives a dict."""


def parse(config: Mapping[str, Any]) -> Network:
    """The network that a `model_config` describes. Raises MalformedError."""
    class_name = config.get("class_name")
    if class_name not in NETWORKS:
        raise MalformedError(
            f"the model's class is {class_name!r}, expected {' or '.join(NETWORKS)}: of a subclassed model the file "
            "holds no graph, only Python's name for it"
        )
    return _network(class_name, config.get("config"), "model", 0)


def leaves(value: Any) -> Iterator[Any]:
    """What is not a tuple or a dict, in order."""
    if isinstance(value, tuple):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from leaves(item)
    else:
        yield value


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same structure of tuples and dicts with each leaf changed."""
    if isinstance(value, tuple):
        return tuple(mapped(item, change) for item in value)
    if isinstance(value, Mapping):
        return {key: mapped(item, change) for key, item in value.items()}
    return change(value)


def label(path: Sequence[str], taken: Container[str]) -> str:
    """What an application of the layer at `path` is called: its names, and which one it is."""
    name = found = "/".join(path)
    calls = 1
    while found in taken:
        calls += 1
        found = f"{name} (call {calls})"
    return found


def input_shape(config: Mapping[str, Any]) -> Any:
    """The shape that an InputLayer, or a Sequential's first layer, says; None where it says none."""
    return config.get("batch_input_shape", config.get("batch_shape"))


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
    if class_name in NETWORKS:
        return Layer(name, class_name, inner, _network(class_name, config, name, depth + 1))
    if class_name == "TimeDistributed":
        return Layer(name, class_name, inner, _repeated(name, inner, depth + 1))
    return Layer(name, _kind(data, class_name, inner), inner)


def _kind(data: Mapping[str, Any], class_name: str, config: Mapping[str, Any]) -> str:
    """The class, told apart where operations and layers have the same (Add)."""
    module = data.get("module")
    nodes = data.get("inbound_nodes")
    # Keras 3 leaves modules out of HDF5 files; operations have no training, though.
    bare = module is None and "trainable" not in config and class_name != "InputLayer"
    third = isinstance(nodes, list) and bool(nodes) and isinstance(nodes[0], dict)
    if (bare and third) or (isinstance(module, str) and module.startswith(("keras.src.ops.", "keras.ops"))):
        return f"ops.{class_name}"
    if class_name in ("TFOpLambda", "SlicingOpLambda") and isinstance(config.get("function"), str):
        return f"tf.{config['function']}"
    return class_name


def _sequential(name: str, config: Mapping[str, Any], depth: int) -> Network:
    layers = [_layer(data, depth) for data in config["layers"]]
    if not layers:
        raise MalformedError(f"{name!r} (Sequential) has no layers")
    if layers[0].class_name != "InputLayer":
        layers.insert(0, _implied_input(layers[0], config))
    if any(layer.class_name == "InputLayer" for layer in layers[1:]):
        raise MalformedError(f"{name!r} (Sequential) has an InputLayer that is not its first layer")
    return _chain(name, layers)


def _repeated(name: str, config: Mapping[str, Any], depth: int) -> Network:
    """TimeDistributed's layer, as a network."""
    if depth > MAX_NESTING:
        raise MalformedError(f"layers lie within layers more than {MAX_NESTING} deep")
    layer = _layer(config.get("layer"), depth)
    start = f"{layer.name}_input"
    return _chain(name, [Layer(start, "InputLayer", {"name": start}), layer])


def _chain(name: str, layers: Sequence[Layer]) -> Network:
    calls = [Call(layer.name, 0, (Ref(before.name, 0, 0),)) for before, layer in pairwise(layers)]
    first, last = Ref(layers[0].name, 0, 0), Ref(layers[-1].name, 0, 0)
    return Network(name, _by_name(name, layers), tuple(calls), (first,), (last,))


def _implied_input(first: Layer, config: Mapping[str, Any]) -> Layer:
    """The InputLayer that Keras makes before a Sequential's first layer."""
    shape = input_shape(first.config)
    source: Layer = first
    while shape is None and source.network is not None:
        source = source.network.layers[source.network.inputs[0].layer]
        shape = input_shape(source.config)
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
    keys = (
        tuple(ends) if isinstance(ends, dict) else () for ends in map(config.get, ("input_layers", "output_layers"))
    )
    ordered = tuple(_in_order(name, by_name, calls, outputs))
    return Network(name, by_name, ordered, tuple(inputs), tuple(outputs), *keys)


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
    """One ref, or a structure of lists and objects of such, in order."""
    if not isinstance(value, list | dict):
        raise MalformedError(f"{what} is no list")
    try:
        found = list(leaves(_value(value, refs=True)))
    except MalformedError:
        found = [None]
    if not all(isinstance(ref, Ref) for ref in found):
        raise MalformedError(f"{what} is not made of [layer, node, tensor]")
    return found


def _call(layer: str, index: int, node: Any) -> Call:
    try:
        if isinstance(node, dict):
            args, kwargs = _value(node.get("args", [])), _value(node.get("kwargs", {}))
        else:
            args, kwargs = _second(node)
    except MalformedError as error:
        return Call(layer, index, problem=str(error))
    if not isinstance(args, tuple) or not isinstance(kwargs, dict):
        return Call(layer, index, problem="the arguments of its call are not understood")
    return Call(layer, index, args, {key: v for key, v in kwargs.items() if v is not None and v is not False})


def _second(node: Any) -> tuple[tuple[Any, ...], Any]:
    """A call as Keras 2 writes it: refs, each perhaps with the call's other arguments."""
    alone = _is_input(node)
    items = [node] if alone else node
    if not isinstance(items, list) or not items or not all(map(_is_input, items)):
        raise MalformedError("its inputs are not plain tensors")
    inputs = tuple(item[2] if item[0] == _CONSTANT else Ref(*item[:3]) for item in items)
    kwargs: dict[str, Any] = {}
    for item in items:
        arguments = item[3] if len(item) > 3 else {}
        if not isinstance(arguments, dict):
            raise MalformedError("the arguments of its call are not understood")
        kwargs |= {key: _value(value, refs=True) for key, value in arguments.items()}
    return (inputs[0] if len(inputs) == 1 and alone else inputs,), kwargs


_CONSTANT = "_CONSTANT_VALUE"


def _is_input(value: Any) -> bool:
    return _is_ref(value) or (isinstance(value, list) and len(value) in (3, 4) and value[0] == _CONSTANT)


def _value(value: Any, depth: int = 0, *, refs: bool = False) -> Any:
    """An argument of a call; with `refs` lists of a name and two numbers are tensors, as in Keras 2."""
    if depth > MAX_NESTING:
        raise MalformedError("the arguments of its call lie too deep within each other")
    if isinstance(value, list):
        if refs and _is_ref(value):
            return Ref(*value[:3])
        return tuple(_value(item, depth + 1, refs=refs) for item in value)
    if not isinstance(value, dict):
        return value
    kind, config = value.get("class_name"), value.get("config")
    if kind is not None:
        return _object(kind, config if isinstance(config, dict) else {}, value, depth)
    if refs and value.keys() == {"start", "stop", "step"}:
        return slice(*(_value(value[key], depth + 1, refs=refs) for key in ("start", "stop", "step")))
    return {key: _value(item, depth + 1, refs=refs) for key, item in value.items()}


def _object(kind: Any, config: Mapping[str, Any], value: Mapping[str, Any], depth: int) -> Any:
    """What Keras 3 writes as an object with a class."""
    match kind:
        case "__keras_tensor__" if _is_ref(config.get("keras_history")):
            found: Any = Ref(*config["keras_history"][:3])
        case "__slice__":
            found = slice(*(config.get(key) for key in ("start", "stop", "step")))
        case "__ellipsis__":
            found = ...
        case "__tuple__" if isinstance(value.get("items"), list):
            found = _value(value["items"], depth + 1)
        case "__numpy__" | "__tensor__" if "value" in config:
            found = _value(config["value"], depth + 1)
        case _:
            raise MalformedError(f"an argument of its call is a {str(kind)[:40]}")
    return found


def _from_zero(
    layers: Mapping[str, Layer], calls: Sequence[Call], outputs: Sequence[Ref]
) -> tuple[list[Call], list[Ref]]:
    """Count every layer's calls from 0. Where a layer is a model, most versions of Keras start at 1, as the
    model's own making counts as a call. All calls of a file are referred to, so the lowest number tells."""
    lowest: dict[str, int] = {}
    for ref in [ref for call in calls for ref in call.refs()] + list(outputs):
        lowest[ref.layer] = min(ref.call, lowest.get(ref.layer, ref.call))

    def shifted(leaf: Any) -> Any:
        if not isinstance(leaf, Ref):
            return leaf
        layer = layers.get(leaf.layer)
        starts_at_one = layer is not None and layer.class_name in NETWORKS and lowest[leaf.layer] == 1
        return replace(leaf, call=leaf.call - starts_at_one)

    renamed = [replace(c, args=mapped(c.args, shifted), kwargs=mapped(c.kwargs, shifted)) for c in calls]
    return renamed, list(map(shifted, outputs))


def _in_order(name: str, layers: Mapping[str, Layer], calls: Sequence[Call], outputs: Sequence[Ref]) -> list[Call]:
    """The calls, each after those it takes inputs from (Kahn 1962). A ring or a gap is malformed."""
    made = {(layer.name, 0) for layer in layers.values() if layer.class_name == "InputLayer"}
    by_key = {(call.layer, call.index): call for call in calls if (call.layer, call.index) not in made}
    users: dict[tuple[str, int], list[tuple[str, int]]] = {}
    missing: dict[tuple[str, int], int] = {}
    for key, call in by_key.items():
        needed = {(ref.layer, ref.call) for ref in call.refs()} - made
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
