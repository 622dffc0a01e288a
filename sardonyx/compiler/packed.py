"""Weights in a kernel's layout: made once, kept in the cache, mapped from there by every process that needs them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.compiler.cache import ArrayCache, cache_folder, source_digest

if TYPE_CHECKING:
    import onnx_ir as ir

Array = np.ndarray[Any, Any]

_WORTH_A_FILE = 1 << 16
"""Bytes from which an array is kept on disk; smaller ones are packed sooner than found."""


@dataclass
class PackedWeights:
    """Packed weights of a session, shared by its programs. Without a cache they are kept in memory only.

    They go by the content of what they are made from, so models that share weights share files.
    """

    cache: ArrayCache | None = None
    arrays: dict[Hashable, Array] = field(default_factory=dict)

    def get(self, source: ir.TensorProtocol | Array, layout: tuple[Hashable, ...], make: Callable[[], Array]) -> Array:
        """The array that `make` packs out of `source` alone, read-only.

        `layout` tells all that shapes the result besides `source` and this package's code, in values whose repr
        says everything: the packing's name first, then sizes and strides.
        """
        from sardonyx.model.content import digest, release

        name = digest(source)
        key = (name, layout)
        found = self.arrays.get(key)
        if found is None:
            entry = f"{source_digest('model', 'passes', 'compiler', 'ops')}|{name.hex()}|{layout!r}"

            def released() -> Array:
                array = make()
                release(source)
                return array

            found = self.arrays[key] = self._kept(entry, source.nbytes, released)
        return found

    def _kept(self, entry: str, size: int, make: Callable[[], Array]) -> Array:
        if self.cache is None or size < _WORTH_A_FILE:
            return make()
        found = self.cache.get(entry)
        if found is None:
            made = make()
            if not self.cache.put(entry, made):
                return made
            del made  # the mapped file takes its place: pages of a file can be shared and given back
            found = self.cache.get(entry)
        return make() if found is None else found  # removed by somebody already


def session_weights() -> PackedWeights:
    """For a new session: on the cache of the knob `cache`."""
    return PackedWeights(ArrayCache(cache_folder("weights")))
