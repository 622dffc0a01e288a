"""TensorFlow's files become ONNX that computes what real TensorFlow recorded."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf import json_format, text_format
from network_checks import refusal
from tensorflow_cases import DATA, FROZEN, OTHERS, differences, path_of, proto, read, read_case, recorded, run, run_here

from sardonyx.convert import tensorflow
from sardonyx.convert.base import Options, Source
from sardonyx.convert.graph import released_versions
from sardonyx.convert.process import versions
from sardonyx.convert.tensorflow import takeover
from sardonyx.convert.tensorflow.evaluate import Evaluation, _Run
from sardonyx.convert.tensorflow.evaluate_operators import OPERATORS as EVALUATED
from sardonyx.convert.tensorflow.graph import Endpoint, Graph, Node, from_json
from sardonyx.convert.tensorflow.schema import schema
from sardonyx.convert.tensorflow.tensors import D
from sardonyx.convert.tensorflow.writing import Port, convert_graph
from sardonyx.errors import ConversionError

CASES = (*FROZEN, *OTHERS)
RUNS = [(name, case) for name in CASES for case in (name, f"{name}.2") if recorded(case)[1]]

converted = cache(read_case)


@pytest.mark.parametrize(("name", "case"), RUNS, ids=[case for _, case in RUNS])
def test_computes_what_tensorflow_computed(name, case):
    inputs, outputs = recorded(case)
    model, tolerance = converted(name).model, FROZEN.get(name, 1e-5)
    assert differences(run(model, inputs), outputs, tolerance) == []
    found, providers = run_here(model, inputs)
    assert differences(found, outputs, tolerance) == []
    assert providers == {"cpu"}


@pytest.mark.parametrize(("name", "case"), RUNS, ids=[case for _, case in RUNS])
def test_the_evaluation_computes_it_too(name, case):
    inputs, outputs = recorded(case)
    evaluation = converted(name).oracles[-1]()
    values = evaluation.run(inputs)
    assert differences(values, outputs, 1e-5, exact_types=False) == []
    assert all(value.dtype == np.float64 for value in values.values() if value.dtype.kind == "f")


def test_layers_of_the_model_have_the_evaluations_values():
    inputs, _ = recorded("keras_cnn")
    case = converted("keras_cnn")
    model = proto(case.model)
    for value in case.layers:
        if value not in {output.name for output in model.graph.output}:
            model.graph.output.add().name = value
    values = case.oracles[-1]().run(inputs)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found = dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs), strict=True))
    compared = {layer: found[value] for value, layer in case.layers.items() if layer in values}
    assert len(compared) > 10
    assert differences(values, compared, 1e-5, exact_types=False) == []


@pytest.mark.parametrize("name", ["windows", "keras_cnn", "module"])
def test_names_opset_and_batch(name):
    model = proto(converted(name).model)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert (model.ir_version, model.opset_import[0].version) == released_versions()
    assert [value.name for value in model.graph.input] == sorted(recorded(name)[0])
    assert {value.name for value in model.graph.output} == set(recorded(name)[1])
    assert {value.type.tensor_type.shape.dim[0].dim_param for value in model.graph.input} == {"batch"}


def test_nodes_are_named_after_tensorflows():
    nodes = {node.name: node.op_type for node in proto(converted("keras_cnn").model).graph.node}
    assert nodes["model/first/Conv2D"] == "Conv"
    weights = [tensor.name for tensor in proto(converted("saved_v1").model).graph.initializer]
    assert "kernel" in weights
    assert {"parts/part_0", "parts/part_1", "parts/part_2"} <= set(weights)


def test_shapes_are_followed_where_only_the_batch_is_open():
    model = proto(converted("keras_cnn").model)
    operators = Counter(node.op_type for node in model.graph.node)
    assert not operators["Shape"]
    assert {len(value.type.tensor_type.shape.dim) for value in model.graph.output} == {2}
    assert all(value.type.tensor_type.shape.dim[0].dim_param == "batch" for value in model.graph.output)
    (transposed,) = [node for node in model.graph.node if node.op_type == "ConvTranspose"]
    assert transposed.input


def test_few_transposes():
    x = schema().new("GraphDef")
    text = """
      node { name: "x" op: "Placeholder" attr { key: "dtype" value { type: DT_FLOAT } }
             attr { key: "shape"
                    value { shape { dim { size: -1 } dim { size: 8 } dim { size: 8 } dim { size: 3 } } } } }
      node { name: "relu" op: "Relu" input: "x" }
    """
    for i in range(3):
        text += f"""
          node {{ name: "pool{i}" op: "MaxPool" input: "{f"six{i - 1}" if i else "relu"}"
                 attr {{ key: "ksize" value {{ list {{ i: [1, 2, 2, 1] }} }} }}
                 attr {{ key: "strides" value {{ list {{ i: [1, 1, 1, 1] }} }} }}
                 attr {{ key: "padding" value {{ s: "SAME" }} }} }}
          node {{ name: "six{i}" op: "Relu6" input: "pool{i}" }}"""
    text_format.Parse(text, x)
    graph = from_json(json_format.MessageToDict(x), "here")
    written = convert_graph(graph, [Port("x", Endpoint("x"))], [Port("y", Endpoint("six2"))], Options())
    assert Counter(node.op_type for node in proto(written.model).graph.node)["Transpose"] == 2


def test_text_is_read_like_binary():
    inputs, outputs = recorded("products")
    assert differences(run(read(DATA / "products.pbtxt", outputs=tuple(outputs)).model, inputs), outputs, 1e-5) == []


@pytest.mark.parametrize("file", ["", ".meta", ".index"])
def test_a_checkpoint_by_any_of_its_files(file):
    case = read(DATA / "checkpoint" / file, outputs=("probabilities",))
    inputs, outputs = recorded("checkpoint")
    assert differences(run(case.model, inputs), outputs, 1e-5) == []
    assert [value.name for value in proto(case.model).graph.input] == ["x"]
    assert any("is_training" in note for note in case.notes)


def test_the_loss_of_a_graph_in_training_is_no_output():
    assert "no outputs" in refusal(lambda: read(DATA / "checkpoint"), ConversionError)


def test_a_switch_for_training_can_stay_an_input():
    _, outputs = recorded("conditions")
    case = read(path_of("conditions"), outputs=("nested",), inputs=("x", "is_training"))
    inputs = recorded("conditions")[0]
    off = run(case.model, {**inputs, "is_training": np.array(False)})
    assert differences(off, {"nested": outputs["nested"]}, 1e-6) == []
    on = run(case.model, {**inputs, "is_training": np.array(True)})
    assert differences(on, {"nested": inputs["x"]}, 1e-6) == []
    assert not case.notes


def test_inputs_in_the_middle_and_names_with_ports():
    case = read(path_of("products"), inputs=("Reshape:0",), outputs=("of_matmul:0",), shapes={"Reshape:0": (None, 5)})
    model = proto(case.model)
    assert [value.name for value in model.graph.input] == ["Reshape:0"]
    assert [value.name for value in model.graph.output] == ["of_matmul:0"]


def test_given_dims_are_those_of_the_model():
    shapes = {"x": (2, 14, 18, None)}
    case = read(path_of("open_sizes"), outputs=("of_back",), shapes=shapes)
    model = proto(case.model)
    assert [dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim] == [2, 28, 36, 4]
    assert "Slice" not in {node.op_type for node in model.graph.node}
    case = read(path_of("windows"), outputs=("of_same",), batch=4)
    assert proto(case.model).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 4


def test_signatures_are_chosen():
    case = read(path_of("module"), signature="other")
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(run(case.model, {"x": x})["y"], x * 0.25)
    message = refusal(lambda: read(path_of("module")), ConversionError)
    assert "main, other" in message
    assert "main, other" in refusal(lambda: read(path_of("module"), signature="third"), ConversionError)


def test_tags_are_chosen():
    assert "cpu" in read(path_of("saved_v1"), tag="serve,cpu").metadata["tags"]
    assert "gpu" in refusal(lambda: read(path_of("saved_v1"), tag="serve,gpu"), ConversionError)


def test_all_that_is_missing_is_told_at_once(monkeypatch):
    monkeypatch.setattr(takeover, "versions", lambda *args: {})
    message = refusal(lambda: read(path_of("factors"), outputs=tuple(recorded("factors")[1])), ConversionError)
    assert "Cholesky" in message
    assert "MatrixDeterminant" in message
    assert "no such node" in refusal(lambda: read(path_of("factors"), outputs=("nothing",)), ConversionError)


def test_what_tf2onnx_passes_on_is_caught():
    for node in (
        onnx.helper.make_node("Cholesky", ["x"], ["y"]),
        onnx.helper.make_node("Relu", ["x"], ["y"], domain="ai.onnx.contrib"),
    ):
        value = [onnx.helper.make_tensor_value_info(name, 1, [2]) for name in "xy"]
        model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", value[:1], value[1:]))
        assert node.op_type in refusal(lambda model=model: takeover.check(model, "here"), ConversionError)


def test_tf2onnx_takes_over_where_it_is_installed():
    if not versions(["tf2onnx"], "tensorflow"):
        pytest.skip("tf2onnx is not installed")
    inputs, outputs = recorded("crops")
    case = read(path_of("crops"), outputs=tuple(outputs))
    assert case.route.startswith("tf2onnx")
    assert differences(run(case.model, inputs), outputs, 1e-5) == []
    message = refusal(lambda: read(path_of("factors"), outputs=tuple(recorded("factors")[1])), ConversionError)
    assert "Cholesky" in message


@pytest.mark.parametrize("name", ["windows", "checkpoint", "module", "keras_cnn"])
def test_tensorflow_is_the_oracle_where_it_is_installed(name):
    oracle = converted(name).oracles[0]()
    if oracle is None:
        pytest.skip("TensorFlow is not installed")
    inputs, outputs = recorded(name)
    assert differences(oracle.run(inputs), outputs, 1e-6) == []


def test_every_operator_that_is_written_is_tested_and_evaluated():
    seen = set()
    for name in CASES:
        path = path_of(name)
        kind = (
            "GraphDef"
            if path.suffix == ".pb"
            else "SavedModel"
            if (path / "saved_model.pb").exists()
            else "MetaGraphDef"
        )
        file = path if path.suffix == ".pb" else path / ("saved_model.pb" if kind == "SavedModel" else ".meta")
        message = schema().parse(file.read_bytes(), kind, str(file))
        graphs = {
            "GraphDef": lambda m: [m],
            "SavedModel": lambda m: [graph.graph_def for graph in m.meta_graphs],
            "MetaGraphDef": lambda m: [m.graph_def],
        }[kind](message)
        for graph in graphs:
            seen |= {node.op for node in graph.node}
            seen |= {node.op for function in graph.library.function for node in function.node_def}
    untested = set(tensorflow.operators()) - seen
    assert untested <= UNTESTED, untested - UNTESTED
    special = {name[4:] for name in dir(_Run)}
    missing = {op for op in tensorflow.operators() if op not in EVALUATED and op.lower() not in special}
    assert missing <= {"Merge", "RefMerge", "RefSwitch", "Variable"}


UNTESTED = {
    # Other names of what is tested, or tested here by graphs of its own.
    "BatchMatMul", "BatchMatMulV3", "BiasAddV1", "CheckNumerics", "CheckNumericsV2", "Concat", "DebugIdentity",
    "EnsureShape", "FusedBatchNorm", "FusedBatchNormV2", "FusedConv2D", "FusedDepthwiseConv2dNative", "Gather",
    "IdentityN", "MaxPoolV2", "Mod", "NonMaxSuppression", "NonMaxSuppressionV2", "NonMaxSuppressionV4",
    "OptimizationBarrier", "PlaceholderWithDefault", "PreventGradient", "Print", "PrintV2", "RefMerge", "RefSwitch",
    "Snapshot", "TopK", "Variable", "_FusedConv2D", "_FusedDepthwiseConv2dNative", "_FusedMatMul", "Case",
    "EmptyTensorList", "TensorListPushBack", "TensorListLength", "BitwiseOr",
    "LeftShift", "RightShift", "TensorScatterMin", "ShapeN", "InvertPermutation", "If", "While",
    "Slice", "PartitionedCall", "StatelessWhile", "StatelessIf", "Expm1", "ReadVariableOp", "VarIsInitializedOp",
    "BroadcastArgs", "ClipByValue", "Rank", "Xlogy", "StopGradient", "Unpack", "Switch",
}  # fmt: skip


def _made(*nodes: Node, result: str = "y", shape: tuple[int | None, ...] = (None, 4)):
    """A graph of these nodes after a placeholder x."""
    x = Node("x", "Placeholder", attributes={"dtype": D.FLOAT, "shape": shape})
    graph = Graph({node.name: node for node in (x, *nodes)}, where="made")
    return graph, [Port("x", Endpoint("x"))], [Port(result, Endpoint.of(result))]


def _both(graph, inputs, outputs, x):
    """What the model and the evaluation give, which must agree."""
    written = convert_graph(graph, inputs, outputs, Options())
    found, _ = run_here(written.model, {"x": x})
    values = Evaluation(graph, inputs, outputs).run({"x": x})
    expected = {name: values[name] for name in found}
    assert differences(found, expected, 1e-5, exact_types=False) == []
    return next(iter(found.values()))


def _const(name, value):
    return Node(name, "Const", attributes={"value": np.asarray(value)})


R = np.random.default_rng(4)
W = R.standard_normal((4, 3)).astype(np.float32)
K = R.standard_normal((3, 3, 2, 2)).astype(np.float32)
B = R.standard_normal(3).astype(np.float32)


@pytest.mark.parametrize(
    ("activation", "more"),
    [("Relu", {}), ("Relu6", {}), ("LeakyRelu", {"leakyrelu_alpha": 0.3}), ("Elu", {}), ("Sigmoid", {}), ("Prelu", {})],
)
def test_fused_products(activation, more):
    fused = [b"BiasAdd", activation.encode()]
    given = [Endpoint("x"), Endpoint("w"), Endpoint("b"), *([Endpoint("b")] if activation == "Prelu" else [])]
    y = Node("y", "_FusedMatMul", tuple(given), attributes={"fused_ops": fused, **more})
    x = R.standard_normal((3, 4)).astype(np.float32)
    found = _both(*_made(_const("w", W), _const("b", B), y), x)
    plain = x @ W + B
    if activation == "Relu":
        np.testing.assert_allclose(found, np.maximum(plain, 0), rtol=1e-5)
    if activation == "Prelu":
        np.testing.assert_allclose(found, np.where(plain > 0, plain, plain * B), rtol=1e-5)


@pytest.mark.parametrize(
    "op", ["_FusedConv2D", "FusedConv2D", "_FusedDepthwiseConv2dNative", "FusedDepthwiseConv2dNative"]
)
def test_fused_convolutions(op):
    bias = R.standard_normal(4 if "Depth" in op else 2).astype(np.float32)
    attributes = {"fused_ops": [b"BiasAdd", b"Relu"], "strides": [1, 1, 1, 1], "padding": b"SAME", "num_args": 1}
    y = Node("y", op, (Endpoint("x"), Endpoint("k"), Endpoint("b")), attributes=attributes)
    found = _both(
        *_made(_const("k", K), _const("b", bias), y, shape=(None, 5, 6, 2)),
        R.standard_normal((2, 5, 6, 2)).astype(np.float32),
    )
    assert found.shape == (2, 5, 6, len(bias))
    assert (found >= 0).all()
    assert (found > 0).any()


def test_fused_operations_without_emitter_are_refused():
    y = Node("y", "_FusedMatMul", (Endpoint("x"), Endpoint("w")), attributes={"fused_ops": [b"Mystery"]})
    message = refusal(lambda: convert_graph(*_made(_const("w", W), y), Options()), ConversionError)
    assert "Mystery" in message


@pytest.mark.parametrize("op", ["Conv2D", "MaxPool", "AvgPool", "BiasAdd", "FusedBatchNorm", "DepthwiseConv2dNative"])
def test_channels_first(op):
    """Which TensorFlow's CPU does not run: against the evaluation."""
    common = {"data_format": b"NCHW", "strides": [1, 1, 2, 1], "padding": b"SAME", "ksize": [1, 1, 2, 3]}
    vectors = [np.abs(R.standard_normal(2)).astype(np.float32) for _ in range(4)]
    constants = [_const("k", K), *[_const(f"v{i}", v) for i, v in enumerate(vectors)]]
    extra = {"Conv2D": ["k"], "DepthwiseConv2dNative": ["k"], "BiasAdd": ["v0"]}.get(op, [])
    extra = [f"v{i}" for i in range(4)] if op == "FusedBatchNorm" else extra
    if op == "DepthwiseConv2dNative":
        common["strides"] = [1, 1, 2, 2]
    y = Node("y", op, (Endpoint("x"), *map(Endpoint, extra)), attributes={**common, "is_training": False})
    x = R.standard_normal((2, 2, 5, 6)).astype(np.float32)
    assert _both(*_made(*constants, y, shape=(None, 2, 5, 6)), x).ndim == 4


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("BatchMatMul", ["x", "w"], {}),
        ("BatchMatMulV3", ["x", "w"], {}),
        ("BiasAddV1", ["x", "row"], {}),
        ("Concat", ["one", "x", "x"], {}),
        ("EnsureShape", ["x"], {"shape": (None, 4)}),
        ("Gather", ["x", "ids"], {}),
        ("IdentityN", ["x"], {}),
        ("Mod", ["x", "row"], {}),
        ("PlaceholderWithDefault", ["x"], {}),
        ("StopGradient", ["x"], {}),
        ("TopK", ["x"], {"k": 2}),
        ("Slice", ["x", "from", "to"], {}),
        ("Expm1", ["x"], {}),
        ("ShapeN", ["x"], {}),
        ("ClipByValue", ["x", "low", "high"], {}),
        ("TensorScatterMin", ["x", "rows", "x2"], {}),
        ("BitwiseOr", ["many", "ids"], {}),
        ("LeftShift", ["few", "ones"], {}),
        ("RightShift", ["few", "ones"], {}),
        ("InvertPermutation", ["ids"], {}),
        ("Rank", ["x"], {}),
    ],
)
def test_other_operators(op, inputs, attributes):
    constants = [
        _const("w", W), _const("row", W[:, 0] + 3), _const("one", np.int32(1)),
        _const("ids", np.array([1, 0], np.int32)),
        _const("low", np.float32(-0.5)), _const("high", np.float32(0.4)),
        _const("rows", np.array([[1], [1]], np.int32)),
        _const("x2", W[:2, :1] * np.ones(4, np.float32)), _const("many", np.array([5, 9], np.int32)),
        _const("few", np.array([5, 9], np.uint32)), _const("ones", np.array([1, 2], np.uint32)),
        _const("from", np.array([0, 1], np.int32)), _const("to", np.array([-1, 2], np.int32)),
    ]  # fmt: skip
    y = Node("y", op, tuple(map(Endpoint, inputs)), attributes=attributes)
    assert _both(*_made(*constants, y), R.standard_normal((3, 4)).astype(np.float32)).size


