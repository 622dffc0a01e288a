"""Results whose number only a run tells: how graphs are cut behind them."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

import sardonyx
from sardonyx.model.shapes import infer_shapes
from sardonyx.providers.cpu import CPUProvider
from sardonyx.providers.partition import partition
from tests.suites.case import Case, floats, node


def segments(case: Case) -> list[list[str]]:
    model = infer_shapes(ir.from_proto(case.model()))
    return [[node.op_type for node in part.model.graph] for part in partition(model, [CPUProvider()]).segments]


def test_readers_go_into_a_later_segment() -> None:
    nodes = [
        node("NonZero", "x", "n"),
        node("Exp", "x", "e"),
        node("Cast", "n", "f", to=1),
        node("ReduceSum", "f", "s"),
        node("Mul", "s e"),
    ]
    assert segments(Case("cut", nodes, {"x": floats(3, 4)})) == [["NonZero", "Exp"], ["Cast", "ReduceSum", "Mul"]]


def test_a_chain_is_cut_twice() -> None:
    nodes = [node("NonZero", "x", "n"), node("Neg", "n", "m"), node("NonZero", "m", "q"), node("Abs", "q")]
    assert segments(Case("chain", nodes, {"x": floats(3, 4)})) == [["NonZero"], ["Neg", "NonZero"], ["Abs"]]


def test_nothing_is_cut_without_readers() -> None:
    assert segments(Case("whole", [node("Exp", "x", "e"), node("NonZero", "e")], {"x": floats(3, 4)})) == [
        ["Exp", "NonZero"]
    ]


def test_placements_tell_the_reason() -> None:
    """Two segments of one provider are not islands in each other."""
    nodes = [node("NonZero", "x", "n"), node("Neg", "n")]
    model = infer_shapes(ir.from_proto(Case("reason", nodes, {"x": floats(3, 4)}).model()))
    assert {placement.reason for placement in partition(model, [CPUProvider()]).placements} == {"native code"}


@pytest.mark.parametrize("readers", [False, True])
def test_the_number_changes_from_run_to_run(readers: bool) -> None:
    nodes = [node("NonZero", "x", "n"), node("Neg", "n")] if readers else [node("NonZero", "x")]
    session = sardonyx.InferenceSession(Case("runs", nodes, {"x": floats(30, 40)}).model().SerializeToString())
    for limit in (0.0, 3.0, 9.0, 1.0):
        x = np.maximum(floats(30, 40) - np.float32(limit), 0)
        (got,) = session.run(None, {"x": x})
        want = np.array(np.nonzero(x))
        np.testing.assert_array_equal(got, -want if readers else want)
        assert got.flags.owndata  # and does not keep the memory of the most there could have been


def test_an_output_may_be_asked_for_twice_and_read_as_well() -> None:
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [4, 5])
    out = [helper.make_tensor_value_info(name, onnx.TensorProto.INT64, [2, None]) for name in ("n", "m")]
    graph = helper.make_graph([node("NonZero", "x", "n"), node("Identity", "n", "m")], "twice", [x], out)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    image = np.round(floats(4, 5))
    n, m = sardonyx.InferenceSession(model.SerializeToString(), providers=["cpu"]).run(None, {"x": image})
    np.testing.assert_array_equal(n, np.array(np.nonzero(image)))
    np.testing.assert_array_equal(m, n)
