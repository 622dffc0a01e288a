"""TFLite models become ONNX that computes what TFLite's interpreter recorded."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from tflite_cases import DATA, NAMES, assert_close, by_onnxruntime, by_sardonyx, checked, recorded

import sardonyx.convert
from sardonyx.convert.api import convert
from sardonyx.convert.base import Options, Source
from sardonyx.convert.formats import find
from sardonyx.convert.tflite import evaluate, operators, read
from sardonyx.convert.tflite.file import load
from sardonyx.errors import ConversionError
from sardonyx.zoo.fetch import fetch

QUANTISED = {"picture_int8", "picture_int16", "picture_int8_floats", "quantised_uint8"}
EXACT = [name for name in NAMES if name not in QUANTISED | {"hybrid"}]
ELSEWHERE = {"rare_moves", "picture_int16"}
"""Unique of int32 and Pad of int16 have no kernels in onnxruntime."""


def source(name):
    return Source(DATA / f"{name}.tflite")


@cache
def converted(name):
    return read(source(name), Options())


def kinds(name):
    return Counter(node.op_type for node in checked(converted(name).model).graph.node)


@pytest.mark.parametrize("name", EXACT)
def test_computes_what_tflite_computed(name):
    inputs, outputs = recorded(name)
    assert_close(by_sardonyx(converted(name).model, inputs), outputs)


@pytest.mark.parametrize("name", sorted(set(EXACT) - ELSEWHERE))
def test_onnxruntime_agrees(name):
    inputs, outputs = recorded(name)
    assert_close(by_onnxruntime(read(source(name), Options()).model, inputs), outputs)


@pytest.mark.parametrize("name", NAMES)
def test_the_evaluation_of_the_source_agrees_with_the_conversion(name):
    inputs, outputs = recorded(name)
    oracle = next(o for make in converted(name).oracles if (o := make()) is not None and "float64" in o.name)
    values = oracle.run(inputs)
    typed = {key: np.asarray(values[key], outputs[key].dtype) for key in outputs}
    got = by_sardonyx(converted(name).model, inputs)
    if name not in QUANTISED:
        assert_close(got, typed)
        return
    # A half that goes the other way in float32 moves what comes after it by a few steps, but most is the same.
    assert_close(got, typed, tolerance=0.03, steps=4)
    assert all(np.isclose(got[key], typed[key], rtol=0, atol=1e-6).mean() > 0.85 for key in typed)


def test_whatever_can_be_converted_can_be_evaluated():
    assert set(operators()) <= set(evaluate.known())


@pytest.mark.parametrize("name", sorted(QUANTISED))
def test_quantised_models_are_within_the_steps_that_are_told(name):
    """TFLite's kernels round in their own ways, which later layers add up."""
    inputs, outputs = recorded(name)
    tolerance = converted(name).tolerance
    floats = tolerance < 1
    assert_close(
        by_sardonyx(converted(name).model, inputs), outputs, 0.03 if floats else 0, 0 if floats else int(tolerance)
    )


@pytest.mark.parametrize("name", ["picture_int8", "picture_int16", "quantised_uint8"])
def test_each_quantised_operator_is_within_one_step_of_tflite(name):
    """On what the interpreter itself gave it. Whole models can be further off: steps are scaled and added up.

    TANH of 16 bits, which TFLite interpolates in a table, is within two.
    """
    wide = name == "picture_int16"
    with np.load(DATA / "steps.npz") as stored:
        known = {key.removeprefix(f"{name}/"): stored[key] for key in stored if key.startswith(f"{name}/")}
    known |= recorded(name)[0]
    graph = load(DATA / f"{name}.tflite").subgraphs[0]
    tried, same, count = 0, 0, 0
    for operator in graph.operators:
        takes = dict.fromkeys(graph.tensors[at].name for at in operator.inputs if at >= 0)
        given = {key: known[key] for key in takes if key in known}
        gives = tuple(graph.tensors[at].name for at in operator.outputs)
        if not given or any(known[key].dtype.kind not in "iu" for key in gives):
            continue
        made = read(source(name), Options(inputs=tuple(given), outputs=gives))
        for key, got in by_sardonyx(made.model, given).items():
            apart = np.abs(got.astype(np.int64) - known[key])
            assert apart.max() <= (2 if wide and operator.name == "TANH" else 1), (operator.name, key, apart.max())
            same, count = same + int((apart == 0).sum()), count + apart.size
        tried += 1
    assert tried >= 10
    assert same / count > (0.95 if wide else 0.98)


