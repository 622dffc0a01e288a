"""What a user may ask of any converted model: another layout, pictures as they come, names, fixed sizes, an opset.

Each is done to the ONNX graph, after a reader made it, and told backwards: `Finished.to_source` makes the source's
inputs out of the finished model's, so that the comparison sees what was changed as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from sardonyx.convert.base import Array, Converted, Values
from sardonyx.errors import ConversionError

TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


@dataclass(frozen=True)
class Preprocessing:
    """How pictures become what the source takes: `(x[channels] - mean) * scale`, in this order.

    `mean` and `scale` are one number or one a channel, in the source's order of channels; `swap` reverses the
    channels (RGB to BGR) before; with `bytes_` the finished model takes uint8.
    """

    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    swap: bool = False
    bytes_: bool = False

    def __bool__(self) -> bool:
        return bool(self.mean or self.scale or self.swap or self.bytes_)


@dataclass(frozen=True)
class Finish:
    """What is asked. `inputs_as_nchw` and `outputs_as_nchw` are names, or True for all that are channels-last."""

    inputs_as_nchw: bool | Sequence[str] = False
    outputs_as_nchw: bool | Sequence[str] = False
    preprocessing: Preprocessing = Preprocessing()
    rename_inputs: Sequence[str] = ()
    rename_outputs: Sequence[str] = ()
    shapes: Mapping[str, tuple[int | str | None, ...]] = field(default_factory=dict)
    opset: int | None = None


@dataclass
class Way:
    """From a value of the finished model to the source's value called `name`, and back."""

    name: str
    forward: list[Callable[[Array], Array]] = field(default_factory=list)
    backward: list[Callable[[Array], Array]] = field(default_factory=list)


@dataclass
class Finished:
    """A finished model, and the ways from its inputs and outputs, by name, to the source's."""

    model: ir.Model
    inputs: dict[str, Way] = field(default_factory=dict)
    outputs: dict[str, Way] = field(default_factory=dict)

    def to_source(self, feeds: Values) -> dict[str, Array]:
        """The source's inputs for these of the finished model."""
        return {self.inputs[name].name: _through(self.inputs[name].forward, value) for name, value in feeds.items()}

    def from_source(self, inputs: Values) -> dict[str, Array]:
        """The finished model's inputs for those of the source (pixels rounded to bytes where it takes bytes)."""
        ways = {way.name: (name, way) for name, way in self.inputs.items()}
        found = [(ways[name], value) for name, value in inputs.items() if name in ways]
        return {name: _through(way.backward, np.asarray(value)) for (name, way), value in found}

    def results(self, outputs: Values) -> dict[str, Array]:
        """The source's outputs by the finished model's names and in its layout."""
        ways = [(name, way) for name, way in self.outputs.items() if way.name in outputs]
        return {name: _through(way.backward, np.asarray(outputs[way.name])) for name, way in ways}


def _through(steps: Sequence[Callable[[Array], Array]], value: Array) -> Array:
    for step in steps:
        value = step(value)
    return value


def finish(converted: Converted, asked: Finish, where: str) -> Finished:
    """The model with all that is asked, changed in place.

    Raises ConversionError for names that are no inputs or outputs, for layouts of values without four dims, and for
    what an older opset cannot say (all of it).
    """
    from sardonyx.model.shapes import infer_shapes

    model = infer_shapes(converted.model)
    graph = model.graph
    done = Finished(model)
    _resize(model, asked.shapes, where)
    last = converted.channels_last
    moved = _chosen(asked.inputs_as_nchw, graph.inputs, last, where)
    pictures = _pictures(graph, where) if asked.preprocessing else set()
    for value in list(graph.inputs):
        name = value.name or ""
        front = _Front(graph, value, is_last=_is_last(value) if last is None else name in last)
        if name in pictures:
            front.preprocess(asked.preprocessing)
        if name in moved:
            front.transpose()
        if front.forward:
            front.connect()
        done.inputs[name] = Way(name, front.forward, front.backward)
    moved_out = _chosen(asked.outputs_as_nchw, graph.outputs, last, where)
    for index, value in enumerate(list(graph.outputs)):
        name = value.name or ""
        done.outputs[name] = Way(name)
        if name in moved_out:
            _transpose_output(graph, index)
            done.outputs[name].backward.append(_mover(TO_NCHW))
    _rename(graph.inputs, asked.rename_inputs, done.inputs, where)
    _rename(graph.outputs, asked.rename_outputs, done.outputs, where)
    if moved or moved_out:
        done.model = model = _tidied(model)
    infer_shapes(model)
    _change_opset(model, asked.opset, where)
    return done


