"""The same calls on onnxruntime and on sardonyx.compat.onnxruntime: what they give, what they raise, what they say."""

from __future__ import annotations

import contextlib
import copy
import gc
import importlib
import json
import pickle
import threading
from pathlib import Path
from types import ModuleType

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest

import sardonyx
import sardonyx.compat.onnxruntime as ours

BOTH = pytest.mark.parametrize("ort", [onnxruntime, ours], ids=["onnxruntime", "sardonyx"])


def model(body: str, opset: int = 21) -> bytes:
    text = f'<ir_version: 10, opset_import: ["" : {opset}, "com.example" : 1]>\n{body}'
    return onnx.parser.parse_model(text).SerializeToString()


TWO = model(
    "g (float[N, 3] a, float[N, 3] b) => (float[N, 3] total, float[N, 3] product)"
    "{ total = Add(a, b) product = Mul(a, b) }"
)
STRINGS = model("g (string[N] x) => (string[N] y) { y = Identity(x) }")
LONGS = model("g (int64[N] x) => (int64[N] y) { y = Identity(x) }")
HALVES = model("g (float16[N] x) => (float16[N] y) { y = Mul(x, x) }")
LISTS = model("g (seq(float[N]) x) => (int64 y) { y = SequenceLength(x) }")
LIST_OUT = model("g (float[N] x) => (seq(float[N]) y) { y = SequenceConstruct(x, x) }")
OPTIONAL = model("g (optional(float[N]) x) => (bool y) { y = OptionalHasElement(x) }")
SCALED = model(
    "g (float[N] x, float[1] w) => (float[N] y) <float[1] w = {2}, float[1] k = {3}> { q = Mul(x, w) y = Mul(q, k) }"
)
TEXTS = model('g (float[N] x, string[1] k) => (string[1] y) <string[1] k = {"é"}> { y = Identity(k) }')
A = np.arange(3, dtype=np.float32).reshape(1, 3)


def external() -> bytes:
    """y = x * k, with k as the second number of the file `w.bin`."""
    proto = onnx.load_from_string(model("g (float[N] x) => (float[N] y) <float[1] k = {3}> { y = Mul(x, k) }"))
    tensor = proto.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", "4"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    return proto.SerializeToString()


def outcome(call):
    """What a call gives, or the name of the exception and its words."""
    with contextlib.redirect_stdout(None):
        try:
            return call()
        except Exception as error:
            return type(error).__name__, str(error)


def session(ort: ModuleType, source, *args, **kwargs):
    ort.set_default_logger_severity(4)
    return ort.InferenceSession(source, *args, **kwargs)


def alike(theirs, mine) -> None:
    assert type(mine) is type(theirs)
    if isinstance(theirs, list | tuple):
        assert len(mine) == len(theirs)
        for left, right in zip(theirs, mine, strict=True):
            alike(left, right)
    elif isinstance(theirs, np.ndarray):
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_array_equal(mine, theirs)
    else:
        assert mine == theirs


