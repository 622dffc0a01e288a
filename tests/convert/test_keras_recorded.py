"""Keras 3's files, and Keras 2's of the same models: what ONNX and our evaluation compute is what Keras recorded."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from functools import cache

import numpy as np
import onnxruntime
import pytest
from keras_cases import DATA, assert_close, proto

import sardonyx
from sardonyx.convert import api
from sardonyx.convert.base import Options, Source
from sardonyx.convert.keras import operators, read, recognises
from sardonyx.convert.keras.evaluate import LAYERS as EVALUATED
from sardonyx.convert.keras.refused import REFUSED as NOT_CONVERTED
from sardonyx.convert.process import versions
from sardonyx.errors import ConversionError

FOLDER = DATA / "keras"
FILES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in (".keras", ".h5"))
REFUSED = {"doubtful_masks.keras"}
MIXED = ["mixed.keras", "mixed.2.keras"]  # computed in float16 by Keras, in float32 here
GOOD = [name for name in FILES if name not in REFUSED and name not in MIXED]


@cache
def arrays():
    with np.load(FOLDER / "recorded.npz") as stored:
        return {key: stored[key] for key in stored.files}


def recorded(file):
    name = file.rpartition(".")[0]
    inputs = {key.partition("/in/")[2]: array for key, array in arrays().items() if key.startswith(f"{name}/in/")}
    count = sum(key.startswith(f"{name}/out/") for key in arrays())
    return inputs, [arrays()[f"{name}/out/{i}"] for i in range(count)]


@cache
def converted(file):
    return read(Source(FOLDER / file), Options())


@pytest.mark.parametrize("file", GOOD)
def test_onnxruntime_computes_what_keras_computed(file):
    inputs, outputs = recorded(file)
    model = proto(converted(file).model)
    assert [value.name for value in model.graph.input] or not inputs
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert_close(session.run(None, inputs), outputs)


@pytest.mark.parametrize("file", GOOD)
def test_the_own_runtime_computes_it_natively(file):
    inputs, outputs = recorded(file)
    session = sardonyx.InferenceSession(converted(file).model)
    assert {placement.provider for placement in session.explain()} <= {"cpu"}
    assert_close(session.run(None, inputs), outputs)


@pytest.mark.parametrize("file", GOOD)
def test_the_evaluation_computes_it_layer_by_layer(file):
    inputs, outputs = recorded(file)
    made = converted(file)
    values = made.oracles[-1]().run(inputs)
    names = [value.name for value in made.model.graph.outputs]
    got = [values[name] for name in names]
    assert_close([np.asarray(y).astype(want.dtype) for y, want in zip(got, outputs, strict=True)], outputs)
    assert all(values[layer].dtype.kind in "fib" for layer in made.layers.values())


@pytest.mark.parametrize("file", ["nested.keras", "masked.keras", "transformer.2.keras", "lstm.h5", "resnet50.keras"])
def test_compared_with_the_evaluation_it_passes(file, monkeypatch):
    monkeypatch.setattr("sardonyx.convert.keras.oracles._framework", lambda *given: None)
    report = api.convert(FOLDER / file).report
    assert report.verdict == "verified"
    assert "float64" in report.oracle


@pytest.mark.parametrize("file", MIXED)
def test_mixed_precision_is_computed_in_float32(file):
    inputs, outputs = recorded(file)
    made = converted(file)
    assert made.tolerance == 2e-3
    assert made.notes == ["layers of the policy mixed_float16 are computed in float32"]
    session = onnxruntime.InferenceSession(proto(made.model).SerializeToString(), providers=["CPUExecutionProvider"])
    own = sardonyx.InferenceSession(made.model)
    exact = made.oracles[-1]().run(inputs)
    assert {placement.provider for placement in own.explain()} <= {"cpu"}
    for run in (session, own):
        for value, want, name in zip(run.run(None, inputs), outputs, exact, strict=True):
            assert value.dtype == np.float32
            assert np.linalg.norm(value - want) < 2e-3 * np.linalg.norm(want)
            assert np.linalg.norm(value - exact[name]) < 1e-5 * np.linalg.norm(exact[name])


def test_the_first_layer_that_diverges_is_named(monkeypatch):
    """A mistake in what is written, found by the evaluation."""
    from sardonyx.convert.keras import activations

    monkeypatch.setattr("sardonyx.convert.keras.oracles._framework", lambda *given: None)
    monkeypatch.setitem(activations.FUNCTIONS, "gelu", activations.FUNCTIONS["silu"])
    with pytest.raises(sardonyx.errors.ParityError, match=r"'?dense"):
        api.convert(FOLDER / "transformer.keras")


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_every_layer_of_keras_is_converted_or_refused_with_a_reason(package):
    """`layers.json` lists the classes of both, as they call themselves in files."""
    listed = set(json.loads((FOLDER / "layers.json").read_text())[package])
    assert len(listed) > 100
    assert not listed - set(operators()) - set(NOT_CONVERTED)
    assert not set(operators()) & set(NOT_CONVERTED)


def test_a_refused_layer_is_refused_with_its_reason(tmp_path):
    layers = [{"class_name": "InputLayer", "config": {"batch_shape": [None, 4], "name": "x"}}]
    layers += [{"class_name": kind, "config": {"name": kind.lower()}} for kind in ("StringLookup", "ConvLSTM2D")]
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": layers}}
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive, zipfile.ZipFile(FOLDER / "lstm.keras") as other:
        archive.writestr("config.json", json.dumps(config))
        for name in ("metadata.json", "model.weights.h5"):
            archive.writestr(name, other.read(name))
    with pytest.raises(ConversionError, match=r"2 layers.*vocabulary.*convolutions over time"):
        read(Source(tmp_path / "m.keras"), Options())


def test_every_layer_that_is_converted_is_evaluated():
    assert set(operators()) - {"Functional", "InputLayer", "Sequential", "TimeDistributed"} == set(EVALUATED)


def test_exact_gelu_is_exact():
    """onnx's Gelu, and not the approximation by tanh, where Keras has the exact one."""
    nodes = {node.name: node for node in proto(converted("activations.keras").model).graph.node}
    assert nodes["act_gelu"].op_type == "Gelu"
    assert [a.s for a in nodes["act_gelu"].attribute if a.name == "approximate"] in ([], [b"none"])
    x = np.linspace(-4, 4, 30, dtype=np.float32).reshape(1, 5, 6)
    from math import erf

    exact = np.array([v * 0.5 * (1 + erf(v / 2**0.5)) for v in x.ravel().astype(float)]).reshape(x.shape)
    session = sardonyx.InferenceSession(converted("activations.keras").model)
    np.testing.assert_allclose(session.run(["act_gelu"], {"x": x})[0], exact, atol=2e-6)


