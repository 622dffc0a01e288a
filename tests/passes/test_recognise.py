"""Operators put back together: from what exporters write (tests/passes/data), from formulas, and near misses."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from pass_cases import check, operators, parse, random, run_onnxruntime, run_reference

import sardonyx
from sardonyx.measure.equivalence import compare
from sardonyx.model import file
from sardonyx.model.opset import raise_opset
from sardonyx.model.shapes import infer_shapes
from sardonyx.passes.inline import inline_functions
from sardonyx.passes.pipeline import optimize

DATA = Path(__file__).parent / "data"

# What is left of each recorded export besides Reshape, Transpose and the like.
EXPORTS = {
    "layernorm.script-14": "LayerNormalization",
    "layernorm-plain.script-14": "LayerNormalization",
    "rmsnorm.dynamo-18": "RMSNormalization",
    "rmsnorm-spelled.script-17": "RMSNormalization",
    "rmsnorm-spelled.dynamo-18": "RMSNormalization",
    "gelu.script-17": "Gelu",
    "gelu.dynamo-18": "Gelu",
    "gelu-tanh.script-17": "Gelu",
    "gelu-tanh.dynamo-18": "Gelu",
    "gelu-spelled.script-17": "Gelu",
    "gelu-spelled.dynamo-18": "Gelu",
    "silu.script-17": "Swish",
    "silu.dynamo-18": "Swish",
    "mish.script-17": "Mish",
    "attention.script-17": "Attention",
    "attention.dynamo-18": "Attention",
    "attention-float-mask.script-17": "Attention",
    "attention-float-mask.dynamo-18": "Attention",
    "attention-bool-mask.script-17": "Where Attention",
    "attention-bool-mask.dynamo-18": "Where Attention",
    "attention-causal.script-17": "Attention",
    "attention-causal.dynamo-18": "Attention",
    "encoder-layer.dynamo-18": "LayerNormalization*2 MatMul*3 Add*5 Attention Gemm Relu",
    "bert.script-17": "Sub Mul MatMul*3 Add*4 Attention LayerNormalization",
    "bert.dynamo-18": "Sub Mul MatMul*3 Add*4 Attention LayerNormalization",
    "gpt2.script-17": "MatMul Add Where Attention",
    "gpt2.dynamo-18": "MatMul Add Where Attention",
    "llama.script-17": "MatMul*5 Equal Where Cos Sin RotaryEmbedding*2 Attention",
    "llama.dynamo-18": "MatMul*5 Cos Sin RotaryEmbedding*2 Attention",
    "llama-fused.script-17": "MatMul*5 Equal Where Cos Sin RotaryEmbedding*2 Attention",
    "llama-fused.dynamo-18": "MatMul*5 Cos Sin RotaryEmbedding*2 Attention",
    "llama-fused.dynamo-23": "MatMul*5 Cos Sin RotaryEmbedding*2 Attention",
    # the probabilities are an output, too
    "multihead.script-17": "MatMul*5 Add*3 Mul Softmax Gemm ReduceMean",
}
# onnxruntime takes a row of float.min for masked entirely and makes zeros of it, not a mean: a seed without such rows.
SEEDS = {"attention-bool-mask.dynamo-18": 1}
MOVES = {
    "Reshape",
    "Transpose",
    "Shape",
    "Gather",
    "Concat",
    "Unsqueeze",
    "Squeeze",
    "Slice",
    "Split",
    "Cast",
    "Expand",
}


def counted(text):
    pairs = (entry.partition("*") for entry in text.split())
    return Counter({name: int(times or 1) for name, _, times in pairs})


def left(model):
    return Counter(name for name in operators(model) if name not in MOVES)


def test_every_recorded_export_is_tested():
    assert {path.name.removesuffix(".onnx") for path in DATA.glob("*.onnx")} == set(EXPORTS)


@pytest.mark.parametrize("name", EXPORTS)
def test_exports(name, tmp_path):
    """Raised to the newest opset, it becomes the operators, computes the same and is left alone after that."""
    source, target = DATA / f"{name}.onnx", tmp_path / "optimized.onnx"
    model = file.load(source)
    inline_functions(model)
    result = optimize(infer_shapes(raise_opset(model, 24)))
    assert left(result) == counted(EXPORTS[name])
    file.save(result, target)
    onnx.checker.check_model(target, full_check=True)
    for reference in (False, True):
        verdict = compare(source, target, reference=reference, seed=SEEDS.get(name, 0))
        assert not isinstance(verdict, str), verdict
        assert verdict.evaluator == ("onnx.reference" if reference else "onnxruntime")
        assert verdict.same, verdict
        assert all(size > 1 for size in verdict.dims.values())
    again = ir.to_proto(optimize(result)).SerializeToString(deterministic=True)
    assert again == ir.to_proto(result).SerializeToString(deterministic=True)


@pytest.mark.parametrize("name", ["bert.script-17", "gpt2.script-17", "attention-causal.dynamo-18", "gelu.script-17"])
@pytest.mark.parametrize("provider", ["cpu", "reference"])
def test_sessions_use_operators_newer_than_the_model(name, provider):
    """Nodes that carry their own version run on each provider, natively and not."""
    import onnxruntime

    source = DATA / f"{name}.onnx"
    want = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    feeds, draw = {}, np.random.default_rng(3)
    for value in want.get_inputs():
        shape = [size if isinstance(size, int) else {"B": 2, "S": 5}.get(size, 2) for size in value.shape]
        feeds[value.name] = (
            draw.integers(0, 2, shape) if "int" in value.type else draw.standard_normal(shape, np.float32)
        )
    have = sardonyx.InferenceSession(source, providers=[provider])
    assert not {"Softmax", "Erf"} & {placement.op for placement in have.explain()}
    np.testing.assert_allclose(have.run(None, feeds)[0], want.run(None, feeds)[0], rtol=1e-5, atol=1e-6)


def test_a_session_writes_what_its_own_opset_can_say(tmp_path):
    options = sardonyx.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "out.onnx")
    sardonyx.InferenceSession(DATA / "gelu.script-17.onnx", options)
    onnx.checker.check_model(tmp_path / "out.onnx", full_check=True)
    assert "Gelu" not in operators(file.load(tmp_path / "out.onnx"))


# Formulas -------------------------------------------------------------------------------------------------

TWO, HALF, ONE = (np.float32(number) for number in (2, 0.5, 1))
NUMBERS = {
    "half": HALF,
    "one": ONE,
    "two": TWO,
    "three": np.float32(3),
    "six": np.float32(6),
    "sixth": np.float32(1 / 6),
    "zero": np.float32(0),
    "cubic": np.float32(0.044715),
    "minus_one": np.float32(-1),
    "minus_half": np.float32(-0.5),
    "root_half": np.float32(np.sqrt(0.5)),
    "minus_root_half": np.float32(-np.sqrt(0.5)),
    "root_two": np.float32(np.sqrt(2)),
    "root": np.float32(np.sqrt(2 / np.pi)),
    "quick": np.float32(1.702),
    "eps": np.float32(1e-3),
    "eighth": np.float32(8**-0.5),
    "hide": np.float32(-np.inf),
    "almost_hide": np.float32(-10000),
    "scale": random(8, low=0.5, high=1.5),
    "bias": random(8, seed=1),
    "wide": random(3, 8, low=0.5, high=1.5),
    "minus": np.array([-1]),
    "last": np.array([2]),
    "inner": np.array([1, 2]),
    "middle": np.array([1]),
}
MOMENTS = """m = ReduceMean(x, minus)
    d = Sub(x, m)
    q = Mul(d, d)
    v = ReduceMean(q, last)
    e = Add(v, eps)
    """
SQUARES = "q = Pow(x, two)\n v = ReduceMean(q, minus)\n e = Add(v, eps)\n "

FORMULAS = [
    # Keras, and frameworks that share the code with batch normalisation: moments first, then one multiply-add
    ("LayerNormalization", MOMENTS + "r = Sqrt(e) i = Reciprocal(r) f = Mul(i, scale) a = Mul(x, f) "
     "c = Mul(m, f) s = Sub(bias, c) y = Add(a, s)"),
    ("LayerNormalization", MOMENTS + "r = Sqrt(e) f = Reciprocal(r) a = Mul(f, x) c = Mul(f, m) y = Sub(a, c)"),
    ("LayerNormalization", MOMENTS + "r = Pow(e, half) n = Div(d, r) g = Mul(scale, n) y = Add(bias, g)"),
    ("LayerNormalization", MOMENTS + "r = Pow(e, minus_half) n = Mul(r, d) g = Mul(n, scale) y = Add(g, bias)"),
    ("LayerNormalization", MOMENTS + "r = Sqrt(e) n = Div(d, r) y = Mul(n, scale)"),
    ("LayerNormalization", MOMENTS + "r = Sqrt(e) n = Div(d, r) y = Add(n, bias)"),
    ("LayerNormalization", "m = ReduceMean(x, inner) d = Sub(x, m) q = Pow(d, two) v = ReduceMean(q, inner) "
     "e = Add(eps, v) r = Sqrt(e) n = Div(d, r) y = Mul(n, wide)"),
    ("RMSNormalization", SQUARES + "r = Sqrt(e) n = Div(x, r) y = Mul(scale, n)"),
    ("RMSNormalization", SQUARES + "r = Sqrt(e) i = Div(one, r) f = Mul(i, scale) y = Mul(f, x)"),
    ("RMSNormalization", SQUARES + "r = Sqrt(e) i = Reciprocal(r) y = Mul(x, i)"),
    ("Gelu", "h = Mul(half, x) a = Mul(x, root_half) b = Erf(a) c = Add(one, b) y = Mul(h, c)"),
    ("Gelu", "a = Div(x, root_two) b = Erf(a) c = Add(b, one) d = Mul(c, half) y = Mul(x, d)"),
    ("Gelu", "a = Div(x, root_two) b = Erf(a) c = Add(b, one) d = Mul(c, x) y = Div(d, two)"),
    # 0.5 * x * erfc(-x / sqrt(2)), as JAX has it
    ("Gelu", "n = Neg(x) a = Mul(n, root_half) b = Erf(a) c = Sub(one, b) h = Mul(half, x) y = Mul(h, c)"),
    ("Gelu", "a = Mul(x, minus_root_half) b = Erf(a) c = Sub(one, b) h = Mul(half, x) y = Mul(h, c)"),
    # the square first, as in Flax
    ("Gelu", "s = Mul(x, x) t = Mul(cubic, s) u = Add(t, one) r = Mul(x, root) i = Mul(r, u) b = Tanh(i) "
     "c = Add(b, one) h = Mul(x, half) y = Mul(h, c)"),
    ("Gelu", "s = Mul(x, x) p = Mul(s, x) t = Mul(p, cubic) u = Add(t, x) i = Mul(root, u) b = Tanh(i) "
     "c = Add(one, b) d = Mul(half, c) y = Mul(d, x)"),
    ("Swish", "a = Mul(x, quick) s = Sigmoid(a) y = Mul(s, x)"),
    ("Swish", "n = Neg(x) p = Exp(n) d = Add(one, p) y = Div(x, d)"),
    ("HardSwish", "h = HardSigmoid<alpha=0.16666667, beta=0.5>(x) y = Mul(h, x)"),
    ("HardSwish", "a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)"),
    ("HardSwish", "a = Add(three, x) c = Clip(a, zero, six) m = Mul(c, sixth) y = Mul(x, m)"),
    ("Mish", "p = Exp(x) a = Add(p, one) s = Log(a) t = Tanh(s) y = Mul(t, x)"),
    ("Softplus", "p = Exp(x) a = Add(one, p) y = Log(a)"),
    # one head, three axes
    ("Attention", "t = Transpose<perm=[0,2,1]>(x) p = MatMul(x, t) s = Mul(p, eighth) w = Softmax<axis=-1>(s) "
     "y = MatMul(w, x)"),
    ("Attention", "q = Mul(x, eighth) t = Transpose<perm=[0,2,1]>(x) p = MatMul(q, t) w = Softmax<axis=2>(p) "
     "y = MatMul(w, x)"),
]  # fmt: skip


def formula(body, *, shape="2,3,8", opset=24, declared="", **weights):
    used = {name: array for name, array in NUMBERS.items() if name in body}
    model = parse(
        f"(float[{shape}] x{declared}) => (float[{shape}] y) {{ {body} }}",
        opset=opset,
        ir_version=10,
        **used,
        **weights,
    )
    return infer_shapes(model)


@pytest.mark.parametrize(("operator", "body"), FORMULAS)
@pytest.mark.parametrize("shape", ["2,3,8", "N,3,8"])
def test_formulas(operator, body, shape):
    model = formula(body, shape=shape)
    result = optimize(model)
    assert operators(result) == [operator]
    check(model, result, tolerance=2e-6)


def why(model, pass_name):
    events = []
    optimize(model, trace=events.append)
    return next(event.what for event in events if event.pass_name == pass_name)


SCORES, READ = "t = Transpose<perm=[0,2,1]>(x) p = MatMul(x, t)", "y = MatMul(w, x)"
PART = "b = Erf(a) c = Add(b, one)"
ACROSS = MOMENTS.replace("last", "middle")

NEAR_MISSES = [
    ("normalization", MOMENTS + "r = Sqrt(e) n = Div(d, r) y = Sub(n, v)", "'v' is used elsewhere"),
    ("normalization", ACROSS + "r = Sqrt(e) y = Div(d, r)", "over the axes"),
    ("normalization", ACROSS.replace("minus", "middle") + "r = Sqrt(e) y = Div(d, r)", "not all over the last"),
    ("normalization", MOMENTS + "r = Sqrt(e) n = Div(d, r) y = Mul(n, v)", "not those of the last axes"),
    ("normalization", MOMENTS + "r = Exp(e) y = Div(d, r)", "(Exp) is not Sqrt"),
    ("activations", f"a = Div(x, two) {PART} d = Mul(c, x) y = Div(d, two)", "2 is not 1.41421"),
    ("activations", f"z = Neg(x) a = Div(x, root_two) {PART} d = Mul(c, z) y = Div(d, two)", "is not"),
    (
        "activations",
        "a = Mul(x, root) b = Tanh(a) c = Add(b, one) d = Mul(c, x) y = Mul(d, half)",
        "not the result of Add",
    ),
    ("activations", "a = Add(x, three) c = Clip(a, zero, three) m = Mul(x, c) y = Div(m, six)", "not 0 and 6"),
    ("activations", "h = HardSigmoid<alpha=0.2, beta=0.5>(x) y = Mul(h, x)", "alpha 0.2"),
    ("attention", f"{SCORES} w = Softmax<axis=1>(p) {READ}", "over axis 1"),
    ("attention", f"{SCORES} s = Mul(p, minus_one) w = Softmax(s) {READ}", "its scale is -1"),
    ("attention", f"{SCORES} s = Where(k, p, almost_hide) w = Softmax(s) {READ}", "could show through"),
    ("attention", f"{SCORES} s = Add(p, k) w = Softmax(s) {READ}", "one element for all keys"),
]


@pytest.mark.parametrize(("step", "body", "reason"), NEAR_MISSES)
def test_near_misses_say_why(step, body, reason):
    declared = ", bool[3,3] k" if "Where(k" in body else ", float[3,1] k" if "(p, k)" in body else ""
    model = formula(body, declared=declared)
    assert reason in why(model, f"recognise-{step}")
    result = optimize(model)
    new = {"LayerNormalization", "RMSNormalization", "Gelu", "Swish", "HardSwish", "Attention"}
    assert not new & set(operators(result))
    check(model, result)


def test_older_opsets_keep_their_operators():
    body = "a = Div(x, root_two) b = Erf(a) c = Add(b, one) d = Mul(c, x) y = Div(d, two)"
    model = formula(body, opset=19)
    assert "Gelu" not in operators(optimize(model))
    assert "needs opset 20, and opset 19 is the newest allowed" in why(model, "recognise-activations")
    (node,) = optimize(model, opset_ceiling=20).graph
    assert (node.op_type, node.version) == ("Gelu", 20)


def test_float64_stays_spelled_out():
    """LayerNormalization computes in float32 whatever its type."""
    text = MOMENTS + "r = Sqrt(e) y = Div(d, r)"
    numbers = {"eps": np.float64(1e-3), "minus": NUMBERS["minus"], "last": NUMBERS["last"]}
    model = infer_shapes(parse(f"(double[2,3,8] x) => (double[2,3,8] y) {{ {text} }}", opset=18, **numbers))
    assert "LayerNormalization" not in operators(optimize(model))


@pytest.mark.parametrize("masked", ["s = Where(k, p, hide)", "s = Add(p, k)"])
def test_masks_of_one_head(masked):
    """[batch, queries, keys] and [queries, keys]."""
    body = f"t = Transpose<perm=[0,2,1]>(x) p = MatMul(x, t) {masked} w = Softmax(s) y = MatMul(w, x)"
    kind = "bool" if "Where" in masked else "float"
    for dims in ("[2,3,3]", "[1,3,3]", "[3,3]"):
        model = formula(body, declared=f", {kind}{dims} k")
        result = optimize(model)
        assert operators(result)[-1] == "Attention" and "Softmax" not in operators(result)
        verdict = _same_with_a_key_for_each_query(model, result, kind, dims)
        assert verdict < 1e-6


@pytest.mark.parametrize("version", [18, 24])
def test_several_masks(version):
    """A table that hides what is to come, and behind it what hides padding."""
    body = """t = Transpose<perm=[0,1,3,2]>(x) p = MatMul(x, t) h = Where(k, p, lowest) s = Add(h, m)
        w = Softmax<axis=-1>(s) y = MatMul(w, x)"""
    declared = ", bool[1,1,3,3] k, float[2,1,1,3] m"
    model = formula(body, shape="2,2,3,8", opset=version, declared=declared, lowest=np.finfo(np.float32).min)
    result = optimize(model, opset_ceiling=24)
    assert operators(result) == ["Where", "Add", "Attention"]
    feeds = {"x": random(2, 2, 3, 8), "k": np.tri(3, dtype=bool)[None, None], "m": random(2, 1, 1, 3)}
    if version == 24:
        want, have = run_onnxruntime(model, feeds)[0], run_onnxruntime(result, feeds)[0]
        np.testing.assert_allclose(want, have, rtol=1e-5, atol=1e-6)


def _same_with_a_key_for_each_query(model, result, kind, dims):
    shape = [int(size) for size in dims.strip("[]").split(",")]
    mask = random(*shape) > 0 if kind == "bool" else random(*shape)
    if kind == "bool":
        mask[..., 0] = True
    feeds = {"x": random(2, 3, 8), "k": mask}
    worst = 0.0
    for run in (run_onnxruntime, run_reference):
        want, have = run(model, feeds)[0], run(result, feeds)[0]
        worst = max(worst, float(np.abs(want - have).max()))
    return worst
