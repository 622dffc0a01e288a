"""`import onnxruntime` means sardonyx.compat.onnxruntime once it is installed, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def python(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder, check=False)


PROOF = """
import importlib.util, sys
from importlib.metadata import version
import onnxruntime
import onnxruntime.capi.onnxruntime_pybind11_state as state
from onnxruntime.capi import onnxruntime_inference_collection
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
import sardonyx.compat.onnxruntime as ours
assert onnxruntime is ours and onnxruntime.capi is ours.capi
assert state.InvalidArgument is InvalidArgument and onnxruntime.InferenceSession is state.InferenceSession
assert onnxruntime_inference_collection.InferenceSession is onnxruntime.InferenceSession
assert ours.__spec__.name == "sardonyx.compat.onnxruntime"
assert onnxruntime.__version__ == version("onnxruntime") == "1.32.0"
assert importlib.util.find_spec("onnxruntime").origin == ours.__file__
try:
    import onnxruntime.quantization
except ModuleNotFoundError as error:
    assert "docs/compat.md" in str(error)
else:
    raise AssertionError("the real package came through")
assert not [m for m in sys.modules.values() if "site-packages/onnxruntime" in (getattr(m, "__file__", "") or "")]
print("as it should be", *sys.argv[1:])
"""

# What would find the real package is gone, as where it is not installed.
WITHOUT_REAL = """
import importlib.machinery, sys
class Gone(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == "onnxruntime" else super().find_spec(name, path, target)
sys.meta_path[:] = [Gone if f is importlib.machinery.PathFinder else f for f in sys.meta_path]
try:
    import onnxruntime
except ModuleNotFoundError:
    pass
else:
    raise AssertionError
"""


def test_install():
    done = python("-c", "import sardonyx\nsardonyx.install_as_onnxruntime()\nsardonyx.install_as_onnxruntime()" + PROOF)
    assert done.stdout == "as it should be\n", done.stderr


def test_install_where_there_is_no_onnxruntime():
    done = python("-c", WITHOUT_REAL + "import sardonyx\nsardonyx.install_as_onnxruntime()" + PROOF)
    assert done.stdout == "as it should be\n", done.stderr


def test_too_late():
    done = python("-c", "import onnxruntime, sardonyx\nsardonyx.install_as_onnxruntime()")
    assert done.returncode == 1
    assert "SardonyxError: [error] the real onnxruntime is imported already" in done.stderr


def test_script_and_module(tmp_path):
    script = tmp_path / "proof.py"
    script.write_text(PROOF + "import beside\nprint(__name__, beside.value, sys.argv[0] == __file__)")
    (tmp_path / "beside.py").write_text("value = 5")
    done = python("-m", "sardonyx.compat", str(script), "-x", "y")
    assert done.stdout == "as it should be -x y\n__main__ 5 True\n", done.stderr
    done = python("-m", "sardonyx.compat", "-m", "proof", "z", folder=tmp_path)
    assert done.stdout == "as it should be z\n__main__ 5 True\n", done.stderr


def test_usage():
    assert python("-m", "sardonyx.compat").returncode == 2
    asked = python("-m", "sardonyx.compat", "--help")
    assert asked.returncode == 0
    assert "SCRIPT" in asked.stdout
