"""Packed weights: made once for all sessions and processes, and never taken for those of other weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sardonyx import InferenceSession
from sardonyx.compiler.layout import aligned_zeros
from sardonyx.compiler.packed import PackedWeights, session_weights
from sardonyx.ops import linear
from sardonyx.passes import fold_batchnorm

RNG = np.random.default_rng(7)
X = RNG.standard_normal((1, 64, 10, 10)).astype(np.float32)


def network(weights: np.ndarray, matrix: np.ndarray) -> onnx.ModelProto:
    """Convolution, BatchNormalization and a product with a matrix: every kind of weight there is."""
    channels = weights.shape[0]
    vector = np.linspace(0.5, 1.5, channels).astype(np.float32)
    constants = {"w": weights, "m": matrix} | dict.fromkeys(("scale", "bias", "mean", "variance"), vector)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[0, 0, 0, 0]),
        helper.make_node("BatchNormalization", ["c", "scale", "bias", "mean", "variance"], ["n"]),
        helper.make_node("GlobalAveragePool", ["n"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, matrix.shape[1]])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


WEIGHTS = RNG.standard_normal((256, 64, 1, 1)).astype(np.float32)
MATRIX = RNG.standard_normal((256, 128)).astype(np.float32)


def expected(weights: np.ndarray = WEIGHTS, matrix: np.ndarray = MATRIX) -> np.ndarray:
    v = np.linspace(0.5, 1.5, 256).astype(np.float32).astype(np.float64)
    c = np.einsum("nchw,kc->nkhw", X.astype(np.float64), weights[:, :, 0, 0].astype(np.float64))
    n = (c - v[:, None, None]) * (v / np.sqrt(v + np.float64(np.float32(1e-5))))[:, None, None] + v[:, None, None]
    return n.mean((2, 3)) @ matrix.astype(np.float64)


def run(model: onnx.ModelProto) -> np.ndarray:
    return InferenceSession(model).run(None, {"x": X})[0]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("SARDONYX_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def made(monkeypatch) -> list[str]:
    """Every packing of weights, and every product of weights and a factor, by name as they happen."""
    calls: list[str] = []
    for module, name in ((linear, "pack_panels"), (fold_batchnorm, "_product")):

        def spy(name, real, *arguments):
            calls.append(name)
            return real(*arguments)

        monkeypatch.setattr(module, name, partial(spy, name, getattr(module, name)))
    return calls


def files(cache: Path) -> list[Path]:
    return sorted(path for path in (cache / "weights").rglob("*") if path.is_file())


def test_the_second_session_packs_nothing(cache, made) -> None:
    first = run(network(WEIGHTS, MATRIX))
    assert sorted(made) == ["_product", "pack_panels", "pack_panels"]
    made.clear()
    assert np.array_equal(run(network(WEIGHTS, MATRIX)), first)
    assert made == []
    np.testing.assert_allclose(first, expected(), rtol=2e-4, atol=2e-4)


def test_other_weights_are_other_entries(cache, made) -> None:
    run(network(WEIGHTS, MATRIX))
    before = files(cache)
    changed, matrix = WEIGHTS.copy(), MATRIX.copy()
    changed[3, 5] += 1
    matrix[-1, -1] = -matrix[-1, -1]
    turned = WEIGHTS[::-1].copy(), MATRIX[:, ::-1].copy()
    for weights, columns in ((changed, MATRIX), (WEIGHTS, matrix), (turned[0], MATRIX), (WEIGHTS, turned[1])):
        made.clear()
        np.testing.assert_allclose(run(network(weights, columns)), expected(weights, columns), rtol=2e-4, atol=2e-4)
        assert made.count("pack_panels") == 1  # the other one is there
    assert len(files(cache)) == len(before) + 4


def test_the_norm_belongs_to_the_key(cache, made) -> None:
    model = network(WEIGHTS, MATRIX)
    before = run(model)
    made.clear()
    for tensor in model.graph.initializer:
        if tensor.name == "scale":
            tensor.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(tensor), "scale"))
    after = run(model)
    assert sorted(made) == ["_product", "pack_panels"]
    assert not np.allclose(before, after)


def test_layouts_and_contents_are_kept_apart(cache) -> None:
    weights = session_weights()
    array = np.arange(1 << 15, dtype=np.float32)
    for source, layout in (
        (array, ("a", 1)),
        (array, ("a", 2)),
        (array + 1, ("a", 1)),
        (array.astype(np.int32), ("a", 1)),
    ):
        want = source * layout[1]
        assert np.array_equal(weights.get(source, layout, lambda want=want: want), want)
        assert np.array_equal(session_weights().get(source, layout, lambda: np.zeros(1, np.float32)), want)
    assert len(files(cache)) == 4


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove"])
def test_damaged_files_are_made_anew(cache, made, damage) -> None:
    first = run(network(WEIGHTS, MATRIX))
    whole = {path: path.read_bytes() for path in files(cache)}
    assert len(whole) == 2
    for path, content in whole.items():
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 0x40]) + content[middle + 1 :]
        path.unlink()  # mapped by the session above
        if damage != "remove":
            path.write_bytes({"flip": flipped, "truncate": content[:-4096], "empty": b""}[damage])
    made.clear()
    assert np.array_equal(run(network(WEIGHTS, MATRIX)), first)
    assert made.count("pack_panels") == 2
    assert {path: path.read_bytes() for path in files(cache)} == whole


def test_without_a_cache_they_are_kept_in_memory(tmp_path, monkeypatch, made) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    monkeypatch.setenv("SARDONYX_CACHE", str(blocked))
    np.testing.assert_allclose(run(network(WEIGHTS, MATRIX)), expected(), rtol=2e-4, atol=2e-4)
    assert made.count("pack_panels") == 2
    weights, array = PackedWeights(), np.arange(1 << 15, dtype=np.float32)
    first = weights.get(array, ("a",), lambda: 2 * array)
    assert weights.get(array.copy(), ("a",), lambda: 3 * array) is first


def test_small_weights_make_no_files(cache) -> None:
    run(network(WEIGHTS[:, :, :, :], MATRIX[:, :2]))
    assert len(files(cache)) == 1


_CHILD = """
import json, sys
import numpy as np
from sardonyx import InferenceSession
from sardonyx.ops import linear
calls, real = [], linear.pack_panels
linear.pack_panels = lambda *given: (calls.append(1), real(*given))[1]
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
before = peak()
session = InferenceSession(sys.argv[1])
x = np.load(sys.argv[2])
y = session.run(None, {"x": x})[0]
print(json.dumps([len(calls), y.astype(float).sum(), (peak() - before) / 1024]))
"""


def child(cache: Path, model: Path, x: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"SARDONYX_CACHE": str(cache), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _CHILD, str(model), str(x)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen[str]) -> list[float]:
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1])


def test_two_processes_at_once(tmp_path) -> None:
    model, x, cache = tmp_path / "m.onnx", tmp_path / "x.npy", tmp_path / "cache"
    onnx.save(network(WEIGHTS, MATRIX), model)
    np.save(x, X)
    pair = [child(cache, model, x), child(cache, model, x)]
    (_, one, _), (_, other, _) = (answer(process) for process in pair)
    assert one == other
    assert len(files(cache)) == 2
    packed, third, _ = answer(child(cache, model, x))
    assert (packed, third) == (0, one)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of resident memory")
def test_raw_weights_do_not_stay_in_memory(tmp_path) -> None:
    """Of two models that differ by 64 MiB of weights, the larger takes 64 MiB more: the weights once, packed."""
    peaks = []
    for size in (64, 4096):
        model, x, cache = tmp_path / f"{size}.onnx", tmp_path / f"{size}.npy", tmp_path / "cache"
        matrix = np.random.default_rng(0).standard_normal((size, size), np.float32)
        graph = helper.make_graph(
            [helper.make_node("Gemm", ["x", "m"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, size])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, size])],
            [numpy_helper.from_array(matrix, "m")],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), model)
        np.save(x, np.ones((1, size), np.float32))
        _, first, _ = answer(child(cache, model, x))
        _, second, peak = answer(child(cache, model, x))
        assert second == first
        peaks.append(peak)
    assert 60 <= peaks[1] - peaks[0] <= 64 + 12


def test_packed_arrays_start_on_a_cache_line(cache) -> None:
    weights = session_weights()
    array = aligned_zeros((1 << 15,), np.dtype(np.float32))
    for _ in range(2):
        found = weights.get(array, ("a",), lambda: array)
        assert found.__array_interface__["data"][0] % 64 == 0
        weights = session_weights()