def test_masks_whose_order_is_not_certain_are_refused():
    with pytest.raises(ConversionError, match="'multi_head_attention' takes, is not known"):
        converted("doubtful_masks.keras")


def test_plain_recurrent_layers_are_onnx_operators():
    kinds = [node.op_type for node in proto(converted("lstm.keras").model).graph.node]
    assert kinds.count("LSTM") == 3
    assert "Scan" not in kinds


def test_metadata_and_layers():
    made = converted("resnet50.keras")
    assert made.format.startswith("Keras 3.")
    assert made.metadata["keras_version"] == made.format.partition(" ")[2]
    assert "conv2_block1_add" in made.layers.values()


def test_a_batch_and_open_sizes_may_be_fixed():
    source = Source(FOLDER / "lstm.keras")
    model = read(source, Options(batch=2, shapes={"ids": (None, 9)})).model
    assert list(model.graph.inputs[0].shape) == [2, 9]
    with pytest.raises(ConversionError, match="does not fit its own"):
        read(Source(FOLDER / "resnet50.keras"), Options(shapes={"image": (None, 16, 16, 3)}))


def test_outputs_may_be_layers_inside():
    source = Source(FOLDER / "resnet50.keras")
    made = read(source, Options(outputs=("conv2_block1_add",)))
    assert [value.name for value in made.model.graph.outputs] == ["conv2_block1_add"]
    inputs, _ = recorded("resnet50.keras")
    session = onnxruntime.InferenceSession(proto(made.model).SerializeToString())
    values = made.oracles[-1]().run(inputs)
    assert_close(session.run(None, inputs), [values["conv2_block1_add"].astype(np.float32)])
    with pytest.raises(ConversionError, match="no layer 'nothing'"):
        read(source, Options(outputs=("nothing",)))


def test_inputs_for_the_comparison_are_in_range_and_padded():
    made = converted("masked.keras").make_inputs(4, np.random.default_rng(0))
    ids, x = made["ids"], made["x"]
    assert ids.dtype == np.int32
    assert ids.min() == 0
    assert ids.max() < 9
    assert (x[1:] == 0).all(axis=-1).any()


@pytest.mark.parametrize("file", ["nested.keras", "cells.2.h5"])
def test_keras_itself_is_the_oracle_where_it_is_installed(file):
    package = "tf_keras" if ".2." in file else "keras"
    if package not in versions(["keras", "tf_keras"], "tensorflow"):
        pytest.skip(f"{package} is not installed")
    inputs, outputs = recorded(file)
    oracle = next(made for make in converted(file).oracles[:2] if (made := make()) is not None)
    assert package in oracle.name
    values = oracle.run(inputs)
    names = [value.name for value in converted(file).model.graph.outputs]
    assert_close([values[name] for name in names], outputs)


def test_models_in_memory():
    keras = pytest.importorskip("keras")
    x = keras.Input((5, 3), name="x")
    model = keras.Model({"key": x}, {"y": keras.layers.LSTM(4)(x), "z": keras.layers.Dense(2, name="d")(x)})
    assert recognises(Source(object=model))
    report = api.convert(model).report
    assert report.verdict == "verified"
    assert "in memory" in report.oracle


def test_objects_of_others_are_not_recognised():
    assert not recognises(Source(object=object()))


def test_no_framework_is_imported():
    code = (
        "import sys; from pathlib import Path; from sardonyx.convert.base import Options, Source\n"
        "from sardonyx.convert.keras import read\n"
        f"made = read(Source(Path({str(FOLDER / 'lstm.h5')!r})), Options())\n"
        "made.oracles[-1]()\n"
        "assert not {'keras', 'tf_keras', 'tensorflow', 'torch', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
