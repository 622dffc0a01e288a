from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest

from sardonyx.errors import InvalidInputError, ProviderError
from sardonyx.measure.footprint import footprint
from sardonyx.measure.inputs import Spec, numpy_dtype, random_inputs, specs
from sardonyx.measure.runners import available_runners, runner
from sardonyx.measure.timing import Plan
from sardonyx.measure.trial import attempt, hold_trials
from sardonyx.zoo import digits

NAMES = ["sardonyx/cpu", "sardonyx/reference", "onnxruntime", "openvino"]


@dataclass
class Declared:
    name: str
    type: str
    shape: list


def test_the_table_has_every_provider_and_peer():
    table = available_runners()
    assert list(table) == NAMES
    assert all(state.available for state in table.values()), table


@pytest.mark.parametrize("name", NAMES)
def test_every_runner_computes_what_pytorch_did(name):
    held = digits.held_out()
    run = runner(name).load(digits.model_path(), 2)
    (output,) = run({"image": held.images})
    np.testing.assert_allclose(output, held.probabilities, rtol=0, atol=2e-6)
    first = output.copy()
    run({"image": held.images[::-1].copy()})
    np.testing.assert_array_equal(output, first, err_msg="outputs of one run must outlive the next")


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_model_a_peer_refuses_is_a_typed_error(name):
    with pytest.raises(ProviderError, match=f"{name} cannot run this model"):
        runner(name).load(b"not a model at all", 1)


def test_a_wrong_input_to_a_peer_is_a_typed_error():
    run = runner("onnxruntime").load(digits.model_path(), 1)
    with pytest.raises(ProviderError, match="onnxruntime cannot run this model"):
        run({"image": np.zeros((1, 1, 8, 8))})


def test_an_unknown_runner_names_the_known():
    with pytest.raises(ProviderError, match="onnxruntime"):
        runner("tachyon")


def test_a_package_that_is_not_installed_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("sardonyx.measure.runners.find_spec", lambda _: None)
    state = available_runners()["openvino"]
    assert not state.available
    assert "sardonyx[peers]" in state.fix
    with pytest.raises(ProviderError, match="not installed"):
        runner("openvino")


def test_trials_agree_and_a_failure_stops_nobody():
    held = digits.held_out()
    inputs = {"image": held.images[:1]}
    plan = Plan(rounds=1, seconds=0.01, pause=0)
    tried = attempt(["sardonyx/reference", "onnxruntime", "tachyon"], digits.model_path(), inputs, 1)
    found = hold_trials(tried, inputs, plan)
    reference, peer, unknown = found.trials
    assert reference.difference is None
    assert peer.difference.max_abs < 1e-6
    assert reference.latency.calls >= 1
    assert peer.latency.calls >= 1
    assert unknown.latency is None
    assert unknown.error.code == "provider"
    assert found.base == "onnxruntime"
    assert found["onnxruntime"] is peer
    np.testing.assert_allclose(reference.outputs[0], held.probabilities[:1], atol=2e-6)


@pytest.mark.parametrize("name", ["sardonyx/reference", "onnxruntime"])
def test_footprint_is_measured_in_a_process_of_its_own(name):
    found = footprint(name, digits.model_path(), {"image": digits.held_out().images[:1]}, 1)
    assert found.name == name
    assert found.load_ms > 0
    assert found.first_run_ms > 0
    assert 0 < found.peak_mib < 500


def test_a_footprint_that_fails_says_why():
    with pytest.raises(ProviderError, match="failed while its memory was measured"):
        footprint("onnxruntime", digits.model_path(), {"wrong": np.zeros(1, np.float32)}, 1)


def test_open_dimensions_are_bound_or_taken_as_one():
    declared = [Declared("a", "tensor(float)", ["N", 3, None]), Declared("b", "tensor(int64)", ["N"])]
    a, b = specs(declared, {"N": 4, "a[2]": 5})
    assert (a.shape, a.assumed, b.shape) == ((4, 3, 5), (), (4,))
    a, b = specs(declared)
    assert (a.shape, a.assumed, b.assumed) == ((1, 3, 1), ("N", "a[2]"), ("N",))
    with pytest.raises(InvalidInputError, match=r"'M'.*N, a\[2\]"):
        specs(declared, {"M": 1})


@pytest.mark.parametrize(
    ("type_", "dtype"),
    [
        ("tensor(float)", np.float32),
        ("tensor(double)", np.float64),
        ("tensor(bool)", np.bool_),
        ("tensor(string)", np.object_),
        ("tensor(uint16)", np.uint16),
        ("tensor(bfloat16)", ml_dtypes.bfloat16),
        ("tensor(float8e4m3fn)", ml_dtypes.float8_e4m3fn),
        ("tensor(int4)", ml_dtypes.int4),
        ("tensor(complex64)", np.complex64),
    ],
)
def test_every_element_type_gets_values(type_, dtype):
    declared = Declared("x", type_, [2, 3])
    assert numpy_dtype(declared) == dtype
    x = random_inputs(specs([declared]), seed=3)["x"]
    assert (x.shape, x.dtype) == ((2, 3), dtype)
    np.testing.assert_array_equal(x, random_inputs(specs([declared]), seed=3)["x"])


@pytest.mark.parametrize("type_", ["seq(tensor(float))", "tensor(quaternion)", "", "optional(tensor(float))"])
def test_what_is_no_dense_tensor_is_an_error(type_):
    with pytest.raises(InvalidInputError, match="'x'"):
        specs([Declared("x", type_, [])])


def test_an_absurd_shape_takes_no_memory():
    with pytest.raises(InvalidInputError, match="too big"):
        random_inputs([Spec("x", np.dtype(np.float32), (2**40, 2**40))])
