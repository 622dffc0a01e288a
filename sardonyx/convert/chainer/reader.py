"""From a live chain, or from arrays and a description, to steps and from these to ONNX."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from sardonyx.convert.base import Array, Converted, Options, Oracle, Source, Values
from sardonyx.convert.chainer.file import arrays
from sardonyx.convert.chainer.functions import FUNCTIONS, Emitter, Step, UnsupportedError
from sardonyx.convert.graph import GraphBuilder
from sardonyx.errors import ConversionError, ModelFileError

MAX_STEPS = 100_000


@dataclass
class Network:
    """Steps in order, weights by name, inputs with their dims and types, names of outputs."""

    steps: list[Step] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    inputs: dict[str, tuple[tuple[int | str, ...], str]] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    batch: int | None = None


def read(source: Source, options: Options) -> Converted:
    """The network as ONNX. Raises ConversionError and ModelFileError."""
    chain, version = source.object, ""
    stored: dict[str, Array] = {}
    if source.path is not None:
        stored = arrays(source.path)
        if options.structure is None:
            raise ConversionError(
                "the file holds weights and not the network", where=source.where,
                fix="give the chain, or a description of its functions, as structure",
            )  # fmt: skip
        chain = options.structure
    if hasattr(chain, "namedparams"):
        if stored:
            _load(chain, stored, source.where)
        network = trace(chain, options, source.where)
        version = getattr(sys.modules.get("chainer"), "__version__", "")
    else:
        try:
            network = described(chain, stored, options)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise ConversionError(
                "the description of the network is not well-formed", where=source.where, got=repr(error)
            ) from error
        chain = None
    model = emit(network, source)

    def live() -> Oracle | None:
        return LiveOracle(f"chainer {version}", chain, network) if chain is not None else None

    def evaluation() -> Oracle:
        from sardonyx.convert.chainer.evaluate import Evaluation

        return Evaluation(network)

    layers = {name: step.function for step in network.steps for name in step.outputs}
    return Converted(model, f"Chainer {version}".strip(), oracles=(live, evaluation), layers=layers)


def emit(network: Network, source: Source) -> ir.Model:
    """The steps as a graph, or an error that lists those that cannot be converted."""
    graph = GraphBuilder(source.stem)
    values: dict[str, ir.Value] = {}
    problems: dict[str, str] = {}
    lost: set[str] = set()
    for name, (dims, dtype) in network.inputs.items():
        values[name] = graph.input(name, ir.DataType.from_numpy(np.dtype(dtype)), dims)
    for step in network.steps:
        if step.function in FUNCTIONS and lost.intersection(step.inputs):
            lost.update(step.outputs)
            continue
        emitter = Emitter(graph, step, values, network.weights, network.batch)
        try:
            made = _apply(emitter)
        except UnsupportedError as error:
            problems.setdefault(f"{step.outputs[0]!r} ({step.function})", str(error))
            lost.update(step.outputs)
            continue
        values.update(zip(step.outputs, made, strict=False))
    if problems:
        count = len(problems)
        raise ConversionError(
            f"{f'{count} functions' if count > 1 else 'a function'} cannot be converted: "
            + "; ".join(f"{name}: {reason}" for name, reason in problems.items()),
            where=source.where, fix="replace them in the chain",
        )  # fmt: skip
    missing = [name for name in network.outputs if name not in values]
    if missing or not network.outputs:
        raise ConversionError(f"nothing makes the outputs {', '.join(missing)}", where=source.where)
    model = graph.model([(name, values[name]) for name in network.outputs])
    ShapeInferencePass()(model)  # outputs must tell their types
    return model


def _apply(e: Emitter) -> list[ir.Value]:
    step = e.step
    if step.function not in FUNCTIONS:
        raise UnsupportedError("functions of this kind are not supported")
    for index, name in enumerate(step.inputs):
        if name not in e.values and name not in e.weights:
            raise UnsupportedError(f"its input {index} ({name}) is made by nothing")
    made = FUNCTIONS[step.function](e)
    result = [made] if isinstance(made, ir.Value) else made
    if len(result) != len(step.outputs):
        raise UnsupportedError(f"it has {len(step.outputs)} outputs, expected {len(result)}")
    unknown = sorted(set(step.options) - e.asked - _HARMLESS)
    if unknown and not step.options.get("_live"):
        raise UnsupportedError(f"options {', '.join(unknown)} are not known")
    return result


_HARMLESS = {"_live", "ratio", "dropout_ratio"}


# Live chains


def _load(chain: Any, stored: Mapping[str, Array], where: str) -> None:
    """What Chainer's own `load_npz` does: parameters and persistent values by name, all of them."""
    for name, parameter in chain.namedparams():
        key = name.lstrip("/")
        if key not in stored:
            raise ConversionError("the file lacks a parameter of the chain", where=where, got=key)
        if parameter.array is None:
            parameter.initialize(stored[key].shape)
        if parameter.array.shape != stored[key].shape:
            raise ConversionError(
                f"the parameter {key} has another shape than the chain's", where=where,
                expected=str(parameter.array.shape), got=str(stored[key].shape),
            )  # fmt: skip
        parameter.array[...] = stored[key]
    for prefix, link in chain.namedlinks():
        for name in getattr(link, "_persistent", ()):
            key, value = f"{prefix}/{name}".lstrip("/"), getattr(link, name)
            if key not in stored:
                raise ConversionError("the file lacks a value of the chain", where=where, got=key)
            if isinstance(value, np.ndarray):
                value[...] = stored[key]


