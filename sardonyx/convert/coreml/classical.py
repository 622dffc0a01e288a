"""CoreML's classical models (linear, trees, support vectors) and the transformers of its pipelines, as ONNX.

What they compute: the files of the same names in apple/coremltools, mlmodel/format. Inputs are rows, [batch, features]
or [batch, 1]; probabilities become a tensor [batch, classes] in the order of the labels. CoreML's double inputs are
float32 here, and what is sensitive to rounding is computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.base import Array
from sardonyx.convert.coreml.operations import Tensor, UnsupportedError
from sardonyx.convert.graph import GraphBuilder
from sardonyx.convert.reading.protobuf import which
from sardonyx.convert.trees import LEQ, Forest, at_least, at_most, ensemble

ML = "ai.onnx.ml"
Outputs = dict[str, Tensor]


def labels(params: Any) -> list[str] | list[int] | None:
    """A classifier's labels in order; None for what is no classifier."""
    if not hasattr(params, "stringClassLabels"):
        return None
    if params.HasField("stringClassLabels"):
        return list(params.stringClassLabels.vector)
    if params.HasField("int64ClassLabels"):
        return list(params.int64ClassLabels.vector)
    return None


def feature_type(feature: Any) -> tuple[str, int]:
    """An input's element type and how many of them there are in a row."""
    kind = which(feature.type, "multiArrayType", "doubleType", "int64Type", "stringType")
    if kind == "multiArrayType":
        shape = feature.type.multiArrayType.shape
        if len(shape) != 1 or not 0 < shape[0] < 1 << 24:
            raise UnsupportedError(
                f"the input {feature.name!r} is an array of shape {list(shape)[:8]}, expected one axis"
            )
        return "float32", int(shape[0])
    if kind is None:
        raise UnsupportedError(
            f"the input {feature.name!r} is no number, text or array (dictionaries are not supported)"
        )
    return {"doubleType": "float32", "int64Type": "int64", "stringType": "string"}[kind], 1


@dataclass
class Model:
    """A model and what it is given; `node` and `constant` write the graph."""

    graph: GraphBuilder
    proto: Any
    params: Any
    inputs: Mapping[str, Tensor]
    outputs: Outputs = field(default_factory=dict)

    @property
    def name(self) -> str:
        """A name for the nodes: the first output."""
        outputs = self.proto.description.output
        return outputs[0].name if outputs else "model"

    def node(self, op_type: str, inputs: Sequence[ir.Value | None], suffix: str, **attributes: Any) -> ir.Value:
        """A node of ai.onnx."""
        return self.graph.node(op_type, inputs, name=f"{self.name}/{suffix}", **attributes)

    def constant(self, suffix: str, array: Any, dtype: Any = np.float64) -> ir.Value:
        """An initializer."""
        return self.graph.initializer(f"{self.name}/{suffix}", np.asarray(array, dtype))

    def only(self) -> Tensor:
        """The one input."""
        if len(self.proto.description.input) != 1:
            raise UnsupportedError(f"it has {len(self.proto.description.input)} inputs, expected 1")
        return self.inputs[self.proto.description.input[0].name]

    def rows(self, dtype: ir.DataType) -> ir.Value:
        """All inputs beside one another, as numbers of a type."""
        tensors = [self.inputs[item.name] for item in self.proto.description.input]
        if not tensors or any(tensor.dtype == "string" for tensor in tensors):
            raise UnsupportedError("it wants numbers as inputs")
        casts = [self.node("Cast", [tensor.value], f"input_{i}", to=dtype.value) for i, tensor in enumerate(tensors)]
        return casts[0] if len(casts) == 1 else self.node("Concat", casts, "inputs", axis=1)

    def width(self) -> int:
        """The number of columns of `rows`."""
        widths = [(self.inputs[item.name].shape or (None, None))[-1] for item in self.proto.description.input]
        if None in widths:
            raise UnsupportedError("the number of its features is not known")
        return sum(width or 0 for width in widths)

    def give(self, value: ir.Value, dtype: str = "float32", width: int | None = None) -> Outputs:
        """The model's only output."""
        outputs = self.proto.description.output
        if len(outputs) != 1:
            raise UnsupportedError(f"it has {len(outputs)} outputs, expected 1")
        return {outputs[0].name: Tensor(value, dtype, (None, width))}

    def numbers(self, value: ir.Value, width: int | None = None) -> Outputs:
        """The only output, of float64 here, as float32."""
        return self.give(self.node("Cast", [value], "result", to=ir.DataType.FLOAT.value), width=width)

    def classes(self, scores: ir.Value) -> Outputs:
        """Label and probabilities by scores of float64, [batch, classes]."""
        found = labels(self.params)
        if not found:
            raise UnsupportedError("it has no labels of classes")
        described = self.proto.description
        rows = self.node("Cast", [scores], "scores", to=ir.DataType.FLOAT.value)
        names = described.predictedFeatureName, described.predictedProbabilitiesName
        return classified(self.graph, rows, found, *names, "float32", best=scores)


