"""Memory of large results, used again once their arrays are gone.

A new large array is memory that the system has not given yet: a page fault for each 4 KiB of it, which takes longer
than to write it. So results are views of blocks that stay here, and a block is used again when nobody else holds it:
CPython counts references, and every array over a block, and every view of such an array, refers to it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from sardonyx.compiler.layout import CACHE_LINE
from sardonyx.runtime.blueprint import address_of

Array = np.ndarray[Any, Any]

LARGE = 1 << 18
"""Bytes from which memory is kept: smaller arrays come from memory that the process has."""
_KEPT = 3
"""Runs for which a block stays unused: a caller may hold the results of one while it makes the next."""
_SPARE = 8
"""A block is an eighth larger than asked for, so that the next result, with a token more, fits in as well."""
_UNHELD = 3
"""References to a block that nobody else holds: its entry's, the argument's of `getrefcount`, and a local one."""


@dataclass
class _Block:
    """Memory that owns itself, where in it a cache line starts, and the newest run that used it."""

    memory: Array
    start: int
    run: int


class Results:
    """The blocks of one workspace, for one run at a time."""

    def __init__(self) -> None:
        self._blocks: list[_Block] = []
        self._run = 0

    def begin(self) -> None:
        """A new run: what was not used for some runs, and is not held, is given back."""
        self._run += 1
        self._blocks = [block for block in self._blocks if block.run >= self._run - _KEPT]

    def array(self, dims: tuple[int, ...], dtype: Any) -> Array:
        """An array of any contents."""
        size = prod(dims) * np.dtype(dtype).itemsize
        fits = (block for block in self._blocks if size + CACHE_LINE <= block.memory.size <= 2 * size + CACHE_LINE)
        for block in sorted(fits, key=lambda block: block.memory.size):
            memory = block.memory
            if sys.getrefcount(memory) == _UNHELD:
                block.run = self._run
                return np.ndarray(dims, dtype, memory, block.start)
        memory = np.empty(size + size // _SPARE + CACHE_LINE, np.uint8)
        block = _Block(memory, -address_of(memory) % CACHE_LINE, self._run)
        self._blocks.append(block)
        return np.ndarray(dims, dtype, memory, block.start)
