from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from pass_cases import check, only, operators, parse, random

from sardonyx.model.shapes import infer_shapes
from sardonyx.passes.pipeline import optimize
from sardonyx.passes.simplify_shapes import SIMPLIFY_SHAPES
from sardonyx.passes.symbolic import Contents, Dim, dims_of, reshaped, target_of

N, S = Dim(1, ("N",)), Dim(1, ("S",))
NUMBERS = {f"i{n}": np.array(n) for n in range(4)} | {f"v{n}": np.array([n]) for n in range(9)}
NUMBERS |= {"rest": np.array([-1]), "end": np.array([2**63 - 1]), "none": np.array([-1, -1, -1])}
NUMBERS |= {"ones": np.array([1, 1, 1]), "before": np.array([-2]), "two": np.array(2)}


def model_of(text, **weights):
    used = {name: array for name, array in NUMBERS.items() if f"{name})" in text or f"{name}," in text}
    return infer_shapes(parse(text, opset=18, ir_version=8, **used, **weights))


def test_dims():
    assert N * Dim(2) * S == Dim(2, ("N", "S")) == S * N * Dim(2)
    assert (Dim(8, ("N", "S"))).over(Dim(4, ("S",))) == Dim(2, ("N",))
    assert Dim(8).over(Dim(3)) is None and N.over(S) is None and N.over(Dim(0)) is None
    assert [str(dim) for dim in (N + N, N - N, N + Dim(0), Dim(0) + N)] == ["2*N", "0", "N", "N"]
    assert N + S == S + N and (N + S).is_size and not (N - S).is_size
    assert str(Dim(2, ("N", "S"))) == "2*N*S" and str(Dim(3)) == "3" and str(N) == "N"


def test_reshape_and_its_target():
    assert reshaped((N, S, Dim(8)), (Dim(0), Dim(0), Dim(-1), Dim(4))) == (N, S, Dim(2), Dim(4))
    assert reshaped((N, S, Dim(8)), (Dim(-1), Dim(8))) == (Dim(1, ("N", "S")), Dim(8))
    assert reshaped((N, Dim(8)), (Dim(-1), Dim(3))) is None
    assert reshaped((N, Dim(8)), (Dim(-1), Dim(-1))) is None
    assert reshaped((N,), (Dim(1), Dim(0))) is None
    assert target_of((N, S, Dim(8)), (N, S, Dim(2), Dim(4))) == [0, 0, 2, 4]
    assert target_of((N, S, Dim(8)), (Dim(1, ("N", "S")), Dim(8))) == [-1, 8]
    assert target_of((N, S), (S, N)) is None
    assert target_of((N, Dim(0)), (N, Dim(0))) is None


@pytest.mark.parametrize(
    ("arithmetic", "want"),
    [
        ("t = Shape<start=1>(x)", (S, Dim(8))),
        ("s = Shape(x) t = Gather(s, i1)", (S,)),
        ("s = Shape(x) t = Slice(s, rest, end)", (Dim(8),)),
        ("s = Shape(x) a = Slice(s, v0, v2) t = Concat<axis=0>(a, v4)", (N, S, Dim(4))),
        ("s = Shape(x) a = Gather(s, i1) b = Mul(a, two) t = Unsqueeze(b, v0)", (Dim(2, ("S",)),)),
        ("s = Shape(x) a = Gather(s, i2) b = Div(a, two) t = Unsqueeze(b, v0)", (Dim(4),)),
        ("s = Shape(x) t = ReduceProd<keepdims=0>(s)", (Dim(8, ("N", "S")),)),
        ("t = Size(x)", (Dim(8, ("N", "S")),)),
        # -1 in the target of an Expand means 1, says PyTorch, and a size is never -1
        (
            "a = Shape<end=1>(x) c = Concat<axis=0>(a, rest, v4) e = Equal(c, none) t = Where(e, ones, c)",
            (N, Dim(1), Dim(4)),
        ),
        ("s = Shape(x) a = Cast<to=1>(s) t = Cast<to=7>(a)", None),
    ],
)  # fmt: skip
def test_contents(arithmetic, want):
    model = model_of(f"(float[N,S,8] x) => (int64[K] t) {{ {arithmetic} }}")
    value = model.graph.outputs[0]
    assert Contents().of(value) == want


SIMPLE = [
    # what TorchScript writes for view(batch, length, 2, -1)
    ("s = Shape(x) n = Gather(s, v0) l = Gather(s, v1) t = Concat<axis=0>(n, l, v2, rest) y = Reshape(x, t)",
     "N,S,2,4", ["Reshape"], [0, 0, 2, 4]),
    ("s = Shape(x) l = Gather(s, v1) t = Concat<axis=0>(rest, l, v8) y = Reshape(x, t)", "N,S,8", [], None),
    ("s = Shape(x) n = Gather(s, v0) l = Gather(s, v1) m = Mul(n, l) t = Concat<axis=0>(m, v8) y = Reshape(x, t)",
     "K,8", ["Reshape"], [-1, 8]),
    # Reshapes in a row, with others of their kind
    ("a = Reshape(x, flat) b = Unsqueeze(a, v1) y = Reshape(b, apart)", "N,S,2,4", ["Reshape"], [0, 0, 2, 4]),
    # what torch.export writes for the transpose of the last axes
    ("a = Reshape(x, thin) b = Transpose<perm=[0,2,1]>(a) s = Shape(x) l = Slice(s, before, rest) "
     "n = Slice(s, v0, before) e = Slice(s, rest, end) t = Concat<axis=0>(n, e, l) y = Reshape(b, t)",
     "N,8,S", ["Transpose"], None),
    # no-ops under open dims
    ("s = Shape(x) y = Expand(x, s)", "N,S,8", [], None),
    ("y = Slice(x, v0, end, v1)", "N,S,8", [], None),
    ("s = Shape(x) l = Gather(s, v1) y = Slice(x, v0, l, v1)", "N,S,8", [], None),
]  # fmt: skip


