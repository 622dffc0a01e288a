"""The names people know: tf2onnx's command line, functions of keras2onnx and onnxmltools, and the page of formats."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from keras_cases import DATA, assert_close, recorded

import sardonyx.convert
from sardonyx.convert import names, tf2onnx
from sardonyx.errors import ConfigError, ConversionError

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = DATA / "squeeze_excite.h5"


def run(model, inputs):
    onnx.checker.check_model(model, full_check=True)
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, inputs)


def test_every_name_is_there():
    for name in ("keras", "sklearn", "xgboost", "lightgbm", "catboost", "libsvm", "coreml", "tensorflow"):
        assert callable(getattr(sardonyx.convert, f"convert_{name}"))
    assert callable(sardonyx.convert.export_chainer)
    with pytest.raises(AttributeError, match="convert_fortran"):
        sardonyx.convert.convert_fortran  # noqa: B018 - the access is the test


def test_convert_keras():
    made = sardonyx.convert.convert_keras(str(MODEL), "excite", doc_string="told", target_opset=17)
    assert isinstance(made, onnx.ModelProto)
    assert (made.graph.name, made.doc_string, made.opset_import[0].version) == ("excite", "told", 17)
    inputs, outputs = recorded("squeeze_excite")
    assert_close(run(made, inputs), outputs)
    name = made.graph.input[0].name
    moved = sardonyx.convert.convert_keras(str(MODEL), channel_first_inputs=[name])
    assert_close(run(moved, {name: np.ascontiguousarray(inputs[name].transpose(0, 3, 1, 2))}), outputs)


def test_convert_sklearn():
    pytest.importorskip("skl2onnx")
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline

    x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    estimator = LogisticRegression().fit(x, (x[:, 0] > 0).astype(int))
    made = sardonyx.convert.convert_sklearn(
        estimator, "linear", [("rows", FloatTensorType([None, 3]))], target_opset=18
    )
    assert [value.name for value in made.graph.input] == ["rows"]
    label, probability = run(made, {"rows": x})
    assert label.tolist() == estimator.predict(x).tolist()
    np.testing.assert_allclose(probability, estimator.predict_proba(x), rtol=1e-5, atol=1e-6)
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": x[:, 0], "n": np.arange(60) % 5})
    table = make_pipeline(ColumnTransformer([("all", "passthrough", ["a", "n"])]), Ridge()).fit(frame, x[:, 1])
    types = [("a", FloatTensorType([None, 1])), ("n", Int64TensorType([None, 1]))]
    made = sardonyx.convert.convert_sklearn(table, initial_types=types)
    found = run(made, {"a": frame[["a"]].to_numpy(), "n": frame[["n"]].to_numpy()})[0]
    np.testing.assert_allclose(found[:, 0], table.predict(frame), rtol=1e-4, atol=1e-6)
    with pytest.raises(ConversionError, match="users register"):
        sardonyx.convert.convert_sklearn(estimator, custom_conversion_functions={"a": 1})
    with pytest.raises(ConversionError, match="number of columns"):
        sardonyx.convert.convert_sklearn(estimator, initial_types=[("rows", FloatTensorType([None, None]))])


def test_convert_tensorflow_and_coreml():
    folder = DATA / "tensorflow"
    with np.load(folder / "recorded.npz") as stored:
        assert any("products" in key for key in stored.files)
    made = sardonyx.convert.convert_tensorflow(folder / "products.pb", "products")
    assert made.graph.name == "products"

    class Message:
        """As a GraphDef of TensorFlow, or a spec of coremltools: it gives its bytes."""

        def __init__(self, path):
            self.path = path

        def SerializeToString(self):
            return self.path.read_bytes()

    again = sardonyx.convert.convert_tensorflow(Message(folder / "products.pb"), "products")
    assert again.graph.node == made.graph.node
    path = DATA / "coreml" / "linear.mlmodel"
    models = [sardonyx.convert.convert_coreml(source, "linear") for source in (path, Message(path))]
    assert models[0].graph.node == models[1].graph.node


def test_unverified_is_said_aloud(monkeypatch):
    from sardonyx.convert import api

    keep = api.convert

    def unverified(source, **asked):
        done = keep(source, **asked)
        return replace(done, report=replace(done.report, verdict="unverified", notes=("nobody to ask",)))

    monkeypatch.setattr(api, "convert", unverified)
    with pytest.warns(UserWarning, match="unverified: nobody to ask"):
        names.convert_keras(str(MODEL))


# tf2onnx


@pytest.fixture
def ran(tmp_path, capsys):
    def convert(*arguments, output="out.onnx"):
        status = tf2onnx.main([*map(str, arguments), "--output", str(tmp_path / output)])
        return status, tmp_path / output, capsys.readouterr().err

    return convert


def test_tf2onnx_converts(ran):
    status, path, said = ran("--keras", MODEL)
    assert status == 0
    assert "verified against" in said
    inputs, outputs = recorded("squeeze_excite")
    assert_close(run(path.read_bytes(), inputs), outputs)
    assert path.with_name("out.parity.json").exists()


def test_tf2onnx_layouts_names_and_opset(ran):
    inputs, outputs = recorded("squeeze_excite")
    (name,) = inputs
    status, path, _ = ran(
        "--keras", MODEL, "--inputs-as-nchw", name, "--rename-inputs", "picture", "--opset", 17, "-v",
        "--rename-outputs", ",".join(f"y{i}" for i in range(len(outputs))),
    )  # fmt: skip
    assert status == 0
    model = onnx.load(path)
    assert model.opset_import[0].version == 17
    assert [value.name for value in model.graph.output] == [f"y{i}" for i in range(len(outputs))]
    moved = {"picture": np.ascontiguousarray(inputs[name].transpose(0, 3, 1, 2))}
    assert_close(run(path.read_bytes(), moved), outputs)


def test_tf2onnx_frozen_graphs(ran):
    for option in ("--graphdef", "--input"):
        status, path, said = ran(option, DATA / "tensorflow" / "products.pb", output=f"{option}.onnx")
        assert status == 0, said
        assert ("obsolete" in said) == (option == "--input")
        onnx.checker.check_model(str(path), full_check=True)


def test_tf2onnx_chosen_tensors(ran):
    full = onnx.ModelProto.FromString(names.convert_tensorflow(DATA / "tensorflow" / "products.pb").SerializeToString())
    chosen = full.graph.output[0].name
    status, path, said = ran("--graphdef", DATA / "tensorflow" / "products.pb", "--outputs", f"{chosen}:0")
    assert status == 0, said
    assert [value.name for value in onnx.load(path).graph.output] == [f"{chosen}:0"]


def test_tf2onnx_large_models(ran):
    status, path, said = ran("--keras", DATA / "sequential.h5", "--large_model")
    assert status == 0
    assert path.with_name("out.onnx.data").exists()
    assert "out.onnx.data" in said
    assert path.with_name("out.parity.json").exists()
    inputs, outputs = recorded("sequential")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert_close(session.run(None, inputs), outputs)
    # Tensors of less than 1 KiB stay in the model: then there is no such file, and none is spoken of.
    status, path, said = ran("--keras", MODEL, "--large_model", output="small.onnx")
    assert status == 0
    assert not path.with_name("small.onnx.data").exists()
    assert "small.onnx.data" not in said


def test_tf2onnx_obsolete_options_warn(ran):
    status, _, said = ran(
        "--keras", MODEL, "--target", "rs6", "--continue_on_error", "--fold_const", "--custom-ops", "A:b",
        "--extra_opset", "ai.onnx.contrib:1",
    )  # fmt: skip
    assert status == 0
    assert said.count("has no effect") == 5


def test_tf2onnx_errors(ran, tmp_path):
    status, path, said = ran("--keras", tmp_path / "missing.h5")
    assert status == 1
    assert "missing.h5" in said
    assert not path.exists()
    status, _, said = ran("--keras", MODEL, "--tflite", MODEL)
    assert status == 1
    assert "which model" in said
    assert ran()[0] == 1


def test_tf2onnx_dequantizes(ran):
    path = sorted((DATA / "tflite").glob("*int8*.tflite"))
    if not path:
        pytest.skip("no quantised file among the recorded ones")
    status, made, said = ran("--tflite", path[0], "--dequantize")
    assert status == 0, said
    assert not {node.op_type for node in onnx.load(made).graph.node} & {
        "QuantizeLinear",
        "QLinearConv",
        "QLinearMatMul",
    }


def test_inputs_with_shapes():
    read = tf2onnx.inputs_with_shapes
    assert read("a:0[1,-1,3], b:0,c/d[]") == (("a:0", "b:0", "c/d"), {"a:0": (1, None, 3), "c/d": ()})
    assert read(None) == ((), {})
    for wrong in ("a[1", "a]", "[1]", "a[1-]"):
        with pytest.raises(ConfigError):
            read(wrong)


def test_every_option_of_tf2onnx_is_taken():
    known = {option for action in tf2onnx.parser()._actions for option in action.option_strings}
    wanted = (
        "--input --output --graphdef --checkpoint --saved-model --keras --tflite --tfjs --inputs --outputs "
        "--inputs-as-nchw --outputs-as-nchw --target --continue_on_error --verbose --custom-ops --opset --extra_opset "
        "--fold_const --tag --signature_def --rename-inputs --rename-outputs --large_model --dequantize"
    )
    assert set(wanted.split()) <= known


# The page


def test_the_page_of_formats_is_as_recorded():
    spec = importlib.util.spec_from_file_location("record_converters", ROOT / "scripts" / "record_converters.py")
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script  # its records look themselves up there
    spec.loader.exec_module(script)
    text = script.PAGE.read_text(encoding="utf-8")
    assert script.page(text) == text, "run python scripts/record_converters.py"
