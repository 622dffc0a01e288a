"""Matrix products: one kernel and one layout of weights for any number of rows, no copies where strides do, errors."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

import sardonyx
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.jit import host_target
from sardonyx.compiler.kernels.matmul import MatMul
from sardonyx.compiler.program import Program
from sardonyx.ops.einsum import Equation
from tests.compiler.programs import program_of
from tests.suites.case import Case, floats, node
from tests.suites.linear import CASES

NODES = {case.name: case for case in CASES}
DEEP = 4099
"""Terms of a sum: many chunks, the last of them odd."""


def run(case: Case) -> np.ndarray:
    """What the provider makes of a case; all of it native."""
    session = sardonyx.InferenceSession(case.model().SerializeToString(), providers=["cpu"])
    assert {placement.provider for placement in session.explain()} == {"cpu"}
    return np.asarray(session.run(None, dict(case.feeds))[0])


def program(case: Case) -> Program:
    """Its program for this processor."""
    return program_of(ir.from_proto(case.model()), case.feeds, host_target())


def within(got: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """`got` is a @ b up to the rounding that its terms excuse, however they are added up."""
    exact, scale = (x.astype(np.float64) @ y.astype(np.float64) for x, y in ((a, b), (np.abs(a), np.abs(b))))
    assert got.shape == exact.shape
    assert np.all(np.abs(got - exact) <= np.finfo(got.dtype).eps * (2 * np.sqrt(a.shape[-1]) + 2) * scale)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6, 7, 11, 13, 100, 193])
@pytest.mark.parametrize("known", [False, True])
def test_exact(rows: int, *, known: bool) -> None:
    for dtype in (np.float32, np.float64):
        a, b = floats(rows, DEEP).astype(dtype), floats(DEEP, 37).astype(dtype)
        feeds, weights = ({"a": a}, {"b": b}) if known else ({"a": a, "b": b}, {})
        within(run(Case("deep", [node("MatMul", "a b")], feeds, weights)), a, b)


@pytest.mark.parametrize("rows", [1, 9])
def test_exact_turned(rows: int) -> None:
    a, b = floats(rows, DEEP), floats(37, DEEP)
    turned = [node("Transpose", "b", "t", perm=[1, 0]), node("MatMul", "a t")]
    within(run(Case("turned", turned, {"a": a, "b": b})), a, b.T)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
def test_gemm_of_integers(dtype: type[np.generic]) -> None:
    feeds = {name: (floats(*dims) * 99).astype(dtype) for name, dims in (("a", (40, 7)), ("b", (21, 40)), ("c", (21,)))}
    scaled = node("Gemm", "a b c", transA=1, transB=1, alpha=3.0, beta=2.0)
    got = run(Case("integers", [scaled], feeds))
    want = feeds["a"].T @ feeds["b"].T * dtype(3) + feeds["c"] * dtype(2)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, want)


def test_integers_times_a_fraction_are_not_native() -> None:
    feeds = {"a": np.ones((2, 3), np.int32), "b": np.ones((3, 2), np.int32)}
    case = Case("fraction", [node("Gemm", "a b", alpha=0.5)], feeds)
    session = sardonyx.InferenceSession(case.model().SerializeToString())
    (placement,) = session.explain()
    assert placement.provider == "reference"
    assert "integers times a fraction" in placement.reason


def test_no_terms_are_zero_with_what_follows() -> None:
    nodes = [node("MatMul", "a b", "m"), node("Add", "m c")]
    for rows in (1, 4):
        weights = {"b": np.zeros((0, 5), np.float32), "c": np.arange(5, dtype=np.float32)}
        got = run(Case("none", nodes, {"a": np.zeros((rows, 0), np.float32)}, weights))
        np.testing.assert_array_equal(got, np.tile(weights["c"], (rows, 1)))


def test_special_values_stay_in_their_rows() -> None:
    a = floats(14, 300)
    a[3, 7], a[13, 299] = np.nan, np.inf
    got = run(Case("special", [node("MatMul", "a b")], {"a": a}, {"b": np.abs(floats(300, 21)) + np.float32(0.1)}))
    assert np.isnan(got[3]).all()
    assert np.isposinf(got[13]).all()
    assert np.isfinite(np.delete(got, [3, 13], axis=0)).all()


def test_rows_shape_neither_code_nor_weights() -> None:
    made = []
    weights = {"w": floats(70, 130)}
    for rows in (1, 2, 13, 500):
        *_, step = program(Case("rows", [node("MatMul", "x w")], {"x": floats(rows, 70)}, weights)).steps
        packed = next(view for view in step.views if view.buffer.name.startswith("w in"))
        assert isinstance(step.kernel, MatMul)
        made.append((replace(step.kernel, packed=False), packed.dims, packed.strides))
    assert len(set(made)) == 1


def test_many_rows_are_packed_once_for_all_their_products() -> None:
    weights = {"a": floats(70, 64), "b": floats(70, 64)}
    nodes = [node("MatMul", "x a", "l"), node("MatMul", "x b", "r"), node("Add", "l r")]
    many = program(Case("many", nodes, {"x": floats(40, 70)}, weights)).steps
    assert [step.kernel.name for step in many] == ["packrows", "matmul", "matmul"]
    few = program(Case("few", nodes, {"x": floats(4, 70)}, weights)).steps
    assert [step.kernel.name for step in few] == ["matmul", "matmul"]


@pytest.mark.parametrize("name", ["MatMul-heads-13", "MatMul-heads-1"])
def test_heads_are_read_where_they_are(name: str) -> None:
    """Two batch axes, queries and keys turned: strides say it all, and nothing is packed into other memory."""
    kernels = [step.kernel.name for step in program(NODES[name]).steps]
    assert [kernel for kernel in kernels if kernel != "elementwise"] == kernels[:2]
    assert kernels.count("elementwise") <= 1  # the graph's output is row-major


def test_product_is_one_step_with_all_that_follows() -> None:
    steps = program(NODES["MatMul-gelu-residual-8"]).steps
    first, second = (step for step in steps if step.kernel.name == "matmul")
    assert first.label == "MatMul_m+Add_s+Gelu_g"
    assert second.label == "MatMul_n+Add_y"


def test_scratch_memory_does_not_grow_with_the_problem() -> None:
    def most(**dims: int) -> int:
        x, w = floats(dims["m"], dims["k"]), floats(dims["k"], dims["n"])
        return max(step.scratch for step in program(Case("x", [node("MatMul", "x w")], {"x": x, "w": w})).steps)

    assert most(m=900, k=5000, n=64) == most(m=100, k=2500, n=32) <= host_target().l2_bytes


BAD_EQUATIONS: Mapping[str, str] = {
    "ij": "ij->ij",
    "terms": "ij,jk,kl->il",
    "letters": "i1,1k->ik",
    "result": "ij,jk->iz",
    "twice": "ij,jk->ii",
    "rank": "ijk,jk->ik",
    "sizes": "ij,ik->jk",
    "diagonal": "ii,jk->jk",
}


@pytest.mark.parametrize("equation", BAD_EQUATIONS.values(), ids=BAD_EQUATIONS)
def test_einsum_says_what_is_wrong(equation: str) -> None:
    case = Case("bad", [node("Einsum", "a b", equation=equation)], {"a": floats(4, 5), "b": floats(5, 6)})
    model = case.model(infer=False)
    model.graph.output[0].type.tensor_type.elem_type = 1
    with pytest.raises(sardonyx.SardonyxError):
        sardonyx.InferenceSession(model.SerializeToString(), providers=["cpu"]).run(None, dict(case.feeds))


def test_equations() -> None:
    assert Equation.parse("b...i, ij", (4, 2)).result == (".2", ".1", "b", "j")
    assert Equation.parse("...,...", (1, 3)) == Equation(((".1",), (".3", ".2", ".1")), (".3", ".2", ".1"))
    assert Equation.parse("->", (0,)) == Equation(((),), ())
    assert Equation.parse("zA,Ay", (2, 2)).result == ("y", "z")
    with pytest.raises(ValueError, match="letters"):
        Equation.parse("......,jk->jk", (2, 2))


def test_einsum_of_one_matrix_is_a_view() -> None:
    steps = program(
        Case("t", [node("Einsum", "x", "t", equation="ij->ji"), node("MatMul", "x t")], {"x": floats(4, 9)})
    )
    assert len(steps.steps) == 1


def test_einsum_packs_known_weights() -> None:
    *_, step = program(NODES["Einsum-fused"]).steps
    assert step.label == "Einsum_e+Add_s+Relu_y"
    assert any(view.buffer.name.startswith("w in panels") and view.dtype is DType.F32 for view in step.views)