def classified(
    graph: GraphBuilder,
    rows: ir.Value,
    classes: Sequence[str] | Sequence[int],
    label: str,
    scores: str,
    dtype: str,
    best: ir.Value | None = None,
) -> Outputs:
    """The outputs of a classifier: the label of the largest of `best` (or of `rows`), and the scores."""
    made: Outputs = {}
    if label:
        index = graph.node("ArgMax", [best or rows], name=f"{label}/index", axis=1, keepdims=0)
        texts = isinstance(classes[0], str)
        stored = graph.initializer(f"{label}/classes", np.array(classes, object if texts else np.int64))
        chosen = graph.node("Gather", [stored, index], name=label)
        made[label] = Tensor(chosen, "string" if texts else "int64", (None,))
    if scores:
        made[scores] = Tensor(rows, dtype, (None, len(classes)))
    return made


def emit(graph: GraphBuilder, proto: Any, kind: str, inputs: Mapping[str, Tensor]) -> Outputs:
    """The outputs of a classical model or transformer. Raises UnsupportedError for what cannot be converted."""
    return MODELS[kind](Model(graph, proto, getattr(proto, kind), inputs))


# Linear models


def matrix(rows: Any) -> Array:
    """Rows of weights, all equally long."""
    lengths = {len(row.value) for row in rows}
    if len(lengths) != 1 or 0 in lengths:
        raise UnsupportedError("its weights are not a matrix")
    return np.array([list(row.value) for row in rows], np.float64)


def _linear(m: Model) -> tuple[ir.Value, int]:
    stored = matrix(m.params.weights)
    offset = np.array(m.params.offset or [0.0], np.float64)
    if stored.shape[1] != m.width() or offset.size not in (1, len(stored)):
        raise UnsupportedError(f"it has weights for {stored.shape[1]} features, its inputs have {m.width()}")
    product = m.node("MatMul", [m.rows(ir.DataType.DOUBLE), m.constant("weights", stored.T)], "product")
    return m.node("Add", [product, m.constant("offset", offset)], "linear"), len(stored)


def _probit(m: Model, value: ir.Value) -> ir.Value:
    """The normal distribution's integral up to `value`."""
    scaled = m.node("Mul", [value, m.constant("root", math.sqrt(0.5))], "scaled")
    single = m.node("Cast", [scaled], "single", to=ir.DataType.FLOAT.value)
    erf = m.node("Cast", [m.node("Erf", [single], "erf")], "double", to=ir.DataType.DOUBLE.value)
    half = m.constant("half", 0.5)
    return m.node("Add", [m.node("Mul", [erf, half], "halved"), half], "probit")


def _glm_regressor(m: Model) -> Outputs:
    value, width = _linear(m)
    transform = m.params.postEvaluationTransform
    if transform == 1:
        value = m.node("Sigmoid", [value], "logit")
    elif transform == 2:
        value = _probit(m, value)
    return m.numbers(value, width)


def _two(m: Model, positive: ir.Value) -> ir.Value:
    other = m.node("Sub", [m.constant("one", 1.0), positive], "negative")
    return m.node("Concat", [other, positive], "both", axis=1)


def _glm_classifier(m: Model) -> Outputs:
    value, width = _linear(m)
    count, p = len(labels(m.params) or []), m.params
    if count == 2 and width == 1:
        positive = _probit(m, value) if p.postEvaluationTransform == 1 else m.node("Sigmoid", [value], "logit")
        return m.classes(_two(m, positive))
    if p.postEvaluationTransform == 1:
        raise UnsupportedError("probit of more than two classes is not supported")
    if p.classEncoding == 0 and width == count - 1:
        return m.classes(_softmax_with_zero(m, value))
    if p.classEncoding == 1 and width == count:
        each = m.node("Sigmoid", [value], "each")
        total = m.node("ReduceSum", [each, m.constant("axis", [1], np.int64)], "total")
        return m.classes(m.node("Div", [each, total], "normalised"))
    raise UnsupportedError(f"it has {width} rows of weights for {count} classes")


