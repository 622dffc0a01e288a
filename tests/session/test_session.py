"""Making sessions: sources, options, what a session tells about itself, pickling, profiles."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from small_models import CONV, SCALE, TWO_INPUTS, model

import sardonyx
from sardonyx import (
    GraphOptimizationLevel,
    InferenceSession,
    InvalidInputError,
    InvalidModelError,
    ModelFileError,
    SardonyxError,
    SessionOptions,
    UnsupportedOperatorError,
)

ONE = {"x": np.ones((1, 3), np.float32)}


def session(source, options=None) -> InferenceSession:
    return InferenceSession(source, options, providers=["reference"])


def test_sources(tmp_path):
    from sardonyx.model import file

    path = tmp_path / "scale.onnx"
    path.write_bytes(SCALE)
    for source in (
        str(path),
        path,
        SCALE,
        bytearray(SCALE),
        memoryview(SCALE),
        onnx.load(path),
        file.load(path),
    ):
        assert session(source).run(None, ONE)[0].tolist() == [[2, 2, 2]]


def test_given_models_stay_as_they_are():
    from sardonyx.model import file

    source = file.load(CONV)
    before = [(node.op_type, [str(value.shape) for value in node.outputs]) for node in source.graph]
    session(source)
    assert [(node.op_type, [str(value.shape) for value in node.outputs]) for node in source.graph] == before


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        (None, ModelFileError, ["no model given", "None"]),
        (17, ModelFileError, ["no model given", "int"]),
        (b"", ModelFileError, ["model"]),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), ModelFileError, ["PNG"]),
        (b"not a model at all, just text", ModelFileError, ["text"]),
        (SCALE[: len(SCALE) // 2], ModelFileError, []),
        (SCALE[:-1], ModelFileError, []),
        ("/no/such/model.onnx", ModelFileError, ["/no/such/model.onnx", "No such file"]),
    ],
    ids=["none", "int", "empty", "png", "text", "half", "cut", "missing"],
)
def test_bad_sources(source, error, words):
    with pytest.raises(error) as caught:
        session(source)
    for word in words:
        assert word in str(caught.value)


def test_folder_is_not_a_model(tmp_path):
    with pytest.raises(ModelFileError, match=tmp_path.name):
        session(tmp_path)


def test_unknown_operator():
    custom = model("g (float[N] x) => (float[N] y) { y = com.example.Frobnicate(x) }")
    with pytest.raises(UnsupportedOperatorError) as caught:
        session(custom)
    for word in ("Frobnicate", "'com.example'", "opset 1", "node 'y'", "model-local function"):
        assert word in str(caught.value)
    with pytest.raises(InvalidModelError, match="Frobnicate"):
        session(model("g (float[N] x) => (float[N] y) { y = Frobnicate(x) }"))


def test_invalid_model_names_the_node():
    with pytest.raises(InvalidModelError, match="nowhere"):
        session(model("g (float[N] x) => (float[N] y) { y = Add(x, nowhere) }"))


def test_functions_are_expanded():
    source = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21, "local" : 1]>
        g (float[N] x) => (float[N] y) { y = local.Quad(x) }
        <domain: "local", opset_import: ["" : 21, "local" : 1]> Quad (a) => (b)
        { c = local.Twice(a)  b = local.Twice(c) }
        <domain: "local", opset_import: ["" : 21]> Twice (a) => (b) { b = Add(a, a) }"""
    ).SerializeToString()
    ours = session(source)
    assert ours.run(None, {"x": np.ones(2, np.float32)})[0].tolist() == [4, 4]
    assert {placement.op for placement in ours.explain()} == {"Add"}


@pytest.mark.parametrize("source", [SCALE, TWO_INPUTS, CONV], ids=["scale", "two", "conv"])
def test_same_arguments_as_onnxruntime(source):
    ours, theirs = session(source), onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    for mine, other in (
        (ours.get_inputs(), theirs.get_inputs()),
        (ours.get_outputs(), theirs.get_outputs()),
    ):
        assert [(arg.name, arg.type, arg.shape) for arg in mine] == [(arg.name, arg.type, arg.shape) for arg in other]


