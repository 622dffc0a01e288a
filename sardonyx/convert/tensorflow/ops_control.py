"""Functions, conditions, loops, variables and lists of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.tensorflow.emitter import (
    Emit,
    Emitter,
    Item,
    Listed,
    Missing,
    Resource,
    Tensor,
    UnsupportedError,
    known_of,
)
from sardonyx.convert.tensorflow.graph import Endpoint, Function, Named, Node
from sardonyx.convert.tensorflow.ops_index import OPERATORS as INDEXING
from sardonyx.convert.tensorflow.tensors import D, numpy_type

Inputs = Sequence[Any]
TRIES = 6
"""Times that a loop's body is written until the dims of what it carries stay."""


def _function(node: Node, name: str = "f") -> str:
    named = node.attributes.get(name)
    if not isinstance(named, Named):
        raise UnsupportedError(f"it lacks the function {name}")
    return named.name


def _call(e: Emitter, node: Node, inputs: Inputs) -> list[Item]:
    return e.call(_function(node), inputs)


def _variable_handle(e: Emitter, node: Node, inputs: Inputs) -> Resource:
    return Resource(node.name, node)


def _variable(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    return _value(e, node.name)


def _value(e: Emitter, key: str) -> Tensor:
    if key not in e.values:
        raise UnsupportedError(f"the variable {key} has no value in the checkpoint")
    return Tensor(array=e.values[key], name=key)


def _read(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    return _value(e, _resource(inputs[0]).key)


def _resource(item: Any) -> Resource:
    if not isinstance(item, Resource):
        raise UnsupportedError("its input is no resource")
    return item


def _resource_gather(e: Emitter, node: Node, inputs: Inputs) -> Any:
    return INDEXING["Gather"](e, node, [_value(e, _resource(inputs[0]).key), inputs[1]])


def _true(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    return Tensor(array=np.array(True), name=e.name)


def _truth(e: Emitter, x: Tensor) -> ir.Value:
    """The value as one bool: of numbers, whether it is not zero."""
    if x.kind == D.STRING or (x.shape is not None and len(x.shape)):
        raise UnsupportedError("a condition of text or with dims")
    return e.cast(e.plain(x), D.BOOL)


def _if(e: Emitter, node: Node, inputs: Inputs) -> Any:
    condition, arguments = inputs[0], inputs[1:]
    names = [_function(node, "then_branch"), _function(node, "else_branch")]
    if condition.array is not None:
        return e.call(names[0] if condition.array.all() else names[1], arguments)
    graphs, results = [], []
    for name, tag in zip(names, ("then", "else"), strict=True):
        inner = e.inside(f"{e.name}/{tag}")
        found = inner.call(name, arguments)
        if any(isinstance(item, Missing) for item in found):
            return None
        values = [inner.plain(_tensor(item)) for item in found]
        graphs.append(inner.graph.graph(values))
        results.append(values)
    if not results[0]:
        return []
    outputs = e.nodes(
        "If", [_truth(e, condition)], len(results[0]), then_branch=graphs[0], else_branch=graphs[1]
    )  # fmt: skip
    for output, yes, no in zip(outputs, *results, strict=True):
        if yes.dtype != no.dtype:
            raise UnsupportedError("its branches have results of different types")
        _typed(output, yes.dtype, _common(_dims(yes), _dims(no)))
    return [e.tensor(output) for output in outputs]


def _tensor(item: Any) -> Tensor:
    if isinstance(item, Listed):
        return _stacked(item)
    if not isinstance(item, Tensor):
        raise UnsupportedError("a branch or a loop gives a resource")
    return item


def _dims(value: ir.Value) -> tuple[Any, ...] | None:
    return None if value.shape is None else tuple(d if isinstance(d, int) else d.value for d in value.shape)


def _common(a: tuple[Any, ...] | None, b: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    """What is true of two shapes."""
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(one if one == two else None for one, two in zip(a, b, strict=True))


def _typed(value: ir.Value, kind: ir.DataType | None, dims: tuple[Any, ...] | None) -> None:
    value.type = ir.TensorType(kind or D.UNDEFINED)
    value.shape = None if dims is None else ir.Shape(dims)


def _switch(e: Emitter, node: Node, inputs: Inputs) -> list[Item]:
    """The value for either branch; Merge takes the one that lives."""
    return [inputs[0], inputs[0]]


def _case(e: Emitter, node: Node, inputs: Inputs) -> Any:
    branches = node.attributes.get("branches") or []
    index = inputs[0].integer("branch index")
    chosen = branches[index] if 0 <= index < len(branches) else branches[-1]
    return e.call(chosen.name, inputs[1:])


def _constant_through(function: Function, index: int) -> bool:
    """Whether a loop's body gives its argument back as it came."""
    at = function.results[index]
    for _ in range(len(function.nodes)):
        node = function.nodes.get(at.node)
        if node is None or node.op != "Identity":
            break
        at = node.inputs[0]
    return at == Endpoint(function.arguments[index])


def _while(e: Emitter, node: Node, inputs: Inputs) -> Any:
    """A Loop whose body computes the condition for the next time. What the body only hands on stays outside."""
    names = _function(node, "cond"), _function(node, "body")
    body = e.functions.get(names[1])
    if body is None or len(body.results) != len(inputs) or len(body.arguments) != len(inputs):
        raise UnsupportedError("its body does not fit its arguments")
    carried = [i for i in range(len(inputs)) if not _constant_through(body, i)]
    state: list[Item] = list(inputs)
    condition = e.call(names[0], state)
    if any(isinstance(item, Missing) for item in condition):
        return None
    for i in carried:
        if not isinstance(state[i], Tensor | Listed):
            raise UnsupportedError("it carries a resource")
    shapes = {i: _start_shape(state[i]) for i in carried}
    for _ in range(TRIES):
        found = _body(e, names, state, carried, shapes)
        if found is None:
            return None
        graph, ends, elements = found
        if elements:
            # Lists that are filled here: now what goes into them is known.
            for i, element in elements.items():
                state[i] = _allocated(e, state[i], element)
                shapes[i] = _start_shape(state[i])
            continue
        settled = {i: _common(shapes[i], _dims(end)) for i, end in zip(carried, ends, strict=True)}
        if settled == shapes:
            return _loop(e, graph, condition[0], state, carried, shapes)
        shapes = settled
    raise UnsupportedError("the dims of what it carries do not settle")


def _start_shape(item: Item) -> tuple[Any, ...] | None:
    x = item.stacked if isinstance(item, Listed) else item
    return x.shape if isinstance(x, Tensor) else None


def _body(
    e: Emitter, names: tuple[str, str], state: Sequence[Item], carried: Sequence[int], shapes: dict[int, Any]
) -> tuple[ir.Graph, list[ir.Value], dict[int, Any]] | None:
    """The body's graph, what it carries on, and elements of lists that have no place yet."""
    inner = e.inside(f"{e.name}/body")
    inner.graph.input(f"{e.name}/iteration", D.INT64, [])
    inner.graph.input(f"{e.name}/going", D.BOOL, [])
    arguments: list[Item] = list(state)
    for i in carried:
        arguments[i] = _carried(inner, state[i], i, shapes[i])
    results = inner.call(names[1], arguments)
    if any(isinstance(results[i], Missing) for i in carried):
        return None
    elements = {
        i: end.element
        for i in carried
        if isinstance(end := results[i], Listed) and end.stacked is None and end.element is not None
    }
    if elements:
        return inner.graph.graph([]), [], elements
    after: list[Item] = [results[i] if i in set(carried) else state[i] for i in range(len(state))]
    going = inner.call(names[0], after)
    if not going or isinstance(going[0], Missing):
        return None
    ends = [inner.plain(_tensor(after[i])) for i in carried]
    for i, value in zip(carried, ends, strict=True):
        kind = _tensor_kind(state[i])
        if value.dtype != kind:
            raise UnsupportedError(f"it carries {kind.name} in and {value.dtype} out")
    return inner.graph.graph([_truth(inner, _tensor(going[0])), *ends]), ends, {}


def _tensor_kind(item: Item) -> ir.DataType:
    return item.kind if isinstance(item, Tensor | Listed) else D.UNDEFINED


def _carried(inner: Emitter, item: Item, index: int, shape: Any) -> Item:
    if isinstance(item, Listed) and item.stacked is None:
        return item
    value = inner.graph.input(f"{inner.name}/carried_{index}", _tensor_kind(item), shape or [])
    if shape is None:
        value.shape = None
    x = Tensor(value, name=value.name or "")
    return replace(item, stacked=x) if isinstance(item, Listed) else x


def _loop(
    e: Emitter, graph: ir.Graph, condition: Item, state: Sequence[Item], carried: Sequence[int], shapes: dict[int, Any]
) -> list[Item]:
    starts = [e.plain(_tensor(state[i])) for i in carried]
    outputs = e.nodes("Loop", [None, _truth(e, _tensor(condition)), *starts], len(carried), body=graph)
    results = list(state)
    for i, output in zip(carried, outputs, strict=True):
        _typed(output, _tensor_kind(state[i]), shapes[i])
        item, x = state[i], e.tensor(output)
        results[i] = replace(item, stacked=x) if isinstance(item, Listed) else x
    return results


# Lists of tensors ----------------------------------------------------------------------------------------------------


def _stacked(item: Any) -> Tensor:
    if not isinstance(item, Listed):
        raise UnsupportedError("its input is no list of tensors")
    if item.stacked is None:
        raise UnsupportedError("the dims of a list's elements are not known")
    return item.stacked


def _known_element(x: Tensor) -> tuple[Any, ...] | None:
    """An element's dims from the tensor that tells them; None for an unknown rank."""
    known = known_of(x)
    if known is None or known.ndim != 1:
        return None
    return tuple(None if dim == -1 else dim for dim in known)


def _list_from_tensor(e: Emitter, node: Node, inputs: Inputs) -> Listed:
    x = inputs[0]
    return Listed(x, _count(e, x), x.kind)


def _count(e: Emitter, x: Tensor) -> Tensor:
    first = x.shape[0] if x.shape else None
    if isinstance(first, int):
        return Tensor(array=np.array(first, np.int32), name=e.name)
    dim = e.node("Shape", [e.plain(x)], tag="count", start=0, end=1)
    known = np.empty((), object)
    known[()] = first
    return replace(e.tensor(e.cast(e.squeeze(dim, [0]), D.INT32)), known=known)


def _list_reserve(e: Emitter, node: Node, inputs: Inputs) -> Listed:
    empty = Listed(None, inputs[1], node.kind("element_dtype"))
    element = _known_element(inputs[0])
    if element is None or not all(isinstance(dim, int) for dim in element):
        return empty
    return _allocated(e, empty, element)


def _allocated(e: Emitter, item: Item, element: Sequence[Any]) -> Listed:
    """The list with zeros for elements of these dims."""
    if not isinstance(item, Listed):
        raise UnsupportedError("a list that is none")
    sizes: list[ir.Value] = [e.vector(item.count)]
    for dim in element:
        sizes.append(e.constant([dim], np.int64, tag="dim") if isinstance(dim, int) else _symbol(e, dim))
    shape = e.node("Concat", sizes, tag="shape", axis=0)
    zeros = e.node("Expand", [e.constant(0, numpy_type(item.kind), tag="zero"), shape], tag="zeros")
    known = known_of(item.count)
    first = None if known is None else known.item()
    zeros.shape = ir.Shape([first, *element])
    return replace(item, stacked=e.tensor(zeros))


def _symbol(e: Emitter, dim: Any) -> ir.Value:
    """A dim that is open, read off an input of the model that has it."""
    if dim not in e.symbols:
        raise UnsupportedError("the dims of a list's elements are not known")
    value, axis = e.symbols[dim]
    return e.node("Shape", [value], tag="dim", start=axis, end=axis + 1)


def _list_empty(e: Emitter, node: Node, inputs: Inputs) -> Listed:
    return Listed(None, Tensor(array=np.array(0, np.int32), name=e.name), node.kind("element_dtype"))


def _list_set(e: Emitter, node: Node, inputs: Inputs) -> Listed:
    items, index, x = inputs
    if not isinstance(items, Listed):
        raise UnsupportedError("its input is no list of tensors")
    if items.stacked is None:
        if x.shape is None:
            raise UnsupportedError("the dims of a list's elements are not known")
        return replace(items, element=x.shape)
    stacked = _stacked(items)
    place = e.reshape(e.int64(index), [1, 1])
    row = e.unsqueeze(e.plain(x), [0])
    value = e.node("ScatterND", [e.plain(stacked), place, row])
    return replace(items, stacked=e.tensor(value))


def _list_get(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    return e.tensor(e.node("Gather", [e.plain(_stacked(inputs[0])), e.int64(inputs[1])], axis=0))


def _list_push(e: Emitter, node: Node, inputs: Inputs) -> Listed:
    items, x = inputs
    if not isinstance(items, Listed):
        raise UnsupportedError("its input is no list of tensors")
    row = e.unsqueeze(e.plain(x), [0])
    if items.stacked is not None:
        row = e.node("Concat", [e.plain(items.stacked), row], axis=0)
    result = e.tensor(row)
    return Listed(result, _count(e, result), items.kind)


def _list_stack(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    return _stacked(inputs[0])


def _list_length(e: Emitter, node: Node, inputs: Inputs) -> Tensor:
    item = inputs[0]
    if not isinstance(item, Listed):
        raise UnsupportedError("its input is no list of tensors")
    return item.count


OPERATORS: dict[str, Emit] = {
    "PartitionedCall": _call,
    "StatefulPartitionedCall": _call,
    "If": _if,
    "StatelessIf": _if,
    "Switch": _switch,
    "RefSwitch": _switch,
    "Case": _case,
    "StatelessCase": _case,
    "While": _while,
    "StatelessWhile": _while,
    "VarHandleOp": _variable_handle,
    "VariableV2": _variable,
    "Variable": _variable,
    "ReadVariableOp": _read,
    "ResourceGather": _resource_gather,
    "VarIsInitializedOp": _true,
    "TensorListFromTensor": _list_from_tensor,
    "TensorListReserve": _list_reserve,
    "EmptyTensorList": _list_empty,
    "TensorListSetItem": _list_set,
    "TensorListGetItem": _list_get,
    "TensorListPushBack": _list_push,
    "TensorListStack": _list_stack,
    "TensorListLength": _list_length,
}
