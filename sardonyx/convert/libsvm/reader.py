"""LibSVM models as ONNX, by plain operators in float64, as LibSVM calculates.

One input `X`, float32 [batch, features]: column i is LibSVM's feature i + 1, and what a sparse row leaves out is 0. Of
a precomputed kernel column i is the kernel's value with row i + 1 of the training set. Outputs:

- classifiers: `label`, int64 [batch], the class with most votes as `svm_predict` says, and `probabilities`, float32
  [batch, classes], in the order of the file's labels (`-b 1`). Without probabilities in the file, `scores` instead,
  the decision values, float32 [batch, pairs]. (`svm-predict -b 1` names the class of the largest probability, which
  may be another than that with most votes.)
- one class: `label` (1 or -1), and `scores` or, if the file has them, `probabilities` (inside, outside).
- regression: `variable`, float32 [batch, 1].
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert import trees
from sardonyx.convert.base import Array, Converted, Options, Oracle, Source, Values
from sardonyx.convert.graph import GraphBuilder
from sardonyx.convert.libsvm.source import Machine, load
from sardonyx.errors import ConversionError

FLOAT, DOUBLE, INT64, BOOL = ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.INT64, ir.DataType.BOOL
MOST_COUPLED = 100
"""Classes of a model with probabilities, whose graph has some ten nodes a class."""


def read(source: Source, options: Options) -> Converted:
    """The model of a LibSVM file. `options.shapes` may widen the input: features that no support vector has.

    Raises ModelFileError for damaged files, ConversionError for what cannot be converted.
    """
    machine = load(source)
    name = options.inputs[0] if options.inputs else "X"
    features = _features(machine, options, name, source.where)
    builder = GraphBuilder(source.stem)
    rows = builder.input(name, FLOAT, [options.batch, features])
    kernel = _kernel(builder, builder.node("Cast", [rows], name="exact", to=DOUBLE.value), machine, features)
    product = builder.node("MatMul", [kernel, builder.initializer("coefficients", _weights(machine))], name="product")
    scores = builder.node("Sub", [product, builder.initializer("rho", machine.rho)], name="scores/exact")
    outputs = _outputs(builder, scores, machine, options.batch, source.where)
    metadata = {"framework": "libsvm", "svm_type": machine.kind}
    metadata |= {"labels": ",".join(map(str, machine.labels))} if machine.labels else {}

    def make(batch: int, rng: np.random.Generator) -> Values:
        made = rng.normal(size=(batch, features))
        if machine.kernel != "precomputed" and len(machine.vectors):
            chosen = machine.vectors[rng.integers(0, len(machine.vectors), batch)]
            made = made * (machine.vectors.std() or 1.0)
            made[:, : chosen.shape[1]] += chosen
        return {name: made.astype(np.float32)}

    def library() -> Oracle | None:
        from sardonyx.convert.libsvm import evaluate

        return evaluate.library(source, machine, name)

    def evaluation() -> Oracle:
        from sardonyx.convert.libsvm import evaluate

        return evaluate.Evaluation(machine, name)

    return Converted(
        builder.model(outputs), "LibSVM text", oracles=(library, evaluation), layers={scores.name or "": "scores"},
        make_inputs=make, metadata=metadata,
    )  # fmt: skip


def _features(machine: Machine, options: Options, name: str, where: str) -> int:
    """The input's columns: as many as the support vectors have, or as the user says."""
    least: int = machine.vectors.shape[1]
    asked = options.shapes.get(name, ())
    if len(asked) == 2 and isinstance(asked[1], int):
        if asked[1] < least:
            raise ConversionError(
                "the model has more features than asked for",
                where=where,
                expected=f"at least {least}",
                got=str(asked[1]),
            )
        return asked[1]
    return least


