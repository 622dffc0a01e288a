"""What nodes give where ONNX's own inference says nothing: rules by operator, the user's operators among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from sardonyx.model.types import Dims, dims_of


@dataclass(frozen=True)
class Result:
    """Element type and dims of a tensor: a symbol's name where a dim is open, None if it has none; None if even the
    rank is not known.
    """

    dtype: ir.DataType
    dims: Dims | None


Rule = Callable[[ir.Node, Sequence[Result | None]], Sequence[Result | None]]
"""(node, what is known of its inputs) -> what it gives, as far as that can be told."""

_FLOAT, _INT64 = ir.DataType.FLOAT, ir.DataType.INT64
_ML, _MICROSOFT = "ai.onnx.ml", "com.microsoft"


def fill(graph: ir.Graph) -> bool:
    """Set types and shapes that a rule can tell and nothing else has told, in place; whether there were any."""
    found = False
    for node in graph:
        rule = rule_of(node)
        if rule is None or all(value.type is not None and value.shape is not None for value in node.outputs):
            continue
        results = rule(node, [_seen(value) for value in node.inputs])
        for value, result in zip(node.outputs, results, strict=False):
            if result is None:
                continue
            if value.type is None:
                value.type, found = ir.TensorType(result.dtype), True
            if value.shape is None and result.dims is not None:
                value.shape, found = ir.Shape(result.dims), True
    return found


def rule_of(node: ir.Node) -> Rule | None:
    """The rule of a node's operator: the standard's, or that of an operator the user registered."""
    from sardonyx.model.custom import registered

    own = registered(node.domain, node.op_type)
    return own.infer if own is not None else _RULES.get((node.domain, node.op_type))


def _seen(value: ir.Value | None) -> Result | None:
    if value is None or not isinstance(value.type, ir.TensorType):
        return None
    return Result(value.type.dtype, dims_of(value.shape))


def _like_input(node: ir.Node, inputs: Sequence[Result | None]) -> list[Result | None]:
    """One float for each element of the input."""
    return [Result(_FLOAT, inputs[0].dims if inputs[0] is not None else None)]


def _same(node: ir.Node, inputs: Sequence[Result | None]) -> list[Result | None]:
    return [inputs[0]]


def _rows(inputs: Sequence[Result | None]) -> tuple[int | str | None, bool]:
    """How many rows the first input has (a vector is one), and whether its rank is known."""
    dims = inputs[0].dims if inputs[0] is not None else None
    if dims is None:
        return None, False
    return (dims[0] if len(dims) > 1 else 1), True


def _targets(count: Callable[[ir.Node], int]) -> Rule:
    """A float for each row and target."""

    def rule(node: ir.Node, inputs: Sequence[Result | None]) -> list[Result | None]:
        return [Result(_FLOAT, (_rows(inputs)[0], count(node)))]

    return rule


def _ensemble(node: ir.Node, inputs: Sequence[Result | None]) -> list[Result | None]:
    """ONNX's rule compares the lengths of lists, which are left out where they are long."""
    if inputs[0] is None:
        return [None]
    return [Result(inputs[0].dtype, (_rows(inputs)[0], node.attributes.get_int("n_targets", 1)))]


def _vector_classifier(node: ir.Node, inputs: Sequence[Result | None]) -> list[Result | None]:
    """A label for each row, and scores: of classes, or of pairs of them where there are no probabilities."""
    rows, attributes = _rows(inputs)[0], node.attributes
    strings = attributes.get_strings("classlabels_strings", None)
    classes = len(strings or attributes.get_ints("classlabels_ints", None) or ())
    pairwise = bool(attributes.get_ints("vectors_per_class", None)) and not attributes.get_floats("prob_a", None)
    columns = classes * (classes - 1) // 2 if pairwise and classes > 2 else classes
    return [Result(ir.DataType.STRING if strings else _INT64, (rows,)), Result(_FLOAT, (rows, columns))]


def _features(node: ir.Node, inputs: Sequence[Result | None]) -> list[Result | None]:
    rows, known = _rows(inputs)
    dims = inputs[0].dims if inputs[0] is not None else None
    if known and dims is not None and len(dims) == 1:
        rows = dims[0]
    return [Result(_FLOAT, (rows, sum(node.attributes.get_ints("inputdimensions", ()))))]


def _greedy(node: ir.Node, inputs: Sequence[Result | None]) -> list[Result | None]:
    return [Result(ir.DataType.INT32, (_rows(inputs)[0], None))]


def _beams(node: ir.Node, inputs: Sequence[Result | None]) -> list[Result | None]:
    rows = _rows(inputs)[0]
    return [Result(ir.DataType.INT32, (rows, None, None)), Result(_FLOAT, (rows, None))]


def _tokens(node: ir.Node, inputs: Sequence[Result | None]) -> list[Result | None]:
    dims = inputs[0].dims if inputs[0] is not None else None
    return [Result(ir.DataType.STRING, None if dims is None else (*dims, None))]


_RULES: dict[tuple[str, str], Rule] = {
    (_MICROSOFT, "BeamSearch"): _beams,
    (_MICROSOFT, "GreedySearch"): _greedy,
    (_MICROSOFT, "Inverse"): _same,
    (_MICROSOFT, "NGramRepeatBlock"): lambda node, inputs: [inputs[1]],
    (_MICROSOFT, "Tokenizer"): _tokens,
    (_ML, "Scaler"): _like_input,
    (_ML, "Normalizer"): _like_input,
    (_ML, "Imputer"): _same,
    (_ML, "LinearRegressor"): _targets(lambda node: node.attributes.get_int("targets", 1)),
    (_ML, "SVMRegressor"): _targets(lambda node: 1),
    (_ML, "SVMClassifier"): _vector_classifier,
    (_ML, "FeatureVectorizer"): _features,
    (_ML, "TreeEnsemble"): _ensemble,
}
