import struct
import zipfile
import zlib

import numpy as np
import onnx
import pytest
from cli_cases import error_of, invoke, run_json
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from sardonyx.zoo import digits

REFERENCE = ("--provider", "reference")


def model(path, shapes, dtype=TensorProto.FLOAT):
    """A file with an Identity for each input: outputs `a.out`, ... equal what is fed."""
    values = {name: helper.make_tensor_value_info(name, dtype, shape) for name, shape in shapes.items()}
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}.out"]) for name in shapes],
        "identities",
        list(values.values()),
        [helper.make_tensor_value_info(f"{name}.out", dtype, shape) for name, shape in shapes.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


@pytest.fixture
def two(tmp_path):
    return model(tmp_path / "two.onnx", {"a": ["N", 2], "b": [3]})


def test_without_a_model_a_digit_is_read_right():
    found = run_json("run")
    (output,) = found["outputs"]
    held = digits.held_out()
    np.testing.assert_allclose(output["values"][0], held.probabilities[digits.SHOWN], atol=2e-6)
    assert np.argmax(output["values"][0]) == held.labels[digits.SHOWN]
    told = invoke("run", *REFERENCE)
    assert told.exit_code == 0
    assert "97.33 %" in told.stdout
    assert "held-out digit, a 2" in told.stdout


def test_npy_npz_and_pb_files_reach_the_inputs_they_are_for(two, tmp_path):
    a, b = np.arange(8, dtype=np.float32).reshape(4, 2), np.array([1, np.nan, np.inf], np.float32)
    np.save(tmp_path / "a.npy", a)
    np.save(tmp_path / "b.npy", b)
    np.savez(tmp_path / "both.npz", b=b, a=a)
    (tmp_path / "b.pb").write_bytes(numpy_helper.from_array(b, "b").SerializeToString())
    for files in (["a.npy", "b.npy"], ["both.npz"], ["b.pb", "a.npy"], ["b=b.npy", "a=a.npy"]):
        options = []
        for file in files:
            name, _, path = file.rpartition("=")
            options += ["--input", f"{name}={tmp_path / path}" if name else tmp_path / path]
        found = run_json("run", two, *options, *REFERENCE)
        assert found["outputs"][0]["values"] == a.tolist(), files
        assert found["outputs"][1]["values"] == [1.0, "NaN", "Infinity"], files


def test_inputs_are_made_up_by_seed_and_dimension(two):
    first = run_json("run", two, "--dim", "N=4", *REFERENCE)
    again = run_json("run", two, "--dim", "N=4", *REFERENCE)
    other = run_json("run", two, "--dim", "N=4", "--seed", 1, *REFERENCE)
    assert first["inputs"][0]["shape"] == [4, 2]
    assert first["outputs"] == again["outputs"]
    assert first["outputs"] != other["outputs"]
    assert first["assumed"] == {}
    assert run_json("run", two, *REFERENCE)["assumed"] == {"N": 1}
    assert "N was taken as 1" in invoke("run", two, *REFERENCE).stdout


def test_big_outputs_are_summarised(tmp_path):
    path = model(tmp_path / "big.onnx", {"a": [50, 50]})
    values = np.arange(2500, dtype=np.float32).reshape(50, 50)
    values[0, 0] = np.nan
    np.save(tmp_path / "a.npy", values)
    told = invoke("run", path, "--input", tmp_path / "a.npy", *REFERENCE).stdout
    assert "2,500 values; min 1; max 2499; mean 1250; std 721.4" in told
    assert "1 NaN, 0 infinite" in told
    (output,) = run_json("run", path, "--input", tmp_path / "a.npy", *REFERENCE)["outputs"]
    assert "values" not in output
    assert output["max"] == 2499


@pytest.mark.parametrize(("suffix", "names"), [("out.npz", ["out.npz"]), ("out", ["output_0.pb", "output_1.pb"])])
def test_outputs_are_saved(two, tmp_path, suffix, names):
    b = np.array([1, 2, 3], np.float32)
    np.save(tmp_path / "b.npy", b)
    found = run_json("run", two, "--input", f"b={tmp_path / 'b.npy'}", "--save-outputs", tmp_path / suffix, *REFERENCE)
    assert [file.rsplit("/", 1)[-1] for file in found["saved"]] == names
    if suffix.endswith("npz"):
        np.testing.assert_array_equal(np.load(tmp_path / suffix)["b.out"], b)
    else:
        tensor = onnx.load_tensor(tmp_path / "out" / "output_1.pb")
        assert tensor.name == "b.out"
        np.testing.assert_array_equal(numpy_helper.to_array(tensor), b)


def test_a_single_output_is_saved_as_npy_and_several_are_not(two, tmp_path):
    run_json("run", "--save-outputs", tmp_path / "p.npy", *REFERENCE)
    expected = digits.held_out().probabilities[digits.SHOWN]
    np.testing.assert_allclose(np.load(tmp_path / "p.npy")[0], expected, atol=2e-6)
    assert "one array" in error_of("run", two, "--save-outputs", tmp_path / "q.npy", *REFERENCE)["what"]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ([1, 3, 2, 4], (1, 3, 2, 4)),
        (["N", 2, 4, 3], (1, 2, 4, 3)),
        ([1, 1, 2, 4], (1, 1, 2, 4)),
        ([3, "H", "W"], (3, 5, 7)),  # the picture's own size
        ([2, 4], (2, 4)),
    ],
)
def test_pictures_are_laid_out_as_declared(tmp_path, shape, expected):
    picture = tmp_path / "p.png"
    Image.new("RGB", (7, 5), (255, 51, 0)).save(picture)
    path = model(tmp_path / "m.onnx", {"a": shape})
    out = tmp_path / "out.npy"
    run_json("run", path, "--input", picture, "--save-outputs", out, *REFERENCE)
    found = np.load(out)
    assert found.shape == expected
    if 3 in expected:
        channels = found.reshape(3, -1) if expected[-1] != 3 else found.reshape(-1, 3).T
        np.testing.assert_allclose(channels, np.array([[1], [0.2], [0]]) + 0 * channels, atol=1e-6)
    else:
        luma = (0.299 * 255 + 0.587 * 51) / 255
        np.testing.assert_allclose(found, luma, atol=1 / 255)


