"""Which masks are still there: since 3.8 Keras's MultiHeadAttention takes them off its inputs.

`MultiHeadAttention.call` clears the mask on the tensors it gets, so that layers that read them later find none. Which
layers are later is certain only where one depends on the other; elsewhere it is Keras's own order that decides, and
the model is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import onnx_ir as ir

from sardonyx.convert.keras import config as kc
from sardonyx.convert.keras.base import Tensor, UnsupportedError

Use = tuple[tuple[str, ...], str, int]
"""A call: the path of its network, the layer, which call of it."""


@dataclass
class MaskUse:
    """Who read a masked value, and who took its mask."""

    _after: dict[Use, set[Use]] = field(default_factory=dict)  # the calls that take a call's outputs
    _readers: dict[ir.Value, list[Use]] = field(default_factory=dict)
    _takers: dict[ir.Value, Use] = field(default_factory=dict)

    def enter(self, prefix: tuple[str, ...], network: kc.Network) -> None:
        """Note what depends on what in a network."""
        for call in network.calls:
            for ref in call.refs():
                after = self._after.setdefault((prefix, ref.layer, ref.call), set())
                after.add((prefix, call.layer, call.index))

    def seen(self, use: Use, *, taker: bool, told: bool) -> Callable[[Any], Any]:
        """Changes an argument of the call `use` to what it finds: its mask, or none. `taker`: it takes them off;
        `told`: it has the mask from its call. Raises UnsupportedError where the order is not certain."""

        def change(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor) or leaf.mask is None:
                return leaf
            gone = self._takers.get(leaf.value)
            if gone is not None and gone != use:
                if not told and not self._depends(use, gone):
                    raise UnsupportedError(
                        f"whether it still finds its input's mask, which {gone[1]!r} takes, is not known"
                    )
                leaf = replace(leaf, mask=None)
            elif taker:
                for reader in self._readers.get(leaf.value, ()):
                    if reader != use and not self._depends(use, reader):
                        raise UnsupportedError(f"whether {reader[1]!r} still finds the mask that it takes is not known")
                self._takers[leaf.value] = use
            if not told:
                self._readers.setdefault(leaf.value, []).append(use)
            return leaf

        return change

    def _depends(self, later: Use, earlier: Use) -> bool:
        found, left = {earlier}, [earlier]
        for use in left:  # grows while it is walked
            for after in self._after.get(use, set()) - found:
                found.add(after)
                left.append(after)
        return later in found