@pytest.mark.parametrize("suffix", ["", "V2", "V4"])
def test_suppression_without_score_threshold(suffix):
    overlap = [] if not suffix else [Endpoint("overlap")]
    least = [Endpoint("least")] if suffix == "V4" else []
    constants = [
        _const("scores", np.linspace(1, 0, 9, dtype=np.float32)), _const("most", np.int32(4)),
        _const("overlap", np.float32(0.2)), _const("least", np.float32(0.3)),
    ]  # fmt: skip
    y = Node(
        "y", f"NonMaxSuppression{suffix}", (Endpoint("x"), Endpoint("scores"), Endpoint("most"), *overlap, *least),
        attributes={"iou_threshold": 0.2},
    )  # fmt: skip
    x = np.sort(R.uniform(0, 2, (9, 4)).astype(np.float32), axis=1)[:, [0, 1, 2, 3]]
    assert 1 <= len(_both(*_made(*constants, y, shape=(9, 4)), x)) <= 4


def test_lists_that_grow():
    nodes = [
        Node("list", "EmptyTensorList", (Endpoint("shape"), Endpoint("most")), attributes={"element_dtype": 1}),
        _const("shape", np.array([-1, 4], np.int32)), _const("most", np.int32(-1)),
        Node("first", "TensorListPushBack", (Endpoint("list"), Endpoint("x"))),
        Node("double", "Add", (Endpoint("x"), Endpoint("x"))),
        Node("second", "TensorListPushBack", (Endpoint("first"), Endpoint("double"))),
        Node("length", "TensorListLength", (Endpoint("second"),)),
        Node("stack", "TensorListStack", (Endpoint("second"), Endpoint("shape"))),
        Node("float", "Cast", (Endpoint("length"),), attributes={"DstT": D.FLOAT}),
        Node("y", "Mul", (Endpoint("stack"), Endpoint("float"))),
    ]  # fmt: skip
    x = R.standard_normal((3, 4)).astype(np.float32)
    np.testing.assert_allclose(_both(*_made(*nodes), x), np.stack([x, x * 2]) * 2)


