"""H2O MOJO archives (gradient boosting without categorical splits) by onnxmltools in a process of its own.

H2O reads MOJOs with a Java program. Live estimators are saved as a MOJO first, where H2O's edition does that.
"""

from __future__ import annotations

import configparser
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sardonyx.convert.base import Converted, Options, Source, Values
from sardonyx.convert.exporters import base
from sardonyx.convert.exporters.columns import Column, made
from sardonyx.convert.exporters.torch_weights import member, opened
from sardonyx.convert.process import call
from sardonyx.convert.subprocess_oracle import SubprocessOracle
from sardonyx.errors import ConversionError, ModelFileError

if TYPE_CHECKING:
    import onnx_ir as ir

PACKAGES = ("h2o", "onnxmltools")
DRIVER = "sardonyx.convert.exporters.h2o_driver"
_LIMIT = 1 << 24


def recognises(source: Source) -> bool:
    """Estimators of h2o; zip archives with a `model.ini` that names H2O."""
    if source.path is None:
        return "h2o" in source.frameworks
    if source.path.is_dir() or not source.head.startswith(b"PK\x03\x04"):
        return False
    try:
        with opened(source.path) as archive:
            return "model.ini" in archive.namelist() and b"h2o_version" in _ini(archive, source)
    except ModelFileError:
        return False


def read(source: Source, options: Options) -> Converted:
    """The model as ONNX, with one input, `input`, of all columns in the model's order.

    Raises ConversionError where onnxmltools cannot write it, ModelFileError for damaged archives, MissingExtraError
    without h2o and onnxmltools.
    """
    found = base.require(PACKAGES, "h2o", "exporting H2O models", "h2o")
    with _saved(source) as path:
        facts = _facts(path, source)
        job = {"model": str(path), "columns": facts.columns}
        with tempfile.TemporaryDirectory(prefix="sardonyx-") as place:
            target = Path(place) / "exported.onnx"
            call(
                DRIVER, job | {"do": "export", "target": str(target), "name": source.stem}, timeout=options.timeout,
                framework="h2o", doing=f"onnxmltools on {source.where}",
            )  # fmt: skip
            model = base.loaded(target, source.where)
    name = _shape_input(model, len(facts.columns), options)
    outputs = tuple(value.name or "" for value in model.graph.outputs)
    oracle = _Driven(f"h2o {found['h2o']}", source, name, outputs, options.timeout)
    return Converted(
        model,
        format=f"H2O MOJO {facts.algorithm} ({facts.version})",
        route=f"wrapped exporter ({base.described(found)})",
        oracles=(lambda: oracle,),
        metadata={"features": "\n".join(facts.columns)},
        channels_last=frozenset(),
        make_inputs=partial(made, [Column(name, "float", len(facts.columns))]),
    )


def _shape_input(model: ir.Model, width: int, options: Options) -> str:
    import onnx_ir as ir

    value = model.graph.inputs[0]
    value.shape = ir.Shape([options.batch, width])
    base.name_batch(base.repaired(model), options.batch)
    return value.name or ""


@dataclass(frozen=True)
class _Facts:
    """What a MOJO's `model.ini` says."""

    algorithm: str
    version: str
    columns: list[str]


def _ini(archive: zipfile.ZipFile, source: Source) -> bytes:
    return member(archive, "model.ini", _LIMIT, source.where)


def _facts(path: Path, source: Source) -> _Facts:
    with opened(path) as archive:
        text = _ini(archive, source).decode("utf-8", "replace")
    # Lines of [info] are `key = value`, those of [columns] names of features, the response last.
    parser = configparser.RawConfigParser(allow_no_value=True, strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text)
        info = dict(parser["info"])
        count = int(info["n_features"] or 0)
        columns = list(parser["columns"])[:count]
    except (configparser.Error, KeyError, ValueError) as error:
        raise ModelFileError("model.ini is damaged", where=source.where, got=str(error)[:200]) from error
    if len(columns) != count or not count:
        raise ModelFileError("model.ini names too few columns", where=source.where, expected=str(count))
    return _Facts(str(info.get("algorithm")), str(info.get("h2o_version")), columns)


@contextmanager
def _saved(source: Source) -> Iterator[Path]:
    if source.path is not None:
        yield source.path.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="sardonyx-") as place:
        try:
            yield Path(source.object.download_mojo(str(Path(place) / "model.zip")))
        except (ValueError, OSError) as error:
            raise ConversionError(
                "H2O saves no MOJO of this model", where=source.where, got=str(error)[:300]
            ) from error


@dataclass(frozen=True)
class _Driven:
    """H2O's own scoring of a MOJO, in a process of its own."""

    name: str
    source: Source
    input: str
    outputs: tuple[str, ...]
    timeout: float

    def run(self, inputs: Values) -> Values:
        """Predictions by the ONNX model's names: labels or values first, then probabilities."""
        with _saved(self.source) as path:
            job: Mapping[str, Any] = {
                "model": str(path), "columns": _facts(path, self.source).columns, "do": "run",
            }  # fmt: skip
            found = SubprocessOracle(self.name, DRIVER, job, self.timeout, "h2o").run({"rows": inputs[self.input]})
        given = [found["predict"], *([found["probabilities"]] if "probabilities" in found else [])]
        if len(self.outputs) == 1 and given[0].ndim == 1:
            given[0] = given[0][:, None]
        return dict(zip(self.outputs, given, strict=True))
