"""Lowered programs: their steps, their memory and their rules."""

import dataclasses

import numpy as np
import onnx_ir as ir
import pytest

from sardonyx.compiler.memory import plan_memory
from sardonyx.compiler.program import BufferKind, Program, Step, View
from sardonyx.errors import CompileError
from sardonyx.providers.base import CompileOptions
from sardonyx.providers.cpu import CPUProvider
from sardonyx.zoo import architectures
from tests.suites.operators import CASES, Case, floats, node


def lowered(case: Case) -> Program:
    return CPUProvider().compile(ir.from_proto(case.model()), CompileOptions(threads=2)).program()


def case(name: str) -> Case:
    return next(c for c in CASES if c.name == name)


@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        ("chain", ["elementwise"]),
        ("Conv-swish", ["elementwise", "implicitgemm", "turn"]),
        ("Conv-residual", ["elementwise", "implicitgemm", "implicitgemm", "elementwise"]),
        ("MatMul-constant-fused", ["packrows", "matmul"]),
        (
            "Conv-intermediate-escapes",
            ["elementwise", "implicitgemm", "elementwise", "turn"],
        ),
        ("Shape-arithmetic", ["elementwise"]),
        ("Transpose-default", ["elementwise"]),
    ],
)
def test_kernels_of_a_case(name: str, kernels: list[str]) -> None:
    """Layout changes at the borders, one kernel for what can fuse, nothing for shape arithmetic."""
    assert [step.kernel.name for step in lowered(case(name)).steps] == kernels


def test_text_is_stable() -> None:
    small = Case(
        "golden",
        [node("Gemm", "x w b", "g"), node("Relu", "g")],
        {"x": np.zeros((4, 8), np.float32)},
        {"w": floats(8, 8), "b": floats(8)},
    )
    text = lowered(small).text()
    assert text.splitlines()[0] == "input  %0:input[0] float32[4, 8]/[8, 1]"
    assert "step   matmul" in text
    assert "[Gemm_g+Relu_y]" in text
    assert "m=4, n=8, depth=8" in text
    assert text.splitlines()[-1].startswith("output %")
    assert text == lowered(small).text()


@pytest.mark.parametrize("name", ["resnet18", "efficientnet-b0", "squeezenet1.1"])
def test_memory_plan(name: str) -> None:
    """Buffers alive together never overlap, and the arena stays close to the most that is alive at once."""
    model = architectures.build(name, image=64)
    program = CPUProvider().compile(model, CompileOptions(threads=2)).program()
    plan = plan_memory(program)
    alive: dict[int, list[int]] = {}
    for index, step in enumerate(program.steps):
        for view in step.views:
            if view.buffer.kind is BufferKind.ARENA:
                alive.setdefault(view.buffer.index, []).append(index)
    spans = [
        (plan.offsets[b], plan.offsets[b] + program.buffers[b].bytes, min(uses), max(uses)) for b, uses in alive.items()
    ]
    for i, (low, high, first, last) in enumerate(spans):
        for low2, high2, first2, last2 in spans[:i]:
            apart = high <= low2 or high2 <= low or last < first2 or last2 < first
            taken = last == first2 and _takes(program.steps[last], program, low)
            assert apart or taken or (last2 == first and _takes(program.steps[first], program, low))
    assert plan.lower_bound <= plan.size <= 1.2 * plan.lower_bound


def _takes(step: Step, program: Program, at: int) -> bool:
    """Whether the step reads element by element a buffer at `at` and writes another there."""
    plan = plan_memory(program)
    source = [step.arguments[slot] for slot in step.consumes]
    places = [plan.offsets.get(v.buffer.index) for v in source if isinstance(v, View)]
    result = step.arguments[step.writes[0]]
    return isinstance(result, View) and at in places and plan.offsets.get(result.buffer.index) == at


def test_sums_are_made_in_place() -> None:
    """A residual sum takes the memory of one of its terms: ResNet needs less for it."""
    model = architectures.build("resnet18", image=64)
    program = CPUProvider().compile(model, CompileOptions(threads=2)).program()
    apart = dataclasses.replace(program, steps=tuple(dataclasses.replace(s, consumes=()) for s in program.steps))
    assert plan_memory(program).lower_bound < plan_memory(apart).lower_bound


def test_kernels_are_shared() -> None:
    """ResNet-50's 53 convolutions need few kernels."""
    model = architectures.build("resnet50", image=64)
    program = CPUProvider().compile(model, CompileOptions(threads=2)).program()
    assert len(program.kernels) < len(program.steps) / 2


def test_verify_finds_broken_steps() -> None:
    program = lowered(case("Gemm-5x64x16"))
    (step,) = program.steps
    short = dataclasses.replace(step, arguments=step.arguments[:-1])
    with pytest.raises(CompileError, match="number of arguments"):
        dataclasses.replace(program, steps=(short,)).verify()
    view = dataclasses.replace(step.views[0], offset=10_000)
    outside = dataclasses.replace(step, arguments=(view, *step.arguments[1:]))
    with pytest.raises(CompileError, match="leaves its buffer"):
        dataclasses.replace(program, steps=(outside,)).verify()
    with pytest.raises(CompileError, match="never written"):
        dataclasses.replace(program, steps=()).verify()
    empty = dataclasses.replace(step, domain=0)
    with pytest.raises(CompileError, match="empty or too large domain"):
        dataclasses.replace(program, steps=(empty,)).verify()