@pytest.mark.parametrize("name", ["picture_int8", "quantised_uint8"])
def test_onnxruntime_takes_quantised_models(name):
    inputs, outputs = recorded(name)
    assert_close(by_onnxruntime(read(source(name), Options()).model, inputs), outputs, steps=4)


def test_quantised_models_stay_quantised():
    assert kinds("picture_int8")["QuantizeLinear"] > 10
    proto = checked(converted("picture_int8").model)
    assert [value.type.tensor_type.elem_type for value in proto.graph.input] == [3]  # int8
    kernels = [tensor for tensor in proto.graph.initializer if len(tensor.dims) == 4]
    assert {tensor.data_type for tensor in kernels} == {3}


@pytest.mark.parametrize("name", ["picture_int8", "picture_int16", "quantised_uint8"])
def test_dequantize_gives_floats(name):
    inputs, outputs = recorded(name)
    made = read(source(name), Options(dequantize=True))
    assert "QuantizeLinear" not in {node.op_type for node in checked(made.model).graph.node}
    tensors = {value.name: value.dtype.name for value in (*made.model.graph.inputs, *made.model.graph.outputs)}
    assert set(tensors.values()) == {"FLOAT"}
    stored = {tensor.name: tensor.quantization for tensor in load(DATA / f"{name}.tflite").subgraphs[0].tensors}

    def real(key, array):
        q = stored[key]
        return ((array.astype(np.float64) - q.zero_point[0]) * q.scale[0]).astype(np.float32)

    got = by_sardonyx(made.model, {key: real(key, array) for key, array in inputs.items()})
    assert_close(got, {key: real(key, array) for key, array in outputs.items()}, tolerance=0.05)
    assert made.oracles[0]() is None  # the interpreter has no such mode


def test_weights_alone_quantised_are_told():
    assert any("only the weights are quantised" in note for note in converted("hybrid").notes)
    assert not any("only the weights" in note for note in converted("picture_int8").notes)
    inputs, outputs = recorded("hybrid")
    assert_close(by_sardonyx(converted("hybrid").model, inputs), outputs, tolerance=0.02)
    assert converted("hybrid").oracles[0]().name.startswith("float64")


def test_lstms_are_onnx_lstms_unless_their_cells_are_cut():
    assert kinds("short_lstm")["LSTM"] == 1
    assert kinds("clipped_lstm")["Scan"] == 1
    assert any("start at zero" in note for note in converted("short_lstm").notes)


def test_layouts_cancel():
    assert kinds("picture_float")["Transpose"] <= 3
    assert kinds("picture_int8")["Transpose"] <= 4


