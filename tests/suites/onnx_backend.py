"""onnx's backend suite as a table: a model, its inputs and the outputs onnx expects, for any provider.

All kinds: the single nodes, which onnx makes in memory, and the models that lie in its package.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx

KINDS = ("node", "simple", "real", "pytorch-converted", "pytorch-operator")


@dataclass(frozen=True)
class Case:
    name: str
    kind: str
    rtol: float
    atol: float
    made: onnx.ModelProto | None = field(repr=False, default=None)
    data_sets: Sequence[tuple[Sequence[Any], Sequence[Any]]] = field(repr=False, default=())
    path: Path | None = None

    @cached_property
    def model(self) -> onnx.ModelProto:
        return self.made if self.made is not None else onnx.load(self.path)

    @property
    def feeds(self) -> Iterator[tuple[dict[str, Any], Sequence[Any]]]:
        known = {tensor.name for tensor in self.model.graph.initializer}
        names = [value.name for value in self.model.graph.input if self.kind != "real" or value.name not in known]
        for inputs, outputs in self.data_sets or self._stored():
            yield dict(zip(names, map(_value, inputs), strict=False)), [_value(output) for output in outputs]

    def _stored(self) -> Iterator[tuple[list[Any], list[Any]]]:
        """What lies beside the model."""
        assert self.path is not None
        graph = self.model.graph
        if self.kind == "real":
            known = {tensor.name for tensor in graph.initializer}
            inputs = [_ramp(value) for value in graph.input if value.name not in known]
            yield inputs, [_read(_output(self.path, i), value) for i, value in enumerate(graph.output)]
            return
        for folder in sorted(self.path.parent.glob("test_data_set*")):
            yield _all(folder, "input", graph.input), _all(folder, "output", graph.output)


def _output(model: Path, index: int) -> Path:
    return model.with_name(f"{model.stem}_output_{index}.pb")


def _ramp(value: Any) -> Any:
    """What the light models are fed, as onnx's own runner makes it."""
    shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
    count = int(np.prod(shape))
    return (np.arange(count).reshape(shape) / count).astype(np.float32)


def _all(folder: Path, what: str, values: Sequence[Any]) -> list[Any]:
    count = len(list(folder.glob(f"{what}_*.pb")))
    return [_read(folder / f"{what}_{index}.pb", values[index]) for index in range(count)]


def _read(path: Path, value: Any) -> Any:
    if value.type.HasField("sequence_type"):
        return onnx.numpy_helper.to_list(onnx.SequenceProto.FromString(path.read_bytes()))
    if value.type.HasField("optional_type"):
        return onnx.numpy_helper.to_optional(onnx.OptionalProto.FromString(path.read_bytes()))
    return onnx.TensorProto.FromString(path.read_bytes())


def _value(data: Any) -> Any:
    """Cases hold types NumPy lacks as TensorProto."""
    return onnx.numpy_helper.to_array(data) if isinstance(data, onnx.TensorProto) else data


@cache
def cases() -> dict[str, Case]:
    """All cases of all kinds by name, in order of name. Making them takes a few seconds."""
    from onnx.backend.test.loader import load_model_tests

    with np.errstate(all="ignore"):
        found = [_case(one, kind) for kind in KINDS for one in load_model_tests(kind=kind)]
    return {case.name: case for case in sorted(found, key=lambda case: case.name)}


def _case(one: Any, kind: str) -> Case:
    if one.model is not None:
        return Case(one.name, kind, one.rtol, one.atol, one.model, one.data_sets)
    root = Path(onnx.__file__).parent
    path = Path(one.model_dir) / "model.onnx" if one.model_dir else root.parent / one.url
    return Case(one.name, kind, one.rtol, one.atol, path=path)


def sample(count: int) -> list[Case]:
    """`count` single nodes spread evenly over all of them, the same ones each time."""
    every = [case for case in cases().values() if case.kind == "node"]
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
    assert got.shape == expected.shape, f"{got.shape} where {expected.shape} is expected"
    if expected.dtype.kind in "OUST":
        assert got.ravel().tolist() == expected.ravel().tolist()
        return
    assert got.dtype == expected.dtype, f"{got.dtype} where {expected.dtype} is expected"
    rtol = case.rtol
    if expected.dtype.name == "bfloat16":
        rtol = max(rtol, 2.0**-6)  # as onnx's own runner
    if expected.dtype.kind == "V":  # bfloat16, float8, int4 and the like
        got, expected = got.astype(np.float32), expected.astype(np.float32)
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=case.atol)
