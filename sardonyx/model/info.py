"""What a model is: inputs, outputs, operators, parameters and the work of one run."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from sardonyx.errors import InvalidInputError, InvalidModelError, UnsupportedOperatorError
from sardonyx.model import macs
from sardonyx.model.check import check
from sardonyx.model.foreign import expand, foreign_nodes
from sardonyx.model.shapes import infer_proto, tensor_spec
from sardonyx.model.sized import sized_shapes
from sardonyx.model.tensors import payload_size
from sardonyx.model.types import Dims, dims_of, summands

# Constants of these types are shapes, axes, masks and keys rather than weights.
_NOT_PARAMETERS = frozenset({ir.DataType.INT64, ir.DataType.BOOL, ir.DataType.STRING})


@dataclass(frozen=True)
class ValueInfo:
    """A graph input or output: `type` as in `tensor(float)`, `dtype` as NumPy names it (None: no tensor)."""

    name: str
    type: str
    dtype: str | None
    dims: Dims | None


@dataclass(frozen=True)
class ModelInfo:
    """Facts about a model; `dataclasses.asdict` gives what JSON can hold.

    `operators` counts the nodes of the graph and its subgraphs, most frequent first, as `Conv` or
    `domain::Name`. `parameters` counts the elements of constants that are weights; `size_bytes` are the bytes
    of all constants. `macs` are the multiply-accumulates of one run, in all and by operator; None where a
    shape or the number of runs (of a loop's body, say) is unknown, and then `uncounted` says where. `assumed`
    are sizes that were put in place of open dimensions nobody gave a size for.
    """

    name: str
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    ir_version: int
    opsets: dict[str, int]
    producer: str
    operators: dict[str, int]
    functions: int
    parameters: int
    size_bytes: int
    macs: int | None
    macs_by_operator: dict[str, int | None]
    uncounted: tuple[str, ...]
    assumed: dict[str, int]


def describe(model: ir.Model, dims: Mapping[str, int] | None = None) -> ModelInfo:
    """The facts of a model, which is not changed and whose large weights are not touched.

    `dims` gives sizes to open dimensions, for `macs`: by symbol, or as `input[axis]` where there is none. A
    leading dimension of an input that is left open is taken as a batch of 1 and told in `assumed`; others
    stay open.

    Raises:
        InvalidInputError: a size for a dimension that no input leaves open, or below 1.
    """
    given = dict(dims or {})
    fed = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    _check_sizes(fed, given)
    given = _sums(fed, given)
    assumed = _assumed(fed, given)
    total, by_operator, uncounted = _macs(model, _sums(fed, given | assumed))
    tensors = list(_constants(model))
    weights = [tensor for tensor in tensors if tensor.dtype not in _NOT_PARAMETERS]
    return ModelInfo(
        name=model.graph.name or "",
        inputs=tuple(map(_value_info, fed)),
        outputs=tuple(map(_value_info, model.graph.outputs)),
        ir_version=model.ir_version,
        opsets=dict(model.opset_imports),
        producer=" ".join(filter(None, (model.producer_name, model.producer_version))),
        operators=dict(Counter(map(_operator, model.graph.all_nodes())).most_common()),
        functions=len(model.functions),
        parameters=sum(tensor.size for tensor in weights),
        size_bytes=sum(map(_nbytes, tensors)),
        macs=total,
        macs_by_operator=by_operator,
        uncounted=uncounted,
        assumed=assumed,
    )


def _open_dims(value: ir.Value) -> dict[str, int]:
    """Open dimensions by name, with their axis."""
    dims = enumerate(dims_of(value.shape) or ())
    return {dim or f"{value.name}[{axis}]": axis for axis, dim in dims if not isinstance(dim, int)}


def _check_sizes(inputs: list[ir.Value], given: Mapping[str, int]) -> None:
    names = {name for value in inputs for name in _open_dims(value)}
    for name, size in given.items():
        if name not in names:
            known = ", ".join(sorted(names)) or "none: all are fixed"
            raise InvalidInputError(f"no input has an open dimension {name!r}", expected=known)
        if size < 1:
            raise InvalidInputError(f"bad size of dimension {name!r}", expected="at least 1", got=f"{size}")


def _sums(inputs: list[ir.Value], sizes: Mapping[str, int]) -> dict[str, int]:
    """`sizes` with those of dimensions that are named as a sum of known ones, such as `past + sequence`."""
    found = dict(sizes)
    for name in (name for value in inputs for name in _open_dims(value)):
        parts = [int(part) if part.isdecimal() else sizes.get(part) for part in summands(name)]
        if name not in sizes and None not in parts:
            found[name] = sum(part for part in parts if part is not None)
    return found


def _assumed(inputs: list[ir.Value], given: Mapping[str, int]) -> dict[str, int]:
    leading = (name for value in inputs for name, axis in _open_dims(value).items() if axis == 0)
    return {name: 1 for name in leading if name not in given}


def _macs(model: ir.Model, sizes: Mapping[str, int]) -> tuple[int | None, dict[str, int | None], tuple[str, ...]]:
    """Multiply-accumulates in all and by operator, and the nodes whose count is unknown."""
    if model.functions:
        if any(found.severity == "error" for found in check(model)):
            return None, {}, ("the model is not valid",)
        model = _inlined(model)
    model = _expanded(model)
    shapes = _shapes(model, sizes)
    by_operator: dict[str, int | None] = {}
    uncounted = []
    for node in filter(macs.is_counted, model.graph.all_nodes()):
        in_body = node.graph is not model.graph
        work = None if in_body else macs.count(node, lambda value: shapes.get(value.name or ""))
        if work is None:
            reason = "in a body that runs an unknown number of times" if in_body else "a shape is unknown"
            uncounted.append(f"{node.op_type} {node.name or (node.outputs[0].name)!r}: {reason}")
        before = by_operator.get(node.op_type, 0)
        by_operator[node.op_type] = None if work is None or before is None else before + work
    known = [work for work in by_operator.values() if work is not None]
    return (None if uncounted else sum(known)), by_operator, tuple(uncounted)


def _inlined(model: ir.Model) -> ir.Model:
    from onnx_ir.passes.common import InlinePass

    return InlinePass()(model.clone()).model


def _expanded(model: ir.Model) -> ir.Model:
    """The model by operators whose work can be counted; itself where one of them cannot be expanded."""
    if not foreign_nodes(model):
        return model
    try:
        return expand(model.clone())
    except (InvalidModelError, UnsupportedOperatorError):
        return model


def _shapes(model: ir.Model, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """All shapes of the main graph that are numbers once `sizes` are put in."""
    shapes = {
        name: tuple(value.const_value.shape.numpy())
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }
    try:
        return shapes | sized_shapes(infer_proto(model, sizes))
    except InvalidModelError:  # broken models have no shapes; `check` says what is broken
        return shapes


def _constants(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """Initializers of the graph and its subgraphs, and what Constant nodes hold, in functions as well."""
    functions = model.functions.values()
    for graph in (*model.graphs(), *(body for function in functions for body in function.subgraphs())):
        values = graph.initializers.values()
        yield from (value.const_value for value in values if value.const_value is not None)
    for node in itertools.chain(model.graph.all_nodes(), *(function.all_nodes() for function in functions)):
        if node.op_type == "Constant" and node.domain == "":
            yield from (entry.as_tensor() for entry in node.attributes.values() if _is_tensor(entry))


def _is_tensor(attribute: ir.Attr) -> bool:
    return attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref()


def _nbytes(tensor: ir.TensorProtocol) -> int:
    return tensor.nbytes if tensor.dtype == ir.DataType.STRING else payload_size(tensor)


def _operator(node: ir.Node) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def _value_info(value: ir.Value) -> ValueInfo:
    spec = tensor_spec(value)
    return ValueInfo(spec.name, spec.type, None if spec.dtype is None else spec.dtype.name, spec.dims)
