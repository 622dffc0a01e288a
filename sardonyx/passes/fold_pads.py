"""Let a convolution or average pooling pad by itself what a Pad node padded with zeros before it.

MaxPool pads with minus infinity and integer convolutions with their zero point, so both keep their Pad.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from sardonyx.passes.base import Miss, Pass, Rewrite
from sardonyx.passes.query import ONNX, known_shape, opset, small_constant, walk


def _rewrites(model: ir.Model) -> Iterator[Rewrite | Miss]:
    version = opset(model)
    for node in walk(model):
        source = node.inputs[0] if node.inputs else None
        pad = source.producer() if source is not None else None
        if pad is None or (pad.op_type, pad.domain) != ("Pad", ONNX):
            continue
        if node.domain == ONNX and node.op_type in {"Conv", "AveragePool"}:
            yield _fold(node, pad, version)


def _fold(node: ir.Node, pad: ir.Node, version: int) -> Rewrite | Miss:
    rank = _rank(node)
    if rank is None:
        return Miss(node, "its rank is unknown")
    widths = _zero_pads(pad, version, rank)
    if isinstance(widths, str):
        return Miss(node, widths)
    begins, ends = widths[:rank], widths[rank:]
    if any(width < 0 for width in widths) or any(begins[:2] + ends[:2]):
        return Miss(node, "the Pad before it crops, or pads batch or channels")
    auto_pad = node.attributes.get_string("auto_pad", "NOTSET")
    if auto_pad not in {"NOTSET", "VALID"}:
        return Miss(node, f"it pads by itself, auto_pad {auto_pad}")
    own = list(node.attributes.get_ints("pads", ()) or [0] * (2 * rank - 4)) if auto_pad == "NOTSET" else None
    extra = [*begins[2:], *ends[2:]]
    total = [a + b for a, b in zip(own or [0] * len(extra), extra, strict=True)]
    changed: dict[str, int | list[int]] = {"pads": total}
    if node.op_type == "AveragePool":
        reason = _pool_obstacle(node, own, total)
        if reason:
            return Miss(node, reason)
        changed["count_include_pad"] = 1  # the Pad's zeros counted as elements
    kept = [a for a in node.attributes.values() if a.name not in changed and a.name != "auto_pad"]
    attributes = [*kept, *ir.convenience.convert_attributes(changed)]
    anew = ir.Node(
        ONNX,
        node.op_type,
        [pad.inputs[0], *node.inputs[1:]],
        attributes,
        name=node.name,
        version=node.version,
    )
    replace = {node.outputs[0]: anew.outputs[0]}
    return Rewrite(node, f"takes over {pad.name or 'the Pad'}", replace=replace, insert=[anew], remove=[node])


def _rank(node: ir.Node) -> int | None:
    """Rank of the input, which the weights or the kernel tell even where no shape is known."""
    if node.op_type == "AveragePool":
        kernel = node.attributes.get_ints("kernel_shape", None)
        return 2 + len(kernel) if kernel else None
    shape = known_shape(node.inputs[1])
    return len(shape) if shape is not None and len(shape) > 2 else None


def _zero_pads(pad: ir.Node, version: int, rank: int) -> list[int] | str:
    """Begin then end widths of every axis (ONNX Pad), or why this Pad cannot be taken over."""
    if pad.attributes.get_string("mode", "constant") != "constant":
        return "the Pad before it does not pad with a constant"
    given = _pad_arguments(pad, version)
    if given is None:
        return "the Pad before it has widths, a value or axes that are not constant"
    numbers, fill, axes = given
    if fill != 0.0:
        return "the Pad before it pads with other than zero"
    places = [axis % rank for axis in (range(rank) if axes is None else axes)]
    if len(numbers) != 2 * len(places) or len(set(places)) != len(places):
        return f"the Pad before it has {len(numbers)} widths for rank {rank}"
    widths = [0] * (2 * rank)
    for index, axis in enumerate(places):
        widths[axis], widths[rank + axis] = numbers[index], numbers[len(places) + index]
    return widths


def _pad_arguments(pad: ir.Node, version: int) -> tuple[list[int], float, list[int] | None] | None:
    """Widths, fill value and axes: attributes before version 11, since then inputs, here all constant."""
    if version < 11:
        widths = pad.attributes.get_ints("pads" if version > 1 else "paddings", None)
        return (list(widths), pad.attributes.get_float("value", 0.0), None) if widths is not None else None
    arrays = [small_constant(value) for value in pad.inputs[1:4]]
    if any(array is None and value is not None for array, value in zip(arrays, pad.inputs[1:4], strict=True)):
        return None
    numbers, fill, axes = [*arrays, None, None, None][:3]
    if numbers is None or (fill is not None and fill.size != 1):
        return None
    value = 0.0 if fill is None else float(fill.reshape(-1)[0])
    return [int(n) for n in numbers.flat], value, None if axes is None else [int(axis) for axis in axes.flat]


def _pool_obstacle(node: ir.Node, own: list[int] | None, total: list[int]) -> str | None:
    if node.attributes.get_int("ceil_mode", 0):
        return "it rounds its size up, where padding and overhang count differently"
    if own is not None and any(own) and not node.attributes.get_int("count_include_pad", 0):
        return "it leaves its own padding out of the mean"
    kernel = node.attributes.get_ints("kernel_shape", None) or ()
    if any(width >= kernel[index % len(kernel)] for index, width in enumerate(total)):
        return "padding of the kernel's size and more is not portable"
    return None


FOLD_PADS = Pass(
    name="fold-pads",
    gain="A Pad copies the whole activation only to surround it with zeros the next layer can assume.",
    placed="After shapes are constants; before normalisations are folded, into layers in their last form.",
    exact=True,
    rewrites=_rewrites,
)
