import json

import h5py
import numpy as np
import onnx
import onnxruntime
import pytest
from cli_cases import error_of, invoke, run_json

WEIGHTS = np.arange(6, dtype=np.float32).reshape(3, 2) / 4
BIAS = np.array([0.5, -1], np.float32)


@pytest.fixture
def keras_file(tmp_path):
    """A Keras 2 file as `model.save("m.h5")` writes it: one Dense layer."""
    path = tmp_path / "m.h5"
    layer = {
        "class_name": "Dense",
        "config": {
            "name": "dense",
            "trainable": True,
            "batch_input_shape": [None, 3],
            "dtype": "float32",
            "units": 2,
            "activation": "linear",
            "use_bias": True,
        },
    }
    config = {"class_name": "Sequential", "config": {"name": "small", "layers": [layer]}}
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"2.0.5"
        file.attrs["backend"] = b"tensorflow"
        file.attrs["model_config"] = json.dumps(config).encode()
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = [b"dense"]
        group = weights.create_group("dense")
        group.attrs["weight_names"] = [b"dense/kernel:0", b"dense/bias:0"]
        group["dense/kernel:0"] = WEIGHTS
        group["dense/bias:0"] = BIAS
    return path


def test_convert_writes_what_onnxruntime_runs(keras_file, tmp_path):
    out = tmp_path / "m.onnx"
    found = run_json("convert", keras_file, "-o", out)
    assert found["output"] == str(out)
    assert found["bytes"] == out.stat().st_size
    assert found["parameters"] == 8
    onnx.checker.check_model(out, full_check=True)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    x = np.array([[1, 2, 3], [-1, 0, 1]], np.float32)
    (y,) = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_allclose(y, x @ WEIGHTS + BIAS, rtol=1e-6)
    told = invoke("convert", keras_file, "-o", out)
    assert told.exit_code == 0
    assert "wrote" in told.stdout


def test_a_failure_leaves_no_file_and_keeps_the_old_one(tmp_path):
    source, out = tmp_path / "notes.txt", tmp_path / "m.onnx"
    source.write_text("not a model")
    assert error_of("convert", source, "-o", out)["code"] == "conversion"
    assert not out.exists()
    out.write_bytes(b"precious")
    error_of("convert", source, "-o", out)
    assert out.read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "notes.txt"]


def test_what_cannot_be_read_or_written_is_an_error(keras_file, tmp_path):
    assert error_of("convert", tmp_path / "none.h5", "-o", tmp_path / "m.onnx")["code"] == "model-file"
    assert "none" in error_of("convert", keras_file, "-o", tmp_path / "none" / "m.onnx")["where"]
    assert invoke("convert", keras_file).exit_code == 2, "--output is required"
