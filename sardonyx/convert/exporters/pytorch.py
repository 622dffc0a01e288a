"""PyTorch: live modules, programs of `torch.export` (.pt2), TorchScript archives, and files of weights.

A live module is exported in this process (it need not survive pickling), files in one of their own. A file of weights
alone has no network, so it is refused with a list of what it holds; `torch_weights.read_weights` reads it.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.convert.base import Array, Converted, Options, Oracle, Source, Values
from sardonyx.convert.exporters import base
from sardonyx.convert.exporters.torch_weights import LEGACY, Tensor, Weights, member, opened, run
from sardonyx.convert.process import call, versions
from sardonyx.convert.reading.cursor import Cursor
from sardonyx.convert.subprocess_oracle import SubprocessOracle
from sardonyx.errors import ConversionError, ModelFileError, SardonyxError

if TYPE_CHECKING:
    import onnx_ir as ir

PACKAGES = ("torch", "onnxscript")
DRIVER = "sardonyx.convert.exporters.pytorch_driver"
_EXAMPLE_LIMIT = 1 << 26
_OPEN = 2  # the size of dims that nobody gave


def recognises(source: Source) -> bool:
    """Modules and exported programs; archives that `torch` wrote; streams of weights before PyTorch 1.6."""
    if source.path is None:
        return "torch" in source.frameworks
    return _kind(source) is not None


def read(source: Source, options: Options) -> Converted:
    """The source as ONNX.

    Raises ConversionError where no exporter can write it, where the file has no network, or where it holds pickled
    objects; MissingExtraError without `torch` and `onnxscript`.
    """
    if source.path is None:
        return _read_live(source, options)
    kind = _kind(source)
    if kind == "weights":
        raise _no_network(source)
    return _read_file(source, options, kind or "")


def _kind(source: Source) -> str | None:
    """What a file is: "program", "script" or "weights"; None where it is not PyTorch's."""
    if source.head.startswith(LEGACY):
        return "weights"
    if not source.head.startswith(b"PK\x03\x04"):
        return None
    path = source.file()
    try:
        with opened(path) as archive:
            listed = archive.namelist()
    except ModelFileError:
        return None
    names = {name.partition("/")[2] for name in listed}  # All lies in one folder, of any name.
    if "serialized_exported_program.json" in listed or "archive_format" in names:
        return "program"
    if "data.pkl" not in names:
        return None
    return "script" if "constants.pkl" in names and any(name.startswith("code/") for name in names) else "weights"


def _no_network(source: Source) -> ConversionError:
    weights = Weights(source.file())
    shown = [f"{name} {tensor.dtype}{list(tensor.shape)}" for name, tensor in list(weights.items())[:20]]
    more = [f"and {len(weights) - 20} more"] if len(weights) > 20 else []
    return ConversionError(
        "the file holds weights alone, not the network they belong to",
        where=source.where,
        got=f"{len(weights)} tensors: {', '.join([*shown, *more])}",
        fix="make the network in Python, load them (load_state_dict) and convert that: "
        "sardonyx.convert(module, example=(...))",
    )


def _finished(
    path: Path, source: Source, facts: Mapping[str, Any], options: Options
) -> tuple[ir.Model, dict[str, str]]:
    """The exporter's file with our names; its values by the source's layers."""
    model = base.loaded(path, source.where)
    layers = base.scopes(model)
    graph = model.graph
    graph.name = source.stem
    _name(graph.inputs, facts["inputs"], graph)
    _require_names(options.outputs, facts["outputs"], source)
    wanted = list(options.outputs) or facts["outputs"]
    renamed = {old: new for old, new in zip([v.name for v in graph.outputs], wanted, strict=False) if old in layers}
    _name(graph.outputs, wanted, graph)
    base.rename_symbols(model, _symbols(graph, options))
    return model, {renamed.get(value, value): layer for value, layer in layers.items()}


def _require_names(wanted: Sequence[str], outputs: Sequence[str], source: Source) -> None:
    if wanted and (len(wanted) != len(outputs) or len(set(wanted)) != len(wanted)):
        raise ConversionError(
            "the names of outputs do not fit", where=source.where, got=", ".join(wanted),
            expected=f"{len(outputs)} of them, for {', '.join(outputs)}",
        )  # fmt: skip


def _name(values: Any, names: list[str], graph: ir.Graph) -> None:
    if len(values) == len(names):
        base.rename_values(list(values), names, graph)


def _symbols(graph: ir.Graph, options: Options) -> dict[str, str]:
    """The exporter numbers what a program leaves open: the first dims are batches."""
    names: dict[str, str] = {}
    for value in graph.inputs:
        for axis, dim in enumerate(value.shape or ()):
            text = None if isinstance(dim, int) else dim.value
            if text and text[0] in "su" and text[1:].isdigit() and text not in names:
                name = options.batch if axis == 0 and isinstance(options.batch, str) else f"{value.name}_{axis}"
                names[text] = name if name not in names.values() else f"{value.name}_{axis}"
    return names