def _softmax_with_zero(m: Model, scores: ir.Value) -> ir.Value:
    """Softmax of the scores with a 0 before them."""
    first = m.node("Slice", [scores, *(m.constant(k, [v], np.int64) for k, v in (("b", 0), ("e", 1), ("a", 1)))], "one")
    zero = m.node("Mul", [first, m.constant("zero", 0.0)], "zero_class")
    return m.node("Softmax", [m.node("Concat", [zero, scores], "all", axis=1)], "softmax", axis=1)


# Trees


def forest(params: Any, width: int) -> Forest:
    """The trees; leaves with several values are so many trees. Raises UnsupportedError for comparisons by `==`."""
    nodes, targets = params.nodes, int(params.numPredictionDimensions)
    places = {(node.treeId, node.nodeId): index for index, node in enumerate(nodes)}
    if len(places) != len(nodes):
        raise UnsupportedError("two nodes of a tree have the same number")
    leaves: list[tuple[int, float]] = []
    features: list[int] = []
    splits: list[np.float32] = []
    missing: list[bool] = []
    true: list[int] = []
    false: list[int] = []
    kept: dict[tuple[int, int], int] = {}
    used = {info.evaluationIndex for node in nodes for info in node.evaluationInfo}
    if targets > 1 and any(len(node.evaluationInfo) > 1 for node in nodes) and len(nodes) * len(used) > 1 << 24:
        raise UnsupportedError("its leaves have too many values")
    roots: list[int] = []
    children = {
        (node.treeId, child) for node in nodes if node.nodeBehavior != 6
        for child in (node.trueChildNodeId, node.falseChildNodeId)
    }  # fmt: skip
    # One copy of the trees for each score that leaves add to; the others' leaves add nothing there.
    for target in sorted(used):
        kept.clear()
        branches = [node for node in nodes if node.nodeBehavior != 6]
        for index, node in enumerate(branches, len(features)):
            kept[node.treeId, node.nodeId] = index
        for node in nodes:
            if node.nodeBehavior == 6:
                value = sum(info.evaluationValue for info in node.evaluationInfo if info.evaluationIndex == target)
                leaves.append((int(target), float(value)))
                kept[node.treeId, node.nodeId] = ~(len(leaves) - 1)
        for node in branches:
            split, turned = _threshold(node)
            ends = [kept[node.treeId, child] for child in (node.trueChildNodeId, node.falseChildNodeId)]
            features.append(int(node.branchFeatureIndex))
            splits.append(split)
            missing.append(bool(node.missingValueTracksTrueChild) != turned)
            true.append(ends[1] if turned else ends[0])
            false.append(ends[0] if turned else ends[1])
        roots += [place for key, place in kept.items() if key not in children]
    whole = [np.array(item, np.int64) for item in (roots, features, true, false, [target for target, _ in leaves])]
    made = Forest(
        whole[0], whole[1], np.array(splits, np.float32), np.array(missing, np.bool_), whole[2], whole[3],
        np.array([value for _, value in leaves], np.float64), whole[4],
    )  # fmt: skip
    return made.grown("the trees", width, targets)


def _threshold(node: Any) -> tuple[np.float32, bool]:
    """As `x <= split` for every float32, and whether that is the opposite of what the node asks."""
    value = np.array(node.branchFeatureValue, np.float64)
    below = np.nextafter(at_least(value), np.float32(-np.inf))  # x < value
    if node.nodeBehavior not in (0, 1, 2, 3):
        raise UnsupportedError("comparing by equality is not supported")
    split, turned = ((at_most(value), False), (below, False), (below, True), (at_most(value), True))[node.nodeBehavior]
    return np.float32(split), turned


def _trees(m: Model) -> tuple[ir.Value, int]:
    params = m.params.treeEnsemble
    targets = int(params.numPredictionDimensions)
    base = np.array(params.basePredictionValue or [0.0] * targets, np.float64)
    if not 0 < targets <= 1 << 16 or base.size != targets:
        raise UnsupportedError(f"it has {base.size} base values for {targets} predictions")
    trees = forest(params, m.width())
    sums = ensemble(m.graph, m.rows(ir.DataType.FLOAT), trees, LEQ, targets, f"{m.name}/trees")
    wide = m.node("Cast", [sums], "sums", to=ir.DataType.DOUBLE.value)
    return m.node("Add", [wide, m.constant("base", base)], "raw"), targets


