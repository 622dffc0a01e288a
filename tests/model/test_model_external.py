"""External data comes from beneath the model's folder or not at all."""

from __future__ import annotations

import os

import numpy as np
import pytest
from model_cases import holder
from onnx import TensorProto

from sardonyx.errors import ModelFileError
from sardonyx.model import file

WEIGHT = np.arange(300, dtype=np.float32)


@pytest.fixture
def folder(tmp_path):
    """A model's folder, with a secret beside it."""
    (tmp_path / "secret").write_bytes(WEIGHT.tobytes())
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "weights").write_bytes(bytes(16) + WEIGHT.tobytes())
    (folder / "sub" / "weights").write_bytes(WEIGHT.tobytes())
    return folder


def load(folder, *, dims=(300,), **entries):
    tensor = TensorProto(name="weight", dims=dims, data_type=1, data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    path = folder / "m.onnx"
    path.write_bytes(holder(tensor).SerializeToString())
    return file.load(path).graph.initializers["weight"].const_value.numpy()


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "weights", "offset": 16, "length": 1200},
        {"location": "weights", "offset": 16},
        {"location": "sub/weights"},
        {"location": "./sub/weights", "length": 1200, "checksum": "unused"},
        {"location": "link", "offset": 16},
        {"location": "linked/weights"},
    ],
)
def test_data_beneath_the_folder_is_mapped(folder, entries):
    (folder / "link").symlink_to("weights")
    (folder / "linked").symlink_to(folder / "sub")
    array = load(folder, **entries)
    np.testing.assert_array_equal(array, WEIGHT)
    assert not array.flags.writeable


def test_a_model_that_is_reached_through_a_linked_folder_finds_its_data(folder):
    load(folder, location="sub/weights")
    (folder.parent / "alias").symlink_to(folder)
    model = file.load(folder.parent / "alias" / "m.onnx")
    np.testing.assert_array_equal(model.graph.initializers["weight"].const_value.numpy(), WEIGHT)


def test_a_tensor_without_elements_needs_no_bytes(folder):
    (folder / "empty").touch()
    assert load(folder, dims=(0, 3), location="empty").shape == (0, 3)


BAD = {
    "parent": ({"location": "../secret"}, "below the model's folder"),
    "hidden parent": ({"location": "sub/../../secret"}, "below the model's folder"),
    "inner parent": ({"location": "sub/../weights"}, "below the model's folder"),
    "absolute": ({"location": "/etc/passwd"}, "below the model's folder"),
    "backslash": ({"location": "..\\secret"}, "below the model's folder"),
    "nothing": ({}, "below the model's folder"),
    "null": ({"location": "a\0b"}, "below the model's folder"),
    "memory address": ({"location": "*/_ORT_MEM_ADDR_/*", "offset": 4096, "length": 1200}, "No such file"),
    "missing": ({"location": "none"}, "No such file"),
    "folder": ({"location": "sub"}, "a folder"),
    "the folder itself": ({"location": "."}, "a folder"),
    "pipe": ({"location": "pipe"}, "a special file"),
    "link out": ({"location": "out"}, "link out of the model's folder"),
    "link to a folder out": ({"location": "up/secret"}, "link out of the model's folder"),
    "loop": ({"location": "loop"}, "cannot open"),
    "past the end": ({"location": "weights", "offset": 17}, "outside the file"),
    "far past the end": ({"location": "weights", "offset": 1 << 62}, "outside the file"),
    "wrong length": ({"location": "weights", "length": 1196}, "expected 1200, got 1196"),
    "negative offset": ({"location": "weights", "offset": -16}, "bad offset"),
    "offset in words": ({"location": "weights", "offset": "sixteen"}, "bad offset"),
    "huge offset": ({"location": "weights", "offset": "9" * 5000}, "bad offset"),
    "other digits": ({"location": "weights", "offset": "\u0661\u0666"}, "bad offset"),
    "negative length": ({"location": "weights", "length": -1}, "bad length"),
}


@pytest.mark.parametrize("case", BAD)
def test_anything_else_is_an_error_that_names_the_tensor(folder, case):
    os.mkfifo(folder / "pipe")
    (folder / "out").symlink_to("../secret")
    (folder / "up").symlink_to("..")
    (folder / "loop").symlink_to("loop")
    entries, message = BAD[case]
    with pytest.raises(ModelFileError, match=message) as caught:
        load(folder, **entries)
    assert "'weight'" in str(caught.value)


def test_bytes_have_no_folder(folder):
    load(folder, location="sub/weights")
    with pytest.raises(ModelFileError, match=r"'weight'.*load the model from its path"):
        file.load((folder / "m.onnx").read_bytes())
