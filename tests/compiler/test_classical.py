"""Native linear models, support vector machines and preparation of features: against onnxruntime and float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

import sardonyx
from tests.suites.classical import CASES, ClassicalCase, numbers

OF_FLOATS = (TensorProto.FLOAT,)


def run(case: ClassicalCase, batch: str | None = None):
    session = sardonyx.InferenceSession(case.model(batch=batch))
    assert {placement.provider for placement in session.explain()} == {"cpu"}, session.explain()
    return session.run(None, case.feeds)


def peer(case: ClassicalCase):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(case.model(), options, providers=["CPUExecutionProvider"])
    return session.run(None, case.feeds)


@pytest.mark.parametrize("case", [case for case in CASES if case.peer], ids=lambda case: case.name)
def test_as_onnxruntime(case):
    for ours, theirs in zip(run(case), peer(case), strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        if ours.dtype.kind == "i":
            assert np.array_equal(ours, theirs)
        else:
            scale = max(1.0, float(np.abs(theirs[np.isfinite(theirs)]).max(initial=0)))  # it adds up in float32
            rough = case.attributes.get("post_transform") == "PROBIT"  # steep, of scores that float32 rounded
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=(1e-5 if rough else 1e-6) * scale)


LACKING = ("Binarizer", "LabelEncoder", "OneHotEncoder")


@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.peer and case.op in LACKING], ids=lambda case: case.name
)
def test_types_that_onnxruntime_lacks_are_as_in_the_reference(case):
    expected = ReferenceEvaluator(onnx.load_model_from_string(case.model())).run(None, case.feeds)
    for ours, theirs in zip(run(case), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("case", [case for case in CASES if case.name.endswith("float32")], ids=lambda case: case.name)
def test_an_open_batch_gives_the_same(case):
    for fixed, opened in zip(run(case), run(case, "batch"), strict=True):
        np.testing.assert_array_equal(fixed, opened)


def test_one_program_serves_all_batches():
    case = next(case for case in CASES if case.name == "LinearClassifier-37-19-11-float32")
    session = sardonyx.InferenceSession(case.model(batch="n"))
    x = case.inputs[0]
    whole = session.run(None, {"x": x})
    for count in (36, 5, 3, 2, 1):
        for part, all_of_them in zip(session.run(None, {"x": x[:count].copy()}), whole, strict=True):
            np.testing.assert_allclose(part, all_of_them[:count], rtol=1e-6)


def test_double_features_are_not_rounded():
    # In float32 both rows are the same, and on the boundary.
    x = np.array([[1.0 + 1e-12], [1.0 - 1e-12]])
    given = {"coefficients": [1.0], "intercepts": [-1.0], "classlabels_ints": [0, 1]}
    case = ClassicalCase("", "LinearClassifier", (x,), given, (TensorProto.INT64, TensorProto.FLOAT))
    assert run(case)[0].tolist() == [1, 0]


def test_integers_past_float32_are_told_apart():
    x = np.array([[(1 << 24) + 1], [1 << 24]])
    given = {"scale": [1.0], "offset": [float(1 << 24)]}
    assert run(ClassicalCase("", "Scaler", (x,), given))[0].tolist() == [[1.0], [0.0]]


@pytest.mark.parametrize("case", [case for case in CASES if case.name.startswith("LinearRegressor-NONE")])
def test_sums_are_those_of_float64(case):
    (x,), given = case.inputs, case.attributes
    weights = np.array(given["coefficients"], np.float64).reshape(given["targets"], -1)
    exact = x.astype(np.float64) @ weights.T + given["intercepts"]
    np.testing.assert_allclose(run(case)[0], exact, rtol=1e-6, atol=1e-6)


def test_features_of_vectors_are_columns():
    case = next(case for case in CASES if case.name == "FeatureVectorizer-column-int64")
    x = case.inputs[0]
    assert np.array_equal(run(case)[0], np.concatenate([x, x[:, :2], x[:, :1]], 1).astype(np.float32))


def test_features_are_filled_up_and_cut():
    x = np.array([[1.0, 2.0]], np.float32)
    case = ClassicalCase("", "FeatureVectorizer", (x, x), {"inputdimensions": [3, 1]})
    assert run(case)[0].tolist() == [[1.0, 2.0, 0.0, 1.0]]


def test_one_score_through_probit():
    """Where onnxruntime writes one score into memory for two."""
    x = np.array([[0.3]], np.float32)
    given = {"coefficients": [1.0], "intercepts": [0.0], "classlabels_ints": [0, 1], "post_transform": "PROBIT"}
    case = ClassicalCase("", "LinearClassifier", (x,), given, (TensorProto.INT64, TensorProto.FLOAT))
    from scipy.stats import norm

    assert run(case)[1][0, 1] == pytest.approx(norm.ppf(0.3), rel=1e-3)


def test_an_element_of_no_category_is_an_error_if_it_must_have_one():
    for x in (np.array([[1, 0]]), np.array([[1.0, np.nan]], np.float32)):
        case = ClassicalCase("", "OneHotEncoder", (x,), {"cats_int64s": [1, 2], "zeros": 0})
        with pytest.raises(sardonyx.ExecutionError, match="an element of no category"):
            run(case)
    known = ClassicalCase("", "OneHotEncoder", (np.array([[2, 1]]),), {"cats_int64s": [1, 2], "zeros": 0})
    assert run(known)[0].tolist() == [[[0.0, 1.0], [1.0, 0.0]]]


def test_nan_is_no_category():
    case = ClassicalCase("", "OneHotEncoder", (np.array([[np.nan, 0.9]], np.float32),), {"cats_int64s": [0]})
    assert run(case)[0].tolist() == [[[0.0], [1.0]]]


def test_a_chosen_feature_out_of_range_is_an_error():
    case = ClassicalCase("", "ArrayFeatureExtractor", (numbers(2, 3).astype(np.float32), np.array([3])), {})
    with pytest.raises(sardonyx.ExecutionError, match="node"):
        run(case)


X = numbers(3, 2).astype(np.float32)
MACHINE = {
    "coefficients": [1.0, 2.0],
    "rho": [0.1],
    "support_vectors": [1.0, 2.0, 3.0, 4.0],
    "vectors_per_class": [1, 1],
    "classlabels_ints": [0, 1],
}
HOSTILE = [
    ("LinearClassifier", {"coefficients": [1.0] * 3, "intercepts": [1.0, 2.0], "classlabels_ints": [1, 2]}),
    ("LinearClassifier", {"coefficients": [1.0] * 4, "intercepts": [1.0, 2.0], "classlabels_ints": [1, 2, 3]}),
    ("LinearClassifier", {"coefficients": [1.0] * 4, "intercepts": [1.0, 2.0]}),
    ("LinearRegressor", {"coefficients": [1.0] * 2, "targets": -1}),
    ("LinearRegressor", {"coefficients": [1.0] * 2, "targets": 1 << 40}),
    ("LinearRegressor", {"coefficients": [1.0] * 2, "intercepts": [], "targets": 0}),
    ("SVMClassifier", {**MACHINE, "vectors_per_class": [1, 1 << 60]}),
    ("SVMClassifier", {**MACHINE, "vectors_per_class": [-1, 3]}),
    ("SVMClassifier", {**MACHINE, "vectors_per_class": [2]}),
    ("SVMClassifier", {**MACHINE, "coefficients": [1.0]}),
    ("SVMClassifier", {**MACHINE, "rho": []}),
    ("SVMClassifier", {**MACHINE, "support_vectors": [1.0]}),
    ("SVMClassifier", {**MACHINE, "prob_a": [1.0], "prob_b": []}),
    ("SVMRegressor", {"coefficients": [1.0], "rho": [1.0], "support_vectors": [1.0], "n_supports": 1 << 50}),
    ("SVMRegressor", {"coefficients": [1.0, 2.0, 3.0], "rho": [1.0]}),
    ("Scaler", {"scale": [1.0, 2.0, 3.0]}),
    ("Imputer", {}),
    ("Imputer", {"imputed_value_floats": [1.0, 2.0, 3.0]}),
    ("Normalizer", {"norm": "L3"}),
    ("FeatureVectorizer", {"inputdimensions": [1, 2]}),
    ("FeatureVectorizer", {"inputdimensions": [-1]}),
]


@pytest.mark.parametrize(("op", "attributes"), HOSTILE, ids=lambda value: value if isinstance(value, str) else "")
def test_attributes_that_do_not_fit_are_typed_errors(op, attributes):
    filled = {name: value for name, value in attributes.items() if not isinstance(value, list) or value}
    outputs = (TensorProto.INT64, TensorProto.FLOAT) if op.endswith("Classifier") else OF_FLOATS
    with pytest.raises((sardonyx.InvalidModelError, sardonyx.ExecutionError)) as caught:
        run(ClassicalCase("", op, (X,), filled, outputs))
    assert op in str(caught.value) or "node" in str(caught.value)


@pytest.mark.parametrize("case", [case for case in CASES if case.name.endswith("float32")], ids=lambda case: case.name)
def test_no_rows(case):
    empty = replace(case, inputs=(case.inputs[0][:0], *case.inputs[1:]))
    if case.op == "FeatureVectorizer":
        empty = replace(case, inputs=tuple(array[:0] for array in case.inputs))
    if case.inputs[0].ndim == 1:
        pytest.skip("a vector is one row")
    assert all(output.shape[0] == 0 for output in run(empty))


@pytest.mark.parametrize("name", ["x86-64", "aarch64"])
def test_kernels_are_for_every_processor(name):
    """Two cases in five; those for this processor's level run above."""
    from sardonyx.compiler.jit import kernel_object
    from sardonyx.model.shapes import infer_shapes
    from tests.compiler.programs import program_of
    from tests.compiler.test_targets import ELF_MACHINE, TARGETS

    target, seen = TARGETS[name], set()
    for case in CASES[::5] + CASES[1::5]:
        model = infer_shapes(ir.from_proto(onnx.load_model_from_string(case.model())))
        for kernel in program_of(model, case.feeds, target).kernels:
            if kernel not in seen:
                seen.add(kernel)
                code = kernel_object(kernel, target)
                machine = ELF_MACHINE["aarch64" if name == "aarch64" else "x86_64"]
                assert (code[:4], int.from_bytes(code[18:20], "little")) == (b"\x7fELF", machine)
    assert {"scores", "pairs", "lookup", "unitrows", "classify"} <= {kernel.name for kernel in seen}
