"""What each operator means to the compiler, one family a file. Importing the package fills the table."""

from sardonyx.ops import (
    convolution,
    elementwise,
    indexing,
    linear,
    normalization,
    pad,
    pooling,
    reduction,
    resize,
    sampling,
    selection,
    shape,
    transposed,
)
from sardonyx.ops.table import OPERATORS, Operator, operator_of

__all__ = [
    "OPERATORS",
    "Operator",
    "convolution",
    "elementwise",
    "indexing",
    "linear",
    "normalization",
    "operator_of",
    "pad",
    "pooling",
    "reduction",
    "resize",
    "sampling",
    "selection",
    "shape",
    "transposed",
]
