"""Imports put off until they are needed, for modules that a library imports and hardly uses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


class _Later(ModuleType):
    """Stands for a module; the first use of anything in it imports it."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:  # somebody else imports it meanwhile
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


@contextmanager
def put_off(*names: str) -> Iterator[None]:
    """What is imported in this block imports these modules only when it uses them.

    Afterwards they are imported by others as ever. Modules that are there already are left alone.
    """
    later = [_Later(name) for name in names if name not in sys.modules]
    sys.modules.update({module.__name__: module for module in later})
    try:
        yield
    finally:
        for module in later:
            if sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]