@pytest.mark.parametrize(("body", "dims", "left", "target"), SIMPLE)
def test_chains(body, dims, left, target):
    more = {
        name: array
        for name, array in {"flat": np.array([0, 0, 8]), "thin": np.array([-1, 0, 8])}.items()
        if name in body
    }
    if "apart" in body:
        body = body.replace("apart", "t").replace(
            "y =", "s = Shape(x) n = Gather(s, v0) l = Gather(s, v1) t = Concat<axis=0>(n, l, v2, v4) y ="
        )
    text = f"(float[N,S,8] x) => (float[{dims}] y) {{ {body.replace('y =', 'z =')} y = Relu(z) }}"
    model = model_of(text, **more)
    result = optimize(model)
    if "thin" in body:  # [-1, 0, 8] of rank 3 is the input itself
        assert [name for name in operators(result) if name != "Relu"] == left
    assert operators(result) == [*left, "Relu"]
    if target is not None:
        (reshape,) = (node for node in result.graph if node.op_type == "Reshape")
        assert reshape.inputs[1].const_value.numpy().tolist() == target
    check(model, result)


SWAPPED = "l = Shape<start=1, end=2>(x) n = Shape<end=1>(x) t = Concat<axis=0>(l, n, v8) z = Reshape(x, t)"


@pytest.mark.parametrize(
    ("body", "dims", "left"),
    [
        (SWAPPED, "S,N,8", "Reshape"),
        ("z = Slice(x, v1, end, v1)", "N,K,8", "Slice"),
        ("z = Slice(x, v0, rest, v1)", "N,K,8", "Slice"),
        ("s = Shape(x) n = Gather(s, v0) z = Slice(x, v0, n, v1)", "N,K,8", "Slice"),
    ],
)  # fmt: skip
def test_near_misses(body, dims, left):
    model = model_of(f"(float[N,S,8] x) => (float[{dims}] y) {{ {body} y = Relu(z) }}")
    result = optimize(model)
    assert left in operators(result)
    check(model, result)


def test_outputs_keep_what_is_declared():
    """Inference in between tells more than the graph declares, and must not."""
    text = (
        "(float[N,S,8] x) => (float[A,B,C] y) { n = Shape<end=1>(x) t = Concat<axis=0>(n, v4, rest) y = Reshape(x, t) }"
    )
    model = parse(text, **{name: NUMBERS[name] for name in ("v4", "rest")})
    infer_shapes(model)
    before = model.graph.outputs[0].shape
    assert optimize(model).graph.outputs[0].shape == before


def test_empty_tensors_keep_their_targets():
    body = "s = Shape<end=1>(x) t = Concat<axis=0>(s, v0, v4) y = Reshape<allowzero=1>(x, t)"
    text = f"(float[N,0,8] x) => (float[N,0,4] y) {{ {body} }}"
    result, applied, _ = only(SIMPLIFY_SHAPES, model_of(text))
    assert operators(result)[-1] == "Reshape" and not [event for event in applied if event.op_type == "Reshape"]


def test_named_dims_are_learned_for_later_nodes():
    text = """(float[N,S,8] x) => (float[K,L] y) {
        s = Shape(x) n = Gather(s, v0) l = Gather(s, v1) m = Mul(n, l) t = Concat<axis=0>(m, rest)
        f = Reshape(x, t) g = Relu(f) y = Identity(g)
    }"""
    result, _, _ = only(SIMPLIFY_SHAPES, model_of(text))
    (relu,) = (node for node in result.graph if node.op_type == "Relu")
    assert dims_of(relu.outputs[0]) == (N * S, Dim(8))
    assert isinstance(relu.outputs[0].shape[0], ir.SymbolicDim)


GEMM = """(float[N,S,8] x) => (float[N,S,4] y) {
    s = Shape(x) n = Gather(s, v0) l = Gather(s, v1) f = Reshape(x, rows)
    g = Gemm<OPTIONS>(f, w, b) t = Concat<axis=0>(TARGET, v4) h = Reshape(g, t) y = Relu(h)
}"""


@pytest.mark.parametrize(
    ("options", "target", "left"),
    [
        ("alpha=1.0", "n, l", ["MatMul", "Add", "Relu"]),
        ("alpha=2.0", "n, l", None),
        ("transB=1", "n, l", None),
        ("alpha=1.0", "l, n", None),
    ],
)
def test_linear_layers_of_flattened_rows(options, target, left):
    text = GEMM.replace("OPTIONS", options).replace("TARGET", target)
    text = text.replace("float[N,S,4] y", "float[A,B,4] y") if target == "l, n" else text
    shape = (4, 8) if options == "transB=1" else (8, 4)
    model = model_of(text, rows=np.array([-1, 8]), w=random(*shape), b=random(4))
    result = optimize(model)
    assert operators(result) == left if left else "Gemm" in operators(result)
    check(model, result)
