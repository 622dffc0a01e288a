"""From MXNet's nodes to a model, and what the result is compared with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx_ir as ir

from sardonyx.convert.base import Converted, Options, Oracle, Source, Values
from sardonyx.convert.graph import GraphBuilder
from sardonyx.convert.mxnet import elementwise, networks, shapes
from sardonyx.convert.mxnet.call import Call, Operand, Weight, type_of
from sardonyx.convert.mxnet.files import Attributes, Network, Node, open_network
from sardonyx.convert.shaped import Array, Problems, Tensor, Unsupported, finish
from sardonyx.errors import ConversionError

RULES = {**elementwise.RULES, **shapes.RULES, **networks.RULES}

LOSSES = ("IdentityAttachKLSparseReg", "LinearRegressionOutput", "LogisticRegressionOutput", "MAERegressionOutput",
          "SVMOutput", "Softmax", "SoftmaxOutput")  # fmt: skip
"""Operators whose second input are labels."""
_RESULTS = {"RNN": ("output", "state_output", "statecell_output"), "make_loss": ("loss",)}
"""Names of results that have some of their own; else they are numbered where there are several."""
_OLD = ("before 0.9", *(f"0.9.{patch}" for patch in range(5)))
_AXES = ("depth", "height", "width")
_AUXILIARY = {"BatchNorm": ("moving_mean", "moving_var"), "BatchNorm_v1": ("moving_mean", "moving_var")}
"""Arrays that networks of before 0.9 do not list among an operator's inputs."""
_PASSING = {"BatchNorm", "BlockGrad", "Cast", "Dropout", "_copy", "_div_scalar", "_minus_scalar", "_mul_scalar",
            "_plus_scalar", "cast", "identity"}  # fmt: skip
"""What leaves an input's shape as it is, between it and the first layer with weights."""
_MOVING = {"RNN", "Reshape", "SliceChannel", "SwapAxis", "broadcast_like", "dot", "expand_dims", "repeat", "reshape",
           "reshape_like", "split", "squeeze", "stack", "swapaxes", "tile", "transpose"}  # fmt: skip
"""What can put another dim in the place of the batch."""
_MAX_FOLDED = 2**28

Key = tuple[int, int]


def read(source: Source, options: Options) -> Converted:
    """The network of `source` and its partner as ONNX."""
    network = open_network(source, options)
    try:
        return _Conversion(network, options, source.where).run()
    except Unsupported as error:  # of what all depends on, such as the number of a node's results
        raise ConversionError("the network cannot be converted", where=source.where, got=str(error)) from None


