"""Einsum of two operands as a product of matrices.

TensorFlow's and JAX's layers are written with it. Letters in both operands and the result count batches, those missing
in the result are summed over, and each of the others belongs to the rows or the columns of the product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from sardonyx.passes.base import Miss, Pass, Rewrite
from sardonyx.passes.query import ONNX, known_shape, new_constant, walk


def _rewrites(model: ir.Model) -> Iterator[Rewrite | Miss]:
    for node in walk(model):
        if node.domain == ONNX and node.op_type == "Einsum":
            yield _lowered(node)


@dataclass
class _Made:
    """Nodes in order, and the constants they read."""

    nodes: list[ir.Node] = field(default_factory=list)
    constants: list[ir.Value] = field(default_factory=list)

    def transposed(self, value: ir.Value, letters: str, wanted: str) -> ir.Value:
        """The axes of `value`, which have `letters`, in the order `wanted`."""
        if letters == wanted:
            return value
        return self.add("Transpose", [value], {"perm": [letters.index(letter) for letter in wanted]})

    def reshaped(self, value: ir.Value, target: Sequence[int]) -> ir.Value:
        self.constants.append(new_constant(f"{value.name or 'einsum'}_shape", np.array(target, np.int64)))
        return self.add("Reshape", [value, self.constants[-1]])

    def add(self, op_type: str, inputs: Sequence[ir.Value], attributes: dict[str, list[int]] | None = None) -> ir.Value:
        self.nodes.append(ir.node(op_type, inputs, attributes))
        self.nodes[-1].outputs[0].type = inputs[0].type
        return self.nodes[-1].outputs[0]


def _lowered(node: ir.Node) -> Rewrite | Miss:
    terms = _terms(node.attributes.get_string("equation", ""))
    if terms is None or len(node.inputs) != 2:
        return Miss(node, "its equation is not of two operands, each letter once in each, and a result")
    left, right, result = terms
    a, b = node.inputs
    if a is None or b is None or any(_rank(value) != len(term) for value, term in ((a, left), (b, right))):
        return Miss(node, "the ranks of its operands are unknown, or not those of its equation")
    rows = [letter for letter in result if letter in left and letter not in right]
    columns = [letter for letter in result if letter in right and letter not in left]
    if rows and columns and result.index(columns[0]) < result.index(rows[0]):
        (a, left, rows), (b, right, columns) = (b, right, columns), (a, left, rows)
    made = _Made()
    value = _product(made, a, b, left, right, result)
    if isinstance(value, str):
        return Miss(node, value)
    last = made.nodes[-1]
    last.name = node.name
    return Rewrite(node, "is a MatMul", {node.outputs[0]: value}, made.nodes, made.constants, remove=[node])


def _terms(equation: str) -> tuple[str, str, str] | None:
    """The letters of both operands and the result, if each stands once in each and none is summed in one alone."""
    operands, arrow, result = equation.replace(" ", "").partition("->")
    left, comma, right = operands.partition(",")
    words = (left, right, result)
    if not arrow or not comma or not all(word.isalpha() and len(set(word)) == len(word) for word in words):
        return None
    alone = (set(left) ^ set(right)) - set(result)
    return None if alone or not set(result) <= set(left) | set(right) else words


def _rank(value: ir.Value) -> int | None:
    shape = known_shape(value)
    return None if shape is None else len(shape)


def _product(made: _Made, a: ir.Value, b: ir.Value, left: str, right: str, result: str) -> ir.Value | str:
    """The result, of rows from `a` and columns from `b`; or what stands in the way."""
    batch = "".join(letter for letter in result if letter in left and letter in right)
    summed = "".join(letter for letter in left if letter in right and letter not in result)
    rows = "".join(letter for letter in result if letter in left and letter not in right)
    columns = "".join(letter for letter in result if letter in right and letter not in left)
    sizes = {letter: size for value, word in ((a, left), (b, right))
             for letter, size in zip(word, known_shape(value) or (), strict=True) if size is not None}  # fmt: skip
    single = len(summed) == len(columns) == 1
    if not summed or (batch and not (single and len(rows) == 1)):
        return "nothing is summed over, or several axes of each batch are"
    if not single and not all(letter in sizes and sizes[letter] > 0 for letter in summed + columns):
        return "the sizes of the axes it makes one are unknown"
    a, b = made.transposed(a, left, batch + rows + summed), made.transposed(b, right, batch + summed + columns)
    if not single:  # no batches: the rows are what comes before
        inner, outer = (math.prod(sizes[letter] for letter in word) for word in (summed, columns))
        b = made.reshaped(b, [inner, outer])
        a = a if len(summed) == 1 else made.reshaped(a, [0] * len(rows) + [inner])
    value = made.add("MatMul", [a, b])
    if len(columns) != 1:
        value = made.reshaped(value, [0] * len(rows) + [sizes[letter] for letter in columns])
    return made.transposed(value, batch + rows + columns, result)


LOWER_EINSUM = Pass(
    name="lower-einsum",
    gain="Runtimes have fast products of matrices, few a fast Einsum; and other passes know what a product is.",
    placed="After constants are folded; before shapes are simplified, which merges the Reshapes it makes.",
    exact=False,
    rewrites=_rewrites,
)
