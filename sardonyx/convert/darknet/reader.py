"""From Darknet's sections to a model, and what the result is compared with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from sardonyx.convert.base import Converted, Options, Oracle, Source, Values
from sardonyx.convert.darknet.files import Files, Section, open_files
from sardonyx.convert.darknet.layers import DETECTIONS, LAYERS, Blocked, Call, Floats
from sardonyx.convert.graph import GraphBuilder
from sardonyx.convert.shaped import Problems, Tensor, Unsupported, finish
from sardonyx.errors import ConversionError

_HARMLESS = ("stopbackward", "onlyforward", "train_only_bn", "learning_rate_scale", "name", "dropblock", "probability",
             "dropblock_size_rel", "dropblock_size_abs", "dropout", "type", "burnin_update", "cost_type", "wait_stream",
             "stream", "grad_centr", "reverse_grad", "clip")  # fmt: skip
"""Options for training, or for the GPU."""


def read(source: Source, options: Options) -> Converted:
    """The network of `source` and its partner as ONNX."""
    files = open_files(source, options)
    graph = GraphBuilder(files.cfg.stem)
    problems = Problems(source.where, "replace them in the cfg")
    try:
        x = _input(graph, files.net, options)
    except Unsupported as error:
        raise ConversionError(f"[net] cannot be converted: {error}", where=source.where) from error
    results, floats = _emit(graph, files, x, problems)
    problems.check()
    if floats.at != len(floats.values):
        raise ConversionError(
            "the weights do not fit the network", where=str(files.binary),
            expected=f"{floats.at:,} floats", got=f"{len(floats.values):,}", fix="name the cfg that belongs to them",
        )  # fmt: skip
    named = {name(i, layer): result for i, (layer, result) in enumerate(zip(files.layers, results, strict=True))}
    chosen = options.outputs or output_names(files)
    outputs = [(key, tensor) for key in chosen if (tensor := named.get(key)) is not None]
    if len(outputs) != len(chosen):
        missing = ", ".join(set(chosen) - set(named))
        raise ConversionError("it has no such outputs", where=source.where, got=missing)
    model = finish(graph, outputs, batch=options.batch)
    made = {value.name for node in model.graph for value in node.outputs}
    return Converted(
        model, "Darknet", oracles=_oracles(files, chosen, options), make_inputs=_pictures(model),
        layers={key: key for key in named if key in made}, metadata=_metadata(files),
        notes=["pictures are RGB from 0 to 1"],
    )  # fmt: skip


def name(index: int, layer: Section) -> str:
    """What a layer is called."""
    return f"{layer.kind}_{index}"


def output_names(files: Files) -> tuple[str, ...]:
    """The last layer that is no cost, and all that detect."""
    last = max((i for i, layer in enumerate(files.layers) if layer.kind != "cost"), default=-1)
    return tuple(name(i, layer) for i, layer in enumerate(files.layers) if i == last or layer.kind in DETECTIONS)


def _input(graph: GraphBuilder, net: Section, options: Options) -> Tensor:
    sizes = [net.int(key, 0) for key in ("channels", "height", "width")]
    if not any(sizes):
        sizes = [net.int("inputs", 0)]
    given = options.shapes.get("data")
    batch: int | str = options.batch
    if given is not None:
        if len(given) != len(sizes) + 1 or list(given[1:]) != sizes:
            raise Unsupported(f"the input has the sizes {sizes}: set others in [net], since boxes depend on them")
        batch = given[0] if given[0] is not None else batch
    if any(not 0 < size < 2**20 for size in sizes):
        raise Unsupported(f"its sizes are {sizes}")
    value = graph.input("data", ir.DataType.FLOAT, [batch, *sizes])
    return Tensor(value, (batch if isinstance(batch, int) else None, *sizes))


def _emit(graph: GraphBuilder, files: Files, x: Tensor, problems: Problems) -> tuple[list[Tensor | None], Floats]:
    floats, results = Floats(files.weights, files.transposed), list[Tensor | None]()
    current: Tensor | None = x
    lost = False  # After a layer that is not known it is not known where the next one's weights begin.
    for index, layer in enumerate(files.layers):
        found: Tensor | None = None
        try:
            if layer.kind == "cost":
                found = current
            elif layer.kind not in LAYERS:
                raise Unsupported("layers of this kind are not supported")
            elif not lost and (current is not None or layer.kind == "route"):
                found = _layer(graph, files, index, current or x, results, floats)
        except Unsupported as error:
            problems.add(f"{name(index, layer)}", error)
            lost = True
        except Blocked:
            pass
        results.append(found)
        current = found
    return results, floats


def _layer(
    graph: GraphBuilder, files: Files, index: int, x: Tensor, results: list[Tensor | None], floats: Floats
) -> Tensor:
    layer = files.layers[index]
    result = LAYERS[layer.kind](Call(graph, name(index, layer), layer, files.net, index, x, results, floats))
    unread = set(layer.values) - layer.seen - set(_HARMLESS)
    if unread:
        raise Unsupported(f"options that are not supported: {', '.join(sorted(unread)[:10])}")
    return result


def _metadata(files: Files) -> dict[str, str]:
    """The classes of a .names file beside the cfg: the only one, with as many lines as the layers have classes."""
    counts = {layer.values.get("classes") for layer in files.layers if layer.kind in DETECTIONS}
    for file in sorted(files.cfg.parent.glob("*.names"))[:20]:
        if file.stat().st_size < 2**20:
            lines = file.read_text(errors="replace").split("\n")
            lines = [line.strip() for line in lines if line.strip()]
            if counts == {str(len(lines))}:
                return {"classes": "\n".join(lines)}
    return {}


def _pictures(model: ir.Model) -> Callable[[int, np.random.Generator], Values]:
    dims = list(model.graph.inputs[0].shape or ())

    def make(batch: int, rng: np.random.Generator) -> Values:
        shape = [dims[0] if isinstance(dims[0], int) else batch, *(dim for dim in dims[1:] if isinstance(dim, int))]
        return {"data": rng.uniform(0, 1, shape).astype(np.float32)}

    return make


def _oracles(files: Files, outputs: tuple[str, ...], options: Options) -> list[Callable[[], Oracle | None]]:
    def opencv() -> Oracle | None:
        from sardonyx.convert.darknet.opencv import oracle

        return oracle(files, outputs, options.timeout) if outputs == output_names(files) else None

    def evaluated() -> Oracle | None:
        from sardonyx.convert.darknet.evaluate import Evaluation

        return Evaluation(files, outputs)

    return [opencv, evaluated]
