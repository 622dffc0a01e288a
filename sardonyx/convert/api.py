"""`sardonyx.convert`: a model of any framework to ONNX, compared with its source before anything is written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sardonyx.convert.base import Converted, Options, Sample, Source
from sardonyx.convert.finish import Finish, Preprocessing, finish
from sardonyx.convert.formats import find
from sardonyx.convert.parity import Check, Parity, read_samples, recorded_beside
from sardonyx.errors import ModelFileError, ParityError

if TYPE_CHECKING:
    import onnx_ir as ir


_OPTIONS, _AS_THEY_ARE = Options(), Preprocessing()


def _silent(message: str) -> None:
    """Nobody asked to be told of progress."""


@dataclass(frozen=True)
class Conversion:
    """A converted model and the report of its comparison with the source; None where that was not wanted."""

    model: ir.Model
    report: Parity | None
    notes: tuple[str, ...] = ()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model, and the report beside it as `NAME.parity.json`."""
        from sardonyx.model.file import save

        save(self.model, path)
        write_report(self.report, Path(path))

    def proto(self) -> Any:
        """The model as `onnx.ModelProto`."""
        import onnx_ir as ir

        return ir.to_proto(self.model)


def read(source: Any, options: Options = _OPTIONS, *, kind: str | None = None) -> Converted:
    """The source as ONNX as its reader makes it, without changes and without comparison.

    `source` is a path to a file or folder, or an object of a framework. Raises as `convert`.
    """
    given = _source(source)
    return find(given, kind).read(given, options)


def convert(
    source: Any,
    output: str | os.PathLike[str] | None = None,
    *,
    options: Options = _OPTIONS,
    kind: str | None = None,
    inputs_as_nchw: bool | Sequence[str] = False,
    outputs_as_nchw: bool | Sequence[str] = False,
    preprocessing: Preprocessing = _AS_THEY_ARE,
    rename_inputs: Sequence[str] = (),
    rename_outputs: Sequence[str] = (),
    shapes: Mapping[str, tuple[int | str | None, ...]] | None = None,
    example: Sequence[Any] = (),
    opset: int | None = None,
    data: Sequence[str | os.PathLike[str] | Mapping[str, Any]] = (),
    verify: bool = True,
    tolerance: float | None = None,
    seed: int = 0,
    tell: Callable[[str], None] = _silent,
) -> Conversion:
    """Convert a model of any framework to ONNX and compare both.

    `source` is a file, a folder, or an object of a framework (a Keras model, a PyTorch module with `example`
    arguments, an estimator); what it is, its content says, or `kind`. With `output` the model is written there and
    the report beside it, unless they differ. `shapes` gives dims of inputs by name: sizes, symbols, None for open.
    `data` are inputs to compare on besides made-up ones: `.npz` files or dicts of arrays by the source's input names.
    Differences are relative, in the L2 norm of an output; up to `tolerance` they count as rounding (by default 1e-5
    for float32, or what the format's own arithmetic makes). `tell` hears of progress.

    Raises ModelFileError when the source cannot be read, ConversionError when its kind is unknown or it holds what
    cannot be converted (all of it is listed), ParityError when the result computes something else (nothing is left at
    `output` then), and MissingExtraError when a package is needed that is not installed.
    """
    given = _source(source)
    entry = find(given, kind)
    options = replace(options, shapes={**options.shapes, **(shapes or {})}, example=tuple(example) or options.example)
    tell(f"reading {given.where}")
    converted = entry.read(given, options)
    tell("finishing the graph")
    asked = Finish(
        inputs_as_nchw, outputs_as_nchw, preprocessing, rename_inputs, rename_outputs, dict(options.shapes), opset
    )
    finished = finish(converted, asked, given.where)
    digest = _digest(given.path, tell)
    report: Parity | None = None
    if verify:
        beside = recorded_beside(given.path) if given.path is not None else []
        samples = [*_samples(data), *beside]
        check = Check(converted, finished, given.where, samples, tolerance, seed, tell)
        report = replace(check.run(), source_sha256=digest)
    _describe(finished.model, converted, report, digest)
    tell("checking against the standard")
    _require_valid(finished.model, given.where)
    result = Conversion(finished.model, report, tuple(converted.notes))
    if report is not None and report.verdict == "different":
        if output is not None:
            Path(output).unlink(missing_ok=True)
            write_report(report, Path(output))
        raise ParityError.of(report, given.where)
    if output is not None:
        tell(f"writing {output}")
        result.save(output)
    return result


def write_report(report: Parity | None, model: Path) -> None:
    """Write the report as `NAME.parity.json` beside the model; without one, remove what may lie there."""
    beside = report_beside(model)
    if report is None:
        beside.unlink(missing_ok=True)
    else:
        beside.write_text(report.to_json(), encoding="utf-8")


def report_beside(model: Path) -> Path:
    """Where the report of a model lies."""
    return model.with_name(f"{model.stem}.parity.json")


def _source(source: Any) -> Source:
    if isinstance(source, Source):
        return source
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        # The prefix of a TensorFlow checkpoint is no file itself; its reader says what is missing.
        if not path.exists() and not path.with_name(f"{path.name}.index").exists():
            raise ModelFileError("there is no such file or folder", where=str(path))
        return Source(path=path)
    return Source(object=source)


def _samples(data: Sequence[str | os.PathLike[str] | Mapping[str, Any]]) -> Iterator[Sample]:
    for given in data:
        if isinstance(given, Mapping):
            yield Sample(given, origin="given")
        else:
            yield from read_samples(Path(given))


def _digest(path: Path | None, tell: Callable[[str], None]) -> str | None:
    """SHA-256 of the file, or of the names and contents of a folder's files."""
    if path is None:
        return None
    tell("hashing the source")
    if path.is_file():
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    total = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else sorted(path.parent.glob(f"{path.name}*")):
        if file.is_file() and not file.is_symlink():
            total.update(str(file.relative_to(path.parent)).encode())
            with file.open("rb") as opened:
                total.update(hashlib.file_digest(opened, "sha256").digest())
    return total.hexdigest()


def _describe(model: ir.Model, converted: Converted, report: Parity | None, digest: str | None) -> None:
    """What the model's metadata tell: where it comes from, and how it was compared."""
    model.metadata_props.update({key: str(value) for key, value in converted.metadata.items()})
    model.metadata_props["sardonyx.format"] = converted.format
    model.metadata_props["sardonyx.route"] = converted.route
    if digest is not None:
        model.metadata_props["sardonyx.source_sha256"] = digest
    if report is not None:
        facts = report.as_dict()
        worst = report.worst()
        facts["comparisons"] = len(report.comparisons)
        facts["largest_relative"] = worst.relative if worst else None
        facts["source"] = Path(report.source).name
        model.metadata_props["sardonyx.parity"] = json.dumps(facts)


def _require_valid(model: ir.Model, where: str) -> None:
    from sardonyx.model.check import require_valid

    require_valid(model, f"the result of converting {where}")