def test_metadata_as_onnxruntime_has_it():
    proto = onnx.load_from_string(SCALE)
    proto.producer_name, proto.domain, proto.model_version, proto.doc_string = (
        "maker",
        "here.org",
        7,
        "doubles",
    )
    proto.graph.doc_string = "one node"
    onnx.helper.set_model_props(proto, {"author": "nobody"})
    theirs = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).get_modelmeta()
    ours = session(proto).get_modelmeta()
    for name in ("producer_name", "graph_name", "domain", "description", "version", "custom_metadata_map"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.graph_description == theirs.graph_description


def test_providers_and_explain():
    ours = InferenceSession(SCALE, providers=[("ReferenceExecutionProvider", {"a": 1})])
    assert ours.get_providers() == ["ReferenceExecutionProvider"]
    assert ours.get_provider_options() == {"ReferenceExecutionProvider": {"a": "1"}}
    (placement,) = ours.explain()
    assert (placement.op, placement.provider, placement.node) == ("Mul", "reference", "y")
    assert placement.reason
    assert "reference" in sardonyx.get_available_providers()
    assert set(sardonyx.get_available_providers()) <= set(sardonyx.get_all_providers())
    assert sardonyx.get_device() == "CPU"


@pytest.mark.parametrize("providers", [None, [], ["cpu"], ["CPUExecutionProvider"], [("cpu", {})]])
def test_cpu_is_the_default_and_has_two_names(providers):
    ours = InferenceSession(SCALE, providers=providers)
    assert ours.get_providers() == ["CPUExecutionProvider"]
    assert ours.run(None, ONE)[0].tolist() == [[2, 2, 2]]
    assert [placement.provider for placement in ours.explain()] == ["cpu"]


def test_what_cpu_cannot_lower_runs_as_a_host_step():
    source = model(
        """g (float[64, 64] x, string[2] words) => (float[64, 64] y, string[2] low)
        { y = Mul(x, x)  low = StringNormalizer <case_change_action = "LOWER"> (words) }"""
    )
    ours = InferenceSession(source)
    x = np.full((64, 64), 3, np.float32)
    y, low = ours.run(None, {"x": x, "words": ["A", "bC"]})
    assert (y == 9).all()
    assert low.tolist() == ["a", "bc"]
    placed = {placement.op: placement for placement in ours.explain()}
    assert placed["Mul"].provider == "cpu"
    assert placed["StringNormalizer"].provider == "host"
    assert placed["StringNormalizer"].reason.startswith("cpu: ")


def test_unknown_environment_variables_are_mentioned_once(monkeypatch):
    from sardonyx import session as module

    monkeypatch.setenv("SARDONYX_THREDS", "2")
    module._warn_once.cache_clear()
    with pytest.warns(UserWarning, match="SARDONYX_THREDS"):
        session(SCALE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session(SCALE)


def test_options_are_copied():
    options = SessionOptions()
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.x", "1")
    ours = session(SCALE, options)
    options.enable_mem_pattern = True
    kept = ours.get_session_options()
    assert kept.enable_mem_pattern is False
    assert kept.get_session_config_entry("session.x") == "1"
    kept.logid = "changed"
    assert ours.get_session_options().logid == ""


def test_bad_options():
    options = SessionOptions()
    with pytest.raises(InvalidInputError, match="intra_op_num_thread'"):
        options.intra_op_num_thread = 2
    for value in ("2", 2.0, True, None):
        with pytest.raises(InvalidInputError, match="expected int"):
            options.intra_op_num_threads = value
    with pytest.raises(InvalidInputError, match="GraphOptimizationLevel"):
        options.graph_optimization_level = 99
    with pytest.raises(InvalidInputError, match="'N'"):
        options.add_free_dimension_override_by_name("N", -1)
    with pytest.raises(InvalidInputError, match="no session config entry 'k'"):
        options.get_session_config_entry("k")
    with pytest.raises(InvalidInputError, match="negative"):
        session(SCALE, SessionOptions(intra_op_num_threads=-1))
    with pytest.raises(InvalidInputError, match="sess_options"):
        session(SCALE, {"threads": 1})


def test_free_dimension_override():
    options = SessionOptions()
    options.add_free_dimension_override_by_name("N", 2)
    ours = session(SCALE, options)
    assert ours.get_inputs()[0].shape == ours.get_outputs()[0].shape == [2, 3]
    with pytest.raises(InvalidInputError, match="2 in dimension 0"):
        ours.run(None, ONE)
    options.add_free_dimension_override_by_name("Batch", 2)
    with pytest.warns(UserWarning, match="'Batch'"):
        session(SCALE, options)


@pytest.mark.parametrize("level", list(GraphOptimizationLevel))
def test_levels_agree(level, tmp_path):
    image = np.random.default_rng(1).normal(size=(1, 1, 6, 6)).astype(np.float32)
    saved = tmp_path / "optimised.onnx"
    options = SessionOptions(graph_optimization_level=level, optimized_model_filepath=str(saved))
    got = session(CONV, options).run(None, {"image": image})[0]
    expected = onnxruntime.InferenceSession(CONV, providers=["CPUExecutionProvider"]).run(None, {"image": image})[0]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    again = onnxruntime.InferenceSession(str(saved), providers=["CPUExecutionProvider"]).run(None, {"image": image})
    np.testing.assert_allclose(again[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["path", "bytes", "model"])
def test_pickle(kind, tmp_path):
    from sardonyx.model import file

    path = tmp_path / "scale.onnx"
    path.write_bytes(SCALE)
    source = {"path": path, "bytes": SCALE, "model": file.load(path)}[kind]
    options = SessionOptions(logid="mine")
    options.add_free_dimension_override_by_name("N", 1)
    copy = pickle.loads(pickle.dumps(session(source, options)))
    assert copy.run(None, ONE)[0].tolist() == [[2, 2, 2]]
    assert copy.get_session_options().logid == "mine"
    assert copy.get_inputs()[0].shape == [1, 3]
    assert copy.get_providers() == ["ReferenceExecutionProvider"]


def test_profile(tmp_path):
    options = SessionOptions(enable_profiling=True, profile_file_prefix=str(tmp_path / "trace_"))
    ours = session(CONV, options)
    assert ours.get_profiling_start_time_ns() > 0
    for _ in range(2):
        ours.run(None, {"image": np.zeros((1, 1, 6, 6), np.float32)})
    events = json.loads(Path(ours.end_profiling()).read_text())
    runs = [event for event in events if event["cat"] == "Session"]
    nodes = [event for event in events if event["cat"] == "Node"]
    assert len(runs) == 2
    assert len(nodes) == 2 * len(ours.explain())
    assert all(event["args"]["provider"] == "ReferenceExecutionProvider" for event in nodes)
    for event in nodes:  # Every node's time lies within one of the runs.
        assert event["ph"] == "X"
        assert any(
            run["ts"] <= event["ts"] and event["ts"] + event["dur"] <= run["ts"] + run["dur"] + 1 for run in runs
        )
    assert session(CONV).end_profiling() == ""
    missing = SessionOptions(enable_profiling=True, profile_file_prefix=str(tmp_path / "no" / "trace_"))
    with pytest.raises(SardonyxError, match="cannot be written"):
        session(CONV, missing).end_profiling()


def test_sessions_survive_fork():
    code = (
        "import os, sys, numpy as np, sardonyx\n"
        f"s = sardonyx.InferenceSession({SCALE!r}, providers=['reference'])\n"
        "pid = os.fork()\n"
        "ok = s.run(None, {'x': np.ones((1, 3), np.float32)})[0].tolist() == [[2, 2, 2]]\n"
        "if pid == 0: os._exit(0 if ok else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) or not ok)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_debug_verifies_after_every_pass(monkeypatch):
    from sardonyx.passes import base

    seen = []
    monkeypatch.setattr(base, "verify", lambda model, where, *rest: seen.append(where))
    redundant = model("g (float[N] x) => (float[N] y) { z = Identity(x)  y = Neg(z) }")
    session(redundant)
    assert not seen
    monkeypatch.setenv("SARDONYX_DEBUG", "1")
    session(redundant)
    assert "pass eliminate-identity" in seen
