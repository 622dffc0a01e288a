"""tf2onnx in a process of its own, for graphs with operators that have no emitter here."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnx.checker

from sardonyx.convert.base import Converted, Options
from sardonyx.convert.process import call, versions
from sardonyx.convert.tensorflow.oracle import PACKAGES, oracles, places
from sardonyx.errors import ConversionError

if TYPE_CHECKING:
    from sardonyx.convert.tensorflow.reader import Loaded

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})


def takeover(loaded: Loaded, options: Options, reason: ConversionError) -> Converted:
    """The graph as tf2onnx writes it. Where that and TensorFlow are not installed, `reason` is raised.

    tf2onnx may end well with operators of TensorFlow in what it wrote; those are refused with ConversionError.
    """
    found = versions(("tf2onnx",), "tensorflow")
    if not found or not versions(PACKAGES, "tensorflow"):
        raise reason
    with tempfile.TemporaryDirectory(prefix="sardonyx-") as name:
        path = Path(name) / "model.onnx"
        arguments = {**loaded.how, **places(loaded), "target": str(path)}
        try:
            call(
                "sardonyx.convert.tensorflow.tf2onnx_process", arguments, timeout=options.timeout,
                framework="tensorflow", doing="tf2onnx",
            )  # fmt: skip
        except ConversionError as error:
            raise ConversionError(f"{reason.what}; {error.what}", where=reason.where, got=error.got) from reason
        proto = onnx.load(path)
    check(proto, loaded.graph.where)
    import onnx_ir as ir

    route = f"tf2onnx {found['tf2onnx']}, in a process of its own"
    return Converted(
        ir.from_proto(proto),
        loaded.format,
        route=route,
        oracles=oracles(loaded, {}, frozenset(), options),
        metadata=loaded.metadata,
        notes=[f"converted by {route}: {reason.what}"],
    )


def check(proto: onnx.ModelProto, where: str) -> None:
    """Raises ConversionError when the model has operators that are not ONNX's, or breaks its rules."""
    strange = sorted({f"{node.domain}.{node.op_type}".lstrip(".") for node in _nodes(proto.graph) if not _known(node)})
    if strange:
        raise ConversionError(f"tf2onnx passed on operators that are not ONNX's: {', '.join(strange)}", where=where)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:
        raise ConversionError("what tf2onnx wrote is no valid ONNX", where=where, got=str(error)[-300:]) from error


def _known(node: onnx.NodeProto) -> bool:
    domain = "" if node.domain == "ai.onnx" else node.domain
    return node.domain in DOMAINS and onnx.defs.has(node.op_type, domain)


def _nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    found = list(graph.node)
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                found += _nodes(inner)
    return found
