"""A classifier with text labels as one with the numbers 0, 1, ... for labels, and a LabelEncoder behind it.

The number of the best class can be found by native code; text cannot.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from sardonyx.passes.base import Miss, Pass, Rewrite
from sardonyx.passes.query import walk

_ML = "ai.onnx.ml"
_TEXTS = "classlabels_strings"
_NUMBERS = {
    "LinearClassifier": "classlabels_ints",
    "SVMClassifier": "classlabels_ints",
    "TreeEnsembleClassifier": "classlabels_int64s",
}
"""Classifiers, and the attribute in which each has whole numbers for labels."""


def _rewrites(model: ir.Model) -> Iterator[Rewrite | Miss]:
    version = model.graph.opset_imports.get(_ML, 1)
    for node in walk(model):
        if node.domain == _ML and node.op_type in _NUMBERS and _TEXTS in node.attributes:
            yield _split(node, version)


def _split(node: ir.Node, version: int) -> Rewrite | Miss:
    texts = list(node.attributes.get_strings(_TEXTS, ()))
    if len(texts) < 2:
        return Miss(node, "it has a single label, of which each runtime makes two in its own way")
    label = node.outputs[0]
    attributes = [attribute for name, attribute in node.attributes.items() if name != _TEXTS]
    attributes.append(ir.AttrInt64s(_NUMBERS[node.op_type], range(len(texts))))
    numbered = ir.Node(
        _ML, node.op_type, node.inputs, attributes, num_outputs=len(node.outputs), version=node.version, name=node.name
    )
    index = numbered.outputs[0]
    index.type, index.shape = ir.TensorType(ir.DataType.INT64), label.shape
    keys = {"classes_strings": texts} if version < 2 else {"keys_int64s": range(len(texts)), "values_strings": texts}
    encoder = ir.node("LabelEncoder", [index], keys, domain=_ML, version=node.version)
    encoder.outputs[0].type = ir.TensorType(ir.DataType.STRING)
    replaced = {label: encoder.outputs[0]}
    replaced |= dict(zip(node.outputs[1:], numbered.outputs[1:], strict=True))
    return Rewrite(node, f"{len(texts)} labels that are text", replaced, [numbered, encoder], remove=[node])


SPLIT_LABELS = Pass(
    name="split-labels",
    gain="Native code finds the class of a classifier whose labels are text.",
    placed="Among the first: it waits for nothing.",
    exact=True,
    rewrites=_rewrites,
)
