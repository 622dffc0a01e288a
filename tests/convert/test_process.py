"""Frameworks in processes of their own: values there and back, and every way in which they can fail."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sardonyx.convert import process
from sardonyx.convert.subprocess_oracle import SubprocessOracle
from sardonyx.errors import ConfigError, ConversionError, MissingExtraError

DRIVER = """
import os, sys, time
from sardonyx.convert.process import serve
from sardonyx.errors import MissingExtraError

def work(arguments, arrays):
    do = arguments["do"]
    if do == "double":
        doubled = {name: array if array.dtype.kind == "U" else array * 2 for name, array in arrays.items()}
        return {"seen": list(arrays)}, doubled
    if do == "raise":
        raise ValueError("no such layer")
    if do == "typed":
        raise MissingExtraError.of("jax2onnx", "jax", "a test")
    if do == "abort":
        print("about to abort", flush=True)
        os.abort()
    if do == "hang":
        if os.fork() == 0:
            time.sleep(60)
        time.sleep(60)
    if do == "exit":
        os._exit(0)
    return [sys.executable, os.getcwd(), sys.path[0]], {}

if __name__ == "__main__":
    serve(work)
"""


@pytest.fixture
def driver(tmp_path, monkeypatch):
    (tmp_path / "some_driver.py").write_text(DRIVER)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "some_driver"


def test_values_go_there_and_back(driver):
    arrays = {
        "file": np.arange(3, dtype=np.float32),
        "a/b:0": np.array(5),
        "text": np.array(["x", "yé"], dtype=object),
    }
    value, results = process.call(driver, {"do": "double"}, arrays, timeout=60)
    assert value == {"seen": list(arrays)}
    np.testing.assert_array_equal(results["file"], np.array([0, 2, 4], np.float32))
    assert results["file"].dtype == np.float32
    assert results["a/b:0"].shape == ()
    assert results["text"].tolist() == ["x", "yé"]


def test_an_oracle_runs_there(driver):
    oracle = SubprocessOracle("twice", driver, {"do": "double"}, timeout=60)
    assert oracle.run({"x": np.ones(2)})["x"].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("do", "said"),
    [("raise", "no such layer"), ("abort", "signal 6: about to abort"), ("exit", "nothing printed")],
)
def test_failures_show_the_last_lines(driver, do, said):
    with pytest.raises(ConversionError, match=said) as caught:
        process.call(driver, {"do": do}, timeout=60, doing="the exporter of tests")
    assert "the exporter of tests failed" in str(caught.value)


def test_typed_errors_stay_typed(driver):
    with pytest.raises(MissingExtraError, match=r"jax2onnx.*sardonyx\[jax\]"):
        process.call(driver, {"do": "typed"}, timeout=60)


def test_what_hangs_is_ended_with_all_it_started(driver):
    start = time.monotonic()
    with pytest.raises(ConversionError, match="did not end"):
        process.call(driver, {"do": "hang"}, timeout=1.5)
    assert time.monotonic() - start < 10


def test_another_interpreter(driver, monkeypatch, tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{tmp_path}" exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("SARDONYX_SPARK_PYTHON", str(python))
    assert process.interpreter("spark") == str(python)
    assert process.interpreter("torch") == process.interpreter() == sys.executable
    # Its path of modules has Sardonyx alone, not this environment's packages.
    monkeypatch.syspath_prepend("/only/here")
    value, _ = process.call(driver, {"do": "where"}, timeout=60, framework="spark")
    assert value[2] == str(Path(process.sardonyx.__file__).parent.parent)
    assert process.versions(["numpy", "no-such-package"], "spark") == {"numpy": np.__version__}
    monkeypatch.setenv("SARDONYX_SPARK_PYTHON", str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match="SARDONYX_SPARK_PYTHON"):
        process.interpreter("spark")


def test_versions_without_importing():
    assert process.versions(["numpy", "no-such-package"]) == {"numpy": np.__version__}