# Calls that onnxruntime answers, or refuses, with what it says.
RUNS = {
    "all": (TWO, None, {"a": A, "b": A}),
    "none of them": (TWO, [], {"a": A, "b": A}),
    "by name": (TWO, ["product", "total", "product"], {"a": A, "b": A}),
    "tuple": (TWO, ("product",), {"a": A, "b": A}),
    "missing": (TWO, None, {"a": A}),
    "unknown": (TWO, None, {"a": A, "b": A, "c": A}),
    "rank": (TWO, None, {"a": A, "b": A[0]}),
    "dim": (TWO, None, {"a": A, "b": np.ones((1, 4), np.float32)}),
    "two sizes": (TWO, None, {"a": A, "b": np.ones((2, 3), np.float32)}),
    "double": (TWO, None, {"a": A, "b": A.astype(np.float64)}),
    "int": (TWO, None, {"a": A, "b": A.astype(np.int32)}),
    "list": (TWO, None, {"a": A, "b": [[1.0, 2, 3]]}),
    "list of ints": (TWO, None, {"a": A, "b": [[1, 2, 3]]}),
    "list of arrays": (TWO, None, {"a": A, "b": [A]}),
    "number": (TWO, None, {"a": A, "b": 3.0}),
    "object": (TWO, None, {"a": A, "b": A.astype(object)}),
    "strided": (TWO, None, {"a": A, "b": np.ones((4, 6), np.float32)[::4, ::2]}),
    "no output": (TWO, ["zzz"], {"a": A, "b": A}),
    "feed is a list": (TWO, None, [A, A]),
    "feed is None": (TWO, None, None),
    "str": (STRINGS, None, {"x": np.array(["a", "日本"])}),
    "objects": (STRINGS, None, {"x": np.array(["a", 2.5, None, float("nan")], object)}),
    "object bytes": (STRINGS, None, {"x": np.array([b"a"], object)}),
    "no bytes": (STRINGS, None, {"x": np.array([b"\xff"])}),
    "text list": (STRINGS, None, {"x": ["a", "b"]}),
    "numbers as text": (STRINGS, None, {"x": [1, 2]}),
    "no text": (STRINGS, None, {"x": np.array([], "U1")}),
    "ints for text": (STRINGS, None, {"x": np.array([1, 2])}),
    "floats for ints": (LONGS, None, {"x": [1.5, 2]}),
    "empty": (LONGS, None, {"x": []}),
    "bools for ints": (LONGS, None, {"x": [True]}),
    "half": (HALVES, None, {"x": np.array([1.5, 2], np.float16)}),
    "half list": (HALVES, None, {"x": [1.5, 2]}),
    "half of float": (HALVES, None, {"x": np.array([1.5, 2], np.float32)}),
    "sequence": (LISTS, None, {"x": [A[0], A[0, :2]]}),
    "empty sequence": (LISTS, None, {"x": []}),
    "array for a sequence": (LISTS, None, {"x": A}),
    "sequence out": (LIST_OUT, None, {"x": A[0]}),
    "optional": (OPTIONAL, None, {"x": A[0]}),
    "optional None": (OPTIONAL, None, {"x": None}),
    "optional missing": (OPTIONAL, None, {}),
    "overridden": (SCALED, None, {"x": A[0], "w": np.full(1, 5, np.float32)}),
    "text overridden": (TEXTS, None, {"x": A[0], "k": np.array(["q"])}),
    "text not overridden": (TEXTS, None, {"x": A[0]}),
    "not overridden": (SCALED, None, {"x": A[0]}),
}


@pytest.mark.parametrize("name", RUNS)
def test_run(name):
    source, names, feed = RUNS[name]
    theirs, mine = (outcome(lambda ort=ort: session(ort, source).run(names, feed)) for ort in (onnxruntime, ours))
    alike(theirs, mine)


@pytest.mark.parametrize(
    "source",
    [b"", b"\x08junkjunk", None, bytearray(TWO), 5, "/nonexistent/model.onnx", Path("/nonexistent/model.onnx"), "/tmp"],
    ids=["empty", "junk", "None", "bytearray", "int", "file", "path", "folder"],
)
def test_no_model(source):
    theirs, mine = (outcome(lambda ort=ort: session(ort, source)) for ort in (onnxruntime, ours))
    assert mine[0] == theirs[0]
    assert mine[1].split(" : ")[:3] == theirs[1].split(" : ")[:3] or mine[1] == theirs[1]


@BOTH
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("g (float[N] x) => (float[N] y) { y = Adddd(x, x) }", {"InvalidGraph"}),
        ("g (float[N] x) => (float[N] y) { y = Add(x, q) }", {"InvalidArgument", "InvalidGraph"}),
        ("g (float[N] x) => (float[N] y) { y = com.example.Foo(x) }", {"Fail", "NotImplemented"}),
    ],
)
def test_bad_models(ort, body, expected):
    assert outcome(lambda: session(ort, model(body)))[0] in expected


@BOTH
def test_exceptions_are_where_code_looks_for_them(ort):
    state = importlib.import_module(f"{ort.__name__}.capi.onnxruntime_pybind11_state")
    with pytest.raises(state.InvalidArgument, match="INVALID_ARGUMENT : Invalid rank for input: b Got: 1 Expected: 2"):
        session(ort, TWO).run(None, {"a": A, "b": A[0]})
    with pytest.raises(state.NoSuchFile):
        session(ort, "/nonexistent")
    reshape = model("g (float[N] x, int64[2] s) => (float[P, Q] y) { y = Reshape(x, s) }")
    with pytest.raises(state.Fail, match="FAIL"):
        session(ort, reshape).run(None, {"x": A[0], "s": np.array([2, 2])})


