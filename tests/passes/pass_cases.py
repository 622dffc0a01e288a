"""What the tests of passes share: models from text, and the checks every optimised model must pass."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx.reference
import onnx_ir as ir
import onnxruntime

from sardonyx.passes.base import Pass, run
from sardonyx.passes.normalize import normalized
from sardonyx.passes.pipeline import PASSES, optimize
from sardonyx.passes.verify import structure_problem


def random(*shape, seed=0, low=-1.0, high=1.0, dtype=np.float32):
    return np.random.default_rng([seed, *shape]).uniform(low, high, shape).astype(dtype)


def norm(channels, seed=0):
    """The four parameters of a BatchNormalization, named s, b, m, v."""
    return {
        "s": random(channels, seed=seed, low=0.5, high=1.5),
        "b": random(channels, seed=seed + 1),
        "m": random(channels, seed=seed + 2),
        "v": random(channels, seed=seed + 3, low=0.5, high=2.0),
    }


def parse(text, *, opset=17, ir_version=8, **weights):
    """A model from the body of a graph in ONNX's text format, and initializers by name."""
    proto = onnx.parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["" : {opset}]> g {text}')
    for name, array in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    return ir.from_proto(proto)


def operators(model):
    return [node.op_type for node in model.graph]


def feeds(model, seed=1, symbols=2):
    """Random inputs; symbolic dimensions are `symbols`."""
    made = {}
    for index, value in enumerate(model.graph.inputs):
        if value.is_initializer():
            continue
        shape = [size if isinstance(size, int) else symbols for size in value.shape]
        array = np.random.default_rng([seed, index]).standard_normal(shape) * 3
        made[value.name] = np.asarray(array > 0 if value.dtype == ir.DataType.BOOL else array, value.dtype.numpy())
    return made


def run_onnxruntime(model, inputs):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    data = ir.to_proto(model).SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, inputs)


def run_reference(model, inputs):
    return onnx.reference.ReferenceEvaluator(ir.to_proto(model)).run(None, inputs)


def interface(values):
    return [(value.name, value.type, value.shape) for value in values]


def check(model, result, *, tolerance=2e-6, reference=True):
    """`result` is valid, computes what `model` does, has its interface, and stays when optimised again."""
    proto = ir.to_proto(result)
    onnx.checker.check_model(proto, full_check=True)
    assert structure_problem(result) is None
    constants = {name for name, value in model.graph.initializers.items() if model.ir_version < 4}
    declared = [value for value in model.graph.inputs if value.name not in constants]
    assert interface(result.graph.inputs) == interface(declared)
    assert interface(result.graph.outputs) == interface(model.graph.outputs)
    inputs = feeds(model)
    for evaluate in [run_onnxruntime] + [run_reference] * reference:
        for want, have in zip(evaluate(model, inputs), evaluate(result, inputs), strict=True):
            assert want.dtype == have.dtype and want.shape == have.shape
            assert np.isfinite(want).all()
            size = np.linalg.norm(want.astype(np.float64))
            assert np.linalg.norm(want - have.astype(np.float64)) <= tolerance * max(size, 1e-30)
    again = optimize(result)
    assert ir.to_proto(again).SerializeToString(deterministic=True) == proto.SerializeToString(deterministic=True)


def optimized(model, **options):
    """`optimize`, with all that must hold afterwards."""
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    result = optimize(model)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before, "the given model was changed"
    check(model, result, **options)
    return result


def only(step: Pass, model: ir.Model):
    """What one pass alone makes of a model and says of it: (result, applied events, missed events)."""
    assert step in PASSES
    events = []
    result = run(normalized(model), [step], trace=events.append).model
    return result, [e for e in events if e.applied], [e for e in events if not e.applied]