def _tree_regressor(m: Model) -> Outputs:
    value, width = _trees(m)
    transform = m.params.postEvaluationTransform
    if transform == 2:
        value = m.node("Sigmoid", [value], "logistic")
    elif transform:
        value = _softmax_with_zero(m, value) if transform == 3 else m.node("Softmax", [value], "softmax", axis=1)
    return m.numbers(value, width)


def _tree_classifier(m: Model) -> Outputs:
    value, width = _trees(m)
    transform, count = m.params.postEvaluationTransform, len(labels(m.params) or [])
    if transform == 1:
        value = m.node("Softmax", [value], "softmax", axis=1)
    elif transform == 2:
        value = m.node("Sigmoid", [value], "logistic")
    elif transform == 3:
        value, width = _softmax_with_zero(m, value), width + 1
    if width == 1 and count == 2:
        return m.classes(_two(m, value))
    if width != count:
        raise UnsupportedError(f"it has {width} scores for {count} classes")
    return m.classes(value)


# Support vectors


def support(params: Any, width: int) -> Array:
    """The support vectors, [count, features]."""
    if params.HasField("denseSupportVectors"):
        rows = [
            np.concatenate([np.frombuffer(part, "<f8") for part in v.values])
            for v in params.denseSupportVectors.vectors
        ]
        if any(row.size > width for row in rows):
            raise UnsupportedError("its support vectors have more features than its input")
        return np.array([np.pad(row, (0, width - row.size)) for row in rows], np.float64)
    vectors = params.sparseSupportVectors.vectors
    found = np.zeros((len(vectors), width))
    for row, vector in zip(found, vectors, strict=True):
        for node in vector.nodes:
            if not 1 <= node.index <= width:
                raise UnsupportedError("its support vectors have more features than its input")
            row[node.index - 1] = node.value
    return found


def _kernel(m: Model, vectors: Array) -> ir.Value:
    """Kernel values of the rows and the support vectors, [batch, count], float64."""
    rows, kernel = m.rows(ir.DataType.DOUBLE), m.params.kernel
    products = m.node("MatMul", [rows, m.constant("vectors", vectors.T)], "products")
    kind = which(kernel, "linearKernel", "rbfKernel", "polyKernel", "sigmoidKernel")
    if kind == "linearKernel":
        return products
    if kind is None:
        raise UnsupportedError("its kernel is not known")
    p = getattr(kernel, kind)
    if kind == "rbfKernel":
        own = m.node("ReduceSumSquare", [rows, m.constant("axis", [1], np.int64)], "squares")
        twice = m.node("Mul", [products, m.constant("minus_two", -2.0)], "twice")
        with np.errstate(over="ignore"):
            squares = (vectors**2).sum(1)
        if not np.isfinite(squares).all():
            raise UnsupportedError("its support vectors are too far away for numbers to tell")
        lengths = m.constant("lengths", squares)
        distance = m.node("Add", [m.node("Add", [twice, own], "partial"), lengths], "distances")
        return m.node("Exp", [m.node("Mul", [distance, m.constant("minus_gamma", -p.gamma)], "scaled")], "kernel")
    shifted = m.node(
        "Add", [m.node("Mul", [products, m.constant("gamma", p.gamma)], "scaled"), m.constant("c", p.c)], "shifted"
    )
    if kind == "polyKernel":
        return m.node("Pow", [shifted, m.constant("degree", float(p.degree))], "kernel")
    return m.node("Tanh", [shifted], "kernel")


def _svr(m: Model) -> Outputs:
    vectors = support(m.params, m.width())
    alpha = np.array(m.params.coefficients.alpha, np.float64)
    if alpha.size != len(vectors):
        raise UnsupportedError(f"it has {alpha.size} coefficients for {len(vectors)} vectors")
    product = m.node("MatMul", [_kernel(m, vectors), m.constant("alpha", alpha[:, None])], "sum")
    return m.numbers(m.node("Sub", [product, m.constant("rho", m.params.rho)], "decision"), 1)


