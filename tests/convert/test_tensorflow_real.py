"""Published networks: musicnn's checkpoints of TensorFlow 1, Basic Pitch's SavedModel beside its own ONNX."""

from __future__ import annotations

import shutil

import numpy as np
import onnxruntime
import pytest
from tensorflow_cases import differences, proto, read, run, run_here

from sardonyx.zoo.entries import Entry
from sardonyx.zoo.fetch import fetch

pytestmark = pytest.mark.network

DATA = ".data-00000-of-00001"
MUSICNN = {
    "MTT_musicnn": {
        ".meta": ("48f2b91a234a1feaaae6b084bd49668428cdfc54912805617582aa585daabb25", 1_185_287),
        ".index": ("da2d7bb670b2b31e9bc441bb1bd75eca31b5b061f963cc1f9630c1aff3238f57", 4_948),
        DATA: ("041f3935e981a65cea739842d30c188d3a7d2adf4410955c8668eb3de4a5acab", 9_465_596),
    },
    "MTT_vgg": {
        ".meta": ("407ea5964eac3b053356d94be866da8b513778175216e741280a5c202cf9c8a4", 560_446),
        ".index": ("4b0d3d2d02bbe0919c063c1fb74bfa9018ac3517e362d681b07444d4207a5f5f", 2_994),
        DATA: ("458f5c8bcecc086a3bba3dce83809df6da6e0a3560a59ddd84711bf3d5fd8303", 7_274_112),
    },
}
PITCH = {
    "saved_model.pb": ("eaa25c91c431c91100c416a2c018663f4c635f28fa19529c4ff5e14c18aa29c9", 1_084_140),
    "variables/variables.index": ("356aa1a00095cf2dba17386144e8b289cb04195ae090aa7f324312b08220115e", 4_794),
    f"variables/variables{DATA}": ("f5d12cd7245fecea0c956c963751f3519c263615ea954b5948d5e8c9c3376f9b", 219_309),
}
PITCH_ONNX = ("2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec", 230_444)


def _fetched(package, version, inside, files, folder):
    """The files of a package in a folder, under their own names."""
    for i, (name, (digest, size)) in enumerate(files.items()):
        label = f"{package}-{inside.rpartition('/')[2]}-{i}"
        entry = Entry(
            label, package, version, f"{inside}{name}", digest, size, "see the package", "a published network"
        )
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(fetch(entry), target)
    return folder


@pytest.mark.parametrize("name", MUSICNN)
def test_musicnn(name, tmp_path):
    folder = _fetched("musicnn", "0.1.0", f"musicnn/{name}/", MUSICNN[name], tmp_path)
    case = read(folder, outputs=("model/Sigmoid",))
    assert any("Placeholder_2" in note for note in case.notes)
    x = np.random.default_rng(0).standard_normal((1, 187, 96)).astype(np.float32)
    found, providers = run_here(case.model, {"model/Placeholder": x})
    assert providers == {"cpu"}
    values = case.oracles[-1]().run({"model/Placeholder": x})
    outside = run(case.model, {"model/Placeholder": x})
    for got in (found, outside):
        # Folding batch normalisation into convolutions costs some of the last digits.
        assert differences(values, got, 2e-5, exact_types=False) == []
    assert found["model/Sigmoid"].shape == (1, 50)


def test_basic_pitch_agrees_with_its_own_onnx(tmp_path):
    folder = _fetched("basic-pitch", "0.4.0", "basic_pitch/saved_models/icassp_2022/nmp/", PITCH, tmp_path)
    case = read(folder)
    assert [value.name for value in proto(case.model).graph.output] == ["contour", "note", "onset"]
    entry = Entry(
        "pitch-onnx",
        "basic-pitch",
        "0.4.0",
        "basic_pitch/saved_models/icassp_2022/nmp.onnx",
        *PITCH_ONNX,
        "Apache-2.0",
        "",
    )
    session = onnxruntime.InferenceSession(fetch(entry))
    time = np.arange(43_844) / 22_050
    sound = sum(np.sin(2 * np.pi * pitch * time) for pitch in (220.0, 277.18, 440.0)) / 4
    x = sound.astype(np.float32).reshape(1, -1, 1)
    theirs = session.run(None, {session.get_inputs()[0].name: x})
    found, providers = run_here(case.model, {"input_2": x})
    assert providers == {"cpu"}
    for got in (found, run(case.model, {"input_2": x})):
        for name, ours in got.items():
            off = min(np.abs(ours - value).max() for value in theirs if value.shape == ours.shape)
            assert off < 1e-5, name
    # Of pure tones the logarithms of what is between them tell rounding apart: TensorFlow itself is off by 2e-4 there.
    noise = (1e-3 * np.random.default_rng(0).normal(size=x.shape)).astype(np.float32)
    found, _ = run_here(case.model, {"input_2": noise})
    assert differences(case.oracles[-1]().run({"input_2": noise}), found, 2e-5, exact_types=False) == []