@BOTH
def test_metadata(ort):
    made = session(ort, TWO)
    assert [(arg.name, arg.type, arg.shape) for arg in made.get_inputs()] == [
        ("a", "tensor(float)", ["N", 3]),
        ("b", "tensor(float)", ["N", 3]),
    ]
    assert str(made.get_outputs()[1]) == "NodeArg(name='product', type='tensor(float)', shape=['N', 3])"
    assert [arg.name for arg in session(ort, SCALED).get_overridable_initializers()] == ["w"]
    meta = made.get_modelmeta()
    assert (meta.graph_name, meta.version, meta.custom_metadata_map) == ("g", 2**63 - 1, {})
    assert made.get_providers() == ["CPUExecutionProvider"]
    assert made.get_provider_options() == {"CPUExecutionProvider": {}}
    nodes = made.get_session_options()
    assert nodes.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL


@BOTH
def test_providers(ort):
    assert "CPUExecutionProvider" in ort.get_available_providers()
    assert ort.get_all_providers()[-1] == "CPUExecutionProvider"
    with pytest.warns(UserWarning, match="'CUDAExecutionProvider' is not in available provider names"):
        made = session(ort, TWO, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert made.get_providers() == ["CPUExecutionProvider"]
    with pytest.warns(UserWarning, match="Duplicate provider"):
        session(ort, TWO, providers=["CPUExecutionProvider", "CPUExecutionProvider"])
    made.set_providers(["CPUExecutionProvider"])
    assert made.run(["total"], {"a": A, "b": A})[0].tolist() == [[0, 2, 4]]


@BOTH
def test_a_nonsense_provider_falls_back(ort, capsys):
    with pytest.warns(UserWarning, match="'Nonsense'"):
        made = session(ort, TWO, providers=["Nonsense"])
    assert made.get_providers() == ["CPUExecutionProvider"]
    assert "EP Error Unknown Provider Type: Nonsense when using ['Nonsense']" in capsys.readouterr().out
    with (
        pytest.warns(UserWarning, match="Nonsense"),
        pytest.raises((ValueError, RuntimeError), match="Unknown Provider"),
    ):
        session(ort, TWO, providers=["Nonsense"], enable_fallback=0)


@BOTH
def test_options(ort):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False
    options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    for name, value, kind in (("foo", 1, AttributeError), ("intra_op_num_threads", "x", TypeError)):
        with pytest.raises(kind):
            setattr(options, name, value)
    with pytest.raises(TypeError):
        options.graph_optimization_level = 3
    with pytest.raises(RuntimeError, match="does not have configuration with key: zz"):
        options.get_session_config_entry("zz")
    assert session(ort, TWO, options).run(["total"], {"a": A, "b": A})[0].tolist() == [[0, 2, 4]]
    assert [getattr(ort.SessionOptions(), name) for name in ("log_severity_level", "profile_file_prefix")] == [
        -1,
        "onnxruntime_profile_",
    ]


@BOTH
def test_optimized_model_file(ort, tmp_path):
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    session(ort, SCALED, options)
    assert onnx.load(tmp_path / "optimized.onnx").graph.output[0].name == "y"


@BOTH
def test_terminate(ort):
    options = ort.RunOptions()
    options.terminate = True
    state = importlib.import_module(f"{ort.__name__}.capi.onnxruntime_pybind11_state")
    with pytest.raises(state.Fail):
        session(ort, TWO).run(None, {"a": A, "b": A}, options)
    options.terminate = False
    assert len(session(ort, TWO).run(None, {"a": A, "b": A}, options)) == 2


@BOTH
def test_given_initializers(ort, tmp_path):
    ten = ort.OrtValue.ortvalue_from_numpy(np.full(1, 10, np.float32))
    feed = {"x": np.ones(1, np.float32)}
    options = ort.SessionOptions()
    options.add_initializer("k", ten)
    options.add_initializer("of another model", ten)
    assert session(ort, SCALED, options).run(None, feed)[0].tolist() == [20]
    with pytest.raises(RuntimeError, match="already"):
        options.add_initializer("k", ten)
    with pytest.raises(RuntimeError, match="must be an OrtValue"):
        options.add_initializer("q", np.ones(1))

    options = ort.SessionOptions()
    options.add_external_initializers(["k"], [ten])
    assert session(ort, external(), options).run(None, feed)[0].tolist() == [10]
    state = importlib.import_module(f"{ort.__name__}.capi.onnxruntime_pybind11_state")
    with pytest.raises((state.Fail, state.InvalidArgument)):
        session(ort, SCALED, options)
    with pytest.raises(state.Fail):
        session(ort, external())

    buffer = np.array([1, 6], np.float32)
    options = ort.SessionOptions()
    options.add_external_initializers_from_files_in_memory(["w.bin"], [buffer], [8])
    assert session(ort, external(), options).run(None, feed)[0].tolist() == [6]

    np.array([1, 8], np.float32).tofile(tmp_path / "w.bin")
    (tmp_path / "model.onnx").write_bytes(external())
    assert session(ort, tmp_path / "model.onnx").run(None, feed)[0].tolist() == [8]
    options = ort.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(tmp_path))
    assert session(ort, external(), options).run(None, feed)[0].tolist() == [8]


