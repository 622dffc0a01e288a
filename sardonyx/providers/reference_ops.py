"""Operators that onnx.reference lacks or computes otherwise than the specification says.

Its own Loop stacks scan outputs along an existing axis and takes an absent condition for false; its own Scan
knows axis 0 forwards only; its LRN fills as many channels as there are images; DequantizeLinear starts at opset 19;
Optional makes a list of what it is given, which nothing takes apart;
the others it does not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_scatter_elements import ScatterElements

Value = Any  # An array, or a Python list for an ONNX sequence.


def replacements(domain: str, version: int | None) -> list[type[OpRun]]:
    """The classes here that stand for operators of `domain` in opset `version`, named as those are."""
    version = version or 0
    if domain == "ai.onnx.ml":
        return [CategoryMapper, ZipMap]
    if domain:
        return []
    found = [GlobalLpPool, Loop, LRN, Optional, Scatter]
    if version >= 9:  # Scan-8 has a batch axis and is refused.
        found.append(Scan)
    if 10 <= version < 19:
        found.append(DequantizeLinear)
    return found


class _Control(OpRun):  # type: ignore[misc]
    """A node with a body that sees the values around it."""

    op_domain = ""

    def need_context(self) -> bool:
        return True

    def _scan_output(self, index: int, slices: list[Value], axis: int = 0) -> Value:
        """The slices of scan output `index` along a new axis.

        Without a single trip there is no slice to take type and shape from: the body's declaration is used,
        with 0 for a dimension it leaves open.
        """
        if slices:
            return np.stack(slices, axis)
        from onnx.helper import tensor_dtype_to_np_dtype

        declared = self.onnx_node.attribute[self._body_position()].g.output[index].type.tensor_type
        dims = [dim.dim_value for dim in declared.shape.dim]
        position = axis if axis >= 0 else axis + len(dims) + 1
        dims.insert(position, 0)
        return np.zeros(dims, tensor_dtype_to_np_dtype(declared.elem_type))

    def _body_position(self) -> int:
        return next(i for i, attribute in enumerate(self.onnx_node.attribute) if attribute.name == "body")


class Loop(_Control):
    """Loop-1 and later: both the trip count and the condition may be absent."""

    def _run(
        self,
        trips: Value = None,
        condition: Value = None,
        *carried: Value,
        context: dict[str, Value] | None = None,
        body: Any = None,
        attributes: dict[str, Any] | None = None,
        **_: Any,
    ) -> tuple[Value, ...]:
        names = body.input_names
        state = list(carried)
        scans: list[list[Value]] = [[] for _ in body.output_names[1 + len(state) :]]
        limit = None if trips is None else int(np.asarray(trips).item())
        going = True if condition is None else bool(np.asarray(condition).item())
        trip = 0
        while going and (limit is None or trip < limit):
            feed = {**(context or {}), names[0]: np.asarray(trip, np.int64), names[1]: np.asarray(True)}
            feed.update(zip(names[2:], state, strict=True))
            again, *results = body.run(None, feed, attributes=attributes)
            going = bool(np.asarray(again).item())
            state = results[: len(state)]
            for slices, value in zip(scans, results[len(state) :], strict=True):
                slices.append(value)
            trip += 1
        first = 1 + len(state)
        return (*state, *(self._scan_output(first + i, slices) for i, slices in enumerate(scans)))


class Scan(_Control):
    """Scan-9 and later: any axis, either direction."""

    def _run(
        self,
        *values: Value,
        context: dict[str, Value] | None = None,
        body: Any = None,
        num_scan_inputs: int = 0,
        scan_input_axes: Sequence[int] | None = None,
        scan_input_directions: Sequence[int] | None = None,
        scan_output_axes: Sequence[int] | None = None,
        scan_output_directions: Sequence[int] | None = None,
        attributes: dict[str, Any] | None = None,
        **_: Any,
    ) -> tuple[Value, ...]:
        states = len(values) - num_scan_inputs
        outputs = len(body.output_names) - states
        state, scanned = list(values[:states]), values[states:]
        in_axes = scan_input_axes or [0] * num_scan_inputs
        in_backward = scan_input_directions or [0] * num_scan_inputs
        out_axes = scan_output_axes or [0] * outputs
        out_backward = scan_output_directions or [0] * outputs
        steps = [np.moveaxis(value, axis, 0) for value, axis in zip(scanned, in_axes, strict=True)]
        if len({len(step) for step in steps}) != 1:
            raise ValueError(f"scan inputs of different lengths {[len(step) for step in steps]}")
        steps = [step[::-1] if back else step for step, back in zip(steps, in_backward, strict=True)]
        scans: list[list[Value]] = [[] for _ in range(outputs)]
        for slices_in in zip(*steps, strict=True):
            feed = {**(context or {}), **dict(zip(body.input_names, (*state, *slices_in), strict=True))}
            results = body.run(None, feed, attributes=attributes)
            state = results[:states]
            for slices, value in zip(scans, results[states:], strict=True):
                slices.append(value)
        for slices, back in zip(scans, out_backward, strict=True):
            if back:
                slices.reverse()
        stacked = [
            self._scan_output(states + i, slices, axis)
            for i, (slices, axis) in enumerate(zip(scans, out_axes, strict=True))
        ]
        return (*state, *stacked)


class DequantizeLinear(OpRun):  # type: ignore[misc]
    """DequantizeLinear-10 and -13: (x - zero_point) * scale in float32, per tensor or along `axis`."""

    op_domain = ""

    def _run(self, x: Value, scale: Value, zero_point: Value = None, axis: int | None = None, **_: Any) -> tuple[Value]:
        if scale.size > 1:
            along = [1] * x.ndim
            along[1 if axis is None else axis] = scale.size
            scale = scale.reshape(along)
            zero_point = None if zero_point is None else zero_point.reshape(along)
        wide = x.astype(np.int32) - (0 if zero_point is None else zero_point.astype(np.int32))
        return (wide.astype(np.float32) * scale.astype(np.float32),)


class Optional(OpRun):  # type: ignore[misc]
    """The value, or None for nothing."""

    op_domain = ""

    def _run(self, x: Value = None, type: Any = None, **_: Any) -> tuple[Value]:  # noqa: A002
        return (x,)

    @staticmethod
    def _check_and_fix_outputs(res: tuple[Value, ...]) -> tuple[Value, ...]:
        return res


class Scatter(ScatterElements):  # type: ignore[misc]
    """The first name of ScatterElements, opsets 9 and 10 and still defined."""

    op_domain = ""


class GlobalLpPool(OpRun):  # type: ignore[misc]
    """(sum over all spatial positions of |x|^p)^(1/p)."""

    op_domain = ""

    def _run(self, x: Value, p: float | None = None, **_: Any) -> tuple[Value]:
        power = 2.0 if p is None else float(p)
        axes = tuple(range(2, x.ndim))
        total = np.sum(np.abs(x.astype(np.float64)) ** power, axis=axes, keepdims=True)
        return ((total ** (1 / power)).astype(x.dtype),)


class LRN(OpRun):  # type: ignore[misc]
    """x / (bias + alpha / size * the sum of x^2 over `size` channels around) ^ beta."""

    op_domain = ""

    def _run(
        self, x: Value, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int = 1, **_: Any
    ) -> tuple[Value]:
        squares = x.astype(np.float64) ** 2
        channels, before = x.shape[1], (size - 1) // 2
        sums = np.zeros_like(squares)
        for channel in range(channels):
            window = slice(max(0, channel - before), channel - before + size)
            sums[:, channel] = squares[:, window].sum(axis=1)
        return ((x / (bias + alpha / size * sums) ** beta).astype(x.dtype),)


class ZipMap(OpRun):  # type: ignore[misc]
    """Rows of scores to dictionaries by class label."""

    op_domain = "ai.onnx.ml"

    def _run(
        self,
        x: Value,
        classlabels_int64s: Sequence[int] | None = None,
        classlabels_strings: Sequence[str] | None = None,
        **_: Any,
    ) -> tuple[Value]:
        labels = list(classlabels_int64s or classlabels_strings or ())
        rows = x.reshape(-1, x.shape[-1]).tolist()
        return ([dict(zip(labels, row, strict=True)) for row in rows],)


class CategoryMapper(OpRun):  # type: ignore[misc]
    """Strings to numbers or back, with a default for what is in no pair."""

    op_domain = "ai.onnx.ml"

    def _run(
        self,
        x: Value,
        cats_int64s: Sequence[int] | None = None,
        cats_strings: Sequence[str] | None = None,
        default_int64: int = -1,
        default_string: str = "_Unused",
        **_: Any,
    ) -> tuple[Value]:
        numbers, strings = list(cats_int64s or ()), list(cats_strings or ())
        if x.dtype.kind in "OUST":
            number_of = dict(zip(strings, numbers, strict=True))
            found = [number_of.get(item, default_int64) for item in x.ravel().tolist()]
            return (np.array(found, dtype=np.int64).reshape(x.shape),)
        string_of = dict(zip(numbers, strings, strict=True))
        texts = [string_of.get(item, default_string) for item in x.ravel().tolist()]
        return (np.array(texts, dtype=object).reshape(x.shape),)
