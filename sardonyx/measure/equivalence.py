"""Do two model files compute the same? By a runtime that has no part in making them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sardonyx.errors import ExecutionError
from sardonyx.measure.inputs import random_inputs, specs
from sardonyx.model.file import load
from sardonyx.passes.verify import difference
from sardonyx.providers.base import Array

TOLERANCES = {"float16": 2e-2, "bfloat16": 1e-1, "float32": 2e-5, "float64": 1e-5}
"""The largest relative L2 difference of an output, by type: rounding in another order, and no more. (float64 models
often compute in float32 here and there.) Outputs of other types must be equal."""


@dataclass(frozen=True)
class Equivalence:
    """The largest relative L2 difference of any output, where it is, and what ran both models on which dims."""

    difference: float
    output: str
    same: bool
    evaluator: str
    dims: Mapping[str, int]


def compare(
    before: Path, after: Path, dims: Mapping[str, int] | None = None, seed: int = 0, *, reference: bool = False
) -> Equivalence | str:
    """Both files on the same made-up inputs, on onnxruntime without its optimisations, or onnx.reference where that is
    not installed, does not know an operator, or is asked for; the reason why not, if the first file runs on neither.

    Raises:
        ExecutionError: the second file fails where the first does not.
        InvalidInputError: no input has a dim that `dims` names.
    """
    reasons: list[str] = []
    for make in (_Reference,) if reference else (_OnnxRuntime, _Reference):
        try:
            ready = make(before), make(after)
        except Exception as error:  # whatever a runtime raises for a model it does not take
            reasons.append(f"{make.name}: {_line(error)}")
            continue
        for distinct in (True, False):
            feeds, chosen = _inputs(before, dims or {}, seed, distinct=distinct)
            try:
                want = ready[0].run(feeds)
            except Exception as error:
                reasons.append(f"{make.name}: {_line(error)}")
                continue
            try:
                have = ready[1].run(feeds)
            except Exception as error:
                raise ExecutionError(f"fails where the given model runs: {_line(error)}", where=str(after)) from error
            return _verdict(want, have, make.name, chosen)
    return "; ".join(dict.fromkeys(reasons))


def _verdict(want: Mapping[str, Any], have: Mapping[str, Any], evaluator: str, dims: Mapping[str, int]) -> Equivalence:
    worst, where, same = 0.0, "", True
    for name, value in want.items():
        other = have[name]
        if not isinstance(value, np.ndarray) or not isinstance(other, np.ndarray):
            continue  # sequences and maps are compared by what follows from them
        alike = value.shape == other.shape and value.dtype == other.dtype
        found = difference(value, other) if alike else float("inf")
        same &= found <= TOLERANCES.get(str(value.dtype), 0.0)
        if found > worst or not where:
            worst, where = max(worst, found), name
    return Equivalence(worst, where, same, evaluator, dims)


def _inputs(
    path: Path, dims: Mapping[str, int], seed: int, *, distinct: bool
) -> tuple[dict[str, Array], dict[str, int]]:
    """Made-up inputs. Open dims get sizes of their own, which tell a dim from another; or 1, which more models take."""
    from sardonyx.feeds import node_arg

    model = load(path)
    declared = [node_arg(value) for value in model.graph.inputs if value.const_value is None]
    names = dict.fromkeys(name for spec in specs(declared, dims, model) for name in spec.assumed)
    assumed = {name: 2 + index if distinct else 1 for index, name in enumerate(names)}
    chosen = {**assumed, **dims}
    return random_inputs(specs(declared, chosen, model), seed), chosen


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


class _OnnxRuntime:
    name = "onnxruntime"

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, feeds: dict[str, Array]) -> dict[str, Any]:
        names = [value.name for value in self._session.get_outputs()]
        return dict(zip(names, self._session.run(None, feeds), strict=True))


class _Reference:
    name = "onnx.reference"

    def __init__(self, path: Path) -> None:
        from onnx.reference import ReferenceEvaluator

        self._evaluator = ReferenceEvaluator(str(path))

    def run(self, feeds: dict[str, Array]) -> dict[str, Any]:
        with np.errstate(all="ignore"):
            return dict(zip(self._evaluator.output_names, self._evaluator.run(None, feeds), strict=True))