def test_bytes_end_where_their_array_says():  # onnxruntime reads on
    made = session(ours, STRINGS)
    assert made.run(None, {"x": np.array([b"ab", b"c", b""])})[0].tolist() == ["ab", "c", ""]
    assert made.run(None, {"x": [b"ab", "c"]})[0].tolist() == ["ab", "c"]


def test_element_types_that_numpy_has_not():
    made = session(ours, model("g (bfloat16[N] x) => (bfloat16[N] y) { y = Add(x, x) }"))
    array = np.array([1.5, 2], ml_dtypes.bfloat16)
    assert made.run(None, {"x": array})[0].tolist() == [3, 4]
    value = ours.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), onnx.TensorProto.BFLOAT16)
    assert made.run(None, {"x": value})[0].tolist() == [3, 4]
    assert made.run_with_ort_values(None, {"x": value})[0].data_type() == "tensor(bfloat16)"


def test_copy_tensors():
    value = ours.OrtValue.ortvalue_from_numpy(A)
    target = ours.OrtValue.ortvalue_from_shape_and_type([1, 3], np.float32)
    ours.copy_tensors([value], [target])
    assert target.numpy().tolist() == A.tolist()
    with pytest.raises(RuntimeError, match="differ in length"):
        ours.copy_tensors([value], [])


def test_a_symbol_of_several_sizes_is_no_promise():
    # With one size for N the Expand does nothing, and is left out; with two it must be there.
    made = session(ours, model("g (float[N] a, float[N] b) => (float[M] y) { s = Shape(b) y = Expand(a, s) }"))
    assert made.run(None, {"a": A[0], "b": A[0]})[0].tolist() == [0, 1, 2]
    assert made.run(None, {"a": A[0, 1:2], "b": A[0]})[0].tolist() == [1, 1, 1]
    out = made.io_binding()
    out.bind_cpu_input("a", A[0, 2:])
    out.bind_cpu_input("b", A[0])
    out.bind_output("y")
    made.run_with_iobinding(out)
    assert out.copy_outputs_to_cpu()[0].tolist() == [2, 2, 2]


def test_terminate_ends_a_run_before_its_next_segment():
    options, seen = ours.RunOptions(), []

    def stop(x):
        options.terminate = True
        return x

    def note(x):
        seen.append(x)
        return x

    sardonyx.register_op("com.example", "Stop", stop)
    sardonyx.register_op("com.example", "Note", note)
    try:
        body = "g (float[N] x) => (float[N] y) { a = com.example.Stop(x) b = Exp(a) y = com.example.Note(b) }"
        made = session(ours, model(body))
    finally:
        sardonyx.unregister_op("com.example", "Stop")
        sardonyx.unregister_op("com.example", "Note")
    kind, words = outcome(lambda: made.run(None, {"x": A[0]}, options))
    assert (kind, seen) == ("Fail", [])
    assert "terminate" in words
    assert len(made.run(None, {"x": A[0]})) == 1
    assert len(seen) == 1


def test_initializers_that_do_not_fit():
    for value in (np.full(2, 10, np.float32), np.full(1, 10.0)):
        options = ours.SessionOptions()
        options.add_initializer("k", ours.OrtValue.ortvalue_from_numpy(value))
        kind, words = outcome(lambda options=options: session(ours, SCALED, options))
        assert kind == "InvalidArgument"
        assert "initializer 'k'" in words


@BOTH
def test_free_dimensions(ort):
    proto = onnx.load_from_string(TWO)
    for value in proto.graph.input:
        value.type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    for add in ("by_name", "by_denotation"):
        options = ort.SessionOptions()
        getattr(options, f"add_free_dimension_override_{add}")("N" if add == "by_name" else "DATA_BATCH", 4)
        made = session(ort, proto.SerializeToString(), options)
        assert [arg.shape for arg in made.get_inputs()] == [[4, 3], [4, 3]]
        assert outcome(lambda made=made: made.run(None, {"a": A, "b": A}))[0] == "InvalidArgument"