def test_open_dims_stay_open_and_have_names():
    proto = checked(converted("open_sizes").model)
    dims = [dim.dim_param or dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["batch", 3, "x0_dim_2", 4]
    made = read(source("open_sizes"), Options(batch=5, shapes={"x0": (None, 3, "width", 4)}))
    assert list(made.model.graph.inputs[0].shape) == [5, 3, made.model.graph.inputs[0].shape[2], 4]
    assert str(made.model.graph.inputs[0].shape[2]) == "width"


def test_dims_that_the_file_fixes_cannot_be_opened():
    with pytest.raises(ConversionError, match="fixes dim 0 of the input 'x'"):
        read(source("plain_rnn"), Options(shapes={"x": ("batch", None, None)}))


def test_signatures_name_inputs_and_outputs():
    made = read(source("variables"), Options(signature="scaled"))
    assert [value.name for value in made.model.graph.inputs] == ["x"]
    assert [value.name for value in made.model.graph.outputs] == ["y"]
    assert "x=" in made.metadata["tflite_signature_scaled"]
    inputs, outputs = recorded("variables")
    assert_close(by_sardonyx(made.model, {"x": next(iter(inputs.values()))}), {"y": next(iter(outputs.values()))})
    with pytest.raises(ConversionError, match="no signature 'other'"):
        read(source("variables"), Options(signature="other"))


def test_parts_can_be_cut_out():
    made = read(source("rare_math"), Options(outputs=("unit",)))
    assert [node.op_type for node in made.model.graph] == ["Clip"]
    made = read(source("quantised_uint8"), Options(inputs=("y",), outputs=("pooled",)))
    assert [value.name for value in made.model.graph.inputs] == ["y"]
    assert made.oracles[0]() is None  # the interpreter takes nothing in the middle
    with pytest.raises(ConversionError, match="no tensors \\['nothing'\\]"):
        read(source("rare_math"), Options(outputs=("nothing",)))


def test_layers_follow_the_graph_and_carry_values():
    made = converted("picture_float")
    inputs, _ = recorded("picture_float")
    values = made.oracles[-1]().run(inputs)
    assert len(made.layers) > 10
    assert set(made.layers.values()) <= set(values)
    places = {value.name: i for i, node in enumerate(made.model.graph) for value in node.outputs}
    assert all(places[a] < places[b] for a, b in pairwise(made.layers))


def test_is_recognised_by_content(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes((DATA / "pools.tflite").read_bytes())
    assert find(Source(path)).name == "tflite"
    assert {"CONV_2D", "WHILE", "custom operator 'MaxUnpooling2D'"} <= set(operators())


@pytest.mark.parametrize("name", ["picture_half", "picture_int8", "controlled"])
def test_the_door_verifies(name):
    report = convert(DATA / f"{name}.tflite").report
    assert report.verdict == "verified"
    assert report.oracle


REAL = {
    "face-detection-back": "face_detection_back", "face-detection-front": "face_detection_front",
    "face-detection-short-range": "face_detection_short_range",
    "face-detection-full-range": "face_detection_full_range",
    "face-detection-full-range-sparse": "face_detection_full_range_sparse", "face-landmark": "face_landmark",
    "iris-landmark": "iris_landmark", "pitch-tflite": "nmp", "emotion-tflite": "emotion_model_quantized",
}  # fmt: skip


@pytest.mark.network
@pytest.mark.parametrize("entry", REAL)
def test_real_files(entry):
    made = read(Source(fetch(entry)), Options())
    rng = np.random.default_rng(2)
    inputs = {
        value.name: rng.normal(0, 0.5, [dim if isinstance(dim, int) else 1 for dim in value.shape]).astype(np.float32)
        for value in made.model.graph.inputs
    }
    _, outputs = recorded(REAL[entry], "real")
    got = by_sardonyx(made.model, inputs)
    # The emotions' weights alone are 8 bits, and TFLite rounds the activations as well. Pitches are scaled by the
    # smallest magnitude in a spectrum, where float32 cancels: TFLite with XNNPACK and without differ as much.
    tolerance = {"emotion-tflite": 0.1, "pitch-tflite": 2e-4}.get(entry, 1e-5)
    assert_close({key: got[key].ravel()[::7] for key in outputs}, outputs, tolerance)
    assert_close(by_onnxruntime(made.model, inputs), got)


@pytest.mark.network
def test_pitch_agrees_with_its_own_onnx():
    import onnxruntime

    theirs = onnxruntime.InferenceSession(fetch("pitch-onnx"), providers=["CPUExecutionProvider"])
    made = sardonyx.convert.tflite.read(Source(fetch("pitch-tflite")), Options())
    x = np.random.default_rng(3).normal(0, 0.3, (2, 43844, 1)).astype(np.float32)
    outputs = theirs.run(None, {theirs.get_inputs()[0].name: x})
    wanted = {
        f"StatefulPartitionedCall:{value.name.rpartition(':')[2]}": y
        for value, y in zip(theirs.get_outputs(), outputs, strict=True)
    }
    assert_close(by_sardonyx(made.model, {made.model.graph.inputs[0].name: x}), wanted)
