"""Makes `import onnxruntime` mean `sardonyx.compat.onnxruntime`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, DistributionFinder
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from sardonyx.errors import SardonyxError

NAME = "onnxruntime"
VERSION = "1.32.0"
"""The version of onnxruntime whose interface this is."""
_HOME = "sardonyx.compat.onnxruntime"


def install_as_onnxruntime() -> None:
    """Make `import onnxruntime`, and of its modules, resolve to `sardonyx.compat.onnxruntime` in this process.

    That is so whether the real package is installed or not, and for what asks for its version or whether it is there.
    To be called before anything imports onnxruntime; calling it again does nothing. Other processes are not affected.

    Raises:
        SardonyxError: the real package is imported already.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    if NAME in sys.modules:
        raise SardonyxError(
            "the real onnxruntime is imported already",
            fix="call sardonyx.install_as_onnxruntime() before anything imports it",
        )
    sys.meta_path.insert(0, _Finder())


class _Alias(Loader):
    """Gives the module of another name, and leaves it as it is."""

    def __init__(self, target: str) -> None:
        self._target = target

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self._target)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # the import system has put the alias's in its place


class _Finder(DistributionFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != NAME:
            return None
        home = _HOME + fullname.removeprefix(NAME)
        found = find_spec(home)
        if found is None:
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: sardonyx.compat has the runtime only; docs/compat.md lists it",
                name=fullname,
            )
        spec = ModuleSpec(
            fullname, _Alias(home), origin=found.origin, is_package=found.submodule_search_locations is not None
        )
        spec.submodule_search_locations = found.submodule_search_locations
        spec.has_location = True
        return spec

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterable[Distribution]:
        return [_Metadata()] if context is None or context.name in (None, NAME) else []


class _Metadata(Distribution):
    """What `importlib.metadata.version("onnxruntime")` reads."""

    def read_text(self, filename: str) -> str | None:
        return f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n" if filename == "METADATA" else None

    def locate_file(self, path: str | os.PathLike[str]) -> Path:
        return Path(__file__).parent / path
