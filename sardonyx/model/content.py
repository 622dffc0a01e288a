"""What is in a tensor, found without keeping it in memory: a name for its content, its largest element."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
import xxhash

from sardonyx.model.external import release_array
from sardonyx.model.tensors import payload

Array = np.ndarray[Any, Any]

_PIECE = 1 << 18  # elements (bytes of a digest) looked at together; they stay in the processor's cache meanwhile
_DIGEST, _LARGEST = "sardonyx.digest", "sardonyx.largest"  # keys of a tensor's `meta`


class Derived(ir.LazyTensor):
    """A tensor that is computed from others whenever its elements are asked for, and known by what it comes from.

    `make` computes it from `source`; `recipe` names the computation with all that goes into it besides `source`.
    """

    def __init__(self, source: ir.TensorProtocol, make: Callable[[Array], Array], recipe: bytes) -> None:
        shape = ir.Shape([int(size) for size in source.shape.numpy()])
        super().__init__(lambda: ir.Tensor(make(source.numpy()), source.dtype, shape=shape), source.dtype, shape)
        self.source, self.recipe = source, recipe


def digest(source: ir.TensorProtocol | Array) -> bytes:
    """16 bytes that two tensors share only if they are of one type and shape and hold the same bytes.

    A tensor in a mapped file is read, at 10 GB/s if the system has it in memory, and does not stay resident.
    """
    if isinstance(source, np.ndarray):
        return _digest(source, source.dtype.str)
    found = source.meta.get(_DIGEST)
    if found is None:
        if isinstance(source, Derived):
            found = xxhash.xxh3_128_digest(digest(source.source) + source.recipe)
        else:
            found = _digest(payload(source), f"{source.dtype}{source.shape}")
        source.meta[_DIGEST] = found
    return bytes(found)


def _digest(elements: Array, kind: str) -> bytes:
    state = xxhash.xxh3_128(f"{kind}{elements.shape}".encode())
    for piece in _pieces(np.ascontiguousarray(elements).reshape(-1).view(np.uint8)):
        state.update(piece.data)
    return state.digest()


def largest(tensor: ir.TensorProtocol) -> float:
    """The largest magnitude of a float16, float32 or float64 tensor's elements: NaN if one is, 0 if there are none."""
    found = tensor.meta.get(_LARGEST)
    if found is None:
        found = 0.0
        for piece in _pieces(tensor.numpy().reshape(-1)):
            bounds = float(piece.max()), -float(piece.min())
            found = math.nan if math.isnan(found + bounds[0]) else max(found, *bounds)
        tensor.meta[_LARGEST] = found
    return float(found)


def release(source: ir.TensorProtocol | Array) -> None:
    """Let go of what reading it made resident, where it lies in a mapped file."""
    while isinstance(source, Derived):
        source = source.source
    elements = source.raw if isinstance(source, ir.Tensor) else source
    if isinstance(elements, np.ndarray):
        release_array(elements)


def _pieces(flat: Array) -> Iterator[Array]:
    for start in range(0, flat.size, _PIECE):
        piece = flat[start : start + _PIECE]
        yield piece
        release_array(piece)
    release_array(flat)  # the system maps pages around those that are touched
