"""In which types rules see values of narrow types (`dtypes`): the same numbers, mostly in wider registers' types.

What lies in memory for such a value is of its own type where it came that way, such as a graph's input, and of its
register type where it was computed: rounded already, so that nothing rounds or widens it again before it leaves the
graph. A rule that only moves elements takes them as they are; every other one gets them widened, and what it makes is
rounded. So kernels compute in float32 and round once, and no rule or kernel need know of narrow types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.compiler.dims import hint
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.fuse import Operand, declared_type
from sardonyx.compiler.program import View

if TYPE_CHECKING:
    import onnx_ir as ir


def narrow_type(value: ir.Value | None) -> DType | None:
    """The value's type if it is a narrow one."""
    kind = declared_type(value) if value is not None else None
    return kind if kind is not None and kind.is_narrow else None


def is_widened(value: ir.Value, dtype: DType) -> bool:
    """Whether elements of this type are those of a value of a narrow type in its register type."""
    kind = narrow_type(value)
    return kind is not None and kind.register is dtype


@dataclass
class Forms:
    """Of one lowering. `moves` says whether a node's rule takes elements of every type; `values` are those so far;
    `convert` copies a view to another type.
    """

    moves: Callable[[ir.Node], bool]
    values: Mapping[ir.Value, Operand]
    dims: Callable[[ir.Value], tuple[int, ...]]
    convert: Callable[[View, DType, str], View]
    rounded: set[ir.Value] = field(default_factory=set)
    _now: Mapping[ir.Value, DType] = field(default_factory=dict)
    _made: dict[tuple[ir.Value, DType], Operand] = field(default_factory=dict)

    @contextmanager
    def seen_by(self, node: ir.Node) -> Iterator[None]:
        """What a node's rule sees while it runs."""
        outer, self._now = self._now, self._chosen(node)
        try:
            yield
        finally:
            self._now = outer

    def of(self, value: ir.Value) -> DType | None:
        """The type that the rule at work is to see; None: as it is."""
        return self._now.get(value)

    def seen(self, value: ir.Value, get: Callable[[ir.Value], Operand | None]) -> Operand | None:
        """What the rule at work sees; `get` gives what there is."""
        form = self._now.get(value)
        if form is None:
            return get(value)
        found = self._made.get((value, form))
        if found is None:
            found = get(value)
            if isinstance(found, np.ndarray):
                found = found.astype(form.numpy)
            elif found is not None and found.dtype is not form:
                found = self.convert(found, form, f"{value.name} as {form.value}")
            if found is not None:
                self._made[value, form] = found
        return found

    def replace(self, value: ir.Value, copied: View) -> bool:
        """Use a copy from now on where the rule at work sees another type; whether it does."""
        if value in self._now:
            self._made[value, copied.dtype] = copied
        return value in self._now

    def forget(self, value: ir.Value) -> None:
        """Drop an array made for the rule at work: it is large, and asked for once."""
        self._made.pop((value, self._now[value]), None) if value in self._now else None

    def unrounded(self, node: ir.Node) -> Iterator[tuple[ir.Value, DType, View | np.ndarray[Any, Any]]]:
        """The node's results of narrow types as a rule that computes left them."""
        for value in node.outputs:
            made, kind = self.values.get(value), narrow_type(value)
            if made is not None and kind is not None and value not in self.rounded and not self.moves(node):
                yield value, kind, made

    def _chosen(self, node: ir.Node) -> dict[ir.Value, DType]:
        """Register types or, if the rule only moves elements, what all of a type are already, or most of them."""
        found = {value: kind for value in node.inputs if value is not None and (kind := narrow_type(value)) is not None}
        if not self.moves(node):
            return {value: kind.register for value, kind in found.items()}
        sizes: dict[DType, dict[DType, int]] = {}
        for value, kind in found.items():
            made = self.values.get(value)
            totals, form = sizes.setdefault(kind, {}), made.dtype if isinstance(made, View) else kind
            totals[form] = totals.get(form, 0) + hint(prod(self.dims(value)))
        largest = {kind: max(totals, key=lambda form: totals[form]) for kind, totals in sizes.items()}
        return {value: largest[kind] for value, kind in found.items() if len(sizes[kind]) > 1}
