"""Shape arithmetic under symbolic dims: what can be said once for all sizes is.

Exporters compute the target of a Reshape out of Shape, Gather and Concat. Where each element is a number, a dim of what
is reshaped, or the only one that is neither, a constant target says the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from sardonyx.model.shapes import infer_shapes
from sardonyx.passes.base import Miss, Pass, Rewrite
from sardonyx.passes.query import ONNX, constant, new_constant, permutation, replaceable, walk
from sardonyx.passes.symbolic import Contents, Dim, Dims, as_array, dims_of, product, reshaped, shape_of, target_of

_TURNS = 3  # each lets inference carry what the one before has found to the next Reshape
_SAME_ELEMENTS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten"})
_LIKE_FIRST = frozenset({"RotaryEmbedding", "LayerNormalization", "RMSNormalization", "Gelu", "Swish", "Mish"})
_ENDLESS = 2**31 - 1  # ends from here on mean all that there is


def _rewrites(model: ir.Model) -> Iterator[Rewrite | Miss]:
    if model.graph.opset_imports.get(ONNX, 1) < 5:
        return  # targets are attributes
    for _ in range(_TURNS):
        contents, learned = Contents(), False
        misses: list[Miss] = []
        for node in walk(model):
            if node.domain != ONNX:
                continue
            learned |= _learn(node, contents)
            found = _simplified(node, contents)
            if isinstance(found, Rewrite):
                learned = True
                yield found
            elif found is not None:
                misses.append(found)
        if not learned or not _open_questions(model):
            yield from misses
            return
        _infer(model)


def _open_questions(model: ir.Model) -> bool:
    """Whether inference could tell more: there are values of unknown dims."""
    outputs = (value for node in walk(model) for value in node.outputs)
    return any(value.shape is None or any(map(_vague, value.shape)) for value in outputs if value.name)


def _infer(model: ir.Model) -> None:
    """Shape inference that leaves what the graph declares of its outputs."""
    declared = [(value, value.type, value.shape) for graph in model.graphs() for value in graph.outputs]
    _forget_vague(model)
    infer_shapes(model)
    for value, kind, shape in declared:
        value.type, value.shape = kind, shape


def _forget_vague(model: ir.Model) -> None:
    """Let inference name open dims anew: it keeps what is declared, a name of its own too."""
    for node in walk(model):
        for value in node.outputs:
            if value.shape is not None and not value.is_graph_output() and any(map(_vague, value.shape)):
                value.shape = ir.Shape([None if _vague(size) else size for size in value.shape])


def _learn(node: ir.Node, contents: Contents) -> bool:
    """Write down the dims of a result that inference could not tell; whether there was something new."""
    dims = _result(node, contents)
    if dims is None or not node.outputs:
        return False
    output = node.outputs[0]
    known = shape_of(dims, output.shape)
    news = output.shape is None or any(
        _vague(old) and not _vague(new) for old, new in zip(output.shape, known, strict=True)
    )
    if not news or output.is_graph_output():
        return False
    output.shape = known
    return True


def _vague(size: int | ir.SymbolicDim) -> bool:
    """An open dim that nobody named: what inference calls unk__0."""
    return not isinstance(size, int) and (not size.value or str(size.value).startswith("unk__"))


def _result(node: ir.Node, contents: Contents) -> Dims | None:
    """The dims of Reshape and Expand, and of operators that an older opset's inference does not know."""
    if node.op_type == "Attention" and node.version is not None:
        q, v = dims_of(node.inputs[0]), dims_of(node.inputs[2])
        return (*q[:-1], v[-1]) if q and v else None
    if node.op_type in _LIKE_FIRST and node.version is not None:
        return dims_of(node.inputs[0])
    if node.op_type not in {"Reshape", "Expand"} or len(node.inputs) < 2:
        return None
    source, target = dims_of(node.inputs[0]), contents.of(node.inputs[1])
    if source is None or target is None:
        return None
    if node.op_type == "Reshape":
        return reshaped(source, target, allowzero=bool(node.attributes.get_int("allowzero", 0)))
    return _expanded(source, target)


def _expanded(source: Dims, target: Dims) -> Dims | None:
    """Both broadcast; None where it is open which of two is larger."""
    rank = max(len(source), len(target))
    result = []
    for axis in range(-rank, 0):
        have = source[axis] if -axis <= len(source) else None
        want = target[axis] if -axis <= len(target) else None
        if have is None or have.number == 1:
            dim = want if want is not None else have
        elif want is None or want.number == 1 or want == have or have.number is not None:
            dim = have
        else:
            return None
        if dim is None or not dim.is_size:
            return None
        result.append(dim)
    return tuple(result)


def _simplified(node: ir.Node, contents: Contents) -> Rewrite | Miss | None:
    rule = {"Reshape": _reshape, "Expand": _expand, "Slice": _slice}.get(node.op_type)
    found = rule(node, contents) if rule is not None else None
    return found if found is not None else _number(node, contents)


def _number(node: ir.Node, contents: Contents) -> Rewrite | None:
    """Shape arithmetic that comes to numbers, though it starts from a shape with open dims."""
    if node.op_type in {"Shape", "Identity"} or len(node.outputs) != 1 or node.outputs[0].is_graph_output():
        return None
    output = node.outputs[0]
    array = as_array(contents.of(output), output)
    if array is None:
        return None
    value = new_constant(output.name or "", array)
    return Rewrite(node, "is known whatever the open dims are", {output: value}, constants=[value], remove=[node])


def _gone(node: ir.Node, source: ir.Value | None, what: str) -> Rewrite | None:
    if source is None or not replaceable(node.outputs[0], source):
        return None
    return Rewrite(node, what, {node.outputs[0]: source}, remove=[node])