def test_weights_beside_a_graph_in_json():
    topology = {
        "node": [
            {"name": "x", "op": "Placeholder", "attr": {
                "dtype": {"type": "DT_FLOAT"}, "shape": {"shape": {"dim": [{"size": "-1"}, {"size": "4"}]}}}},
            {"name": "w", "op": "Const", "attr": {
                "dtype": {"type": "DT_FLOAT"},
                "value": {"tensor": {"dtype": "DT_FLOAT", "tensorShape": {"dim": [{"size": "4"}, {"size": "3"}]}}}}},
            {"name": "y", "op": "MatMul", "input": ["x", "w"], "attr": {"transpose_b": {"b": False}}},
        ]
    }  # fmt: skip
    graph = from_json(topology, "model.json", {"w": W})
    written = convert_graph(graph, [Port("x", Endpoint("x"))], [Port("y", Endpoint("y"))], Options())
    x = R.standard_normal((3, 4)).astype(np.float32)
    np.testing.assert_allclose(run(written.model, {"x": x})["y"], x @ W, rtol=1e-5)


def test_operators_are_listed():
    found = tensorflow.operators()
    assert {"Conv2D", "While", "Merge", "ResizeBicubic"} <= set(found)
    assert found == sorted(found)


def test_no_framework_is_imported():
    code = (
        "import sys; from pathlib import Path; from sardonyx.convert.base import Options, Source\n"
        "from sardonyx.convert import tensorflow\n"
        f"source = Source(path=Path({str(DATA / 'keras_cnn')!r})); assert tensorflow.recognises(source)\n"
        "tensorflow.read(source, Options())\n"
        "assert not {'keras', 'tf_keras', 'tensorflow', 'tf2onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_objects_and_files_of_others_are_not_recognised(tmp_path):
    assert not tensorflow.recognises(Source(object=object()))
    for name, data in (
        ("a.pb", b"\x08\x0a\x12\x07pytorch"),
        ("b.pb", b"node"),
        ("c.meta", b"{}"),
        ("d", b"\x0a\x05hello"),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        assert not tensorflow.recognises(Source(path=path))
    assert not tensorflow.recognises(Source(path=tmp_path))


def test_live_modules():
    tf = pytest.importorskip("tensorflow")

    class Module(tf.Module):
        def __init__(self):
            self.w = tf.Variable(W)

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "x")])
        def __call__(self, x):
            return {"y": tf.nn.relu(x @ self.w)}

    assert tensorflow.recognises(Source(object=Module()))
    x = R.standard_normal((3, 4)).astype(np.float32)
    for thing, example in ((Module(), ()), (tf.function(lambda x: {"y": tf.nn.relu(x @ W)}), (x,))):
        case = tensorflow.read(Source(object=thing), Options(example=example))
        expected = case.oracles[0]().run({"x": x})
        np.testing.assert_allclose(expected["y"], np.maximum(x @ W, 0), rtol=1e-5)
        assert differences(run(case.model, {"x": x}), expected, 1e-5) == []