@BOTH
def test_values(ort):
    array = A.copy()
    value = ort.OrtValue.ortvalue_from_numpy(array)
    assert value.data_ptr() == array.ctypes.data == value.numpy().ctypes.data == np.asarray(value).ctypes.data
    facts = (value.shape(), value.data_type(), value.element_type(), value.device_name(), value.tensor_size_in_bytes())
    assert facts == ([1, 3], "tensor(float)", 1, "cpu", 12)
    kinds = (value.has_value(), value.is_tensor(), value.is_sparse_tensor(), value.is_tensor_sequence())
    assert kinds == (True, True, False, False)
    value.update_inplace(np.full((1, 3), 7, np.float32))
    assert array.tolist() == [[7, 7, 7]]
    value.update_inplace(ort.OrtValue.ortvalue_from_numpy(A))
    assert array.tolist() == A.tolist()
    for call, kind in (
        (lambda: value.update_inplace(np.ones(4, np.float32)), RuntimeError),
        (lambda: value.update_inplace([1]), TypeError),
        (lambda: ort.OrtValue.ortvalue_from_numpy([1.0]), RuntimeError),
        (lambda: ort.OrtValue.ortvalue_from_numpy(np.array(["a"])), RuntimeError),
        (lambda: ort.OrtValue.ortvalue_from_numpy(A, "cuda"), RuntimeError),
        (lambda: ort.OrtValue.ortvalue_from_numpy(A, "nonsense"), Exception),
        (lambda: ort.OrtValue.ortvalue_from_shape_and_type([2, -3], np.float32), RuntimeError),
        (lambda: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.zeros(2, np.uint8), 16), RuntimeError),
        (lambda: ort.OrtValue(3), ValueError),
        (lambda: pickle.dumps(value), TypeError),
    ):
        with pytest.raises(kind):
            call()
    assert ort.OrtValue.ortvalue_from_shape_and_type([2, 3], np.float16).data_type() == "tensor(float16)"
    assert ort.OrtValue.ortvalue_from_shape_and_type([2, 3], 16).data_type() == "tensor(bfloat16)"
    narrow = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.zeros((2, 3), np.uint16), 16)
    assert (narrow.data_type(), narrow.shape(), narrow.element_type()) == ("tensor(bfloat16)", [2, 3], 16)
    target = ort.OrtValue.ortvalue_from_shape_and_type([1, 3], np.float32)
    target.update_inplace(value)
    assert target.numpy().tolist() == A.tolist()


@BOTH
def test_dlpack(ort):
    array = A.copy()
    value = ort.OrtValue.ortvalue_from_numpy(array)
    back = np.from_dlpack(value)
    assert back.ctypes.data == array.ctypes.data
    assert value.__dlpack_device__() == (1, 0)
    taken = ort.OrtValue.from_dlpack(array)
    assert taken.data_ptr() == array.ctypes.data
    assert ort.OrtValue.from_dlpack(array.__dlpack__()).data_ptr() == array.ctypes.data
    taken.update_inplace(np.full((1, 3), 9, np.float32))
    assert array.tolist() == [[9, 9, 9]]
    assert ort.OrtValue.from_dlpack(np.array([True])).numpy().tolist() == [True]
    with pytest.raises(RuntimeError, match="contiguous"):
        ort.OrtValue.from_dlpack(np.arange(9).reshape(3, 3)[:, 1])
    with pytest.raises(TypeError, match="capsule"):
        ort.OrtValue.from_dlpack(3)
    # The memory outlives the object it came from.
    kept = ort.OrtValue.from_dlpack(np.arange(100_000, dtype=np.float64))
    gc.collect()
    np.testing.assert_array_equal(kept.numpy(), np.arange(100_000))


