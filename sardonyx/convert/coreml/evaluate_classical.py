"""CoreML's classical models and transformers in float64 NumPy, row by row where that is plainest."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sardonyx.convert.base import Array
from sardonyx.convert.coreml.evaluate_operations import sigmoid, softmax

Values = dict[str, Any]


def labels(params: Any) -> Array | None:
    """A classifier's labels; None for what is no classifier."""
    for kind in ("stringClassLabels", "int64ClassLabels"):
        if kind in params.DESCRIPTOR.fields_by_name and params.HasField(kind):
            found = list(getattr(params, kind).vector)
            return np.array(found, object if kind[0] == "s" else np.int64)
    return None


def run(model: Any, values: Values) -> dict[str, Array]:
    """Outputs by name for inputs by name."""
    kind = next(name for name in _MODELS if model.HasField(name))
    params = getattr(model, kind)
    described = model.description
    order = [item.name for item in described.input]
    if kind == "featureVectorizer":
        order = [column.inputColumn for column in params.inputList]
    inputs = [values[name] for name in order]
    made = _MODELS[kind](params, inputs[0] if len(inputs) == 1 else np.concatenate(inputs, 1))
    names = labels(params)
    if names is None:
        return {described.output[0].name: made}
    found = {described.predictedFeatureName: names[made.argmax(1)]}
    return found | ({described.predictedProbabilitiesName: made} if described.predictedProbabilitiesName else {})


def _linear(p: Any, x: Array) -> Array:
    rows = np.array([list(row.value) for row in p.weights])
    return np.asarray(np.einsum("bf,of->bo", x.astype(np.float64), rows) + np.array(list(p.offset) or [0.0]))


def _probit(x: Array) -> Array:
    return np.asarray(np.vectorize(lambda v: 0.5 * (1 + math.erf(v / math.sqrt(2))), otypes=[np.float64])(x))


def _glm_regressor(p: Any, x: Array) -> Array:
    transforms: tuple[Callable[[Array], Array], ...] = (np.asarray, sigmoid, _probit)
    return np.asarray(transforms[p.postEvaluationTransform](_linear(p, x)))


def _glm_classifier(p: Any, x: Array) -> Array:
    scores = _linear(p, x)
    if scores.shape[1] == 1 and scores.shape[1] == 1:
        positive = _probit(scores) if p.postEvaluationTransform == 1 else sigmoid(scores)
        return np.concatenate([1 - positive, positive], 1)
    if p.classEncoding == 0:
        return softmax(np.pad(scores, ((0, 0), (1, 0))))
    each = sigmoid(scores)
    return np.asarray(each / each.sum(1, keepdims=True))


_COMPARE: tuple[Callable[[float, float], bool], ...] = (
    lambda x, v: x <= v, lambda x, v: x < v, lambda x, v: x >= v, lambda x, v: x > v, lambda x, v: x == v,
    lambda x, v: x != v,
)  # fmt: skip


def _trees(p: Any, x: Array) -> Array:
    params = p.treeEnsemble
    nodes = {(node.treeId, node.nodeId): node for node in params.nodes}
    inner = [node for node in params.nodes if node.nodeBehavior != 6]
    below = {(node.treeId, child) for node in inner for child in (node.trueChildNodeId, node.falseChildNodeId)}
    roots = [key for key in nodes if key not in below]
    base = np.array(list(params.basePredictionValue) or [0.0] * params.numPredictionDimensions)
    result = np.tile(base, (len(x), 1)).astype(np.float64)
    for row, scores in zip(x, result, strict=True):
        for root in roots:
            node = nodes[root]
            while node.nodeBehavior != 6:
                value = float(row[node.branchFeatureIndex])
                met = (
                    node.missingValueTracksTrueChild
                    if math.isnan(value)
                    else _COMPARE[node.nodeBehavior](value, node.branchFeatureValue)
                )
                node = nodes[node.treeId, node.trueChildNodeId if met else node.falseChildNodeId]
            for info in node.evaluationInfo:
                scores[info.evaluationIndex] += info.evaluationValue
    kind = p.postEvaluationTransform
    if kind == 2:
        return sigmoid(result)
    return (result, softmax(result), result, softmax(np.pad(result, ((0, 0), (1, 0)))))[kind]


def _tree_classifier(p: Any, x: Array) -> Array:
    found = _trees(p, x)
    return np.concatenate([1 - found, found], 1) if found.shape[1] == 1 else found


