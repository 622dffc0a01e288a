import json
import os
import subprocess
import sys
import time

import onnx
import pytest
from cli_cases import error_of, invoke, run_json

import sardonyx
from sardonyx.zoo import digits

COMMANDS = ["demo", "run", "inspect", "bench", "tune", "convert", "providers"]

# Put on the path of a child, this makes packages look as if they were not installed.
REFUSE = """
from importlib.machinery import PathFinder
find_spec = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.split(".")[0] in {names!r} else find_spec(name, *rest)
"""
OPTIONAL = ("h5py", "PIL", "jinja2", "onnxruntime", "openvino")


def command(*arguments, refused=(), folder=None, **environment):
    env = {**os.environ, **environment}
    if refused:
        (folder / "sitecustomize.py").write_text(REFUSE.format(names=set(refused)))
        env["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, [env.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "sardonyx", *arguments],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name):
    told = invoke(name, "--help")
    assert told.exit_code == 0
    assert "--json" in told.stdout
    assert "[default: ]" not in told.stdout


def test_help_is_instant_and_needs_nothing_heavy(tmp_path):
    heavy = (*OPTIONAL, "onnx", "onnx_ir", "llvmlite", "numpy")
    start = time.perf_counter()
    told = command("run", "--help", refused=heavy, folder=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "--save-outputs" in told.stdout
    assert time.perf_counter() - start < 5  # far above what it takes, so that a busy machine does not fail it


def test_commands_work_without_any_optional_package(tmp_path):
    found = command("run", "--provider", "reference", "--json", refused=OPTIONAL, folder=tmp_path)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["outputs"][0]["shape"] == [1, 10]


def test_what_needs_an_optional_package_says_how_to_get_it(tmp_path):
    told = command("demo", "emotion", "--json", refused=OPTIONAL, folder=tmp_path)
    assert told.returncode == 1
    error = json.loads(told.stdout)["error"]
    assert error["code"] == "missing-extra"
    assert "sardonyx[keras]" in error["fix"]


def test_providers_says_how_to_get_peers(tmp_path):
    found = json.loads(command("providers", "--json", refused=OPTIONAL, folder=tmp_path).stdout)
    assert [entry["available"] for entry in found["peers"]] == [False, False]
    assert all("sardonyx[peers]" in entry["fix"] for entry in found["peers"])
    assert all(entry["available"] for entry in found["providers"])


def test_version():
    told = invoke("--version")
    assert told.exit_code == 0
    assert told.stdout == f"sardonyx {sardonyx.__version__}\n"


def test_no_command_is_wrong_usage():
    assert invoke().exit_code == 2
    assert invoke("fly").exit_code == 2


def test_debug_shows_the_traceback(tmp_path):
    plain = invoke("run", tmp_path / "none.onnx")
    deep = invoke("run", tmp_path / "none.onnx", "--debug")
    assert (plain.exit_code, deep.exit_code) == (1, 1)
    assert "Traceback" not in plain.stderr
    assert "Traceback" in deep.stderr


def test_inspect_counts_what_onnx_counts():
    found = run_json("inspect")
    graph = onnx.load(digits.model_path()).graph
    kinds = {node.op_type for node in graph.node}
    assert found["operators"] == {k: sum(node.op_type == k for node in graph.node) for k in kinds}
    assert found["parameters"] == sum(onnx.numpy_helper.to_array(t).size for t in graph.initializer)
    assert found["inputs"] == [{"name": "image", "type": "tensor(float)", "dtype": "float32", "dims": ["N", 1, 8, 8]}]
    assert found["opsets"] == {"": 21}
    assert run_json("inspect", "--dim", "N=3")["macs"] == 3 * found["macs"]
    told = invoke("inspect")
    assert told.exit_code == 0
    assert "[N, 1, 8, 8]" in told.stdout
    assert "BatchNormalization" in told.stdout


@pytest.mark.parametrize("name", ["run", "inspect", "bench", "tune"])
def test_a_file_that_is_no_model_is_a_typed_error(name, tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(digits.model_path().read_bytes()[:1000])
    error = error_of(name, path)
    assert error["code"] == "model-file"
    assert "broken.onnx" in error["where"]


def test_bench_measures_side_by_side():
    quick = ("--rounds", 2, "--seconds", 0.05, "--threads", 1)
    found = run_json("bench", "--provider", "reference", "--against", "onnxruntime", *quick)
    ours, peer = found["runtimes"]
    assert (ours["name"], peer["name"], found["threads"]) == ("sardonyx/reference", "onnxruntime", 1)
    assert ours["ratio"] is None
    assert peer["ratio"]["low"] <= peer["ratio"]["median"] <= peer["ratio"]["high"] < 1, "onnx.reference is slow"
    for runtime in found["runtimes"]:
        assert 0 < runtime["p50_ms"] <= runtime["p90_ms"] <= runtime["p99_ms"]
        assert runtime["throughput"] > 0
        assert runtime["load_ms"] > 0
        assert runtime["peak_mib"] > 0
    told = invoke("bench", "--provider", "reference", "--against", "none", *quick)
    assert told.exit_code == 0
    assert "p99 ms" in told.stdout
    assert "onnxruntime" not in told.stdout


def test_bench_against_the_unknown_is_an_error():
    assert "'tachyon'" in error_of("bench", "--against", "tachyon")["what"]


def test_providers_lists_what_runs_here():
    found = run_json("providers")
    assert {"cpu", "reference"} <= {entry["name"] for entry in found["providers"]}
    assert [entry["name"] for entry in found["peers"]] == ["onnxruntime", "openvino"]
    assert "version" in invoke("providers").stdout
