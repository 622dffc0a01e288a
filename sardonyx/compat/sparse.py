"""SparseTensor: values with the indices of one of three formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sardonyx.compat.choices import OrtSparseFormat
from sardonyx.compat.devices import OrtDevice, require_memory
from sardonyx.compat.elements import Array, array_type, tensor_name


@dataclass(frozen=True)
class SparseCooView:
    """Indices of COO: places in the flattened tensor [n], or coordinates [n, rank]."""

    _indices: Array

    def indices(self) -> Array:
        """They, int64."""
        return self._indices


@dataclass(frozen=True)
class SparseCsrView:
    """Indices of CSR: the column of each value, and where each row begins and the last one ends."""

    _inner: Array
    _outer: Array

    def inner(self) -> Array:
        """Columns, int64 [n]."""
        return self._inner

    def outer(self) -> Array:
        """Rows, int64 [rows + 1]."""
        return self._outer


@dataclass(frozen=True)
class SparseBlockSparseView:
    """Indices of blocks."""

    _indices: Array

    def indices(self) -> Array:
        """They, int32."""
        return self._indices


V = TypeVar("V", SparseCooView, SparseCsrView, SparseBlockSparseView)
_View = SparseCooView | SparseCsrView | SparseBlockSparseView


class SparseTensor:
    """A tensor given by its elements that are not zero. Make one with a `..._from_numpy`; arrays are not copied."""

    _shape: list[int]
    _values: Array
    _view: _View

    def __init__(self, sparse_tensor: SparseTensor) -> None:
        if not isinstance(sparse_tensor, SparseTensor):
            raise ValueError("`Provided object` needs to be of type `SparseTensor`")
        self._shape, self._values, self._view = sparse_tensor._shape, sparse_tensor._values, sparse_tensor._view

    @classmethod
    def _of(cls, shape: Sequence[int], values: Array, view: _View, device: OrtDevice) -> SparseTensor:
        require_memory(device)
        made = cls.__new__(cls)
        made._shape, made._values, made._view = [int(dim) for dim in shape], values, view
        return made

    @classmethod
    def sparse_coo_from_numpy(
        cls, dense_shape: Sequence[int], values: Array, coo_indices: Array, ort_device: OrtDevice
    ) -> SparseTensor:
        """`coo_indices`: int64, as many as `values` or `rank` for each."""
        size = coo_indices.size
        if size not in (len(values), 2 * len(values)):
            raise RuntimeError(f"Index size: {size} must be equal to or twice the values size: {len(values)}")
        return cls._of(dense_shape, values, SparseCooView(coo_indices), ort_device)

    @classmethod
    def sparse_csr_from_numpy(
        cls,
        dense_shape: Sequence[int],
        values: Array,
        inner_indices: Array,
        outer_indices: Array,
        ort_device: OrtDevice,
    ) -> SparseTensor:
        """`inner_indices`: the column of each value; `outer_indices`: where rows begin, [rows + 1]."""
        if len(dense_shape) != 2 or inner_indices.size != len(values):
            raise RuntimeError("a CSR tensor has two dimensions, and an inner index for each value")
        if len(values) and outer_indices.size != dense_shape[0] + 1:
            raise RuntimeError(f"outer indices: {outer_indices.size}, expected rows + 1: {dense_shape[0] + 1}")
        return cls._of(dense_shape, values, SparseCsrView(inner_indices, outer_indices), ort_device)

    @classmethod
    def blocksparse_from_numpy(
        cls, dense_shape: Sequence[int], values: Array, indices: Array, ort_device: OrtDevice
    ) -> SparseTensor:
        """`values`: blocks; `indices`: int32, where each block stands."""
        return cls._of(dense_shape, values, SparseBlockSparseView(indices), ort_device)

    def values(self) -> Array:
        """The elements that are not zero."""
        return self._values

    def as_coo_view(self) -> SparseCooView:
        """The indices; RuntimeError in another format."""
        return self._indices(SparseCooView, "COO")

    def as_csrc_view(self) -> SparseCsrView:
        """The indices; RuntimeError in another format."""
        return self._indices(SparseCsrView, "CSR(C)")

    def as_blocksparse_view(self) -> SparseBlockSparseView:
        """The indices; RuntimeError in another format."""
        return self._indices(SparseBlockSparseView, "BlockSparse")

    get_coo_data = as_coo_view
    get_csrc_data = as_csrc_view
    get_blocksparse_data = as_blocksparse_view

    def _indices(self, kind: type[V], name: str) -> V:
        if not isinstance(self._view, kind):
            raise RuntimeError(f"This sparse tensor does not contain {name} format")
        return self._view

    def to_cuda(self, ort_device: OrtDevice) -> SparseTensor:
        """RuntimeError: there is no such memory here."""
        raise RuntimeError("Cuda is not available in this build")

    def format(self) -> OrtSparseFormat:
        """Which of the formats."""
        kinds = {
            SparseCooView: OrtSparseFormat.ORT_SPARSE_COO,
            SparseCsrView: OrtSparseFormat.ORT_SPARSE_CSRC,
            SparseBlockSparseView: OrtSparseFormat.ORT_SPARSE_BLOCK_SPARSE,
        }
        return kinds[type(self._view)]

    def dense_shape(self) -> list[int]:
        """The dims of the whole tensor."""
        return list(self._shape)

    def data_type(self) -> str:
        """Such as `sparse_tensor(float)`."""
        return f"sparse_{tensor_name(array_type(self._values))}"

    def device_name(self) -> str:
        """`cpu`."""
        return "cpu"

    def dense(self) -> Array:
        """The whole tensor, zeros in the other places; RuntimeError for blocks, whose form is the reader's affair."""
        made = np.zeros(self._shape, self._values.dtype)
        match self._view:
            case SparseCooView(indices) if indices.size == len(self._values):
                made.reshape(-1)[indices.reshape(-1)] = self._values
            case SparseCooView(indices):
                made[tuple(indices.reshape(len(self._values), -1).T)] = self._values
            case SparseCsrView(inner, outer):
                rows = np.repeat(np.arange(len(outer) - 1), np.diff(outer))
                made[rows, inner] = self._values
            case _:
                raise RuntimeError("a block sparse tensor has no dense form here")
        return made

    def _get_c_tensor(self) -> SparseTensor:
        return self
