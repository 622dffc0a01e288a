"""Paddle's inference models (`NAME.json` or `NAME.pdmodel` with `NAME.pdiparams`) and live layers, by paddle2onnx.

In a process of its own, where pickles are refused and paddle2onnx's optimiser is off: that one installs packages.
Live layers are saved first, with the shapes and types of `options.example`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sardonyx.convert.base import Array, Converted, Options, Source, Values
from sardonyx.convert.exporters import base
from sardonyx.convert.process import call
from sardonyx.convert.subprocess_oracle import SubprocessOracle
from sardonyx.errors import ConversionError

PACKAGES = ("paddlepaddle", "paddle2onnx")
DRIVER = "sardonyx.convert.exporters.paddle_driver"


def recognises(source: Source) -> bool:
    """Layers; programs with their parameters beside them; folders that hold one."""
    if source.path is None:
        return "paddle" in source.frameworks
    return _program(source) is not None


def read(source: Source, options: Options) -> Converted:
    """The program as ONNX.

    Raises ConversionError where paddle2onnx cannot write it, MissingExtraError without it.
    """
    found = base.require(PACKAGES, "paddle", "exporting Paddle models", "paddle")
    if source.path is None:
        return _read_live(source, options, found)
    program = _program(source)
    if program is None:
        raise ConversionError(
            "no Paddle program", where=source.where, expected="NAME.json or NAME.pdmodel with NAME.pdiparams"
        )
    return _read_program(program, source, options, found)


def _program(source: Source) -> Path | None:
    """The program's file, where its parameters lie beside it."""
    path = source.path
    if path is None:
        return None
    if path.is_dir():
        inside = [file for file in sorted(path.iterdir()) if file.suffix in (".json", ".pdmodel") and _is_program(file)]
        return inside[0] if len(inside) == 1 else None
    return path if _is_program(path) else None


def _is_program(path: Path) -> bool:
    if not path.is_file() or not path.with_suffix(".pdiparams").is_file():
        return False
    with path.open("rb") as file:
        head = file.read(4096)
    # The newer form is JSON that says so; the older one a protobuf whose operators start with `feed`.
    return (head.startswith(b"{") and b'"magic":"pir"' in head.replace(b" ", b"")) or (
        head.startswith(b"\x0a") and b"feed" in head
    )


def _read_live(source: Source, options: Options, found: Mapping[str, str]) -> Converted:
    import paddle

    if not options.example:
        raise ConversionError(
            "a layer can only be traced with example arguments", where=source.where,
            fix="give them: sardonyx.convert(layer, example=(array, ...))",
        )  # fmt: skip
    specs = []
    for index, value in enumerate(options.example):
        array = np.asarray(value)
        dims: list[int | None] = [None, *array.shape[1:]] if isinstance(options.batch, str) else list(array.shape)
        name = options.inputs[index] if index < len(options.inputs) else f"x{index}" if index else "x"
        specs.append(paddle.static.InputSpec(dims, str(array.dtype), name))
    layer, mode = source.object, source.object.training
    with tempfile.TemporaryDirectory(prefix="sardonyx-") as folder:
        try:
            layer.eval()
            paddle.jit.save(layer, str(Path(folder) / "layer"), input_spec=specs)
        except Exception as error:
            text = " ".join(str(error).split())[:400]
            raise ConversionError("Paddle cannot save this layer", where=source.where, got=text) from error
        finally:
            layer.train() if mode else layer.eval()
        program = _program(Source(path=Path(folder)))
        if program is None:
            raise ConversionError("Paddle saved no program", where=source.where)
        converted = _read_program(program, source, options, found)
    # The file is gone: the layer itself is what the result is compared with.
    names = [value.name or "" for value in converted.model.graph.inputs]
    outputs = [value.name or "" for value in converted.model.graph.outputs]
    oracle = _Layer(f"paddle {found['paddlepaddle']}", layer, tuple(names), tuple(outputs))
    return replace(converted, oracles=(lambda: oracle,))


@dataclass(frozen=True)
class _Layer:
    """The layer itself."""

    name: str
    layer: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(self, inputs: Values) -> Values:
        """Results by the ONNX model's names."""
        import paddle

        mode = self.layer.training
        try:
            self.layer.eval()
            with paddle.no_grad():
                result = self.layer(*[paddle.to_tensor(np.asarray(inputs[name])) for name in self.inputs])
        finally:
            self.layer.train() if mode else self.layer.eval()
        results = result if isinstance(result, list | tuple) else [result]
        return {name: value.numpy() for name, value in zip(self.outputs, results, strict=True)}


def _read_program(program: Path, source: Source, options: Options, found: Mapping[str, str]) -> Converted:
    job = {"program": str(program.absolute()), "parameters": str(program.with_suffix(".pdiparams").absolute())}
    with tempfile.TemporaryDirectory(prefix="sardonyx-") as folder:
        target = Path(folder) / "exported.onnx"
        call(
            DRIVER, job | {"do": "export", "target": str(target)}, timeout=options.timeout, framework="paddle",
            doing=f"paddle2onnx on {source.where}",
        )  # fmt: skip
        model = base.loaded(target, source.where)
    graph = model.graph
    graph.name = source.stem
    symbols: dict[str, str] = {}
    for value in graph.inputs:
        for axis, dim in enumerate(value.shape or ()):
            text = None if isinstance(dim, int) else dim.value
            if text and text not in symbols:
                first = axis == 0 and isinstance(options.batch, str)
                symbols[text] = str(options.batch) if first else f"{value.name}_{axis}"
    base.rename_symbols(model, symbols)
    base.repaired(model)
    names = [value.name or "" for value in graph.outputs]
    oracle = _Driven(f"paddle {found['paddlepaddle']}", job | {"do": "run"}, tuple(names), options.timeout)
    return Converted(
        model,
        format=f"Paddle inference model ({found['paddlepaddle']})",
        route=f"wrapped exporter ({base.described(found)})",
        oracles=(lambda: oracle,),
        channels_last=frozenset(),
    )


@dataclass(frozen=True)
class _Driven:
    """Paddle in a process of its own."""

    name: str
    job: Mapping[str, Any]
    outputs: tuple[str, ...]
    timeout: float

    def run(self, inputs: Values) -> Values:
        """Results by the ONNX model's names: both have the program's order."""
        found = SubprocessOracle(self.name, DRIVER, self.job, self.timeout, "paddle").run(inputs)
        results: list[Array] = [found[str(index)] for index in range(len(self.outputs))]
        return dict(zip(self.outputs, results, strict=True))