def test_pixels_are_scaled_and_normalised(tmp_path):
    picture, out = tmp_path / "p.jpg", tmp_path / "out.npy"
    Image.new("RGB", (4, 4), (100, 100, 100)).save(picture, quality=100)
    path = model(tmp_path / "m.onnx", {"a": [1, 3, 4, 4]})
    options = ("--scale", 1, "--mean", "100,90,80", "--std", "1,2,4", "--save-outputs", out)
    run_json("run", path, "--input", picture, *options, *REFERENCE)
    np.testing.assert_allclose(np.load(out)[0, :, 0, 0], [0, 5, 5])
    assert "1 or 3 numbers" in error_of("run", path, "--input", picture, "--mean", "1,2", *REFERENCE)["expected"]


def test_a_picture_for_an_integer_input_keeps_its_values(tmp_path):
    picture, out = tmp_path / "p.png", tmp_path / "out.npy"
    Image.new("L", (2, 2), 200).save(picture)
    path = model(tmp_path / "m.onnx", {"a": [1, 2, 2, 3]}, TensorProto.UINT8)
    run_json("run", path, "--input", picture, "--save-outputs", out, *REFERENCE)
    np.testing.assert_array_equal(np.load(out), np.full((1, 2, 2, 3), 200, np.uint8))


def npy_that_claims(shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 16


def bad_npz(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", npy_that_claims((2**40,)))


def huge_png(path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)))


BAD_FILES = {
    "text.npy": lambda path: path.write_text("hello"),
    "empty.npy": lambda path: path.write_bytes(b""),
    "claims.npy": lambda path: path.write_bytes(npy_that_claims((2**40,))),
    "negative.npy": lambda path: path.write_bytes(npy_that_claims((-1, -4))),
    "pickle.npy": lambda path: np.save(path, np.array([{}], object), allow_pickle=True),
    "text.npz": lambda path: path.write_text("hello"),
    "claims.npz": bad_npz,
    "none.npz": lambda path: zipfile.ZipFile(path, "w").close(),
    "text.pb": lambda path: path.write_text("hello"),
    "short.pb": lambda path: path.write_bytes(
        TensorProto(dims=[5], data_type=TensorProto.FLOAT, raw_data=b"1234").SerializeToString()
    ),
    "elsewhere.pb": lambda path: path.write_bytes(
        TensorProto(dims=[5], data_type=1, data_location=TensorProto.EXTERNAL).SerializeToString()
    ),
    "text.png": lambda path: path.write_text("hello"),
    "huge.png": huge_png,
    "what.dat": lambda path: path.write_text("hello"),
    "folder.npy": lambda path: path.mkdir(),
    "missing.npy": lambda path: None,
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_typed_errors(tmp_path, name):
    path = tmp_path / name
    BAD_FILES[name](path)
    error = error_of("run", "--input", path, *REFERENCE)
    assert error["code"] == "invalid-input"
    assert name in error["where"]


def test_what_does_not_fit_the_inputs_is_an_error(two, tmp_path):
    a = tmp_path / "a.npy"
    np.save(a, np.zeros((1, 2), np.float32))
    assert "no such input" in error_of("run", two, "--input", f"c={a}", *REFERENCE)["what"]
    assert "two values" in error_of("run", two, "--input", f"a={a}", "--input", f"a={a}", *REFERENCE)["what"]
    three = ["--input", a] * 3
    assert "no input is left" in error_of("run", two, *three, *REFERENCE)["what"]
    assert "'M'" in error_of("run", two, "--dim", "M=1", *REFERENCE)["what"]
    np.save(a, np.zeros((1, 2)))
    assert "float" in error_of("run", two, "--input", f"a={a}", *REFERENCE)["expected"]


def test_wrong_usage_is_exit_status_two(two):
    for options in (["--dim", "N"], ["--dim", "N=-1"], ["--mean", "red"], ["--threads", "0"], ["--nonsense"]):
        assert invoke("run", two, *options).exit_code == 2, options
    told = invoke("run", two, "--dim", "N", "--json")
    assert told.exit_code == 2
    assert '"code": "usage"' in told.stdout


def test_names_in_a_model_cannot_steer_the_terminal(tmp_path):
    path = model(tmp_path / "m.onnx", {"\x1b[31mred[bold]": [1]})
    told = invoke("run", path, *REFERENCE)
    assert told.exit_code == 0
    assert "\x1b" not in told.stdout
    assert "[bold]" in told.stdout