def _kernels(p: Any, x: Array) -> Array:
    if p.HasField("sparseSupportVectors"):
        vectors = np.zeros((len(p.sparseSupportVectors.vectors), x.shape[1]))
        for row, vector in zip(vectors, p.sparseSupportVectors.vectors, strict=True):
            for node in vector.nodes:
                row[node.index - 1] = node.value
    else:
        rows = [b"".join(vector.values) for vector in p.denseSupportVectors.vectors]
        vectors = np.array([np.frombuffer(row, "<f8") for row in rows])
    kernel, x = p.kernel, x.astype(np.float64)
    if kernel.HasField("rbfKernel"):
        return np.asarray(np.exp(-kernel.rbfKernel.gamma * ((x[:, None] - vectors) ** 2).sum(-1)))
    products = np.einsum("bf,vf->bv", x, vectors)
    if kernel.HasField("polyKernel"):
        return np.asarray((kernel.polyKernel.gamma * products + kernel.polyKernel.c) ** kernel.polyKernel.degree)
    if kernel.HasField("sigmoidKernel"):
        return np.asarray(np.tanh(kernel.sigmoidKernel.gamma * products + kernel.sigmoidKernel.c))
    return np.asarray(products)


def _svr(p: Any, x: Array) -> Array:
    return np.asarray(_kernels(p, x) @ np.array(p.coefficients.alpha)[:, None] - p.rho)


def _svc(p: Any, x: Array) -> Array:
    """Probabilities of two classes, else votes, as LIBSVM counts them."""
    kernels, sizes = _kernels(p, x), list(p.numberOfSupportVectorsPerClass)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    alphas = [np.array(row.alpha) for row in p.coefficients]
    votes = np.zeros((len(x), len(sizes)))
    place = 0
    for i, first in enumerate(sizes):
        for j in range(i + 1, len(sizes)):
            a, b = slice(starts[i], starts[i] + first), slice(starts[j], starts[j] + sizes[j])
            decision = kernels[:, a] @ alphas[j - 1][a] + kernels[:, b] @ alphas[i][b] - p.rho[place]
            if len(sizes) == 2 and p.probA:
                probability = sigmoid(-(p.probA[0] * decision + p.probB[0]))
                return np.stack([probability, 1 - probability], 1)
            votes[:, i] += decision > 0
            votes[:, j] += decision <= 0
            place += 1
    return votes


def _scaler(p: Any, x: Array) -> Array:
    return np.asarray(
        (x + (np.array(p.shiftValue) if p.shiftValue else 0)) * (np.array(p.scaleValue) if p.scaleValue else 1)
    )


def _normalizer(p: Any, x: Array) -> Array:
    norms = (x.max(1), np.abs(x).sum(1), np.sqrt((x**2).sum(1)))
    return np.asarray(x / norms[p.normType][:, None])


def _imputer(p: Any, x: Array) -> Array:
    value = p.replaceDoubleValue
    missing = np.isnan(x) if math.isnan(value) else x == value
    filled = p.imputedDoubleValue
    if p.HasField("imputedDoubleArray"):
        filled = np.frombuffer(b"".join(p.imputedDoubleArray.vector), "<f8")
    return np.where(missing, filled, x)


def _one_hot(p: Any, x: Array) -> Array:
    categories = list((p.stringCategories if p.HasField("stringCategories") else p.int64Categories).vector)
    return np.array([[float(row[0] == category) for category in categories] for row in x])


def _mapped(p: Any, x: Array) -> Array:
    if p.HasField("stringToInt64Map"):
        return np.array([[p.stringToInt64Map.map.get(v, p.int64Value) for v in row] for row in x], np.int64)
    return np.array([[p.int64ToStringMap.map.get(int(v), p.strValue) for v in row] for row in x], object)


def _extractor(p: Any, x: Array) -> Array:
    return np.asarray(x[:, [int(index) for index in p.extractIndex]])


def _as_it_is(p: Any, x: Array) -> Array:
    return x


_MODELS: dict[str, Callable[[Any, Array], Array]] = {
    "glmRegressor": _glm_regressor, "glmClassifier": _glm_classifier, "treeEnsembleRegressor": _trees,
    "treeEnsembleClassifier": _tree_classifier, "supportVectorRegressor": _svr, "supportVectorClassifier": _svc,
    "scaler": _scaler, "normalizer": _normalizer, "imputer": _imputer, "oneHotEncoder": _one_hot,
    "featureVectorizer": _as_it_is, "arrayFeatureExtractor": _extractor, "categoricalMapping": _mapped,
    "identity": _as_it_is,
}  # fmt: skip