def call(chain: Any, arguments: Any) -> tuple[list[Any], list[Any]]:
    """The chain's inputs and outputs, as variables, in test mode."""
    chainer = sys.modules["chainer"]
    given = [chainer.Variable(np.asarray(item)) for item in arguments]
    with chainer.using_config("train", False), chainer.using_config("enable_backprop", True):
        made = chain(*given)
    results = (
        list(made.values()) if isinstance(made, dict) else list(made) if isinstance(made, list | tuple) else [made]
    )
    return given, results


def trace(chain: Any, options: Options, where: str) -> Network:
    """The functions that a call with the example inputs went through, from the outputs back."""
    if not options.example:
        raise ConversionError(
            "a chain can only be traced with example inputs", where=where, fix="give arrays as example"
        )
    given, results = call(chain, options.example)
    names = list(options.inputs) or [f"Input_{index}" for index in range(len(given))]
    network = Network(batch=int(given[0].shape[0]) if given[0].ndim else None)
    known: dict[int, str] = {}
    for name, variable in zip(names, given, strict=True):
        dims: list[int | str] = [int(size) for size in variable.shape]
        if dims:
            dims[0] = options.batch
        asked = options.shapes.get(name)
        if asked is not None:
            dims = [f"{name}_dim_{axis}" if dim is None else dim for axis, dim in enumerate(asked)]
        network.inputs[name] = (tuple(dims), variable.dtype.name)
        known[id(variable.node)] = name
    titles = {id(parameter.node): name.lstrip("/") for name, parameter in chain.namedparams()}
    _Walk(network, known, titles).run([variable.node for variable in results])
    network.outputs = [known[id(variable.node)] for variable in results]
    return network


@dataclass
class _Walk:
    """Visits functions in an order in which each comes after those whose values it takes."""

    network: Network
    known: dict[int, str]
    titles: dict[int, str]
    seen: set[int] = field(default_factory=set)
    kept: list[Any] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def run(self, nodes: list[Any]) -> None:
        stack = [(node, False) for node in reversed(nodes)]
        while stack:
            node, ready = stack.pop()
            creator = node.creator_node
            if creator is None:
                self._leaf(node)
            elif ready:
                self._step(creator)
            elif id(creator) not in self.seen:
                stack.append((node, True))
                stack += [(item, False) for item in reversed(creator.inputs)]

    def _leaf(self, node: Any) -> None:
        if id(node) in self.known:
            return
        variable = node.get_variable_or_none()
        data = node.data if node.data is not None else None if variable is None else variable.array
        name = self.titles.get(id(node), f"constant_{len(self.network.weights)}")
        self.kept.append(node)
        self.known[id(node)] = name
        if data is not None:
            self.network.weights[name] = np.asarray(data)

    def _step(self, function: Any) -> None:
        if id(function) in self.seen:
            return
        self.seen.add(id(function))
        if len(self.seen) > MAX_STEPS:
            raise ConversionError(f"the chain has more than {MAX_STEPS:,} functions", where="chain")
        kind = type(function).__name__
        number = self.counts[kind] = self.counts.get(kind, -1) + 1
        outputs = []
        for index, reference in enumerate(function.outputs):
            name = f"{kind}_{number}" + (f"_{index}" if index else "")
            outputs.append(name)
            if (node := reference()) is not None:
                self.known[id(node)] = name
                self.kept.append(node)
        options = {key: value for key, value in vars(function).items() if not callable(value)} | {"_live": True}
        inputs = tuple(self.known[id(node)] for node in function.inputs)
        shapes = tuple(tuple(int(size) for size in node.shape) for node in function.inputs)
        self.network.steps.append(Step(kind, inputs, tuple(outputs), options, shapes))


@dataclass(frozen=True)
class LiveOracle:
    """Chainer itself, on the chain that was converted."""

    name: str
    chain: Any
    network: Network

    def run(self, inputs: Values) -> Values:
        """Outputs by name."""
        _, results = call(self.chain, [inputs[name] for name in self.network.inputs])
        return {name: np.asarray(item.array) for name, item in zip(self.network.outputs, results, strict=True)}


# Descriptions


def described(structure: Any, weights: Mapping[str, Array], options: Options) -> Network:
    """The network that a description tells. Raises TypeError, ValueError or LookupError where it is not well-formed."""
    if isinstance(structure, str | Path):
        try:
            structure = json.loads(Path(structure).read_bytes())
        except (OSError, RecursionError) as error:
            raise ModelFileError("the description cannot be read", where=str(structure), got=str(error)) from error
    network = Network(weights=dict(weights))
    for name, dims in structure["inputs"].items():
        asked = options.shapes.get(name, dims)
        found = tuple(f"{name}_dim_{axis}" if dim is None else dim for axis, dim in enumerate(asked))
        network.inputs[str(name)] = (found, "float32")
    for item in structure["functions"]:
        outputs = item["output"] if isinstance(item["output"], list) else [item["output"]]
        given = {key: value for key, value in item.items() if key not in ("function", "inputs", "output")}
        network.steps.append(Step(str(item["function"]), tuple(item["inputs"]), tuple(outputs), given))
    network.outputs = [str(name) for name in structure["outputs"]]
    return network
