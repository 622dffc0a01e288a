"""TensorFlow.js: layers models and graph models, `model.json` with its shards of weights; without TensorFlow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from sardonyx.convert.base import Source

if TYPE_CHECKING:
    from sardonyx.convert.base import Converted, Options

_MODEL = re.compile(rb'\A\s*\{.*"(modelTopology|weightsManifest|format"\s*:\s*"(graph|layers)-model)"', re.DOTALL)
_WEIGHTS = re.compile(rb'\A\s*\[\s*\{.*"(weights|paths)"\s*:\s*\[', re.DOTALL)


def recognises(source: Source) -> bool:
    """A `model.json` by its keys, its folder, or a manifest of weights alone."""
    path = source.path
    if path is None:
        return False
    if path.is_dir():
        return (path / "model.json").is_file() and recognises(Source(path / "model.json"))
    return bool(_MODEL.match(source.head) or _WEIGHTS.match(source.head))


def read(source: Source, options: Options) -> Converted:
    """The model as ONNX: see `reader.read`."""
    from sardonyx.convert.tfjs import reader

    path: Path = source.file()
    return reader.read(Source(path / "model.json") if path.is_dir() else source, options)
