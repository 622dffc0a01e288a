"""What all wrapped exporters share: whether they are there, their file back as a model, and its repair."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sardonyx.convert.process import versions
from sardonyx.errors import ConversionError, MissingExtraError, SardonyxError

if TYPE_CHECKING:
    import onnx_ir as ir


_CLASSIFIERS = ("TreeEnsembleClassifier", "LinearClassifier", "SVMClassifier")


def require(packages: Sequence[str], extra: str, purpose: str, framework: str | None = None) -> dict[str, str]:
    """The versions of packages that `purpose` needs.

    Raises MissingExtraError, which names the extra, for the first that is not installed.
    """
    found = versions(packages, framework)
    for package in packages:
        if package not in found:
            raise MissingExtraError.of(package, extra, purpose)
    return found


def described(found: Mapping[str, str]) -> str:
    """Packages with their versions, for routes: `torch 2.13.0, onnxscript 0.7.2`."""
    return ", ".join(f"{package} {version.partition('+')[0]}" for package, version in found.items())


def loaded(path: Path, where: str) -> ir.Model:
    """The exporter's file as a model that needs it no more; functions inlined, at the newest opset, shapes repaired.

    Raises ConversionError where what it wrote is no valid model: then the exporter failed, whatever it said.
    """
    from onnx_ir.passes.common import InlinePass

    from sardonyx.convert.graph import released_versions
    from sardonyx.model.file import load
    from sardonyx.model.opset import raise_opset

    try:
        model = load(path)
        for graph in model.graphs():
            for tensor in graph.initializers.values():
                _hold(tensor)
        if model.functions:
            model = InlinePass()(model).model
        model = raise_opset(repaired(model), released_versions()[1])
    except SardonyxError as error:
        raise ConversionError("the exporter wrote a damaged model", where=where, got=str(error)) from error
    _refuse_unknown(model, where)
    return model


def _hold(value: ir.Value) -> None:
    """Read a tensor that lies in another file, which is about to go."""
    import onnx_ir as ir

    if isinstance(value.const_value, ir.ExternalTensor):
        value.const_value = ir.tensor(value.const_value.numpy().copy(), name=value.name)


def _refuse_unknown(model: ir.Model, where: str) -> None:
    """Exporters pass operators that they do not know through, under a domain of the framework."""
    import onnx

    known = {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft"}
    missing = sorted(
        {
            f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            for graph in model.graphs()
            for node in graph
            if node.domain not in known or (node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type))
        }
    )
    if missing:
        raise ConversionError(
            f"the exporter left operators that ONNX does not have: {', '.join(missing)}",
            where=where,
            fix="replace them in the source, or register them with the exporter",
        )


def repaired(model: ir.Model) -> ir.Model:
    """Declared shapes made true, in place: values inside are inferred anew, and a result's dim that inference does not
    tell stays only where it is symbolic or nothing that comes in is open."""
    import onnx_ir as ir

    from sardonyx.model.shapes import infer_shapes

    graph = model.graph
    shapes = [value.shape for value in graph.inputs if value.name not in graph.initializers]
    symbols = {dim.value for shape in shapes for dim in shape or () if not isinstance(dim, int)}
    is_open = bool(symbols) or None in shapes
    declared = [value.shape for value in graph.outputs]
    inputs = set(graph.inputs)
    for inner in model.graphs():
        for node in inner:
            for value in node.outputs:
                value.shape = None
            if node.op_type in _CLASSIFIERS and node.domain == "ai.onnx.ml" and node.outputs[1].dtype is None:
                node.outputs[1].type = ir.TensorType(ir.DataType.FLOAT)  # which inference does not tell of trees
    infer_shapes(model)
    for value, before in zip(graph.outputs, declared, strict=True):
        if value not in inputs:
            value.shape = _merged(value.shape, before, symbols, is_open=is_open)
    return model


def _merged(
    inferred: ir.Shape | None, declared: ir.Shape | None, symbols: set[str | None], *, is_open: bool
) -> ir.Shape | None:
    import onnx_ir as ir

    if declared is None or (inferred is not None and len(inferred) != len(declared)):
        return inferred
    if inferred is None:
        inferred = ir.Shape([None] * len(declared))
    dims: list[int | str | None] = []
    for new, old in zip(inferred, declared, strict=True):
        if isinstance(new, int) or (new.value is not None and new.value in symbols):
            dims.append(new if isinstance(new, int) else new.value)
        else:  # Names that inference makes up tell less than the exporter's.
            said = old if isinstance(old, int) else old.value
            dims.append(None if is_open and isinstance(said, int) else said)
    return ir.Shape(dims)


def name_batch(model: ir.Model, batch: int | str) -> None:
    """Say of tables' rows, the first dim of all inputs and outputs, what they are called, in place."""
    import onnx_ir as ir

    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is not None and len(value.shape):
            dims = [dim if isinstance(dim, int) else dim.value for dim in value.shape]
            value.shape = ir.Shape([batch, *dims[1:]])


def rename_symbols(model: ir.Model, names: Mapping[str, str]) -> None:
    """Give symbolic dims of inputs and outputs other names, in place; what was derived from them is forgotten."""
    import onnx_ir as ir

    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is not None:
            dims = [dim if isinstance(dim, int) else dim.value for dim in value.shape]
            value.shape = ir.Shape([names.get(dim, dim) if isinstance(dim, str) else dim for dim in dims])


def rename_values(values: Sequence[ir.Value], names: Sequence[str], graph: ir.Graph) -> None:
    """Give inputs or outputs these names, in place; whatever else had one moves aside."""
    wanted = dict(zip(values, names, strict=True))
    taken = set(names)
    for node in graph:
        for value in node.outputs:
            if value not in wanted and value.name in taken:
                value.name = f"{value.name}/inner"
    for other in [*graph.inputs, *graph.initializers.values()]:
        if other not in wanted and other.name in taken:
            if other.name in graph.initializers:
                held = graph.initializers.pop(other.name)
                held.name = f"{other.name}/inner"
                graph.initializers[held.name] = held
            else:
                other.name = f"{other.name}/inner"
    for index, (value, _) in enumerate(wanted.items()):
        value.name = f"\0{index}"
    for value, name in wanted.items():
        value.name = name


def scopes(model: ir.Model) -> dict[str, str]:
    """The last value of each innermost module of PyTorch, by the exporter's notes at nodes, which are then dropped:
    they hold lines of the user's sources."""
    last: dict[str, str] = {}
    for node in model.graph:
        notes = node.metadata_props
        path = _path(notes.get("pkg.torch.onnx.name_scopes", ""))
        if path and len(node.outputs) == 1 and "pkg.onnxscript.rewriter.rule_name" not in notes:
            last[path] = node.outputs[0].name or ""
        notes.clear()
    for graph in model.graphs():
        for value in [*graph.inputs, *graph.outputs, *graph.initializers.values()]:
            value.metadata_props.clear()
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    return {value: path for path, value in last.items()}


def _path(text: str) -> str | None:
    try:
        path: Any = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
    return path[-2] if isinstance(path, list) and len(path) > 1 and isinstance(path[-2], str) else None