def _kernel(builder: GraphBuilder, x: ir.Value, machine: Machine, features: int) -> ir.Value:
    """The kernel's values of each row with each support vector: float64 [batch, vectors]."""
    vectors = np.zeros((len(machine.vectors), features))
    vectors[:, : machine.vectors.shape[1]] = machine.vectors

    def constant(name: str, value: float | Array) -> ir.Value:
        return builder.initializer(f"kernel/{name}", np.asarray(value, np.float64))

    def step(op_type: str, name: str, *inputs: ir.Value) -> ir.Value:
        return builder.node(op_type, inputs, name=f"kernel/{name}")

    product = step("MatMul", "product", x, constant("vectors", vectors.T.copy()))
    if machine.kernel in ("linear", "precomputed"):
        return product
    if machine.kernel == "rbf":
        axis = builder.initializer("kernel/axis", np.array([1], np.int64))
        own = builder.node("ReduceSumSquare", [x, axis], name="kernel/own", keepdims=1)
        sizes = step("Add", "sizes", own, constant("sizes/vectors", (vectors**2).sum(axis=1)))
        distance = step("Sub", "distance", sizes, step("Mul", "twice", product, constant("two", 2.0)))
        return step("Exp", "exp", step("Mul", "scaled", distance, constant("gamma", -machine.gamma)))
    inner = step("Mul", "scaled", product, constant("gamma", machine.gamma))
    inner = step("Add", "inner", inner, constant("coef0", machine.coef0))
    if machine.kernel == "sigmoid":
        return step("Tanh", "tanh", inner)
    return step("Pow", "power", inner, constant("degree", machine.degree))


def _weights(machine: Machine) -> Array:
    """What each support vector adds to each decision value: [vectors, decisions]."""
    if not machine.is_classifier:
        return machine.coefficients.T.copy()
    ends = np.cumsum([0, *machine.counts])
    weights = np.zeros((len(machine.vectors), len(machine.pairs)))
    for pair, (i, j) in enumerate(machine.pairs):
        of_i, of_j = slice(ends[i], ends[i + 1]), slice(ends[j], ends[j + 1])
        weights[of_i, pair] = machine.coefficients[j - 1, of_i]
        weights[of_j, pair] = machine.coefficients[i, of_j]
    return weights


def _outputs(
    builder: GraphBuilder, scores: ir.Value, machine: Machine, batch: int | str, where: str
) -> list[tuple[str, ir.Value]]:
    if machine.kind in ("epsilon_svr", "nu_svr"):
        return [("variable", _narrow(builder, scores, "variable", [batch, 1]))]
    positive = builder.node("Greater", [scores, builder.initializer("zero", np.array(0.0))], name="positive")
    if machine.kind == "one_class":
        whole = builder.node("Cast", [positive], name="inside", to=INT64.value)
        flat = builder.node("Reshape", [whole, builder.initializer("flat", np.array([-1], np.int64))], name="index")
        label = builder.node("Gather", [builder.initializer("labels", np.array([-1, 1])), flat], name="label", axis=0)
        probabilities = None if machine.marks is None else _density(builder, scores, machine.marks)
        width = 1
    else:
        label = _most_voted(builder, positive, machine)
        has = machine.prob_a is not None and machine.prob_b is not None
        probabilities = _coupled(builder, scores, machine, where) if has else None
        width = len(machine.pairs)
    trees.declared(label, INT64, [batch])
    if probabilities is None:
        return [("label", label), ("scores", _narrow(builder, scores, "scores", [batch, width]))]
    classes = len(machine.labels) or 2
    return [("label", label), ("probabilities", _narrow(builder, probabilities, "probabilities", [batch, classes]))]


def _narrow(builder: GraphBuilder, value: ir.Value, name: str, shape: list[int | str]) -> ir.Value:
    return trees.declared(builder.node("Cast", [value], name=name, to=FLOAT.value), FLOAT, shape)


def _most_voted(builder: GraphBuilder, positive: ir.Value, machine: Machine) -> ir.Value:
    """The label with most votes, the first of several: each pair's decision value votes for one of both."""
    classes = len(machine.labels)
    first, second = np.zeros((2, len(machine.pairs), classes))
    for pair, (i, j) in enumerate(machine.pairs):
        first[pair, i] = second[pair, j] = 1
    for_first = builder.node("Cast", [positive], name="votes/first", to=DOUBLE.value)
    gained = builder.node("MatMul", [for_first, builder.initializer("votes/gain", first - second)], name="votes/gained")
    votes = builder.node("Add", [gained, builder.initializer("votes/start", second.sum(axis=0))], name="votes")
    index = builder.node("ArgMax", [votes], name="index", axis=1, keepdims=0)
    labels = builder.initializer("labels", np.array(machine.labels, np.int64))
    return builder.node("Gather", [labels, index], name="label", axis=0)


