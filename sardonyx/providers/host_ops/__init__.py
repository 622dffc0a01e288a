"""Operators that run in NumPy and Python: those of strings, sequences, maps and optionals. Importing fills it."""

from sardonyx.providers.host_ops import casts, contrib, maps, moves, sequences, strings, vectorizers
from sardonyx.providers.host_ops.table import HOST, HostOperator

__all__ = ["HOST", "HostOperator", "casts", "contrib", "maps", "moves", "sequences", "strings", "vectorizers"]
