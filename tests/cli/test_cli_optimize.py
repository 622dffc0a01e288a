import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from cli_cases import error_of, invoke, run_json

DATA = Path(__file__).parent.parent / "passes" / "data"


def operators(path):
    return [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]


def test_a_model_in_its_own_opset(tmp_path):
    out = tmp_path / "out.onnx"
    facts = run_json("optimize", DATA / "bert.script-17.onnx", "-o", out)
    onnx.checker.check_model(out, full_check=True)
    assert facts["output"] == str(out) and facts["opsets"] == {"": 17}
    assert facts["nodes"]["after"] == len(operators(out)) < facts["nodes"]["before"]
    passes = {one["pass"]: one for one in facts["passes"]}
    assert {"fold-constants", "simplify-shapes", "dead-code"} <= set(passes)
    assert sum(one["nodes_removed"] for one in facts["passes"]) == facts["nodes"]["before"] - facts["nodes"]["after"]
    assert facts["verified"]["same"] and facts["verified"]["evaluator"] == "onnxruntime"
    assert "Attention" not in operators(out)
    onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])


def test_a_newer_opset_has_more_operators(tmp_path):
    out = tmp_path / "out.onnx"
    facts = run_json("optimize", DATA / "llama.script-17.onnx", "-o", out, "--opset", 23)
    onnx.checker.check_model(out, full_check=True)
    assert facts["opsets"] == {"": 23} and facts["verified"]["same"]
    assert {"Attention", "RotaryEmbedding"} <= set(operators(out))
    assert "does not exist" in error_of("optimize", DATA / "bert.script-17.onnx", "--opset", 999)["what"]


def test_functions_are_expanded(tmp_path):
    body = [onnx.helper.make_node("Add", ["a", "a"], ["b"]), onnx.helper.make_node("Identity", ["b"], ["c"])]
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("local", 1)]
    function = onnx.helper.make_function("local", "Twice", ["a"], ["c"], body, opsets)
    values = [onnx.helper.make_tensor_value_info(name, 1, [2]) for name in "xy"]
    node = onnx.helper.make_node("Twice", ["x"], ["y"], domain="local")
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8), tmp_path / "m.onnx"
    )
    facts = run_json("optimize", tmp_path / "m.onnx", "-o", tmp_path / "o.onnx")
    assert facts["nodes"] == {"before": 1, "inlined": 2, "after": 1}
    assert operators(tmp_path / "o.onnx") == ["Add"]
    assert "inline-functions" in invoke("optimize", tmp_path / "m.onnx").stdout


def test_explain_tells_why_patterns_did_not_match():
    model = DATA / "multihead.script-17.onnx"
    told = invoke("optimize", model, "--explain")
    assert told.exit_code == 0, told.output
    assert "is used elsewhere too" in told.stdout and "Left as they are" in told.stdout
    facts = run_json("optimize", model, "--explain", "--opset", 23)
    misses = [one for one in facts["missed"] if one["pass_name"] == "recognise-attention"]
    assert [(one["op_type"], one["node"]) for one in misses] == [("Softmax", "/Softmax")]
    assert "missed" not in run_json("optimize", model)


def test_passes_can_be_chosen(tmp_path):
    model = DATA / "gelu.script-17.onnx"
    chosen = run_json("optimize", model, "--only", "fold-constants", "--only", "dead-code")
    assert {one["pass"] for one in chosen["passes"]} <= {"fold-constants", "dead-code"}
    less = run_json("optimize", model, "--opset", 20, "--skip", "recognise-activations")
    assert "recognise-activations" not in {one["pass"] for one in less["passes"]}
    exact = run_json("optimize", model, "--opset", 20, "--level", "basic")
    assert "recognise-activations" not in {one["pass"] for one in exact["passes"]}
    wrong = invoke("optimize", model, "--only", "none-such", "--json")
    assert wrong.exit_code == 2 and "no pass is called 'none-such'" in json.loads(wrong.stdout)["error"]["what"]


def test_a_model_that_would_differ_is_not_written(tmp_path, monkeypatch):
    from sardonyx.passes import pipeline
    from sardonyx.passes.base import Pass, Rewrite

    def wrong(model):
        for node in list(model.graph):
            if node.op_type == "Erf":
                import onnx_ir as ir

                anew = ir.node("Tanh", node.inputs)
                yield Rewrite(node, "wrong", {node.outputs[0]: anew.outputs[0]}, insert=[anew], remove=[node])

    broken = Pass("broken", "for a test.", "anywhere.", exact=True, rewrites=wrong)
    monkeypatch.setattr(pipeline, "PASSES", (broken,))
    out = tmp_path / "out.onnx"
    out.write_bytes(b"precious")
    error = error_of("optimize", DATA / "gelu.script-17.onnx", "-o", out)
    assert "differs: nothing was written" in error["what"] and out.read_bytes() == b"precious"
    assert run_json("optimize", DATA / "gelu.script-17.onnx", "-o", out, "--no-verify")["verified"] == {
        "reason": "not asked for"
    }
    assert "Tanh" in operators(out)


def test_large_weights_and_what_only_one_evaluator_runs(tmp_path):
    """The converter never sees weights; a model of another domain is written unverified, and says so."""
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    values = [onnx.helper.make_tensor_value_info(name, 1, ["N", 64]) for name in "xy"]
    nodes = [onnx.helper.make_node("MatMul", ["x", "w"], ["h"]), onnx.helper.make_node("Relu", ["h"], ["y"])]
    tensors = [onnx.numpy_helper.from_array(weight, "w")]
    opsets = [onnx.helper.make_opsetid("", 13), onnx.helper.make_opsetid("other", 1)]
    graph = onnx.helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=7, producer_name="someone")
    onnx.save(model, tmp_path / "m.onnx")
    facts = run_json("optimize", tmp_path / "m.onnx", "-o", tmp_path / "o.onnx", "--opset", 21, "--dim", "N=5")
    assert facts["verified"]["same"] and facts["verified"]["dims"] == {"N": 5}
    written = onnx.load(tmp_path / "o.onnx")
    assert written.producer_name == "someone" and {entry.domain for entry in written.opset_import} == {"", "other"}
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(written.graph.initializer[0]), weight)
    model.graph.node[1].domain = "other"
    onnx.save(model, tmp_path / "m.onnx")
    facts = run_json("optimize", tmp_path / "m.onnx")
    assert "onnxruntime" in facts["verified"]["reason"]


@pytest.mark.parametrize("bad", ["none.onnx", "text.onnx"])
def test_what_cannot_be_read(tmp_path, bad):
    (tmp_path / "text.onnx").write_text("not a model")
    assert error_of("optimize", tmp_path / bad, "-o", tmp_path / "o.onnx")["code"] == "model-file"
    assert not (tmp_path / "o.onnx").exists()
