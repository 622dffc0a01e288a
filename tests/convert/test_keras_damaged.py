"""Damaged and hostile `.keras` archives: a typed error or a model, in bounded time and memory."""

from __future__ import annotations

import io
import json
import random
import shutil
import time
import zipfile

import h5py
import numpy as np
import pytest
from keras_cases import DATA

from sardonyx.convert.base import Options, Source
from sardonyx.convert.keras import read, recognises
from sardonyx.errors import ConversionError, ModelFileError, SardonyxError

FOLDER = DATA / "keras"
OTHERS = [
    None,
    True,
    0,
    -1,
    3,
    2**40,
    1e308,
    "",
    "x",
    "relu",
    [],
    {},
    [None],
    [[]],
    [["x", 0, 0]],
    {"class_name": "Dense"},
]


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path, parts):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def places(value, found):
    """All (container, key) in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        found.append((value, key))
        places(inner, found)
    return found


def change(config, rng):
    container, key = rng.choice(places(config, []))
    if rng.random() < 0.2:
        del container[key]
    else:
        container[key] = rng.choice(OTHERS)


@pytest.mark.parametrize(
    "file", ["nested.keras", "cells.keras", "attention.keras", "operations.keras", "masked.2.keras"]
)
def test_changed_configurations(tmp_path, file):
    rng = random.Random(file)
    parts = members(FOLDER / file)
    refused = 0
    for _ in range(40):
        config = json.loads(parts["config.json"])
        for _ in range(rng.randrange(1, 4)):
            change(config, rng)
        path = packed(tmp_path / "m.keras", {**parts, "config.json": json.dumps(config)})
        start = time.monotonic()
        try:
            read(Source(path), Options())
        except SardonyxError:
            refused += 1
        assert time.monotonic() - start < 10
    assert refused > 5


def test_changed_and_cut_archives(tmp_path):
    rng = random.Random(3)
    source = (FOLDER / "lstm.keras").read_bytes()
    path, refused = tmp_path / "m.keras", 0
    for number in range(120):
        data = bytearray(source)
        if number % 3 == 0:
            data = data[: rng.randrange(len(data))]
        else:
            for _ in range(rng.randrange(1, 6)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            if not recognises(Source(path)):
                refused += 1
                continue
            read(Source(path), Options())
        except SardonyxError:
            refused += 1
    assert refused > 60


def test_an_archive_that_unpacks_to_far_more(tmp_path):
    parts = members(FOLDER / "lstm.keras")
    for name in ("config.json", "model.weights.h5"):
        path = packed(tmp_path / "m.keras", {**parts, name: b" " * (1 << 26)})
        with pytest.raises(ModelFileError, match="far more than a model"):
            read(Source(path), Options())


def test_a_folder_is_an_archive_too(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name, data in members(FOLDER / "lstm.keras").items():
        (folder / name).write_bytes(data)
    assert recognises(Source(folder))
    assert [value.name for value in read(Source(folder), Options()).model.graph.inputs] == ["ids"]
    outside = tmp_path / "weights.h5"
    shutil.move(folder / "model.weights.h5", outside)
    (folder / "model.weights.h5").symlink_to(outside)
    with pytest.raises(ConversionError, match=r"no model\.weights\.h5"):
        read(Source(folder), Options())


def test_weights_elsewhere_and_other_archives(tmp_path):
    parts = members(FOLDER / "lstm.keras")
    weights = parts.pop("model.weights.h5")
    path = packed(tmp_path / "m.keras", {**parts, "model.weights.json": b"{}"})
    with pytest.raises(ConversionError, match=r"weights as model\.weights\.json"):
        read(Source(path), Options())
    assert not recognises(Source(packed(tmp_path / "other.zip", {"data.txt": b"text"})))
    # A weight that is a link to another file is not followed.
    buffer = io.BytesIO(weights)
    with h5py.File(buffer, "r+") as file:
        group = file["layers/dense/vars"]
        shape = group["0"].shape
        del group["0"]
        with h5py.File(tmp_path / "outside.h5", "w") as outside:
            outside["kernel"] = np.zeros(shape, np.float32)
        group["0"] = h5py.ExternalLink(str(tmp_path / "outside.h5"), "kernel")
    path = packed(tmp_path / "link.keras", {**parts, "model.weights.h5": buffer.getvalue()})
    with pytest.raises(ConversionError, match="not followed"):
        read(Source(path), Options())


def test_subclassed_models_and_code_are_refused(tmp_path):
    parts = members(FOLDER / "lstm.keras")
    config = json.loads(parts["config.json"])
    config |= {"class_name": "MyModel", "module": "os", "registered_name": "MyModel"}
    path = packed(tmp_path / "m.keras", {**parts, "config.json": json.dumps(config)})
    with pytest.raises(ConversionError, match="of a subclassed model the file holds no graph"):
        read(Source(path), Options())
    config = json.loads(parts["config.json"])
    config["config"]["layers"][-1]["class_name"] = "Lambda"
    path = packed(tmp_path / "m.keras", {**parts, "config.json": json.dumps(config)})
    with pytest.raises(ConversionError, match="holds Python code"):
        read(Source(path), Options())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"stateful": True}, "it is stateful"),
        ({"activation": "my_own"}, "'my_own' is not known"),
        ({"units": 7}, "has shape"),
        ({"colour": 3}, "the option colour = 3 is not supported"),
        ({"dtype": "float16"}, "computes in 'float16'"),
    ],
)
def test_options_of_recurrent_layers(tmp_path, options, reason):
    parts = members(FOLDER / "lstm.keras")
    config = json.loads(parts["config.json"])
    (layer,) = (item for item in config["config"]["layers"] if item["class_name"] == "LSTM")
    layer["config"] |= options
    path = packed(tmp_path / "m.keras", {**parts, "config.json": json.dumps(config)})
    with pytest.raises(ConversionError, match=reason):
        read(Source(path), Options())