# ---- probabilities ---------------------------------------------------------------------------------------------------


def _density(builder: GraphBuilder, scores: ir.Value, marks: Array) -> ir.Value:
    """Inside and outside by the marks that the decision value has passed (predict_one_class_probability)."""
    passed = builder.node("GreaterOrEqual", [scores, builder.initializer("marks", marks)], name="passed")
    beyond = builder.node("Greater", [scores, builder.initializer("marks/last", marks[-1:])], name="beyond")
    both = builder.node("Concat", [passed, beyond], name="marks/passed", axis=1)
    whole = builder.node("Cast", [both], name="marks/ones", to=INT64.value)
    axis = builder.initializer("marks/axis", np.array([1], np.int64))
    count = builder.node("ReduceSum", [whole, axis], name="marks/count", keepdims=0)
    inside = np.array([0.001, *(np.arange(1, len(marks)) / len(marks)), 0.0, 0.999])  # 0 at the last, as LibSVM says
    table = builder.initializer("marks/probabilities", np.stack([inside, 1 - inside], 1))
    return builder.node("Gather", [table, count], name="probabilities/exact", axis=0)


def _coupled(builder: GraphBuilder, scores: ir.Value, machine: Machine, where: str) -> ir.Value:
    """Classes' probabilities, of a sigmoid of each pair's decision value (svm_predict_probability)."""
    classes = len(machine.labels)
    if classes > MOST_COUPLED:
        raise ConversionError(
            "probabilities of too many classes", where=where, expected=f"at most {MOST_COUPLED}", got=str(classes),
            fix="remove the lines probA and probB for a model with decision values",
        )  # fmt: skip
    assert machine.prob_a is not None and machine.prob_b is not None
    one = builder.initializer("one", np.array(1.0))
    scaled = builder.node("Mul", [scores, builder.initializer("probA", machine.prob_a)], name="pairs/scaled")
    power = builder.node("Add", [scaled, builder.initializer("probB", machine.prob_b)], name="pairs/exponent")
    below = builder.node("Add", [builder.node("Exp", [power], name="pairs/exp"), one], name="pairs/below")
    raw = builder.node("Div", [one, below], name="pairs/raw")
    least, most = (builder.initializer(f"pairs/{n}", np.array(v)) for n, v in (("least", 1e-7), ("most", 1 - 1e-7)))
    pair = builder.node("Min", [builder.node("Max", [raw, least], name="pairs/max"), most], name="pairs/first")
    other = builder.node("Sub", [one, pair], name="pairs/second")
    both = builder.node("Concat", [pair, other], name="pairs", axis=1)
    if classes == 2:
        return both
    return _Coupling(builder, classes, machine.pairs).probabilities(both)