@dataclass(frozen=True)
class _Live:
    """The module itself."""

    name: str
    module: Any
    call: Any
    outputs: tuple[str, ...]
    given: tuple[str, ...]

    def run(self, inputs: Values) -> Values:
        """Results by the ONNX model's names, and of innermost modules."""
        from sardonyx.convert.exporters import pytorch_export

        found = pytorch_export.run(self.module, self.call, inputs)
        return {dict(zip(self.given, self.outputs, strict=True)).get(key, key): value for key, value in found.items()}


def _read_live(source: Source, options: Options) -> Converted:
    found = base.require(PACKAGES, "torch", "exporting PyTorch modules")
    import torch

    from sardonyx.convert.exporters import pytorch_export as exporting

    module = source.object
    program = module if isinstance(module, torch.export.ExportedProgram) else None
    if program is None and not callable(getattr(module, "forward", module)):
        raise ConversionError("no module", where=source.where, expected="a torch.nn.Module or an exported program")
    if program is None and not options.example:
        raise ConversionError(
            "a module can only be traced with example arguments", where=source.where,
            fix="give them: sardonyx.convert(module, example=(torch.zeros(1, 3, 224, 224),))",
        )  # fmt: skip
    if program is not None:
        runnable, traced = program.module(), exporting.program_call(program)
    else:
        runnable, traced = module, exporting.call_of(getattr(module, "forward", module), options.example)
    with torch.no_grad(), exporting.evaluating(runnable):
        outputs = list(exporting.outputs_of(runnable(*traced.args, **traced.kwargs)))
    _require_names(options.outputs, outputs, source)
    with tempfile.TemporaryDirectory(prefix="sardonyx-") as folder:
        target = Path(folder) / "exported.onnx"
        if program is not None:
            facts = exporting.export_program(program, target)
        else:
            symbols = exporting.open_axes(traced, options.shapes, options.batch)
            facts = exporting.export(
                module,
                traced,
                symbols,
                target,
                strict=bool(options.shapes),
                accept=_other_sizes(module, traced, symbols),
            )
        facts |= {"inputs": list(traced.names), "outputs": outputs}
        model, layers = _finished(target, source, facts, options)
    names = tuple(value.name or "" for value in model.graph.outputs)
    oracle = _Live(f"torch {facts['version']}", runnable, traced, names, tuple(outputs))
    what = "program" if program is not None else "module"
    return _converted(model, layers, facts, found, f"PyTorch {what}", lambda: oracle, _examples(traced))


def _other_sizes(module: Any, traced: Any, symbols: list[dict[int, str]]) -> Callable[[Path], str | None]:
    """A check of an exporter's file: that it computes what the module does for other sizes than the example's.

    `torch.export` at times keeps the example's length inside (after an LSTM, say) though it is declared open.
    """
    examples = _examples(traced)
    random = np.random.default_rng(0)
    inputs = {
        name: _drawn(example, [size + 2 * (axis in axes) for axis, size in enumerate(example.shape)], random)
        for (name, example), axes in zip(examples.items(), symbols, strict=True)
    }

    def check(path: Path) -> str | None:
        from sardonyx.convert.exporters import pytorch_export
        from sardonyx.session import InferenceSession

        session = InferenceSession(str(path))
        names = [value.name for value in session.get_inputs()]
        taken = zip(session.get_inputs(), symbols, strict=True)
        fixed = any(isinstance(value.shape[axis], int) for value, axes in taken for axis in axes)
        if fixed or not any(symbols):
            return None
        try:
            wanted = list(pytorch_export.run(module, traced, inputs, inner=False).values())
        except Exception:
            return None
        try:
            found = session.run(None, dict(zip(names, inputs.values(), strict=True)))
        except SardonyxError as error:
            return f"its file fails for other sizes than the example's: {error}"
        same = len(found) == len(wanted) and all(map(_close, found, wanted))
        return None if same else "its file computes something else for other sizes than the example's"

    return check


def _close(found: Any, wanted: Array) -> bool:
    found = np.asarray(found)
    if found.shape != wanted.shape:
        return False
    scale = max(float(np.abs(wanted).max(initial=0)), 1e-6) if wanted.dtype.kind in "fc" else 1.0
    return np.allclose(found, wanted, rtol=1e-3, atol=1e-3 * scale, equal_nan=True)


def _converted(
    model: ir.Model,
    layers: Mapping[str, str],
    facts: Mapping[str, Any],
    found: Mapping[str, str],
    kind: str,
    oracle: Any,
    examples: Mapping[str, Array],
) -> Converted:
    return Converted(
        model,
        format=f"{kind} ({facts['version']})",
        route=f"PyTorch's {facts['exporter']} exporter ({base.described(found)})",
        oracles=(oracle,),
        layers=layers,
        notes=tuple(facts["notes"]),
        channels_last=frozenset(),
        make_inputs=_like(model, examples),
    )


def _examples(traced: Any) -> dict[str, Array]:
    return {
        name: tensor.detach().cpu().float().numpy() if tensor.is_floating_point() else tensor.cpu().numpy()
        for name, tensor in zip(traced.names, traced.tensors, strict=True)
    }


