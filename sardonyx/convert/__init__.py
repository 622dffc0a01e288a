"""Models of other frameworks to ONNX: `sardonyx.convert(source, ...)`, and the names of the tools people know.

The package is callable, as `convert.api.convert` is. One folder or file a format; `formats` lists them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

_HOME: dict[str, str] = {
    "convert_catboost": "sardonyx.convert.names_trees",
    "convert_coreml": "sardonyx.convert.names",
    "convert_keras": "sardonyx.convert.names",
    "convert_libsvm": "sardonyx.convert.names_trees",
    "convert_lightgbm": "sardonyx.convert.names_trees",
    "convert_sklearn": "sardonyx.convert.names",
    "convert_tensorflow": "sardonyx.convert.names",
    "convert_xgboost": "sardonyx.convert.names_trees",
    "export_chainer": "sardonyx.convert.names_chainer",
}
"""Names that people know from keras2onnx, onnxmltools and others, and the modules they live in."""

__all__ = [*_HOME]  # noqa: PLE0604


class _Door(ModuleType):
    """The package as a function: `sardonyx.convert` is both a package of readers and what users call."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from sardonyx.convert.api import convert

        return convert(*args, **kwargs)


sys.modules[__name__].__class__ = _Door


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