class _Coupling:
    """LibSVM's `multiclass_probability` on all rows at once: a Loop in which a row that has converged stays as it is.

    It minimises p' Q p by turns, and stops early; so probabilities are those only if it is done step by step.
    """

    def __init__(self, builder: GraphBuilder, classes: int, pairs: list[tuple[int, int]]) -> None:
        self._builder, self._classes, self._pairs = builder, classes, pairs

    def probabilities(self, both: ir.Value) -> ir.Value:
        """By [batch, 2 * pairs]: r_ij for each pair, then r_ji."""
        builder, k = self._builder, self._classes
        forward = np.zeros((k, k), np.int64)
        for pair, (i, j) in enumerate(self._pairs):
            forward[i, j], forward[j, i] = pair, len(self._pairs) + pair
        off = builder.initializer("coupling/off", 1 - np.eye(k))

        def chosen(name: str, table: Array) -> ir.Value:
            found = builder.node("Gather", [both, builder.initializer(f"{name}/at", table)], name=name, axis=1)
            return builder.node("Mul", [found, off], name=f"{name}/off")

        r, turned = chosen("coupling/r", forward), chosen("coupling/turned", forward.T.copy())
        product = builder.node("Mul", [r, turned], name="coupling/product")
        axis = builder.initializer("coupling/axis", np.array([1], np.int64))
        diagonal = builder.node("ReduceSumSquare", [r, axis], name="coupling/diagonal", keepdims=1)
        spread = builder.node("Mul", [diagonal, builder.initializer("coupling/eye", np.eye(k))], name="coupling/spread")
        q = builder.node("Sub", [spread, product], name="coupling/q")
        first = builder.node("Slice", [both, *self._bounds(0, 1)], name="coupling/column")
        zero = builder.node("Mul", [first, builder.initializer("none", np.array(0.0))], name="coupling/zero")
        start = builder.node(
            "Add", [zero, builder.initializer("coupling/even", np.full(k, 1 / k))], name="coupling/start"
        )
        moving = builder.node("Equal", [zero, zero], name="coupling/all")
        body = self._body(q)
        limit = builder.initializer("coupling/most", np.array(max(100, k), np.int64))
        go = builder.initializer("coupling/go", np.array(True))
        return builder.nodes(
            "Loop", [limit, go, start, moving], ["probabilities/exact", "coupling/still"], name="coupling", body=body
        )[0]

    def _bounds(self, start: int, end: int) -> list[ir.Value]:
        names = (("start", start), ("end", end), ("dim", 1))
        return [
            self._builder.initializer(f"coupling/{name}/{value}", np.array([value], np.int64)) for name, value in names
        ]

    def _body(self, q: ir.Value) -> ir.Graph:
        """One turn over all classes: (turn, go, p [batch, k], moving [batch, 1]) to (go, p, moving)."""
        k = self._classes
        body = self._builder.body("coupling/turn")
        body.input("coupling/number", INT64, [])
        body.input("coupling/go_on", BOOL, [])
        old = body.input("coupling/p", DOUBLE, [None, k])
        was = body.input("coupling/moving", BOOL, [None, 1])

        def constant(name: str, value: object) -> ir.Value:
            return body.initializer(f"coupling/body/{name}", np.asarray(value))

        def node(op_type: str, name: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
            return body.node(op_type, inputs, name=f"coupling/body/{name}", **attributes)

        row, last, one = constant("row", [1]), constant("last", [-1]), constant("one", 1.0)
        wide = node("Unsqueeze", "wide", old, row)
        qp = node("ReduceSum", "qp", node("Mul", "qp/parts", q, wide), last, keepdims=0)
        pqp = node("ReduceSum", "pqp", node("Mul", "pqp/parts", old, qp), last, keepdims=1)
        error = node("ReduceMax", "error", node("Abs", "size", node("Sub", "apart", qp, pqp)), last, keepdims=1)
        far = node("GreaterOrEqual", "far", error, constant("eps", 0.005 / k))
        moving = node("And", "moving", was, far)
        p = old
        for t in range(k):
            q_t = node("Gather", f"q_{t}", q, constant(f"t_{t}", t), axis=1)
            q_tt = node("Gather", f"q_{t}{t}", q_t, constant(f"at_{t}", [t]), axis=1)
            qp_t = node("Gather", f"qp_{t}", qp, constant(f"at_{t}", [t]), axis=1)
            diff = node("Div", f"diff_{t}", node("Sub", f"gap_{t}", pqp, qp_t), q_tt)
            scale = node("Add", f"scale_{t}", diff, one)
            p = node("Add", f"moved_{t}", p, node("Mul", f"move_{t}", diff, constant(f"unit_{t}", np.eye(k)[t])))
            p = node("Div", f"p_{t}", p, scale)
            twice = node("Mul", f"twice_{t}", qp_t, constant("two", 2.0))
            grown = node("Add", f"grown_{t}", node("Mul", f"square_{t}", diff, q_tt), twice)
            pqp = node("Add", f"pqp_{t}/sum", pqp, node("Mul", f"pqp_{t}/more", diff, grown))
            pqp = node("Div", f"pqp_{t}", node("Div", f"pqp_{t}/once", pqp, scale), scale)
            qp = node("Add", f"qp_{t}/sum", qp, node("Mul", f"qp_{t}/more", diff, q_t))
            qp = node("Div", f"qp_{t}/next", qp, scale)
        p = node("Where", "p", moving, p, old)
        count = node("Cast", "ones", moving, to=INT64.value)
        any_left = node("ReduceMax", "any", count, keepdims=0)
        go = node("Cast", "go", any_left, to=BOOL.value)
        return body.graph([go, p, moving])