def _like(model: ir.Model, examples: Mapping[str, Array]) -> Any:
    """Inputs like the examples: floats of their spread, integers within their range (indices stay valid)."""
    if not examples:
        return None
    values = {value.name or "": value for value in model.graph.inputs}

    def make(batch: int, random: np.random.Generator) -> Values:
        made: dict[str, Array] = {}
        for name, example in examples.items():
            value = values.get(name)
            if value is None or value.shape is None or value.dtype is None:
                continue
            shape = [
                dim if isinstance(dim, int) else batch if axis == 0 else example.shape[axis]
                for axis, dim in enumerate(value.shape)
            ]
            made[name] = _drawn(example, shape, random).astype(value.dtype.numpy())
        return made

    return make


def _drawn(example: Array, shape: list[int], random: np.random.Generator) -> Array:
    if example.dtype.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    if example.dtype.kind in "iu":
        low, high = (int(example.min()), int(example.max())) if example.size else (0, 0)
        return random.integers(low, high + 1, shape).astype(example.dtype)
    spread = float(np.std(example)) if example.size > 1 else 0.0
    drawn = random.normal(float(np.mean(example)) if spread else 0.0, spread or 1.0, shape)
    return np.asarray(drawn, example.dtype)


def _read_file(source: Source, options: Options, kind: str) -> Converted:
    found = base.require(PACKAGES, "torch", "exporting PyTorch files", "torch")
    path = source.file().absolute()
    examples = _script_examples(source, options) if kind == "script" else []
    arrays = {f"example/{i}": array for i, array in enumerate(examples)}
    job = {
        "path": str(path),
        "kind": kind,
        "examples": len(examples),
        "shapes": {name: list(dims) for name, dims in options.shapes.items()} if kind == "script" else {},
        "batch": options.batch,
    }
    with tempfile.TemporaryDirectory(prefix="sardonyx-") as folder:
        target = Path(folder) / "exported.onnx"
        facts, _ = call(
            DRIVER, job | {"do": "export", "target": str(target)}, arrays, timeout=options.timeout, framework="torch",
            doing=f"PyTorch's exporter on {source.where}",
        )  # fmt: skip
        model, layers = _finished(target, source, facts, options)
    given = dict(zip(facts["outputs"], [value.name or "" for value in model.graph.outputs], strict=True))
    oracle = _Driven(f"torch {found['torch']}", job | {"do": "run"}, arrays, given, options.timeout)
    shown = dict(zip(facts["inputs"], examples, strict=True)) if kind == "script" else {}
    what = "torch.export program" if kind == "program" else "TorchScript archive"
    return _converted(model, layers, facts, found, what, lambda: _usable(oracle), shown)


@dataclass(frozen=True)
class _Driven:
    """PyTorch in a process of its own."""

    name: str
    job: Mapping[str, Any]
    arrays: Mapping[str, Array]
    given: Mapping[str, str]
    timeout: float

    def run(self, inputs: Values) -> Values:
        """Results by the ONNX model's names."""
        driven = SubprocessOracle(self.name, DRIVER, self.job, self.timeout, "torch")
        return {self.given.get(key, key): value for key, value in driven.run({**self.arrays, **inputs}).items()}


def _usable(oracle: _Driven) -> Oracle | None:
    return oracle if versions(("torch",), "torch") else None


def _blank(tensor: Any, source: Source) -> Array:
    """Zeros like an argument of a traced archive, which keeps their types and shapes, not their elements."""
    if not isinstance(tensor, Tensor) or math.prod(tensor.shape) > _EXAMPLE_LIMIT:
        raise ConversionError(
            "an argument that the archive was traced with is no tensor", where=source.where,
            fix="give tensors: example=(array, ...)",
        )  # fmt: skip
    return np.zeros(tensor.shape, tensor.dtype)


def _script_examples(source: Source, options: Options) -> list[Array]:
    """Arguments to trace an archive with: given, of the shapes asked for, or those it was traced with itself."""
    if options.example:
        return [np.asarray(getattr(value, "numpy", lambda value=value: value)()) for value in options.example]
    if options.shapes:
        return [
            np.zeros([dim if isinstance(dim, int) else _OPEN for dim in dims], np.float32)
            for dims in options.shapes.values()
        ]
    with opened(source.file()) as archive:
        names = [name for name in archive.namelist() if name.endswith("/traced_inputs.pkl") and name.count("/") == 1]
        if names:
            data = member(archive, names[0], _EXAMPLE_LIMIT, source.where)
            kept = run(Cursor(data, source.where))
            tensors = kept.get("forward") if isinstance(kept, dict) else None
            return [_blank(tensor, source) for tensor in tensors or ()]
    raise ConversionError(
        "a scripted module says nothing of its inputs' shapes", where=source.where,
        fix="give them in order: shapes={'x': (None, 3, 224, 224)}, or example=(array, ...)",
    )  # fmt: skip
