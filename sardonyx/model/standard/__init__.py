"""Operators of the standard defined by others of it, where the standard gives no definition itself: old forms, products
of quantised numbers, training. One function an operator, in a file a family.
"""

from sardonyx.model.standard import chance, deformed, gradient, old_forms, quantized, signal, training
from sardonyx.model.standard.table import STANDARD, definition_of

__all__ = [
    "STANDARD",
    "chance",
    "definition_of",
    "deformed",
    "gradient",
    "old_forms",
    "quantized",
    "signal",
    "training",
]