@BOTH
def test_values_in_and_out(ort):
    made = session(ort, TWO)
    value = ort.OrtValue.ortvalue_from_numpy(A)
    total, product = made.run_with_ort_values(None, {"a": value, "b": value})
    assert isinstance(total, ort.OrtValue)
    assert (total.numpy().tolist(), product.numpy().tolist()) == ([[0, 2, 4]], [[0, 1, 4]])
    assert made.run(["total"], {"a": A, "b": value})[0].tolist() == [[0, 2, 4]]
    with pytest.raises(ValueError, match="Required inputs"):
        made.run_with_ort_values(None, {"a": value})
    sequence = session(ort, LIST_OUT).run_with_ort_values(None, {"x": ort.OrtValue.ortvalue_from_numpy(A[0])})[0]
    assert (sequence.data_type(), sequence.is_tensor(), sequence.is_tensor_sequence()) == (
        "seq(tensor(float))",
        False,
        True,
    )


@BOTH
def test_value_vectors(ort):
    state = importlib.import_module(f"{ort.__name__}.capi.onnxruntime_pybind11_state")
    made = session(ort, TWO)
    value = ort.OrtValue.ortvalue_from_numpy(A)
    feeds, fetches = state.OrtValueVector(), state.OrtValueVector()
    feeds.push_back(value._get_c_value())
    feeds.push_back(A.__dlpack__())
    device = ort.OrtDevice.make("cpu", 0)._get_c_device()
    made.run_with_ortvaluevector(ort.RunOptions(), ["a", "b"], feeds, ["product"], fetches, [device])
    assert len(fetches) == 1
    assert fetches[0].numpy().tolist() == [[0, 1, 4]]
    assert fetches.element_type_at(0) == 1


@BOTH
def test_binding(ort):
    made = session(ort, TWO)
    binding = made.io_binding()
    binding.bind_cpu_input("a", A)
    with pytest.raises(RuntimeError, match="Failed to find NodeArg with name: zz"):
        binding.bind_cpu_input("zz", A)
    other = np.full((1, 3), 2, np.float32)
    binding.bind_input("b", "cpu", 0, np.float32, other.shape, other.ctypes.data)
    binding.bind_output("product")
    made.run_with_iobinding(binding)
    assert [value.numpy().tolist() for value in binding.get_outputs()] == [[[0, 2, 4]]]
    assert binding.copy_outputs_to_cpu()[0].tolist() == [[0, 2, 4]]
    other[:] = 3  # read when the session runs
    total, product = np.zeros((1, 3), np.float32), ort.OrtValue.ortvalue_from_shape_and_type([1, 3], np.float32)
    binding.clear_binding_outputs()
    binding.bind_output("total", "cpu", 0, np.float32, total.shape, total.ctypes.data)
    binding.bind_ortvalue_output("product", product)
    made.run_with_iobinding(binding)
    assert (total.tolist(), product.numpy().tolist()) == ([[3, 4, 5]], [[0, 3, 6]])
    assert [value.data_ptr() for value in binding.get_outputs()] == [total.ctypes.data, product.data_ptr()]
    # In place: an output in the memory of an input.
    binding.clear_binding_outputs()
    binding.bind_output("total", "cpu", 0, np.float32, other.shape, other.ctypes.data)
    made.run_with_iobinding(binding)
    assert other.tolist() == [[3, 4, 5]]

    binding.bind_output("product", "cpu", 0, np.float32, (1, 2), total.ctypes.data)
    with pytest.raises(RuntimeError, match="Error in execution"):
        made.run_with_iobinding(binding)
    binding.clear_binding_outputs()
    with pytest.raises(RuntimeError, match="At least one output"):
        made.run_with_iobinding(binding)
    with pytest.raises(ValueError, match="session that created it"):
        session(ort, TWO).run_with_iobinding(binding)
    binding.bind_output("total")
    binding.bind_cpu_input("b", A.astype(np.float64))
    with pytest.raises(RuntimeError, match="Unexpected input data type"):
        made.run_with_iobinding(binding)


