"""onnx's own node tests as a table: a model, its inputs and the outputs onnx expects, for any provider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx


@dataclass(frozen=True)
class Case:
    name: str
    model: onnx.ModelProto
    data_sets: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    rtol: float
    atol: float

    @property
    def feeds(self) -> list[tuple[dict[str, Any], Sequence[Any]]]:
        names = [value.name for value in self.model.graph.input]
        return [
            (dict(zip(names, map(_value, inputs), strict=True)), [_value(output) for output in outputs])
            for inputs, outputs in self.data_sets
        ]


def _value(data: Any) -> Any:
    """Cases hold types NumPy lacks as TensorProto."""
    return onnx.numpy_helper.to_array(data) if isinstance(data, onnx.TensorProto) else data


@cache
def cases() -> dict[str, Case]:
    """All node cases by name, in order of name. Making them takes a few seconds."""
    from onnx.backend.test.loader import load_model_tests

    with np.errstate(all="ignore"):
        found = [case for case in load_model_tests(kind="node") if case.model is not None and case.data_sets]
    return {
        case.name: Case(case.name, case.model, case.data_sets, case.rtol, case.atol)
        for case in sorted(found, key=lambda case: case.name)
    }


def sample(count: int) -> list[Case]:
    """`count` cases spread evenly over all of them, the same ones each time."""
    every = list(cases().values())
    return every[:: max(1, -(-len(every) // count))]


def assert_same(case: Case, got: Sequence[Any], expected: Sequence[Any]) -> None:
    """Outputs agree in number, type, shape and, within the case's own tolerance, value."""
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        _assert_value(case, one, other)


def _assert_value(case: Case, got: Any, expected: Any) -> None:
    if isinstance(expected, list | tuple):
        assert isinstance(got, list), f"{type(got)} for a sequence"
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            _assert_value(case, one, other)
        return
    if expected is None:
        assert got is None
        return
    expected = np.asarray(expected)
    assert isinstance(got, np.ndarray), type(got)
    assert got.shape == expected.shape
    if expected.dtype.kind in "OUST":
        assert got.ravel().tolist() == expected.ravel().tolist()
        return
    assert got.dtype == expected.dtype
    if expected.dtype.kind == "V":  # bfloat16, float8, int4 and the like
        got, expected = got.astype(np.float32), expected.astype(np.float32)
    np.testing.assert_allclose(got, expected, rtol=case.rtol, atol=case.atol)