def _tidied(model: ir.Model) -> ir.Model:
    """Without pairs of Transposes that cancel."""
    from sardonyx.passes.pipeline import apply, select

    return apply(model, select("all", only=("eliminate-identity", "dead-code"))).model


def _mover(order: tuple[int, ...]) -> Callable[[Array], Array]:
    return lambda value: np.ascontiguousarray(value.transpose(order))


def _is_picture(value: ir.Value) -> bool:
    return value.shape is not None and len(value.shape) == 4


def _is_last(value: ir.Value) -> bool:
    """Whether the last of four dims looks like the channels of a picture, and the second does not."""
    return (
        _is_picture(value)
        and value.shape is not None
        and value.shape[3] in (1, 3, 4)
        and value.shape[1] not in (1, 3, 4)
    )


def _chosen(
    asked: bool | Sequence[str], values: Sequence[ir.Value], last: frozenset[str] | None, where: str
) -> set[str]:
    """The names to be moved."""
    if isinstance(asked, bool):
        found = {value.name or "" for value in values if _is_picture(value)} if asked else set()
        return found if last is None else found & last
    for name in asked:
        fitting = [value for value in values if value.name == name]
        if not fitting or not _is_picture(fitting[0]):
            names = ", ".join(repr(value.name) for value in values if _is_picture(value))
            raise ConversionError(
                f"{name!r} cannot be taken as NCHW", where=where, expected=f"one with four dims: {names or 'none'}"
            )
    return set(asked)


def _pictures(graph: ir.Graph, where: str) -> set[str]:
    found = {value.name or "" for value in graph.inputs if _is_picture(value)}
    if not found:
        raise ConversionError("preprocessing needs an input of four dims, and the model has none", where=where)
    return found


class _Front:
    """Nodes put before an input. They are asked for from the source's side outwards, the last one comes first."""

    def __init__(self, graph: ir.Graph, value: ir.Value, *, is_last: bool) -> None:
        self._graph, self._value, self._name = graph, value, value.name or ""
        self._axis = 3 if is_last else 1
        self._dtype = value.dtype
        self._dims = list(value.shape) if value.shape is not None else []
        self._nodes: list[tuple[str, list[ir.Value], dict[str, object]]] = []  # innermost first
        self.forward: list[Callable[[Array], Array]] = []
        self.backward: list[Callable[[Array], Array]] = []

    def preprocess(self, how: Preprocessing) -> None:
        dtype = (self._value.dtype or ir.DataType.FLOAT).numpy()
        axis = self._axis
        shift = self._spread(how.mean or (0.0,), dtype)
        factor = self._spread(how.scale or (1.0,), dtype)
        if how.scale:
            self._nodes.append(("Mul", [self._constant("scale", factor)], {}))
        if how.mean:
            self._nodes.append(("Sub", [self._constant("mean", shift)], {}))
        if how.swap:
            channels = self._dims[axis]
            if not isinstance(channels, int):
                raise ConversionError("channels cannot be swapped: their number is open", where=self._name)
            order = np.arange(channels, dtype=np.int64)[::-1].copy()
            self._nodes.append(("Gather", [self._constant("channels", order)], {"axis": axis}))
        if how.bytes_:
            self._nodes.append(("Cast", [], {"to": int(self._value.dtype or ir.DataType.FLOAT)}))
            self._dtype = ir.DataType.UINT8

        def forward(value: Array) -> Array:
            value = value.astype(dtype)
            value = np.flip(value, axis) if how.swap else value
            return ((value - shift) * factor).astype(dtype)

        def backward(value: Array) -> Array:
            value = value / factor + shift
            value = np.flip(value, axis) if how.swap else value
            return np.clip(np.rint(value), 0, 255).astype(np.uint8) if how.bytes_ else value.astype(dtype)

        self.forward.append(forward)
        self.backward.append(backward)

    def transpose(self) -> None:
        """The finished input is [N, C, H, W] where the source's is [N, H, W, C]."""
        self._nodes.append(("Transpose", [], {"perm": list(TO_NHWC)}))
        self._dims = [self._dims[axis] for axis in TO_NCHW]
        self.forward.insert(0, _mover(TO_NHWC))
        self.backward.append(_mover(TO_NCHW))

    def connect(self) -> None:
        """Put the nodes in."""
        graph, old, dtype = self._graph, self._value, self._dtype
        new = ir.Value(name=self._name, type=ir.TensorType(dtype or ir.DataType.FLOAT), shape=ir.Shape(self._dims))
        graph.inputs[list(graph.inputs).index(old)] = new
        made, current = [], new
        for op_type, constants, attributes in reversed(self._nodes):
            name = f"{self._name}/{op_type.lower()}"
            node = ir.node(op_type, [current, *constants], attributes, name=name)
            current = node.outputs[0]
            current.name = name
            made.append(node)
        old.replace_all_uses_with(current)
        graph.insert_before(graph[0], made) if len(graph) else graph.extend(made)

    def _spread(self, numbers: tuple[float, ...], dtype: np.dtype[np.generic]) -> Array:
        channels = self._dims[self._axis]
        if len(numbers) not in (1, channels):
            raise ConversionError(
                f"{len(numbers)} numbers for {channels} channels",
                where=f"input {self._name!r}",
                expected="1, or as many",
            )
        shape = [1] * 4
        shape[self._axis] = len(numbers)
        return np.asarray(numbers, dtype).reshape(shape)

    def _constant(self, tag: str, array: Array) -> ir.Value:
        value = ir.Value(name=f"{self._name}/{tag}", const_value=ir.tensor(array, name=f"{self._name}/{tag}"))
        self._graph.initializers[value.name or ""] = value
        return value


