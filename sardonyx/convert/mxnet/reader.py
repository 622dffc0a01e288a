"""From MXNet's nodes to a model, and what the result is compared with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from sardonyx.convert.base import Converted, Options, Oracle, Source, Values
from sardonyx.convert.graph import GraphBuilder
from sardonyx.convert.mxnet import layers, networks
from sardonyx.convert.mxnet.files import Attributes, Network, Node, open_network
from sardonyx.convert.mxnet.layers import TYPES, Call, Operand, Weight
from sardonyx.convert.shaped import Array, Problems, Tensor, Unsupported, finish
from sardonyx.errors import ConversionError

RULES = {**layers.RULES, **networks.RULES}

LOSSES = ("IdentityAttachKLSparseReg", "LinearRegressionOutput", "LogisticRegressionOutput", "MAERegressionOutput",
          "SVMOutput", "Softmax", "SoftmaxOutput")  # fmt: skip
"""Operators whose second input are labels."""
STATES = {"RNN": ("output", "state", "state_cell")}
"""Names of results where there are several; else they are numbered."""
_AXES = ("height", "width")
_AUXILIARY = {"BatchNorm": ("moving_mean", "moving_var"), "BatchNorm_v1": ("moving_mean", "moving_var")}
"""Arrays that networks of before 0.9 do not list among an operator's inputs."""
_MAX_FOLDED = 2**28

Key = tuple[int, int]


def read(source: Source, options: Options) -> Converted:
    """The network of `source` and its partner as ONNX."""
    network = open_network(source, options)
    return _Conversion(network, options, source.where).run()


def outputs_of(node: Node, index: int, count: int) -> str:
    """What MXNet calls a result: `softmax_output`, `split_output1`."""
    if node.op == "null":
        return node.name
    if node.op in STATES and count > 1:
        return f"{node.name}_{STATES[node.op][index]}"
    return f"{node.name}_output{index if count > 1 else ''}"


def result_count(node: Node) -> int:
    """How many results a node has that others may take (BatchNorm's statistics are none of them)."""
    if node.op in ("SliceChannel", "split"):
        return node.attributes.int("num_outputs", 1)
    if node.op == "RNN":
        return (
            (3 if node.attributes.text("mode") == "lstm" else 2) if node.attributes.bool("state_outputs", False) else 1
        )
    return 1


