from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.probe import MultiplyAdd, ReadStream
from sardonyx.compiler.memory import plan_memory
from sardonyx.compiler.program import BufferKind, Program, ProgramBuilder, View
from sardonyx.errors import ProviderError
from sardonyx.measure.compare import difference
from sardonyx.measure.roofline import Level, Roofline, roofline
from sardonyx.measure.steps import constant_bytes, live_bytes, measure_steps, works
from sardonyx.model import file
from sardonyx.model.info import describe
from sardonyx.zoo import architectures
from tests.suites.case import Case, node

F32 = DType.F32
LIMITS = Roofline(2, 100.0, (Level("L2", 1000, 80.0), Level("memory", 1 << 62, 10.0)), 1.0)


def chain(sizes, reads):
    """A program of one step for each size; step i writes buffer i of `sizes[i]` floats and reads buffers `reads[i]`."""
    built = ProgramBuilder()
    made = []
    for index, (size, wanted) in enumerate(zip(sizes, reads, strict=True)):
        y = View(built.buffer(BufferKind.ARENA, 4 * size), F32, (size,), (1,))
        x = made[wanted[0]] if wanted else built.constant(np.ones(8, np.float32))
        built.step(
            ReadStream(1, F32), {"x": x, "y": y, "count": 8, "passes": 1}, writes=("y",), domain=1, label=f"s{index}"
        )
        made.append(y)
    return Program(tuple(built.buffers), tuple(built.steps), (), ())


def test_what_is_live_is_counted_from_the_first_use_to_the_last():
    sizes, reads = [1600, 160, 3200, 16], [[], [0], [0], [2]]
    program = chain(sizes, reads)
    # Buffer i lives from step i to the last step that reads it: 0 through step 2, 2 through step 3.
    last = {0: 2, 1: 1, 2: 3, 3: 3}
    live = [sum(4 * sizes[b] for b in last if b <= step <= last[b]) for step in range(4)]
    assert live == [6400, 7040, 19200, 12864]
    assert live_bytes(program) == max(live)
    plan = plan_memory(program)
    assert plan.size >= plan.lower_bound >= live_bytes(program), "nothing here is in place"


def test_a_limit_is_the_nearest_memory_that_holds_the_working_set():
    assert LIMITS.arithmetic_ms(2e8) == 2.0
    assert LIMITS.read_ms(1000, 1000) == pytest.approx(1000 / 80e6)
    assert LIMITS.read_ms(1000, 1001) == pytest.approx(1000 / 10e6)


def test_work_counts_each_address_and_each_node_once():
    program = chain([16, 16, 16], [[], [0], [0]])
    labels = ["a+b", "c", "c"]
    steps = tuple(replace(step, label=label) for step, label in zip(program.steps, labels, strict=True))
    program = Program(program.buffers, steps, (), ())
    first, second, third = works(program, {"a": 10, "c": 8}, [[0], [1], [2]])
    assert (first.flops, first.weights, first.moved) == (20, 32, 64)
    assert (second.flops, second.weights, second.moved) == (8, 0, 128), "c is shared by two steps"
    assert first.flops + second.flops + third.flops == 2 * (10 + 8)
    assert constant_bytes(program) == 32
    (both,) = works(program, {"c": 8}, [[1, 2]])
    assert (both.flops, both.moved) == (16, 3 * 64), "what two steps of a group read is read once"


def test_a_broadcast_operand_is_read_once():
    built = ProgramBuilder()
    x = built.constant(np.ones(4, np.float32)).broadcast((100, 4))
    y = View(built.buffer(BufferKind.OUTPUT, 1600), F32, (100, 4), (4, 1))
    built.step(ReadStream(1, F32), {"x": x, "y": y, "count": 1, "passes": 1}, writes=("y",), domain=1)
    (work,) = works(Program(tuple(built.buffers), tuple(built.steps), (), (y,)), {}, [[0]])
    assert (work.weights, work.moved) == (16, 1600)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_roofline_is_measured_and_in_order(threads):
    found = roofline(threads)
    assert found.gflops > 0.1
    assert [level.name for level in found.levels] == ["L2", "L3", "memory"]
    assert all(level.gbytes > 0.01 for level in found.levels)
    assert [level.capacity for level in found.levels] == sorted(level.capacity for level in found.levels)
    assert 0 < found.steady <= 1


