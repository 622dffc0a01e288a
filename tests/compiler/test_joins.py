"""Concatenations without copies: parts are written where they end up."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper

import sardonyx
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.joins import adjacent
from sardonyx.compiler.program import Buffer, BufferKind, Program, View
from sardonyx.providers.base import CompileOptions
from sardonyx.providers.cpu import CPUProvider
from sardonyx.zoo import architectures
from tests.suites.case import Case, floats, node

X = {"x": floats(1, 8, 9, 7)}


def conv(source: str, target: str, weights: str = "w") -> onnx.NodeProto:
    return node("Conv", f"{source} {weights}", target, pads=[1, 1, 1, 1])


def copies(model: onnx.ModelProto) -> int:
    """Steps that copy but for those at the borders, into channels-last and back."""
    program = CPUProvider().compile(ir.from_proto(model), CompileOptions(threads=2)).program()
    return _copies(program)


def _copies(program: Program) -> int:
    return sum(step.kernel.name in ("elementwise", "turn") for step in program.steps) - 2


def check(case: Case) -> None:
    blob = case.model().SerializeToString()
    (want,) = onnxruntime.InferenceSession(blob).run(None, dict(case.feeds))
    (got,) = sardonyx.InferenceSession(blob, providers=["cpu"]).run(None, dict(case.feeds))
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6 * np.abs(want).max())


W = {"w": floats(8, 8, 3, 3), "v": floats(4, 8, 3, 3), "u": floats(8, 12, 3, 3), "t": floats(8, 20, 3, 3)}
FIRE = [conv("x", "a"), conv("x", "b", "v"), node("Concat", "a b", "j", axis=1), conv("j", "y", "u")]
DENSE = [
    conv("x", "a"),
    conv("a", "b", "v"),
    node("Concat", "a b", "j", axis=1),
    conv("j", "c", "u"),
    node("Concat", "a b c", "k", axis=1),
    conv("k", "y", "t"),
]
NESTED = [
    conv("x", "a"),
    conv("x", "b", "v"),
    node("Concat", "a b", "j", axis=1),
    conv("j", "c", "u"),
    node("Concat", "j c", "k", axis=-3),
    conv("k", "y", "t"),
]
SPLIT = [
    conv("x", "a"),
    node("Split", "a", "p q", axis=1, num_outputs=2),
    node("Relu", "p", "r"),
    node("MaxPool", "q", "s", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    node("Concat", "r s", "j", axis=1),
    conv("j", "y"),
]


@pytest.mark.parametrize("nodes", [FIRE, DENSE, NESTED, SPLIT], ids=["fire", "dense", "nested", "split"])
def test_parts_are_written_in_place(nodes: list[onnx.NodeProto]) -> None:
    case = Case("joined", nodes, X, W)
    check(case)
    # Relu of a half is a step of its own and no copy.
    assert copies(case.model()) == (1 if nodes is SPLIT else 0)


@pytest.mark.parametrize(
    "nodes",
    [
        [conv("x", "a"), node("Concat", "a a", "j", axis=1), node("Relu", "j")],
        [conv("x", "a"), node("Concat", "x a", "j", axis=1), node("Relu", "j")],
        [conv("x", "a"), conv("x", "b", "v"), node("Concat", "b a", "j", axis=1), node("Concat", "a b j", axis=1)],
        [conv("x", "a"), node("Flatten", "a", "f"), node("Concat", "f f", axis=0)],
        [conv("x", "a"), node("Concat", "a", "j", axis=1), node("Neg", "j")],
        [conv("x", "a"), conv("a", "b"), node("Concat", "a b", "j", axis=0), conv("j", "y")],
        [conv("x", "a"), conv("a", "b"), node("Concat", "a b", "j", axis=3), conv("j", "y")],
        [conv("x", "a"), node("Neg", "a", "n"), conv("n", "b"), node("Concat", "n b", "j", axis=1), node("Neg", "j")],
    ],
)
def test_other_joins(nodes: list[onnx.NodeProto]) -> None:
    """The same part twice, graph inputs, parts of two joins, other axes and layouts."""
    check(Case("joined", nodes, X, W))


@pytest.mark.parametrize("a", [4, 12])
@pytest.mark.parametrize("b", [0, 4, 8])
def test_wrong_declared_dims(a: int, b: int) -> None:
    """A model that declares other channels than its parts have gets its result all the same, or a typed error."""
    model = Case("lies", FIRE, X, W).model(infer=False)
    for name, channels in (("a", a), ("b", b)):
        model.graph.value_info.append(helper.make_tensor_value_info(name, 1, [1, channels, 9, 7]))
    truth = Case("lies", FIRE, X, W).model().SerializeToString()
    (want,) = onnxruntime.InferenceSession(truth).run(None, dict(X))
    try:
        (got,) = sardonyx.InferenceSession(model.SerializeToString(), providers=["cpu"]).run(None, dict(X))
    except sardonyx.SardonyxError:
        return
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6 * np.abs(want).max())


def test_squeezenet_copies_nothing() -> None:
    model = architectures.build("squeezenet1.1", image=96)
    assert _copies(CPUProvider().compile(model, CompileOptions(threads=2)).program()) <= 0


def test_adjacent() -> None:
    buffer = Buffer(0, BufferKind.ARENA, 400)
    first = View(buffer, DType.F32, (2, 3), (10, 1))
    second = View(buffer, DType.F32, (2, 5), (10, 1), 3)
    assert adjacent([first, second], 1) == View(buffer, DType.F32, (2, 8), (10, 1))
    assert adjacent([second, first], 1) is None
    assert adjacent([first, View(buffer, DType.F32, (2, 5), (10, 1), 4)], 1) is None
    assert adjacent([first, View(buffer, DType.F32, (2, 5), (12, 1), 3)], 1) is None