@BOTH
def test_sparse_tensors(ort):
    device = ort.OrtDevice.make("cpu", 0)
    values, places = np.array([1, 2], np.float32), np.array([1, 5], np.int64)
    coo = ort.SparseTensor.sparse_coo_from_numpy([3, 4], values, places, device)
    assert coo.format() == ort.OrtSparseFormat.ORT_SPARSE_COO
    facts = (coo.dense_shape(), coo.data_type(), coo.device_name(), coo.values().tolist())
    assert facts == ([3, 4], "sparse_tensor(float)", "cpu", [1, 2])
    assert coo.as_coo_view().indices().tolist() == [1, 5]
    with pytest.raises(RuntimeError, match="does not contain CSR"):
        coo.as_csrc_view()
    with pytest.raises(RuntimeError, match="Cuda is not available"):
        coo.to_cuda(device)
    with pytest.raises(RuntimeError, match="Index size: 3"):
        ort.SparseTensor.sparse_coo_from_numpy([3, 4], values, np.array([1, 2, 3], np.int64), device)
    rows = np.array([0, 1, 2, 2], np.int64)
    csr = ort.SparseTensor.sparse_csr_from_numpy([3, 4], values, np.array([1, 2], np.int64), rows, device)
    assert csr.format() == ort.OrtSparseFormat.ORT_SPARSE_CSRC
    assert csr.as_csrc_view().inner().tolist() == [1, 2]
    assert csr.as_csrc_view().outer().tolist() == rows.tolist()
    value = ort.OrtValue.ort_value_from_sparse_tensor(csr)
    assert (value.is_sparse_tensor(), value.data_type()) == (True, "sparse_tensor(float)")
    assert value.as_sparse_tensor().values().tolist() == [1, 2]
    with pytest.raises(RuntimeError, match="Only OrtValues that are Tensors"):
        value.numpy()


def test_sparse_inputs_of_each_format():
    device = ours.OrtDevice.make("cpu", 0)
    dense = np.array([[0, 0, 3], [4, 0, 0]], np.float32)
    of, values = ours.SparseTensor, np.array([3, 4], np.float32)
    for tensor in (
        of.sparse_coo_from_numpy([2, 3], values, np.array([2, 3], np.int64), device),
        of.sparse_coo_from_numpy([2, 3], values, np.array([[0, 2], [1, 0]], np.int64), device),
        of.sparse_csr_from_numpy([2, 3], values, np.array([2, 0]), np.array([0, 1, 2]), device),
    ):
        assert tensor.dense().tolist() == dense.tolist()
        assert session(ours, TWO).run(["total"], {"a": dense, "b": tensor})[0].tolist() == (2 * dense).tolist()


@BOTH
def test_devices(ort):
    facts = [
        (device.device_id(), device.device_type(), device.device_vendor_id(), device.device_mem_type())
        for device in (ort.OrtDevice.make("cpu", 0), ort.OrtDevice.make("cuda", 1), ort.OrtDevice.make("npu", 2))
    ]
    assert facts == [(0, 0, 0, 0), (1, 1, 0x10DE, 0), (2, 3, 0, 0)]
    with pytest.raises(Exception, match="Unsupported device type: x"):
        ort.OrtDevice.make("x", 1)
    device = ort.get_ep_devices()[-1]
    assert (device.ep_name, device.device.type) == ("CPUExecutionProvider", ort.OrtHardwareDeviceType.CPU)
    options = ort.SessionOptions()
    assert not options.has_providers()
    options.add_provider_for_devices([device], {})
    assert options.has_providers()
    assert session(ort, TWO, options).get_providers() == ["CPUExecutionProvider"]


@BOTH
def test_async(ort):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    made = session(ort, TWO, options)
    done, calls = threading.Semaphore(0), []

    def callback(*arguments):
        calls.append(arguments)
        done.release()

    made.run_async(["total"], {"a": A, "b": A}, callback, "user")
    assert done.acquire(timeout=60)
    made.run_async(None, {"a": A, "b": A[0]}, callback, None)
    assert done.acquire(timeout=60)
    (outputs, user, error), (nothing, _, refused) = calls
    assert (outputs[0].tolist(), user, error) == ([[0, 2, 4]], "user", "")
    assert len(nothing) == 0
    assert "Invalid rank for input: b" in refused
    with pytest.raises(ValueError, match="Required inputs"):
        made.run_async(None, {"a": A}, callback, None)


@BOTH
def test_profile(ort, tmp_path):
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    made = session(ort, SCALED, options)
    made.run(None, {"x": A[0]})
    assert made.get_profiling_start_time_ns() > 0
    path = Path(made.end_profiling())
    assert path.name.startswith("profile_20")
    events = json.loads(path.read_text())
    assert any(event["name"] == "model_run" and event["cat"] == "Session" for event in events)
    nodes = [event for event in events if event["cat"] == "Node"]
    assert nodes
    for event in nodes:
        assert event["name"].endswith("_kernel_time")
        assert event["ph"] == "X"
        assert event["args"]["provider"] == "CPUExecutionProvider"
        assert event["args"]["op_name"]
    assert session(ort, SCALED).end_profiling() == ""


