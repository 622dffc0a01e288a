"""Recurrent layers where onnxruntime has no such form, or says nothing: both layouts, float64, hostile sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import sardonyx
from sardonyx.compiler.kernels.rnn import Recurrence
from sardonyx.compiler.program import Program
from sardonyx.providers.base import CompileOptions
from sardonyx.providers.cpu import CPUExecutable, CPUProvider
from tests.suites.case import Array, Case, floats
from tests.suites.recurrent import CASES, GATES, OUTPUTS, layer


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def cell(op: str, gates: list[Array], h: Array, c: Array, inner: tuple[Array, Array, bool]) -> tuple[Array, Array]:
    """One time: `gates` are all products and biases, `inner` the weights and biases of a GRU's hidden gate and whether
    its reset gate comes after them.
    """
    if op == "RNN":
        return np.tanh(gates[0]), c
    if op == "GRU":
        (weights, bias, after), (z, r) = inner, map(sigmoid, gates[:2])
        reset = r * (weights @ h + bias) if after else weights @ (r * h) + bias
        return (1 - z) * np.tanh(gates[2] - weights @ h - bias + reset) + z * h, c
    i, o, f, g = gates
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def reference(op: str, case: Case, *, after: bool = False) -> dict[str, Array]:
    """All outputs with the default functions, by float64 NumPy, time for time and row for row."""
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in case.nodes[0].attribute}
    given = {name: np.asarray(array, np.float64) for name, array in {**case.feeds, **case.weights}.items()}
    batch_first = bool(attributes.get("layout", 0))
    x = given["x"].swapaxes(0, 1) if batch_first else given["x"]
    (times, rows, _), (directions, _, units) = x.shape, given["r"].shape
    direction = attributes.get("direction", b"forward")
    results = {name: np.zeros((directions, rows, units)) for name in ("yh", "yc")}
    results["y"] = np.zeros((times, directions, rows, units))
    for d in range(directions):
        w, r = given["w"][d], given["r"][d]
        wb, rb = np.split(given["b"][d], 2) if "b" in given else np.zeros((2, w.shape[0]))
        backwards = direction == b"reverse" or d == 1
        for row in range(rows):
            length = int(given["l"][row]) if "l" in given else times
            states = [given[n].swapaxes(0, 1) if batch_first else given[n] for n in "hc" if n in given]
            h, c = (states[n][d, row] if n < len(states) else np.zeros(units) for n in (0, 1))
            for t in reversed(range(length)) if backwards else range(length):
                gates = np.split(w @ x[t, row] + r @ h + wb + rb, GATES[op])
                h, c = cell(op, gates, h, c, (r[-units:], rb[-units:], after))
                results["y"][t, d, row] = h
            results["yh"][d, row], results["yc"][d, row] = h, c
    if batch_first:
        results = {name: np.moveaxis(value, -2, 0) for name, value in results.items()}
    return results


def run(case: Case) -> Array:
    session = sardonyx.InferenceSession(case.model().SerializeToString(), providers=["cpu"])
    assert {placement.provider for placement in session.explain()} == {"cpu"}
    (y,) = session.run(None, dict(case.feeds))
    return np.asarray(y)


def program_of(case: Case) -> Program:
    return CPUProvider().compile(ir.from_proto(case.model()), CompileOptions(threads=2)).program()


def doubled(case: Case) -> Case:
    def wide(arrays: Any) -> dict[str, Array]:
        return {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in arrays.items()}

    return Case(case.name, case.nodes, wide(case.feeds), wide(case.weights), case.opset)


def changed(case: Case, **arrays: Array) -> Case:
    """The case with other arrays in place of some."""
    feeds, weights = ({n: arrays.get(n, a) for n, a in given.items()} for given in (case.feeds, case.weights))
    return Case(case.name, case.nodes, feeds, weights)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_layouts(op: str, layout: int, direction: str) -> None:
    for wanted in OUTPUTS[op]:
        given = {"wanted": wanted, "layout": layout, "direction": direction}
        case = layer(op, "layout", (5, 3, 4, 9), "bhc" if op == "LSTM" else "bh", lengths=(5, 1, 3), **given)
        np.testing.assert_allclose(run(case), reference(op, case)[wanted], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("units", [1, 4, 9, 70])
def test_float64(op: str, units: int) -> None:
    for after in (0, 1) if op == "GRU" else (0,):
        more = {"linear_before_reset": 1} if after else {}
        case = doubled(layer(op, "float64", (6, 3, 7, units), direction="bidirectional", **more))
        got = run(case)
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, reference(op, case, after=bool(after))["y"], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("sizes", [(0, 3, 4, 5), (3, 0, 4, 5), (3, 2, 0, 5), (3, 2, 4, 0)])
def test_nothing(op: str, sizes: tuple[int, int, int, int]) -> None:
    """No times: the last state is the first; no inputs: biases and states alone."""
    for wanted in OUTPUTS[op]:
        case = layer(op, "nothing", sizes, "bhc" if op == "LSTM" else "bh", wanted)
        got, want = run(case), reference(op, case)[wanted]
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [-1, 5, 1 << 30, -(1 << 31)])
def test_lengths_out_of_range(length: int) -> None:
    case = layer("LSTM", "lengths", (4, 3, 5, 9), lengths=(4, length, 1))
    with pytest.raises(sardonyx.ExecutionError, match="length") as caught:
        run(case)
    assert str(length) in str(caught.value)


@pytest.mark.parametrize(
    "case",
    [
        layer("LSTM", "direction", direction="sideways"),
        layer("LSTM", "few-functions", activations=["Tanh"]),
        layer("GRU", "clip", clip=-1.0),
        changed(layer("RNN", "weights"), w=floats(1, 8, 5)),
        changed(layer("GRU", "bias"), b=floats(1, 9)),
        changed(layer("RNN", "rank"), x=floats(4, 3)),
        changed(layer("RNN", "states", given="h"), h=floats(1, 2, 9)),
        changed(layer("LSTM", "peepholes", given="p"), p=floats(1, 9)),
    ],
    ids=lambda case: case.name,
)
def test_typed_errors(case: Case) -> None:
    with pytest.raises(sardonyx.SardonyxError) as caught:
        sardonyx.InferenceSession(case.model(infer=False).SerializeToString()).run(None, dict(case.feeds))
    assert not isinstance(caught.value, sardonyx.CompileError)


def test_unknown_function_is_refused() -> None:
    case = layer("RNN", "unknown", activations=["Cosine"])
    reasons = CPUProvider().claims(ir.from_proto(case.model()))
    assert [claim.reason for claim in reasons.values()] == ["the activation function Cosine"]


def test_one_step_for_all_times() -> None:
    """Weights known: the inputs' product and the recurrence, whatever the number of times."""
    for times in (1, 50):
        steps = program_of(layer("LSTM", "steps", (times, 1, 8, 16), direction="bidirectional")).steps
        kernels = [step.kernel.name for step in steps]
        assert kernels == [*(["packrows"] if times > 1 else []), "matmul", "recurrence"]
        assert steps[-1].domain == 2


