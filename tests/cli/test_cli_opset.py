import numpy as np
import onnx
import onnxruntime
from cli_cases import invoke, run_json


def saved(path, text, version):
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {version}]>\n{text}'), path)
    return path


SUM = "g (float[2, 3] x) => (float[2, 1] y) <int64[1] a = {1}> { p = Gelu(x) y = ReduceMean(p, a) }"


def test_down_and_up(tmp_path):
    model = saved(tmp_path / "m.onnx", SUM, 20)
    down = run_json("opset", model, "--to", 12, "-o", tmp_path / "down.onnx")
    assert down["opsets"]["after"][""] == 12 and down["obstacles"] == [] and down["verified"]["same"]
    onnx.checker.check_model(onnx.load(tmp_path / "down.onnx"), full_check=True)
    up = run_json("opset", tmp_path / "down.onnx", "--to", 21, "-o", tmp_path / "up.onnx")
    assert up["opsets"] == {"before": {"": 12}, "after": {"": 21}} and up["verified"]["same"]
    x = {"x": np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3)}
    want, *others = (onnxruntime.InferenceSession(path).run(None, x)[0] for path in (model, *tmp_path.glob("*p.onnx")))
    np.testing.assert_allclose(others[0], want, rtol=1e-5)


def test_what_cannot_be_converted_is_listed_and_nothing_written(tmp_path):
    text = "g (float[2, 3] x, int64[1] a) => (float y, float z) { y = ReduceMean(x, a) z = BitwiseNot(a) }"
    model = saved(tmp_path / "m.onnx", text.replace("float z", "int64[1] z"), 18)
    told = invoke("opset", model, "--to", 13, "-o", tmp_path / "o.onnx")
    assert told.exit_code == 1 and not (tmp_path / "o.onnx").exists()
    assert "ReduceMean" in told.stdout and "not constant" in told.stdout and "BitwiseNot" in told.stdout
    assert invoke("opset", model, "--to", 999).exit_code == 1


def test_experimental_operators_become_standard_ones(tmp_path):
    node = onnx.helper.make_node("ScaledTanh", ["x"], ["y"], alpha=2.0, beta=0.5)
    values = [onnx.helper.make_tensor_value_info(name, 1, [2, 3]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
    opsets = [onnx.helper.make_opsetid("", 9)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=4), tmp_path / "m.onnx")
    facts = run_json("opset", tmp_path / "m.onnx", "--to", 13, "-o", tmp_path / "o.onnx")
    assert facts["verified"]["same"] and facts["verified"]["evaluator"] == "onnxruntime"
    onnx.checker.check_model(onnx.load(tmp_path / "o.onnx"), full_check=True)
