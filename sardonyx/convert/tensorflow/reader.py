"""From TensorFlow's files to a graph with its values and ports, and that as ONNX."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from sardonyx.convert.base import Converted, Options, Source
from sardonyx.convert.tensorflow import recognise
from sardonyx.convert.tensorflow.bundle import Bundle
from sardonyx.convert.tensorflow.graph import Endpoint, Graph, from_message
from sardonyx.convert.tensorflow.ports import ports
from sardonyx.convert.tensorflow.schema import schema
from sardonyx.convert.tensorflow.tensors import D, data_type, dims
from sardonyx.convert.tensorflow.variables import Values
from sardonyx.convert.tensorflow.writing import Port, UnknownOperatorsError, convert_graph
from sardonyx.errors import ConversionError, MissingExtraError, ModelFileError

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True)
class Loaded:
    """A graph with its values, from where to where it goes, and how TensorFlow would load it (for the oracle)."""

    graph: Graph
    inputs: list[Port]
    outputs: list[Port]
    format: str
    how: Mapping[str, Any]
    metadata: Mapping[str, str] = field(default_factory=dict)


def read(source: Source, options: Options) -> Converted:
    """The source as ONNX. Raises ConversionError and ModelFileError."""
    if source.path is None:
        return _live(source, options)
    loaded = load(source, options)
    return finish(loaded, source, options)


def finish(loaded: Loaded, source: Source, options: Options) -> Converted:
    """A loaded graph as ONNX, with its oracles."""
    from sardonyx.convert.tensorflow.oracle import oracles

    try:
        written = convert_graph(loaded.graph, loaded.inputs, loaded.outputs, options, name=_name(source))
    except UnknownOperatorsError as error:
        from sardonyx.convert.tensorflow.takeover import takeover

        return takeover(loaded, options, error)
    return Converted(
        written.model,
        loaded.format,
        oracles=oracles(loaded, written.layers, written.moved, options),
        layers=written.layers,
        metadata=loaded.metadata,
        notes=written.notes,
    )


def _name(source: Source) -> str:
    return source.stem.strip(".") or source.file().resolve().parent.name or "graph"


def load(source: Source, options: Options) -> Loaded:
    """The graph in a file or folder."""
    try:
        return _load(source, options)
    except (UnicodeDecodeError, TypeError, AttributeError) as error:  # Texts that are not UTF-8 come as bytes.
        raise ModelFileError("the file is damaged", where=source.where, got=str(error)[:200]) from error


def _load(source: Source, options: Options) -> Loaded:
    kind = recognise.kind(source)
    if kind == recognise.SAVED_MODEL:
        return _saved_model(source, options)
    if kind == recognise.CHECKPOINT:
        return _checkpoint(source, options)
    return _frozen(source, options, text=kind == recognise.GRAPH_TEXT)


def _frozen(source: Source, options: Options, *, text: bool) -> Loaded:
    data = _bytes(source.file())
    if text:
        message = schema().parse_text(data.decode(errors="replace"), "GraphDef", source.where)
    else:
        message = schema().parse(data, "GraphDef", source.where)
    graph = from_message(message, source.where)
    inputs, outputs = ports(graph, options)
    how = {"kind": "graph", "path": str(source.file().resolve()), "text": text}
    return Loaded(graph, inputs, outputs, f"TensorFlow GraphDef (producer {graph.producer})", how)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError("the file cannot be read", where=str(path), got=error.strerror) from error


# Checkpoints ----------------------------------------------------------------------------------------------------------


def _checkpoint(source: Source, options: Options) -> Loaded:
    meta = _meta_path(source.file())
    message = schema().parse(_bytes(meta), "MetaGraphDef", str(meta))
    bundle = Bundle(meta.parent, meta.name[: -len(".meta")])
    graph = from_message(message.graph_def, str(meta))
    graph = replace(graph, values=Values(graph, bundle, message.saver_def.restore_op_name or None))
    signature = options.signature if options.signature in message.signature_def else None
    if signature and not options.outputs:
        inputs, outputs = _signature_ports(message.signature_def[signature])
    else:
        inputs, outputs = ports(graph, options)
    how = {"kind": "checkpoint", "path": str(meta.resolve())}
    return Loaded(graph, inputs, outputs, _format("checkpoint", message), how)


def _format(what: str, message: Any) -> str:
    version = message.meta_info_def.tensorflow_version
    return f"TensorFlow {version} {what}" if re.fullmatch(r"[\w.+-]{1,40}", version) else f"TensorFlow {what}"


def _meta_path(path: Path) -> Path:
    """The `.meta` file of a checkpoint, from any of its files or its folder."""
    if path.is_dir():
        found = recognise.metas(path)
        if len(found) != 1:
            named = re.search(r'^model_checkpoint_path:\s*"([^"]*)"', _text(path / "checkpoint"), re.MULTILINE)
            wanted = f"{Path(named[1]).name if named else ''}.meta"
            found = [item for item in found if item.name == wanted]
        if not found:
            raise ConversionError(
                "the folder has no single checkpoint with a graph",
                where=str(path),
                expected="a .meta and an .index file",
            )
        return found[0]
    meta = path if path.name.endswith(".meta") else path.with_name(f"{path.name.removesuffix('.index')}.meta")
    if not meta.is_file():
        raise ConversionError(
            "the checkpoint has weights but no graph", where=str(path), expected=meta.name,
            fix="save the model with its graph: tf.train.Saver's .meta file, or a SavedModel",
        )  # fmt: skip
    return meta


def _text(path: Path) -> str:
    return _bytes(path)[:100_000].decode(errors="replace") if path.is_file() else ""


# SavedModels ----------------------------------------------------------------------------------------------------------


def _saved_model(source: Source, options: Options) -> Loaded:
    path = source.file()
    folder = path if path.is_dir() else path.parent
    file = path / "saved_model.pb" if path.is_dir() else path
    message = schema().parse(_bytes(file), "SavedModel", str(file))
    chosen = _tagged(message, options.tag, str(file))
    graph = from_message(chosen.graph_def, str(file))
    index = folder / "variables" / "variables.index"
    bundle = Bundle(index.parent, "variables") if index.is_file() else None
    graph = replace(graph, values=Values(graph, bundle, chosen.saver_def.restore_op_name or None))
    tags = list(chosen.meta_info_def.tags)
    how: dict[str, Any] = {"kind": "saved_model", "path": str(folder.resolve()), "tags": tags}
    if options.outputs:
        inputs, outputs = ports(graph, options)
    else:
        name = _signature(chosen, options.signature, str(file))
        inputs, outputs = _signature_ports(chosen.signature_def[name])
        how["signature"] = name
    return Loaded(graph, inputs, outputs, _format("SavedModel", chosen), how, {"tags": ",".join(tags)})


def _tagged(message: Any, tag: str | None, where: str) -> Any:
    graphs = message.meta_graphs
    if not len(graphs):
        raise ModelFileError("the SavedModel holds no graph", where=where)
    wanted = set((tag or "serve").split(","))
    fitting = [graph for graph in graphs if set(graph.meta_info_def.tags) == wanted]
    fitting = fitting or [graph for graph in graphs if wanted <= set(graph.meta_info_def.tags)]
    if fitting:
        return fitting[0]
    if tag is None and len(graphs) == 1:
        return graphs[0]
    there = "; ".join(",".join(graph.meta_info_def.tags) for graph in graphs)
    raise ConversionError(
        "the SavedModel has no graph with these tags", where=where, expected=f"one of {there}", got=tag
    )


def _signature(graph: Any, name: str | None, where: str) -> str:
    there = sorted(name for name in graph.signature_def if len(graph.signature_def[name].outputs))
    usable = [item for item in there if item != "__saved_model_init_op"]
    if name is None:
        if DEFAULT_SIGNATURE in usable or len(usable) == 1:
            return DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in usable else usable[0]
    elif name in usable:
        return name
    if not usable:
        raise ConversionError(
            "the SavedModel has no signatures, so nothing tells its inputs", where=where,
            fix="save it with signatures=..., or name inputs and outputs",
        )  # fmt: skip
    raise ConversionError(
        "the SavedModel has several signatures" if name is None else "the SavedModel has no such signature",
        where=where, expected=f"one of {', '.join(usable)}", got=name, fix="name one: signature",
    )  # fmt: skip


def _signature_ports(signature: Any) -> tuple[list[Port], list[Port]]:
    def port(name: str, info: Any) -> Port:
        kind = data_type(info.dtype)
        return Port(name, Endpoint.of(info.name), None if kind == D.UNDEFINED else kind, dims(info.tensor_shape))

    inputs = [port(name, signature.inputs[name]) for name in sorted(signature.inputs)]
    return inputs, [port(name, signature.outputs[name]) for name in sorted(signature.outputs)]


# Live objects ---------------------------------------------------------------------------------------------------------


def _live(source: Source, options: Options) -> Converted:
    """A tf.Module or tf.function: saved by TensorFlow to a folder for the time of the conversion, and read."""
    try:
        tf: Any = import_module("tensorflow")
    except ImportError as error:
        raise MissingExtraError.of("tensorflow", "tensorflow", "reading a live TensorFlow object") from error
    from sardonyx.convert.tensorflow.live import save

    with tempfile.TemporaryDirectory(prefix="sardonyx-") as name:
        folder = Path(name) / "model"
        oracle = save(tf, source.object, folder, options)
        loaded = load(Source(path=folder), replace(options, signature=None, tag=None))
        converted = finish(loaded, source, options)
        return replace(converted, oracles=[lambda: oracle, *converted.oracles[1:]])