@BOTH
def test_a_session_does_not_pickle_but_a_subclass_may(ort):
    made = session(ort, TWO)
    for refused in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot pickle"):
            refused(made)

    class Portable(ort.InferenceSession):
        def __init__(self, source):
            super().__init__(source)
            self.source = source

        def __getstate__(self):
            return {"source": self.source}

        def __setstate__(self, state):
            self.__init__(state["source"])

    again = copy.deepcopy(Portable(TWO))
    assert again.run(["total"], {"a": A, "b": A})[0].tolist() == [[0, 2, 4]]


@BOTH
def test_many_threads_share_a_session(ort):
    made = session(ort, TWO)
    wrong = []

    def work(number: int):
        array = np.full((number % 5 + 1, 3), number, np.float32)
        for _ in range(50):
            if made.run(["total"], {"a": array, "b": array})[0].tolist() != (2 * array).tolist():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@BOTH
def test_settings_of_the_process(ort):
    assert ort.get_device() == "CPU"
    assert ort.get_version_string() == ort.__version__
    assert ort.get_build_info().startswith("ORT Build Info: ")
    ort.set_seed(3)
    ort.set_default_logger_verbosity(0)
    ort.set_default_logger_severity(4)
    ort.disable_telemetry_events()
    assert ort.has_collective_ops() is False
    with pytest.raises(RuntimeError, match="Invalid logging severity"):
        ort.set_default_logger_severity(9)


def test_all_threads_or_those_of_all():
    try:
        ours.set_global_thread_pool_sizes(1, 1)
        options = ours.SessionOptions()
        options.use_per_session_threads = False
        assert session(ours, TWO, options)._session.get_session_options().intra_op_num_threads == 1
        assert session(ours, TWO)._session.get_session_options().intra_op_num_threads == 0
    finally:
        ours.set_global_thread_pool_sizes(0, 0)


def test_custom_op_libraries_are_refused_with_a_way_out():
    with pytest.raises(RuntimeError, match=r"sardonyx\.register_op"):
        ours.SessionOptions().register_custom_ops_library("/some/library.so")


def test_who_runs_what():
    (part,) = session(ours, TWO).get_provider_graph_assignment_info()
    assert part.ep_name == "CPUExecutionProvider"
    assert sorted(node.op_type for node in part.get_nodes()) == ["Add", "Mul"]


def as_proto(source: bytes) -> onnx.ModelProto:
    return onnx.load_from_string(source)


def as_ir(source: bytes) -> ir.Model:
    return ir.from_proto(onnx.load_from_string(source))


@pytest.mark.parametrize("form", [bytes, as_proto, as_ir])
def test_initializers_for_models_of_any_form(form):
    options = sardonyx.SessionOptions()
    options.add_initializer("k", np.full(1, 10, np.float32))
    made = sardonyx.InferenceSession(form(SCALED), options)
    feed = {"x": np.ones(1, np.float32)}
    assert made.run(None, feed)[0].tolist() == [20]
    assert pickle.loads(pickle.dumps(made)).run(None, feed)[0].tolist() == [20]


@pytest.mark.parametrize(
    ("kind", "old", "given"),
    [
        ("string", '{"a", "b", "c"}', np.array(["x", "yy", "日本"], object)),
        ("int4", "{1, 2, 3}", np.array([-8, 7, 3], ml_dtypes.int4)),
        ("bfloat16", "{1, 2, 3}", np.array([-8, 7.5, 3], ml_dtypes.bfloat16)),
        ("bool", "{1, 1, 1}", np.array([False, True, False])),
    ],
)
def test_initializers_of_any_type(kind, old, given):
    options = sardonyx.SessionOptions()
    options.add_initializer("k", given)
    source = model(f"g (float[1] x) => ({kind}[3] y) <{kind}[3] k = {old}> {{ y = Identity(k) }}")
    made = sardonyx.InferenceSession(source, options)
    assert made.run(None, {"x": np.ones(1, np.float32)})[0].tolist() == given.tolist()


def test_options_with_files_pickle():
    options = sardonyx.SessionOptions()
    options.add_external_initializers_from_files_in_memory(["w.bin"], [np.array([1, 6], np.float32)], [8])
    made = sardonyx.InferenceSession(external(), options)
    again = pickle.loads(pickle.dumps(made))
    assert again.run(None, {"x": np.ones(1, np.float32)})[0].tolist() == [6]
    assert sardonyx.InferenceSession(external(), copy.deepcopy(options)).get_inputs()[0].name == "x"
