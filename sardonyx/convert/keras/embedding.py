"""Keras layers about tokens and masks: Embedding, Masking, CategoryEncoding; and Einsum and Dot products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from sardonyx.convert.keras.activations import fused_activation
from sardonyx.convert.keras.base import Emitter, Plan, Settings, Tensor, UnsupportedError, brief, text
from sardonyx.convert.keras.normalization import unit


def _embedding(options: Settings) -> Plan:
    """Rows of a table; with `mask_zero` index 0 is padding."""
    rows, width = options.integer("input_dim"), options.integer("output_dim")
    mask_zero = options.flag("mask_zero", False)

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        x = e.plain(inputs[0])
        weight = e.weight("embeddings", (rows, width))
        e.hints.indices(x.value, rows)
        # Keras takes any type of numbers and cuts off what is behind the point.
        ids = x if x.dtype in (ir.DataType.INT32, ir.DataType.INT64) else e.cast(x, ir.DataType.INT32)
        table = e.graph.initializer(weight.name, weight.array)
        y = e.tensor(e.node("Gather", [table, ids.value], axis=0), (*x.shape, width))
        if not mask_zero:
            return y
        e.hints.pads(x.value, 0)
        zero = e.constant("zero", 0, ids.dtype.numpy().type)
        equal = e.node("Equal", [ids.value, zero], tag="is_zero")
        return replace(y, mask=e.node("Not", [equal], tag="mask"))

    return Plan(emit, weights=("embeddings",), takes="anything", masking="own")


def _masking(options: Settings) -> Plan:
    """Steps whose elements all are `mask_value` are masked, and zero."""
    padding = options.number("mask_value", 0.0)

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        x = e.plain(inputs[0])
        if x.rank < 3:
            raise UnsupportedError(f"its input has the shape {text(x.shape)}, expected 3 dimensions or more")
        e.hints.pads(x.value, padding)
        equal = e.node("Equal", [x.value, e.constant("mask_value", padding)], tag="equal")
        given = e.node("Cast", [e.node("Not", [equal], tag="differs")], tag="given", to=int(ir.DataType.FLOAT))
        last = e.constant("last", [x.rank - 1], np.int64)
        some = e.node("ReduceMax", [given, last], tag="some")
        y = e.like(x, e.node("Mul", [x.value, some]))
        flat = e.node("Squeeze", [some, last], tag="steps")
        return replace(y, mask=e.node("Cast", [flat], tag="mask", to=int(ir.DataType.BOOL)))

    return Plan(emit, masking="own")


def _category_encoding(options: Settings) -> Plan:
    """Counts, or whether, each index occurs in a row of indices."""
    size = options.integer("num_tokens")
    mode = options.choice("output_mode", ("multi_hot", "one_hot", "count"), "multi_hot")

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        x = e.plain(inputs[0])
        e.hints.indices(x.value, size)
        ids = e.cast(x, ir.DataType.INT64)
        values = e.constant("values", [0.0, 1.0])
        hot = e.node("OneHot", [ids.value, e.constant("depth", size, np.int64), values], tag="hot", axis=-1)
        shape = (*x.shape, size)
        if mode == "one_hot":
            if x.shape[-1] == 1 and x.rank > 1:
                shape = (*x.shape[:-1], size)
                hot = e.node("Squeeze", [hot, e.constant("last", [x.rank - 1], np.int64)], tag="rows")
            return e.tensor(hot, shape)
        if x.rank < 2:
            raise UnsupportedError(f"its input has the shape {text(x.shape)}, expected 2 dimensions or more")
        over = e.constant("axes", [x.rank - 1], np.int64)
        reduce = "ReduceSum" if mode == "count" else "ReduceMax"
        return e.tensor(e.node(reduce, [hot, over], keepdims=0), (*x.shape[:-1], size))

    return Plan(emit, takes="anything")


def _einsum_dense(options: Settings) -> Plan:
    """`equation` of the input and a kernel, as in "ab,bc->ac"; an ellipsis stands for leading dimensions."""
    equation = options.get("equation")
    if not isinstance(equation, str) or len(equation) > 64:
        raise UnsupportedError(f"the option equation = {brief(equation)} is no equation")
    options.get("output_shape")
    bias_axes = options.get("bias_axes")
    finish = fused_activation(options)
    left, _, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != 2 or not result or not isinstance(bias_axes, str | None):
        raise UnsupportedError(f"the option equation = {brief(equation)} is not one of two terms")

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        x = e.plain(inputs[0])
        term = terms[0]
        if "..." in term:
            spare = x.rank - len(term.replace("...", ""))
            free = [letter for letter in "ABCDEFGH" if letter not in equation][: max(spare, 0)]
            term, wanted = term.replace("...", "".join(free)), result.replace("...", "".join(free))
        else:
            wanted = result
        if len(term) != x.rank or not set(wanted) <= set(term) | set(terms[1]):
            raise UnsupportedError(f"the equation {equation} does not fit an input of {text(x.shape)}")
        kernel = e.weight("kernel", [None] * len(terms[1]))
        sizes: dict[str, int | None] = dict(zip(terms[1], kernel.array.shape, strict=True))
        sizes = dict(zip(term, x.shape, strict=True)) | sizes
        shape = [sizes[letter] for letter in wanted]
        weight = e.graph.initializer(kernel.name, kernel.array)
        y = e.tensor(e.node("Einsum", [x.value, weight], equation=f"{term},{terms[1]}->{wanted}"), shape)
        if bias_axes:
            bias = e.weight("bias", [None] * len(bias_axes)).array
            order = [letter for letter in wanted if letter in bias_axes]
            spread = bias.transpose([bias_axes.index(letter) for letter in order])
            spread = spread.reshape([sizes[c] if c in bias_axes else 1 for c in wanted])
            y = e.tensor(e.node("Add", [y.value, e.constant("bias", spread)], tag="bias_add"), shape)
        return finish(e, y, "")

    return Plan(emit, weights=("kernel", "bias") if bias_axes else ("kernel",))


def _dot(options: Settings) -> Plan:
    """Products along one axis of each input, for each sample; with `normalize` of vectors of length 1."""
    axes, normalize = options.get("axes"), options.flag("normalize", False)
    pair = [axes, axes] if isinstance(axes, int) else axes
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(a, int) for a in pair):
        raise UnsupportedError(f"the option axes = {brief(axes)} is not one axis or two")
    least = 1e-7 if options.version[0] == 3 else 1e-6

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> Tensor:
        if len(inputs) != 2:
            raise UnsupportedError(f"it has {len(inputs)} inputs, expected 2")
        xs = [e.plain(x) for x in inputs]
        places = [x.axis(axis) for x, axis in zip(xs, pair, strict=True)]
        if 0 in places or any(x.rank > 6 for x in xs):
            raise UnsupportedError("the option axes names the batch")
        values = [x.value for x in xs]
        if normalize:
            values = [unit(e, v, [p], least, f"unit_{i}") for i, (v, p) in enumerate(zip(values, places, strict=True))]
        letters = ["a" + "".join(chr(98 + 8 * i + j) for j in range(1, x.rank)) for i, x in enumerate(xs)]
        terms = [s[:place] + "z" + s[place + 1 :] for s, place in zip(letters, places, strict=True)]
        result = "a" + "".join(term[1:].replace("z", "") for term in terms)
        dims = [dim for x, p in zip(xs, places, strict=True) for i, dim in enumerate(x.shape) if i not in (0, p)]
        shape = (xs[0].shape[0], *dims)
        flat = len(shape) == 1
        value = e.node("Einsum", values, tag="product" if flat else "", equation=f"{','.join(terms)}->{result}")
        if not flat:
            return e.tensor(value, shape)
        value = e.node("Unsqueeze", [value, e.constant("last", [1], np.int64)])
        return e.tensor(value, (*shape, 1))

    return Plan(emit, inputs=None)


EMBEDDING_LAYERS: dict[str, Callable[[Settings], Plan]] = {
    "CategoryEncoding": _category_encoding,
    "Dot": _dot,
    "EinsumDense": _einsum_dense,
    "Embedding": _embedding,
    "Masking": _masking,
}