def _reshape(node: ir.Node, contents: Contents) -> Rewrite | Miss | None:
    if len(node.inputs) < 2 or node.inputs[0] is None:
        return None
    result, known = _result(node, contents), constant(node.inputs[1]) is not None
    if result is None:
        return None if known else Miss(node, "its target is not made of known dims")
    if result == dims_of(node.inputs[0]):
        return _gone(node, node.inputs[0], "reshapes to the shape it has")
    return _turned(node, result) or _with_target(node, result, known=known)


def _with_target(node: ir.Node, result: Dims, *, known: bool) -> Rewrite | Miss | None:
    """A Reshape with a constant target, of what was there before all others that only reshape."""
    source = _source(node)
    dims = dims_of(source)
    if dims is None or (known and source is node.inputs[0]):
        return None
    target = target_of(dims, result)
    if target is None:
        return None if known else Miss(node, "more than one dim of its target is neither a number nor in its place")
    shape = new_constant(f"{node.outputs[0].name}_shape", np.array(target, np.int64))
    anew = ir.node("Reshape", [source, shape], name=node.name)
    what = "has a target that is known" if source is node.inputs[0] else "takes in the ones before it"
    replaced = {node.outputs[0]: anew.outputs[0]}
    return Rewrite(node, what, replaced, insert=[anew], constants=[shape], remove=[node])


def _source(node: ir.Node) -> ir.Value | None:
    """What goes into the first of the nodes that only reshape, one after the other."""
    source = node.inputs[0]
    while source is not None:
        before = source.producer()
        if before is None or before.op_type not in _SAME_ELEMENTS or before.domain != ONNX:
            break
        if before.graph is not node.graph or before.inputs[0] is None:
            break
        source = before.inputs[0]
    return source


def _turned(node: ir.Node, result: Dims) -> Rewrite | None:
    """Reshape, Transpose, Reshape as one Reshape and one Transpose, where the last only splits axes.

    It may as well split them before they are exchanged, and then the two Reshapes are one.
    """
    transpose = node.inputs[0].producer() if node.inputs[0] is not None else None
    if transpose is None or (transpose.op_type, transpose.domain) != ("Transpose", ONNX):
        return None
    inner, source = dims_of(transpose.inputs[0]), _source(transpose)
    before = dims_of(source)
    perm = permutation(transpose, len(inner)) if inner is not None else None
    if inner is None or before is None or perm is None or source is transpose.inputs[0]:
        return None
    groups = _split([inner[axis] for axis in perm], result)
    if groups is None:
        return None
    # `groups` holds axes of the result for each axis of the Transpose's; here they are in the order before it.
    order = [axis for place in np.argsort(perm) for axis in groups[place]]
    split = tuple(result[axis] for axis in order)
    target = target_of(before, split)
    if target is None:
        return None
    insert, constants, value = [], [], source
    if split != before:
        constants.append(new_constant(f"{node.outputs[0].name}_shape", np.array(target, np.int64)))
        insert.append(ir.node("Reshape", [source, constants[0]]))
        value = insert[0].outputs[0]
        value.type, value.shape = node.outputs[0].type, shape_of(split, None)
    insert.append(ir.node("Transpose", [value], {"perm": [int(axis) for axis in np.argsort(order)]}, name=node.name))
    replaced = {node.outputs[0]: insert[-1].outputs[0]}
    return Rewrite(node, "splits axes that may be split before", replaced, insert, constants, remove=[node])


def _split(dims: Sequence[Dim], result: Dims) -> list[list[int]] | None:
    """Which axes of the result each dim is split into, in order; None when one is not."""
    groups: list[list[int]] = []
    axis = 0
    for dim in dims:
        groups.append([])
        while axis < len(result) and (not groups[-1] or product([result[a] for a in groups[-1]]) != dim):
            groups[-1].append(axis)
            axis += 1
        if not groups[-1] or product([result[a] for a in groups[-1]]) != dim:
            return None
    return groups if axis == len(result) else None


def _expand(node: ir.Node, contents: Contents) -> Rewrite | None:
    result = _result(node, contents)
    return (
        _gone(node, node.inputs[0], "has the shape already") if result == dims_of(node.inputs[0]) and result else None
    )


def _slice(node: ir.Node, contents: Contents) -> Rewrite | None:
    """From 0 to the end or behind it, in steps of 1, on every axis it names."""
    dims = dims_of(node.inputs[0])
    if dims is None or len(node.inputs) < 3:
        return None
    starts, ends, axes, steps = [*(contents.of(value) for value in node.inputs[1:]), None, None][:4]
    unknown = any(value is not None and contents.of(value) is None for value in node.inputs[1:])
    if unknown or starts is None or ends is None or len(starts) != len(ends):
        return None
    places = [axis.number for axis in axes] if axes is not None else list(range(len(starts)))
    plain = all(start.number == 0 for start in starts) and all(step.number == 1 for step in steps or ())
    if not plain or len(places) != len(ends):
        return None
    whole = all(_reaches(end, dims, place) for end, place in zip(ends, places, strict=True))
    return _gone(node, node.inputs[0], "takes all that there is") if whole else None


def _reaches(end: Dim, dims: Dims, axis: int | None) -> bool:
    if axis is None or not -len(dims) <= axis < len(dims):
        return False
    size = dims[axis]
    return end == size or (end.number is not None and end.number >= (_ENDLESS if size.number is None else size.number))


SIMPLIFY_SHAPES = Pass(
    name="simplify-shapes",
    gain="A constant target needs no arithmetic at run time, and tells passes and compilers how shapes are related.",
    placed="After constants are folded, identities gone and duplicates merged; before patterns that ask for dims.",
    exact=True,
    rewrites=_rewrites,
)
