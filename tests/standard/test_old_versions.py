"""Every version of every operator of ai.onnx that a newer one replaced.

A case of onnx's suite that has the operator is brought down to the version (`sardonyx.model.opset`), checked by onnx,
and must compute what the suite recorded for the newest. What no case reaches stands in `OTHERS`, or is left to chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

import sardonyx
from sardonyx.model.opset import convert_opset
from sardonyx.model.shapes import infer_shapes
from tests.suites.case import Array, Case, floats, node
from tests.suites.onnx_backend import Case as Recorded
from tests.suites.onnx_backend import assert_same, cases

CHANCE = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""test_chance.py has them, by versions."""


def _replaced() -> dict[tuple[str, int], int]:
    """Operator and version: the last opset that has it. Of those that no model may use any more there are none."""
    versions: dict[str, list[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "" and schema.support_level != onnx.defs.OpSchema.SupportType.EXPERIMENTAL:
            versions.setdefault(schema.name, []).append(schema.since_version)
    return {
        (op, version): later - 1
        for op, every in versions.items()
        for version, later in pairwise(sorted(every))
        if not onnx.defs.get_schema(op, version, "").deprecated
    }


REPLACED = _replaced()


@cache
def _by_operator() -> dict[str, list[Recorded]]:
    """The suite's node cases, smallest first."""
    found: dict[str, list[Recorded]] = {}
    for case in sorted(cases().values(), key=lambda case: case.kind):
        if case.kind == "node":
            for op in {one.op_type for one in case.model.graph.node}:
                found.setdefault(op, []).append(case)
    return {op: sorted(some, key=lambda case: int(case.model.ByteSize())) for op, some in found.items()}


def _plain(case: Recorded) -> tuple[onnx.ModelProto, dict[str, Any], Any]:
    feeds, expected = next(iter(case.feeds))
    return case.model, feeds, expected


def _frozen(case: Recorded) -> tuple[onnx.ModelProto, dict[str, Any], Any]:
    """All inputs but the first as constants, which older versions want as attributes."""
    feeds, expected = next(iter(case.feeds))
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    for value in case.model.graph.input[1:]:
        if isinstance(feeds[value.name], np.ndarray):
            model.graph.initializer.append(numpy_helper.from_array(feeds[value.name], value.name))
            model.graph.input.remove(value)
    kept = {value.name for value in model.graph.input}
    return model, {name: array for name, array in feeds.items() if name in kept}, expected


def _brought(model: onnx.ModelProto, op: str, version: int, opset: int) -> onnx.ModelProto | str:
    """The model in an opset, or why it cannot be; the operator must be there, in its version."""
    made = infer_shapes(ir.from_proto(model))
    obstacles = convert_opset(made, opset)
    if obstacles:
        return obstacles[0].reason
    proto = ir.to_proto(made)
    versions = {onnx.defs.get_schema(op, opset, "").since_version for one in proto.graph.node if one.op_type == op}
    return proto if version in versions else "other operators stand for it"


def _found(op: str, version: int, opset: int) -> tuple[onnx.ModelProto, dict[str, Any], Recorded, Any]:
    reasons: Counter[str] = Counter()
    for case in _by_operator().get(op, ()):
        for form in (_plain, _frozen):
            model, feeds, expected = form(case)
            proto = _brought(model, op, version, opset)
            if isinstance(proto, onnx.ModelProto):
                return proto, feeds, case, expected
            reasons[proto] += 1
    pytest.fail(f"no case of the suite reaches it: {reasons.most_common(3)}")


def _rows() -> Iterator[tuple[str, int]]:
    return (row for row in REPLACED if row not in OTHERS and row[0] not in CHANCE)


def _picture(pooled: Callable[[Array], Array]) -> Callable[..., Array]:
    return lambda x, *_: pooled(x.astype(np.float64))


def _norm(p: int) -> Callable[..., Array]:
    return _picture(lambda x: (np.abs(x) ** p).sum((2, 3), keepdims=True) ** (1 / p))


def _sloped(x: Array, slopes: Array) -> Array:
    return np.where(x < 0, x * slopes[:, None, None], x)


def _cropped(x: Array, regions: Array) -> Array:
    """The largest element of each half of the whole picture, for regions that are whole pictures."""
    return np.stack([
        np.stack([x[int(region[0]), :, :2].max((1, 2)), x[int(region[0]), :, 2:].max((1, 2))], 1)[..., None]
        for region in regions
    ])  # fmt: skip


PICTURE = floats(2, 4, 4, 6)
REGIONS = np.array([[1, 0, 0, 5, 3], [0, 0, 0, 5, 3]], np.float32)
SLOPES = floats(4)
OPTIONAL = helper.make_optional_type_proto(helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [2, 4, 4, 6]))

OTHERS: dict[tuple[str, int], tuple[Case, Callable[..., Array]]] = {
    ("GlobalLpPool", 1): (Case("", [node("GlobalLpPool", "x", p=3.0)], {"x": PICTURE}), _norm(3)),
    ("GlobalLpPool", 2): (Case("", [node("GlobalLpPool", "x", p=1)], {"x": PICTURE}), _norm(1)),
    ("MaxRoiPool", 1): (
        Case("", [node("MaxRoiPool", "x r", pooled_shape=[2, 1])], {"x": PICTURE, "r": REGIONS}),
        _cropped,
    ),
    ("Optional", 15): (
        Case("", [node("Optional", "x", "o"), node("OptionalGetElement", "o")], {"x": PICTURE}),
        lambda x: x,
    ),
    ("OptionalHasElement", 15): (
        Case(
            "",
            [
                node("Optional", "x", "o"),
                node("OptionalHasElement", "o", "h"),
                node("Optional", "", "n", type=OPTIONAL.optional_type.elem_type),
                node("OptionalHasElement", "n", "m"),
                node("Xor", "h m", "one"),
                node("Cast", "one", to=onnx.TensorProto.FLOAT),
            ],
            {"x": PICTURE},
        ),
        lambda x: np.float32(1),
    ),
    ("PRelu", 1): (Case("", [node("PRelu", "x s")], {"x": PICTURE}, {"s": SLOPES}), _sloped),
    ("PRelu", 6): (Case("", [node("PRelu", "x s")], {"x": PICTURE}, {"s": SLOPES[:1]}), _sloped),
    ("Pad", 1): (
        Case("", [node("Pad", "x", mode="reflect", paddings=[0, 0, 1, 2, 0, 0, 3, 0])], {"x": PICTURE}),
        lambda x: np.pad(x, [(0, 0), (0, 0), (1, 3), (2, 0)], mode="reflect"),
    ),
    ("Pad", 2): (
        Case("", [node("Pad", "x", value=0.5, pads=[0, 1, 1, 2, 0, 0, -3, 0])], {"x": PICTURE}),
        lambda x: np.pad(x, [(0, 0), (1, 0), (1, 0), (2, 0)], constant_values=0.5)[:, :, :-3],
    ),
    ("Resize", 10): (
        Case("", [node("Resize", "x s")], {"x": PICTURE}, {"s": np.array([1, 1, 0.5, 1.5], np.float32)}),
        lambda x, _: x[:, :, ::2][..., [0, 0, 1, 2, 2, 3, 4, 4, 5]],
    ),
}


@pytest.mark.parametrize(("op", "version"), sorted(_rows()), ids=str)
def test_cases_of_the_suite(op, version):
    proto, feeds, case, expected = _found(op, version, REPLACED[op, version])
    onnx.checker.check_model(proto)
    assert_same(case, sardonyx.InferenceSession(proto).run(None, feeds), expected)


@pytest.mark.parametrize(("op", "version"), sorted(OTHERS), ids=str)
def test_other_forms(op, version):
    case, definition = OTHERS[op, version]
    expected = definition(*case.feeds.values(), *case.weights.values())
    model = Case("", case.nodes, case.feeds, case.weights, REPLACED[op, version]).model(infer=False)
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, expected.shape)
    model.graph.output[0].CopyFrom(result)
    onnx.checker.check_model(model)
    (got,) = sardonyx.InferenceSession(model).run(None, case.feeds)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