def test_layers_in_a_stack_are_not_copied() -> None:
    (case,) = (case for case in CASES if case.name == "LSTM-stack")
    labels = [step.label for step in program_of(case).steps]
    assert not [label for label in labels if label.startswith(("copy", "Transpose", "Reshape"))]


def test_rows_are_shared_by_threads() -> None:
    steps = program_of(layer("GRU", "rows", (3, 40, 8, 16))).steps
    assert steps[-1].domain == 2
    assert program_of(layer("GRU", "row", (3, 1, 8, 16))).steps[-1].domain == 1


def test_constant_inputs_are_not_left_to_the_reference() -> None:
    """onnx.reference knows no lengths and no other functions: even what is known beforehand is computed natively."""
    case = layer("RNN", "constant", (4, 2, 5, 9), lengths=(1, 4), fed="")
    fed = layer("RNN", "constant", (4, 2, 5, 9), lengths=(1, 4))
    fed = Case("fed", fed.nodes, {k: case.weights[k] for k in fed.feeds}, {k: case.weights[k] for k in fed.weights})
    options = sardonyx.SessionOptions()
    options.graph_optimization_level = sardonyx.GraphOptimizationLevel.ORT_DISABLE_ALL
    (got,) = sardonyx.InferenceSession(case.model().SerializeToString(), options).run(None, {})
    np.testing.assert_array_equal(got, run(fed))


def test_all_sizes_are_one_program() -> None:
    """Times and rows are arguments: other ones need no lowering, but for a single time or row."""
    case = layer("LSTM", "open", (5, 3, 4, 9), direction="bidirectional")
    model = case.model()
    for axis, name in ((0, "times"), (1, "rows")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    executable = CPUProvider().compile(ir.from_proto(model), CompileOptions(threads=2))
    assert isinstance(executable, CPUExecutable)
    for (times, rows), lowerings in (((5, 3), 1), ((9, 2), 1), ((300, 7), 1), ((4, 1), 2), ((30, 1), 2), ((1, 4), 3)):
        x = floats(times, rows, 4)
        (got, *_) = executable.run([x])
        np.testing.assert_allclose(got, reference("LSTM", changed(case, x=x))["y"], rtol=1e-4, atol=2e-6)
        assert executable._native.lowerings == lowerings


def test_threads_share_a_single_row() -> None:
    """Where a time of it is long enough; however many threads there are, the result is the same."""
    case = layer("LSTM", "row", (40, 1, 8, 128), given="bh")
    (kernel,) = (step.kernel for step in program_of(case).steps if isinstance(step.kernel, Recurrence))
    assert kernel.together
    model, results = ir.from_proto(case.model()), []
    for threads in (1, 2, 5):
        executable = CPUProvider().compile(model, CompileOptions(threads=threads))
        results += [
            executable.run([case.feeds[value.name or ""] for value in model.graph.inputs])[0] for _ in range(20)
        ]
    for result in results:
        np.testing.assert_array_equal(result, results[0])
    np.testing.assert_allclose(results[0], reference("LSTM", case)["y"], rtol=1e-4, atol=2e-6)


def test_short_times_are_one_threads() -> None:
    (kernel,) = (
        s.kernel for s in program_of(layer("LSTM", "row", (40, 1, 8, 32))).steps if s.kernel.name == "recurrence"
    )
    assert isinstance(kernel, Recurrence)
    assert not kernel.together
