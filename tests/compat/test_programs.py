"""Programs that nobody here wrote, unmodified: the same answers on onnxruntime and on sardonyx."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"


def both(script: str, *arguments: str):
    """What a program prints on onnxruntime, and on sardonyx."""
    answers = []
    for runner in ([], ["-m", "sardonyx.compat"]):
        command = [sys.executable, *runner, str(PROGRAMS / script), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout))
    return answers


def test_rapidocr_reads_a_page():
    pytest.importorskip("rapidocr")
    pytest.importorskip("skimage")
    theirs, ours = both("read_page.py")
    assert "Region-based segmentation" in theirs["texts"]
    assert ours["texts"] == theirs["texts"]
    np.testing.assert_allclose(ours["scores"], theirs["scores"], atol=1e-4)
    np.testing.assert_allclose(ours["boxes"], theirs["boxes"], atol=1)


def test_silero_vad_hears_speech():
    pytest.importorskip("silero_vad")
    theirs, ours = both("hear_speech.py")
    assert ours.keys() == theirs.keys()
    assert theirs["opset 16 speech"], "the recording must have some"
    for name, values in theirs.items():
        if name.endswith("speech"):
            assert ours[name] == values
        else:
            assert max(values) > 0.5 > min(values), name
            np.testing.assert_allclose(ours[name], values, atol=2e-4, err_msg=name)


def test_magika_names_types():
    pytest.importorskip("magika")
    kinds = (
        "*.md",
        "*.toml",
        "LICENSE",
        "sardonyx/*.py",
        "sardonyx/cli/templates/*",
        "tests/convert/data/*",
        ".ci/run",
    )
    files = [str(path) for kind in kinds for path in sorted(ROOT.glob(kind)) if path.is_file()]
    theirs, ours = both("name_types.py", *files)
    assert len(theirs) == len(files) > 20
    labels = [label for label, _ in theirs]
    assert {"markdown", "toml", "python"} <= set(labels)
    assert [label for label, _ in ours] == labels
    np.testing.assert_allclose([score for _, score in ours], [score for _, score in theirs], atol=1e-4)
