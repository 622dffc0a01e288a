"""What each operator means to the compiler, one family a file. Importing the package fills the table."""

from sardonyx.ops import convolution, elementwise, linear, pooling, reduction, shape
from sardonyx.ops.table import OPERATORS, Operator, operator_of

__all__ = [
    "OPERATORS",
    "Operator",
    "convolution",
    "elementwise",
    "linear",
    "operator_of",
    "pooling",
    "reduction",
    "shape",
]