def test_probes_do_the_work_they_are_credited_with():
    """Were a loop optimised away, the results would be others: float64 tells what they must be."""
    from sardonyx.compiler.jit import host_target
    from sardonyx.runtime.executable import NativeExecutable

    target = host_target()
    lanes = target.lanes(F32)

    def run(kernel, x, sizes, items):
        built = ProgramBuilder()
        y = View(built.buffer(BufferKind.OUTPUT, 4 * items), F32, (items,), (1,))
        built.step(kernel, {"x": built.constant(x), "y": y, **sizes}, writes=("y",), domain=items)
        program = Program(tuple(built.buffers), tuple(built.steps), (), (y,))
        program.verify()
        executable = NativeExecutable(lambda *_: program, target, threads=2, spin_microseconds=100, profile=False)
        return executable.run([])[0]

    chains, turns = 5, 7
    acc = np.arange(chains, dtype=np.float64)
    for _ in range(turns):
        acc = acc * 0.5 + 0.5
    found = run(MultiplyAdd(chains, F32), np.full(lanes, 0.5, np.float32), {"turns": turns}, 3)
    np.testing.assert_allclose(found, np.full(3, acc.sum()), rtol=1e-6)

    x = np.random.default_rng(0).random(3 * 4 * lanes).astype(np.float32)
    found = run(ReadStream(2, F32), x, {"count": 4 * lanes, "passes": 3}, 3)
    expected = 3 * x.astype(np.float64).reshape(3, 4, lanes).sum(axis=1)[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_steps_add_up_to_the_network(tmp_path):
    path = tmp_path / "net.onnx"
    model = architectures.build("resnet18", image=64, width=0.25)
    file.save(model, path)
    x = np.random.default_rng(0).standard_normal((1, 3, 64, 64), np.float32)
    report = measure_steps(path, {"input": x}, LIMITS, runs=3)
    info = describe(model)
    assert sum(step.work.flops for step in report.steps) == 2 * info.macs
    assert all(step.ms > 0 for step in report.steps)
    assert all(step.limit_ms > 0 for step in report.steps)
    assert report.limit_ms == pytest.approx(sum(step.limit_ms for step in report.steps))
    assert 0 < report.run_ms <= 1.5 * report.call_ms
    assert report.bound <= report.arena
    parameters = 4 * info.parameters
    assert 0.9 * parameters < report.weights < 5 * parameters, "Winograd's weights are four times as many"
    gemm = next(step for step in report.steps if any("gemm_" in nodes for nodes in step.nodes))
    features = model.graph.outputs[0].producer().inputs[0].shape[1]
    assert gemm.work.flops == 2 * 1000 * features


def test_segments_are_listed_one_after_the_other(tmp_path):
    """What reads a result whose size only a run tells is a program of its own."""
    nodes = [node("Relu", "x", "r"), node("NonZero", "r", "n"), node("Cast", "n", "f", to=1), node("Mul", "f f")]
    x = np.random.default_rng(0).standard_normal((40, 50), np.float32)
    (tmp_path / "m.onnx").write_bytes(Case("cut", nodes, {"x": x}).model().SerializeToString())
    report = measure_steps(tmp_path / "m.onnx", {"x": x}, LIMITS, runs=2)
    assert [name for step in report.steps for name in step.nodes] == [
        "Relu_r",
        "NonZero_n",
        "NonZero_n",
        "Cast_f+Mul_y",
    ]
    assert report.steps[-1].work.moved == np.count_nonzero(x > 0) * 2 * (8 + 4)


def test_a_model_that_is_not_all_native_is_told(tmp_path):
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.STRING), shape=ir.Shape([2]))
    node = ir.node("StringNormalizer", [x], name="strings")
    node.outputs[0].name, node.outputs[0].type = "y", ir.TensorType(ir.DataType.STRING)
    graph = ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 17}, name="g")
    file.save(ir.Model(graph, ir_version=8), tmp_path / "m.onnx")
    with pytest.raises(ProviderError, match="strings"):
        measure_steps(tmp_path / "m.onnx", {"x": np.array(["a", "b"], object)}, LIMITS, runs=1)


def test_symbols_have_the_sizes_of_the_inputs(tmp_path):
    """So that work can be counted; and the graph is the one a session would run, newer operators included."""
    from sardonyx.measure import steps

    path = tmp_path / "net.onnx"
    file.save(architectures.build("minilm", layers=1, vocabulary=50), path)
    ids = np.ones((2, 9), np.int64)
    inputs = {"input_ids": ids, "attention_mask": ids, "token_type_ids": 0 * ids}
    graph, _ = steps.compiled(path, 2, inputs)
    assert [list(value.shape or ()) for value in graph.inputs] == [[2, 9]] * 3
    assert "Attention" in {node.op_type for node in graph}
    report = steps.measure_steps(path, inputs, LIMITS, runs=1)
    flops = [step.work.flops for step in report.steps if "matmul" in step.kernels]
    assert flops and all(flops)


def test_profiled_steps_compute_what_the_session_does(tmp_path):
    import sardonyx
    from sardonyx.measure import steps

    path = tmp_path / "net.onnx"
    file.save(architectures.build("squeezenet1.1", image=64, width=0.25), path)
    x = np.random.default_rng(0).standard_normal((1, 3, 64, 64), np.float32)
    _, executable = steps.compiled(path, 2, {"input": x})
    expected = sardonyx.InferenceSession(path).run(None, {"input": x})
    assert difference(executable.run([x]), expected).rel_l2 < 1e-6