def outputs_of(node: Node, index: int, count: int) -> str:
    """What MXNet calls a result: `softmax_output`, `split_output1`."""
    if node.op == "null":
        return node.name
    if node.op in _RESULTS:
        return f"{node.name}_{_RESULTS[node.op][index]}"
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
    results: dict[Key, Operand] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    batched: bool = True
    """Whether all inputs' first dim is the batch."""
    shown: list[tuple[ir.Value, str]] = field(default_factory=list)
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
                self.failed.add(index)
                what = f"{node.name!r} ({node.op})" if node.op != "null" else f"the input {node.name!r}"
                self.problems.add(what, error)
        self.problems.check()
        outputs = self._outputs()
        made: list[tuple[str, Tensor]] = []
        for name, key in outputs.items():
            found = self.results.get(key)
            if not isinstance(found, Tensor):
                raise ConversionError("it has no such output", where=self.where, got=name)
            made.append((name, found))
        # Elsewhere the first dim of a result may be another open one than the batch.
        batched = self.batched and not any(nodes[index].op in _MOVING for index in wanted)
        model = finish(graph, made, batch=self.options.batch, batched=batched)
        values = {value.name for node in model.graph for value in node.outputs}
        half = self._half()
        return Converted(
            model, f"MXNet {self.network.version}", oracles=self._oracles(tuple(outputs)),
            layers={value.name or "": name for value, name in self.shown if value.name in values},
            make_inputs=self._make_inputs(model), tolerance=1e-2 if half else None,
            notes=["it computes in float16; the result in float32"] if half else [],
        )  # fmt: skip

    def _half(self) -> bool:
        """Whether MXNet computes any of it in float16."""
        told = any("float16" in (node.attributes.values.get("dtype"), node.attributes.values.get("out_dtype"))
                   or node.attributes.values.get("__dtype__") == "2" for node in self.network.nodes)  # fmt: skip
        return told or any(array.dtype == np.float16 for array in self.network.arrays.values())

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
            found: dict[str, Key] = {}
            for i, j in self.network.heads:
                count = result_count(nodes[i])
                name = outputs_of(nodes[i], j, count) if 0 <= j < count else ""
                if not name or found.setdefault(name, (i, j)) != (i, j):
                    raise ConversionError("its outputs are not supported: one is internal, or two have one name",
                                          where=self.where, got=f"result {j} of {nodes[i].name}")  # fmt: skip
            return found
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
        keys = self._inputs_of(node)
        if any(source in self.failed for source, _ in keys):
            self.failed.add(index)
            return
        operands = [self._operand(key) for key in keys]
        folded = _fold(node, [x for x in operands if isinstance(x, Weight)]) if _is_constant(operands) else None
        if folded is not None:
            self.results[index, 0] = folded
            return
        if node.op not in RULES:
            raise Unsupported("operators of this kind are not supported")
        if node.op in ("argmax", "argmin") and node.attributes.text("axis") == "-1" and self.network.version in _OLD:
            raise Unsupported(f"an axis of -1 meant all of them before MXNet 0.9.5, and this is {self.network.version}")
        operands += self._auxiliary(node, len(operands))
        if node.op in networks.RULES:
            _check_floats(operands)
        call = Call(graph, node.name, node.op, node.attributes, operands)
        found = RULES[node.op](call)
        _check_read(node.attributes)
        for i, tensor in enumerate(found):
            self.results[index, i] = tensor
        self.shown.append((found[0].value, node.name))

    def _operand(self, key: Key) -> Operand:
        if key not in self.results:
            raise Unsupported(
                f"it takes the result {key[1]} of {self.network.nodes[key[0]].name!r}, which is not known"
            )
        return self.results[key]

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
        dtype = type_of(node.attributes.values.get("__dtype__", "0"))
        self.inputs[node.name] = dtype
        self.batched &= shape[:1] == [self.options.batch]
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

    @cached_property
    def _consumers(self) -> dict[int, list[int]]:
        """By node those that take its first result as their first input."""
        found: dict[int, list[int]] = {}
        for place, node in enumerate(self.network.nodes):
            if node.inputs and node.inputs[0][1] == 0:
                found.setdefault(node.inputs[0][0], []).append(place)
        return found

    def _told(self, index: int) -> list[int | str] | None:
        """What the weights of a consumer, or of what follows it, tell of an input's dims after the batch."""
        todo, seen = [index], {index}
        while todo:
            for place in self._consumers.get(todo.pop(0), ()):
                node = self.network.nodes[place]
                weight = (
                    self.network.arrays.get(self.network.nodes[node.inputs[1][0]].name) if node.inputs[1:] else None
                )
                if weight is not None and node.op in ("Convolution", "Convolution_v1") and 3 <= weight.ndim <= 5:
                    return [weight.shape[1] * node.attributes.int("num_group", 1), *_AXES[-(weight.ndim - 2) :]]
                flat = node.attributes.bool("flatten", True)
                if weight is not None and node.op == "FullyConnected" and weight.ndim == 2 and flat:
                    return [weight.shape[1]]
                if node.op in _PASSING and place not in seen:
                    seen.add(place)
                    todo.append(place)
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
    if node.op in ("_ones", "_zeros", "ones", "zeros"):
        shape, number = p.ints("shape"), float(node.op.endswith("ones"))
        if any(dim < 0 for dim in shape) or math.prod(shape) > _MAX_FOLDED or (0 in shape and number):
            raise Unsupported(f"its shape is {list(shape)[:20]}")
        if 0 in shape:  # A dim that is not known yet: the batch.
            return Weight(node.name, np.zeros(1, np.float32), zeros=True)
        return Weight(node.name, np.full(shape, number, np.float32))
    if not given:
        return None
    if node.op in ("reshape", "Reshape") and p.ints("shape") == (-1,):
        return Weight(node.name, given[0].array.ravel())
    if node.op == "_rnn_param_concat":
        return Weight(node.name, np.concatenate([weight.array.ravel() for weight in given]))
    return None


def _check_floats(operands: list[Operand]) -> None:
    """Layers compute with floats."""
    for operand in operands:
        found = operand.dtype.name if isinstance(operand, Tensor) else operand.array.dtype.name.upper()
        if found not in ("FLOAT", "FLOAT32"):
            raise Unsupported(f"it computes with {found}")


_HARMLESS = ("ctx_group", "lr_mult", "wd_mult", "force_mirroring", "mirror_stage", "weight_lr_mult", "ctx", "name")


def _check_read(p: Attributes) -> None:
    """Refuse parameters that nobody read, since they may change what the operator computes."""
    unread = [name for name in p.values if name not in p.seen and name not in _HARMLESS and not name.startswith("__")]
    unread = [name for name in unread if not name.endswith(("_lr_mult", "_wd_mult"))]
    if unread:
        raise Unsupported(f"parameters that are not supported: {', '.join(sorted(unread)[:10])}")
