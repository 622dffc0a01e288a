"""Neighbours that need not wait for each other."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import sardonyx
from sardonyx.compiler.branches import group_steps
from sardonyx.compiler.memory import plan_memory
from sardonyx.compiler.program import BufferKind, Program
from sardonyx.providers.base import CompileOptions
from sardonyx.providers.cpu import CPUProvider
from sardonyx.zoo import architectures
from tests.suites.case import Case, floats, node

X = {"x": floats(1, 32, 9, 7)}
W = {name: floats(16, 32, 1, 1) for name in "abc"} | {"d": floats(8, 48, 1, 1), "e": floats(16, 16, 1, 1)}
BRANCHES = [
    node("Relu", "x", "r"),
    node("Conv", "r a", "p"),
    node("Conv", "r b", "q"),
    node("Conv", "r c", "s"),
    node("Conv", "s e", "t"),
    node("Concat", "p q t", "j", axis=1),
    node("Conv", "j d"),
]


def program(nodes: list[onnx.NodeProto]) -> Program:
    return CPUProvider().compile(ir.from_proto(Case("case", nodes, X, W).model()), CompileOptions(threads=2)).program()


def test_branches_share_a_group() -> None:
    """Three convolutions of one input, two of which write parts of one tensor; what follows waits."""
    made = program(BRANCHES)
    groups = dict(zip((step.label.split("+")[-1] for step in made.steps), group_steps(made.steps), strict=True))
    assert groups["Conv_p"] == groups["Conv_q"] == groups["Conv_s"]
    assert groups["Conv_t"] > groups["Conv_s"]
    assert groups["Conv_y"] > groups["Conv_t"]


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1.1"])
def test_groups_are_independent(name: str) -> None:
    """By the memory plan's addresses: what a step writes, none of its group reads or writes."""
    made = CPUProvider().compile(architectures.build(name, image=64), CompileOptions(threads=2)).program()
    plan = plan_memory(made)
    touched: dict[int, list[tuple[set[int], set[int]]]] = {}
    for first, step in zip(plan.groups, made.steps, strict=True):
        written, used = set[int](), set[int]()
        for slot, view in enumerate(step.arguments):
            if isinstance(view, int) or view.buffer.kind is not BufferKind.ARENA:
                continue
            at = np.full(view.dims, plan.offsets[view.buffer.index] + 4 * view.offset)
            for axis, (size, stride) in enumerate(zip(view.dims, view.strides, strict=True)):
                at += (4 * stride * np.arange(size)).reshape(-1, *(1,) * (len(view.dims) - axis - 1))
            (written if slot in step.writes else used).update(at.reshape(-1).tolist())
        for other_written, other_used in touched.setdefault(first, []):
            assert not written & (other_written | other_used)
            assert not other_written & used
        touched[first].append((written, used))
    assert len(touched) < len(made.steps)


def test_results_do_not_depend_on_threads() -> None:
    """Many runs of a network with branches, each the same."""
    model = ir.to_proto(architectures.build("squeezenet1.1", image=64)).SerializeToString()
    session = sardonyx.InferenceSession(model, providers=["cpu"])
    feeds = {session.get_inputs()[0].name: floats(1, 3, 64, 64)}
    (want,) = session.run(None, feeds)
    for _ in range(300):
        (got,) = session.run(None, feeds)
        np.testing.assert_array_equal(got, want)