def _transpose_output(graph: ir.Graph, index: int) -> None:
    old = graph.outputs[index]
    name = old.name or ""
    node = ir.node("Transpose", [old], {"perm": list(TO_NCHW)}, name=f"{name}/nchw")
    new = node.outputs[0]
    if old.is_graph_input() or old.is_initializer():
        raise ConversionError("an output that is an input keeps its layout", where=name)
    old.name = f"{name}/nhwc"
    new.name, new.type = name, old.type
    if old.shape is not None:
        new.shape = ir.Shape([old.shape[axis] for axis in TO_NCHW])
    graph.append(node)
    graph.outputs[index] = new


def _rename(values: Sequence[ir.Value], names: Sequence[str], ways: dict[str, Way], where: str) -> None:
    if not names:
        return
    if len(names) != len(values) or len(set(names)) != len(names):
        raise ConversionError(
            "the new names do not fit",
            where=where,
            expected=f"{len(values)} different ones, for {', '.join(repr(value.name) for value in values)}",
            got=", ".join(map(repr, names)),
        )
    old = [ways.pop(value.name or "") for value in values]
    for value, name, way in zip(values, names, old, strict=True):
        value.name = name
        ways[name] = way


def _resize(model: ir.Model, shapes: Mapping[str, tuple[int | str | None, ...]], where: str) -> None:
    """Give open dims of inputs sizes or other symbols. A size that the source fixes stays."""
    for name, wanted in shapes.items():
        found = next((value for value in model.graph.inputs if value.name == name), None)
        if found is None:
            names = ", ".join(repr(value.name) for value in model.graph.inputs)
            raise ConversionError(f"there is no input {name!r}", where=where, expected=names)
        have = list(found.shape) if found.shape is not None else list(wanted)
        if len(have) != len(wanted):
            raise ConversionError(
                "the shape asked for has another number of dims", where=f"input {name!r}",
                expected=str(len(have)), got=str(len(wanted)),
            )  # fmt: skip
        dims: list[int | str | None] = []
        for axis, (before, after) in enumerate(zip(have, wanted, strict=True)):
            if isinstance(before, int) and before != after:
                raise ConversionError(
                    f"the source fixes dim {axis} at {before}", where=f"input {name!r}", got=str(after),
                    fix="change it in the source",
                )  # fmt: skip
            dims.append(after)
        found.shape = ir.Shape(dims)


def _change_opset(model: ir.Model, version: int | None, where: str) -> None:
    from sardonyx.model.opset import convert_opset

    if version is None or version == model.graph.opset_imports.get(""):
        return
    import onnx.helper

    obstacles = convert_opset(model, version)
    if obstacles:
        listed = "; ".join(f"{one.op} {one.node!r}: {one.reason}" for one in obstacles)
        raise ConversionError(f"opset {version} cannot say {listed}", where=where, fix="choose a newer --opset")
    imports = [onnx.helper.make_opsetid(domain, number) for domain, number in model.graph.opset_imports.items()]
    model.ir_version = onnx.helper.find_min_ir_version_for(imports, ignore_unknown=True)