def pairs(params: Any, count: int, total: int) -> Array:
    """Coefficients of the decisions between all pairs of classes, [vectors, pairs], as LIBSVM has them.

    Those of class i against j are row j - 1 where the vectors are of class i, and row i where they are of class j.
    """
    sizes = [int(size) for size in params.numberOfSupportVectorsPerClass]
    alphas = [np.array(row.alpha, np.float64) for row in params.coefficients]
    if len(sizes) != count or sum(sizes) != total or len(alphas) != count - 1:
        raise UnsupportedError(f"its coefficients do not fit {count} classes")
    if any(alpha.size != total for alpha in alphas):
        raise UnsupportedError(f"its coefficients do not fit {total} vectors")
    starts = np.cumsum([0, *sizes])
    columns = []
    for i in range(count):
        for j in range(i + 1, count):
            column = np.zeros(total)
            column[starts[i] : starts[i + 1]] = alphas[j - 1][starts[i] : starts[i + 1]]
            column[starts[j] : starts[j + 1]] = alphas[i][starts[j] : starts[j + 1]]
            columns.append(column)
    return np.stack(columns, 1)


def _svc(m: Model) -> Outputs:
    p, found = m.params, labels(m.params) or []
    count = len(found)
    if not 2 <= count <= 1000:
        raise UnsupportedError(f"it has {count} classes")
    vectors = support(p, m.width())
    columns = pairs(p, count, len(vectors))
    if len(p.rho) != columns.shape[1]:
        raise UnsupportedError(f"it has {len(p.rho)} offsets for {columns.shape[1]} pairs of classes")
    sums = m.node("MatMul", [_kernel(m, vectors), m.constant("alpha", columns)], "sums")
    decisions = m.node("Sub", [sums, m.constant("rho", list(p.rho))], "decisions")
    described = m.proto.description
    if len(p.probA) and count == 2:
        sloped = m.node("Mul", [decisions, m.constant("a", -np.array(p.probA))], "sloped")
        first = m.node("Sigmoid", [m.node("Sub", [sloped, m.constant("b", list(p.probB))], "fitted")], "first")
        other = m.node("Sub", [m.constant("one", 1.0), first], "second")
        return m.classes(m.node("Concat", [first, other], "both", axis=1))
    if len(p.probA) and described.predictedProbabilitiesName:
        raise UnsupportedError("probabilities of more than two classes are not supported")
    above = m.node("Greater", [decisions, m.constant("zero", 0.0)], "above")
    won = m.node("Cast", [above], "won", to=ir.DataType.DOUBLE.value)
    order = [(i, j) for i in range(count) for j in range(i + 1, count)]
    ballots, base = np.zeros((len(order), count)), np.zeros(count)
    for row, (i, j) in enumerate(order):  # The first of a pair gets the vote where the decision is above zero.
        ballots[row, i], ballots[row, j], base[j] = 1, -1, base[j] + 1
    votes = m.node(
        "Add", [m.node("MatMul", [won, m.constant("ballots", ballots)], "gained"), m.constant("base", base)], "votes"
    )
    outputs = m.classes(votes)
    return {name: value for name, value in outputs.items() if name == described.predictedFeatureName}


# Transformers


def _scaler(m: Model) -> Outputs:
    value = m.rows(ir.DataType.DOUBLE)
    if m.params.shiftValue:
        value = m.node("Add", [value, m.constant("shift", list(m.params.shiftValue))], "shifted")
    if m.params.scaleValue:
        value = m.node("Mul", [value, m.constant("scale", list(m.params.scaleValue))], "scaled")
    return m.numbers(value, m.width())


def _normalizer(m: Model) -> Outputs:
    value = m.rows(ir.DataType.DOUBLE)
    kind = ("ReduceMax", "ReduceL1", "ReduceL2")[m.params.normType]
    norm = m.node(kind, [value, m.constant("axis", [1], np.int64)], "norm")
    return m.numbers(m.node("Div", [value, norm], "normalised"), m.width())


def _imputer(m: Model) -> Outputs:
    p, x = m.params, m.only()
    if x.dtype != "float32":
        raise UnsupportedError("replacing what is no floating-point number is not supported")
    kind = which(p, "imputedDoubleValue", "imputedDoubleArray")
    if kind is None or not p.HasField("replaceDoubleValue"):
        raise UnsupportedError("what is replaced, or by what, is not supported")
    filled = [p.imputedDoubleValue] if kind == "imputedDoubleValue" else np.concatenate(
        [np.frombuffer(part, "<f8") for part in p.imputedDoubleArray.vector]
    )  # fmt: skip
    if len(filled) not in (1, m.width()):
        raise UnsupportedError(f"it has {len(filled)} values for {m.width()} features")
    if math.isnan(p.replaceDoubleValue):
        missing = m.node("IsNaN", [x.value], "missing")
    else:
        missing = m.node("Equal", [x.value, m.constant("replaced", p.replaceDoubleValue, np.float32)], "missing")
    return m.give(
        m.node("Where", [missing, m.constant("filled", filled, np.float32), x.value], "result"), width=m.width()
    )


