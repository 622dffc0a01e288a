"""Spark ML models, saved (a folder with `metadata`) or live, by onnxmltools in a process of its own.

Live models are saved first. What columns they take, `options.example` (a pandas data frame) or `options.shapes` say.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.convert.base import Array, Converted, Options, Source, Values
from sardonyx.convert.exporters import base
from sardonyx.convert.exporters.columns import columns, made
from sardonyx.convert.process import call
from sardonyx.convert.subprocess_oracle import SubprocessOracle
from sardonyx.errors import ConversionError, ModelFileError

if TYPE_CHECKING:
    import onnx_ir as ir

PACKAGES = ("pyspark", "onnxmltools")
DRIVER = "sardonyx.convert.exporters.spark_driver"
_CLASSES = "org.apache.spark.ml."
_LIMIT = 1 << 24  # bytes of a stage's metadata


def recognises(source: Source) -> bool:
    """Models of pyspark.ml; folders whose metadata name a class of Spark ML."""
    if source.path is None:
        return "pyspark" in source.frameworks
    if not source.path.is_dir():
        return False
    try:
        return any(_CLASSES.encode() in part.read_bytes()[:4096] for part in _parts(source.path))
    except OSError:
        return False


def read(source: Source, options: Options) -> Converted:
    """The model as ONNX.

    Raises ConversionError where onnxmltools cannot write it or its columns are not known, ModelFileError for damaged
    folders, MissingExtraError without pyspark and onnxmltools.
    """
    found = base.require(PACKAGES, "spark", "exporting Spark ML models", "spark")
    listed = columns(source, options)
    with _saved(source) as folder:
        kind = _kind(folder)
        job = {"model": str(folder), "kind": kind, "columns": [column.facts() for column in listed]}
        with tempfile.TemporaryDirectory(prefix="sardonyx-") as place:
            target = Path(place) / "exported.onnx"
            call(
                DRIVER, job | {"do": "export", "target": str(target), "name": source.stem}, timeout=options.timeout,
                framework="spark", doing=f"onnxmltools on {source.where}",
            )  # fmt: skip
            model = base.loaded(target, source.where)
    base.name_batch(model, options.batch)
    outputs = {value.name or "": _form(value) for value in model.graph.outputs}
    oracle = _Driven(f"Spark {found['pyspark']}", source, job, outputs, options.timeout)
    return Converted(
        model,
        format=f"Spark ML {kind.rpartition('.')[2]} ({found['pyspark']})",
        route=f"wrapped exporter ({base.described(found)})",
        oracles=(lambda: oracle,),
        channels_last=frozenset(),
        make_inputs=partial(made, listed),
    )


def _form(value: ir.Value) -> tuple[int | None, str | None]:
    dtype = value.dtype.numpy() if value.dtype is not None else None
    return len(value.shape) if value.shape is not None else None, dtype.str if dtype is not None else None


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("metadata/part-*"))[:4]


def _kind(folder: Path) -> str:
    """The model's class. Stages of other classes than Spark's own would be imported, so they are refused."""
    kinds = []
    for metadata in [folder / "metadata", *sorted(folder.glob("**/stages/*/metadata"))]:
        parts = sorted(metadata.glob("part-*"))
        try:
            text = parts[0].read_bytes() if parts and parts[0].stat().st_size <= _LIMIT else b""
            kinds.append(json.loads(text.partition(b"\n")[0])["class"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelFileError("the metadata is damaged", where=str(metadata), got=str(error)[:200]) from error
    foreign = [str(kind) for kind in kinds if not (isinstance(kind, str) and kind.startswith(_CLASSES))]
    if foreign:
        raise ConversionError(
            f"stages that are not Spark's own: {', '.join(foreign)}", where=str(folder), fix="convert the others alone"
        )
    return str(kinds[0])


@contextmanager
def _saved(source: Source) -> Iterator[Path]:
    if source.path is not None:
        yield source.path.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="sardonyx-") as place:
        folder = Path(place) / "model"
        source.object.write().save(str(folder))
        yield folder


@dataclass(frozen=True)
class _Driven:
    """Spark in a process of its own."""

    name: str
    source: Source
    job: Mapping[str, Any]
    outputs: Mapping[str, tuple[int | None, str | None]]
    timeout: float

    def run(self, inputs: Values) -> Values:
        """Columns by the ONNX model's names; indices, which Spark has as floats, in the ONNX model's types."""
        with _saved(self.source) as folder:
            job = {**self.job, "model": str(folder), "do": "run", "outputs": list(self.outputs)}
            found = SubprocessOracle(self.name, DRIVER, job, self.timeout, "spark").run(inputs)
        return {name: _shaped(array, *self.outputs[name]) for name, array in found.items()}


def _shaped(array: Array, rank: int | None, dtype: str | None) -> Array:
    if rank == 2 and array.ndim == 1:
        array = array[:, None]
    if rank == 1 and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    return array.astype(dtype) if dtype is not None and np.dtype(dtype).kind == "i" else array