@dataclass
class _Conversion:
    network: Network
    options: Options
    where: str
    results: dict[Key, Operand | None] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, ir.DataType] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.problems = Problems(self.where, "replace them in the network, or name its inputs' shapes")

    def run(self) -> Converted:
        """The model with all that belongs to it."""
        nodes, graph = self.network.nodes, GraphBuilder(self.network.files[0].stem.removesuffix("-symbol"))
        wanted = self._wanted()
        for index, node in enumerate(nodes):
            if index not in wanted:
                continue
            try:
                self._node(graph, index, node)
            except Unsupported as error:
                self.problems.add(
                    f"{node.name!r} ({node.op})" if node.op != "null" else f"the input {node.name!r}", error
                )
                self.results.update({(index, i): None for i in range(10)})
        self.problems.check()
        outputs = self._outputs()
        made: list[tuple[str, Tensor]] = []
        for name, key in outputs.items():
            found = self.results.get(key)
            if not isinstance(found, Tensor):
                raise ConversionError("it has no such output", where=self.where, got=name)
            made.append((name, found))
        model = finish(graph, made, batch=self.options.batch)
        values = {value.name for node in model.graph for value in node.outputs}
        half = any(array.dtype == np.float16 for array in self.network.arrays.values())
        return Converted(
            model, f"MXNet {self.network.version}", oracles=self._oracles(tuple(outputs)),
            layers={value: name for value, name in self.shown.items() if value in values},
            make_inputs=self._make_inputs(model), tolerance=1e-2 if half else None,
            notes=["it computes in float16; the result in float32"] if half else [],
        )  # fmt: skip

    def _wanted(self) -> set[int]:
        """The nodes that the outputs depend on, without labels."""
        nodes = self.network.nodes
        todo = [index for index, _ in self._outputs().values()]
        wanted: set[int] = set()
        while todo:
            index = todo.pop()
            if index not in wanted:
                wanted.add(index)
                given = nodes[index].inputs
                todo += [source for source, _ in (given[:1] if nodes[index].op in LOSSES else given)]
        return wanted

    def _outputs(self) -> dict[str, Key]:
        """Outputs by name: those of the symbol, or those that are asked for, by MXNet's name or the node's."""
        nodes = self.network.nodes
        if not self.options.outputs:
            return {outputs_of(nodes[i], j, result_count(nodes[i])): (i, j) for i, j in self.network.heads}
        known: dict[str, Key] = {}
        for i, node in enumerate(nodes):
            if node.op != "null":
                for j in range(min(result_count(node), 1000)):
                    known[outputs_of(node, j, result_count(node))] = (i, j)
                known.setdefault(node.name, (i, 0))
        missing = [name for name in self.options.outputs if name not in known]
        if missing:
            raise ConversionError("it has no such outputs", where=self.where, got=", ".join(missing))
        return {name: known[name] for name in self.options.outputs}

    # Nodes

    def _node(self, graph: GraphBuilder, index: int, node: Node) -> None:
        if node.op == "null":
            self.results[index, 0] = self._variable(graph, index, node)
            return
        given = [self.results.get(key) for key in self._inputs_of(node)]
        operands = [operand for operand in given if operand is not None]
        if len(operands) < len(given):
            self.results.update({(index, i): None for i in range(10)})
            return
        folded = _fold(node, [x for x in operands if isinstance(x, Weight)]) if _is_constant(operands) else None
        if folded is not None:
            self.results[index, 0] = folded
            return
        if node.op not in RULES:
            raise Unsupported("operators of this kind are not supported")
        operands += self._auxiliary(node, len(operands))
        call = Call(graph, node.name, node.op, node.attributes, operands)
        found = RULES[node.op](call)
        _check_read(node.attributes)
        for i, tensor in enumerate(found):
            self.results[index, i] = tensor
        self.shown[found[0].value.name or ""] = node.name

    def _inputs_of(self, node: Node) -> tuple[Key, ...]:
        return node.inputs[:1] if node.op in LOSSES else node.inputs

    def _auxiliary(self, node: Node, count: int) -> list[Operand]:
        names = _AUXILIARY.get(node.op, ())
        if not names or count != 3:
            return []
        stored = [self.network.arrays.get(f"{node.name}_{name}") for name in names]
        return [Weight(f"{node.name}_{name}", _floats(array)) for name, array in zip(names, stored, strict=True)
                if array is not None]  # fmt: skip

    # Inputs

    def _variable(self, graph: GraphBuilder, index: int, node: Node) -> Operand:
        array = self.network.arrays.get(node.name)
        if array is not None:
            return Weight(node.name, _floats(array))
        shape = self._shape(index, node)
        number = node.attributes.values.get("__dtype__", "0")
        names = [next(iter(TYPES)), "float64", "float16", "uint8", "int32", "int8", "int64", "bool"]
        dtype = TYPES[names[int(number)]] if number.isdigit() and int(number) < len(names) else ir.DataType.FLOAT
        dtype = ir.DataType.FLOAT if dtype == ir.DataType.FLOAT16 else dtype
        self.inputs[node.name] = dtype
        value = graph.input(node.name, dtype, shape)
        return Tensor(value, tuple(dim if isinstance(dim, int) else None for dim in shape), dtype)

    def _shape(self, index: int, node: Node) -> list[int | str | None]:
        given = self.options.shapes.get(node.name)
        if given is not None:
            named = [self.options.batch if dim is None and i == 0 else dim for i, dim in enumerate(given)]
            return [f"{node.name}_dim_{i}" if dim is None else dim for i, dim in enumerate(named)]
        stored = Attributes(node.attributes.values).ints("__shape__") if "__shape__" in node.attributes.values else ()
        if stored and min(stored[1:], default=1) > 0:
            return [self.options.batch, *stored[1:]]
        told = self._told(index)
        if told is None:
            raise Unsupported("its shape is not known: the file does not have it; give it in shapes")
        return [self.options.batch, *told]

    def _told(self, index: int) -> list[int | str] | None:
        """What a consumer's weights tell of an input's dims after the batch."""
        for node in self.network.nodes:
            if (index, 0) not in node.inputs[:1]:
                continue
            weights = [self.network.arrays.get(self.network.nodes[source].name) for source, _ in node.inputs[1:2]]
            weight = weights[0] if weights else None
            if node.op == "Convolution" and weight is not None and weight.ndim == 4:
                return [int(weight.shape[1]) * node.attributes.int("num_group", 1), *_AXES]
            if node.op == "FullyConnected" and weight is not None and weight.ndim == 2:
                return [int(weight.shape[1])]
            if node.op in ("BatchNorm", "cast", "Cast", "_mul_scalar", "_minus_scalar", "_copy", "identity"):
                place = self.network.nodes.index(node)
                follow = self._told(place) if place > index else None
                if follow is not None:
                    return follow
        return None

    def _make_inputs(self, model: ir.Model) -> Callable[[int, np.random.Generator], Values] | None:
        """Indices for embeddings; None where numbers from a normal distribution serve."""
        nodes = self.network.nodes
        limits = {nodes[node.inputs[0][0]].name: node.attributes.int("input_dim", 1)
                  for node in nodes if node.op == "Embedding"}  # fmt: skip
        limits = {name: limit for name, limit in limits.items() if name in self.inputs}
        if not limits:
            return None
        shapes = {value.name or "": list(value.shape or ()) for value in model.graph.inputs}

        def make(batch: int, rng: np.random.Generator) -> Values:
            made = {}
            for name, dims in shapes.items():
                shape = [dim if isinstance(dim, int) else batch if i == 0 else 8 for i, dim in enumerate(dims)]
                values = rng.integers(0, limits[name], shape) if name in limits else rng.normal(0, 1, shape)
                made[name] = values.astype(self.inputs[name].numpy())
            return made

        return make

    def _oracles(self, outputs: tuple[str, ...]) -> list[Callable[[], Oracle | None]]:
        def framework() -> Oracle | None:
            from sardonyx.convert.mxnet.run import oracle

            return oracle(self.network, outputs, self.options.timeout)

        def evaluated() -> Oracle | None:
            from sardonyx.convert.mxnet.evaluate import Evaluation

            return Evaluation(self.network, outputs, self._outputs())

        return [framework, evaluated]