def _one_hot(m: Model) -> Outputs:
    p, x = m.params, m.only()
    kind = which(p, "stringCategories", "int64Categories")
    if kind is None or p.handleUnknown == 0:
        raise UnsupportedError("errors for unknown categories cannot be expressed; expected IgnoreUnknown")
    categories = list(getattr(p, kind).vector)
    value = x.value
    if kind == "stringCategories":
        value = m.graph.node(
            "LabelEncoder", [value], name=f"{m.name}/index", domain=ML, keys_strings=categories,
            values_int64s=list(range(len(categories))), default_int64=-1,
        )  # fmt: skip
        categories = list(range(len(categories)))
    else:
        value = m.node("Cast", [value], "number", to=ir.DataType.INT64.value)
    same = m.node("Equal", [value, m.constant("categories", [categories], np.int64)], "same")
    return m.give(m.node("Cast", [same], "result", to=ir.DataType.FLOAT.value), width=len(categories))


def _vectorizer(m: Model) -> Outputs:
    parts, width = [], 0
    for index, column in enumerate(m.params.inputList):
        tensor = m.inputs[column.inputColumn]
        if tensor.dtype == "string":
            raise UnsupportedError(f"the column {column.inputColumn!r} is text")
        if (tensor.shape or (None,))[-1] != column.inputDimensions:
            raise UnsupportedError(f"the column {column.inputColumn!r} is not as wide as the model says")
        parts.append(m.node("Cast", [tensor.value], f"column_{index}", to=ir.DataType.FLOAT.value))
        width += int(column.inputDimensions)
    return m.give(m.node("Concat", parts, "columns", axis=1), width=width)


def _extractor(m: Model) -> Outputs:
    x, chosen = m.only(), [int(index) for index in m.params.extractIndex]
    if not chosen or max(chosen) >= m.width():
        raise UnsupportedError(f"it extracts feature {max(chosen, default=0)} of {m.width()}")
    value = m.node("Gather", [x.value, m.constant("chosen", chosen, np.int64)], "result", axis=1)
    return m.give(value, x.dtype, len(chosen))


def _categories(m: Model) -> Outputs:
    p, x = m.params, m.only()
    if p.HasField("stringToInt64Map"):
        keys = sorted(p.stringToInt64Map.map)
        attributes = {"keys_strings": keys, "values_int64s": [p.stringToInt64Map.map[key] for key in keys]}
        default, dtype = {"default_int64": p.int64Value}, "int64"
    else:
        numbers = sorted(p.int64ToStringMap.map)
        attributes = {"keys_int64s": numbers, "values_strings": [p.int64ToStringMap.map[key] for key in numbers]}
        default, dtype = {"default_string": p.strValue}, "string"
    if not next(iter(attributes.values())):
        raise UnsupportedError("it maps nothing")
    if which(p, "strValue", "int64Value") is None:
        raise UnsupportedError("errors for unknown categories cannot be expressed; expected a value for them")
    value = m.graph.node("LabelEncoder", [x.value], name=f"{m.name}/mapped", domain=ML, **attributes, **default)
    return m.give(value, dtype, 1)


def _identity(m: Model) -> Outputs:
    inputs, outputs = m.proto.description.input, m.proto.description.output
    return {out.name: m.inputs[given.name] for out, given in zip(outputs, inputs, strict=True)}


MODELS: dict[str, Callable[[Model], Outputs]] = {
    "glmRegressor": _glm_regressor, "glmClassifier": _glm_classifier, "treeEnsembleRegressor": _tree_regressor,
    "treeEnsembleClassifier": _tree_classifier, "supportVectorRegressor": _svr, "supportVectorClassifier": _svc,
    "scaler": _scaler, "normalizer": _normalizer, "imputer": _imputer, "oneHotEncoder": _one_hot,
    "featureVectorizer": _vectorizer, "arrayFeatureExtractor": _extractor, "categoricalMapping": _categories,
    "identity": _identity,
}  # fmt: skip
"""What writes each kind of model. A dictionary vectorizer takes dictionaries, which the graph's inputs cannot be."""