def _floats(array: Array) -> Array:
    """Arrays as the graph computes with them: narrow and wide floats as float32."""
    return array.astype(np.float32) if array.dtype.kind not in "iub" else array


def _is_constant(operands: list[Operand]) -> bool:
    return all(isinstance(operand, Weight) for operand in operands)


def _fold(node: Node, given: list[Weight]) -> Weight | None:
    """The result of an operator on arrays of the parameters alone, as recurrent layers are exported with."""
    p = node.attributes
    if node.op in ("_zeros", "_ones", "zeros", "ones"):
        shape = p.ints("shape")
        if 0 in shape or math.prod(shape) > _MAX_FOLDED:  # A dim that is not known yet: the batch.
            return Weight(node.name, np.zeros(1, np.float32), zeros=node.op.endswith("zeros")) if 0 in shape else None
        return Weight(node.name, np.full(shape, float(node.op.endswith("ones")), np.float32))
    if not given:
        return None
    if node.op in ("reshape", "Reshape") and p.ints("shape") == (-1,):
        return Weight(node.name, given[0].array.ravel())
    if node.op == "_rnn_param_concat":
        return Weight(node.name, np.concatenate([weight.array.ravel() for weight in given]))
    return None


_HARMLESS = ("ctx_group", "lr_mult", "wd_mult", "force_mirroring", "mirror_stage", "weight_lr_mult", "ctx", "name")


def _check_read(p: Attributes) -> None:
    """Refuse parameters that nobody read, since they may change what the operator computes."""
    unread = [name for name in p.values if name not in p.seen and name not in _HARMLESS and not name.startswith("__")]
    unread = [name for name in unread if not name.endswith(("_lr_mult", "_wd_mult"))]
    if unread:
        raise Unsupported(f"parameters that are not supported: {', '.join(sorted(unread)[:10])}")
