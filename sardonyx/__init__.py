"""Sardonyx: any model to ONNX, and run fast."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sardonyx.compat.install import install_as_onnxruntime
    from sardonyx.convert.api import convert
    from sardonyx.errors import (
        CompileError,
        ConfigError,
        ConversionError,
        DownloadError,
        ExecutionError,
        InvalidInputError,
        InvalidModelError,
        MissingExtraError,
        ModelFileError,
        ParityError,
        ProviderError,
        SardonyxError,
        UnsupportedOperatorError,
    )
    from sardonyx.feeds import NodeArg
    from sardonyx.model.custom import register_op, unregister_op
    from sardonyx.options import ExecutionMode, GraphOptimizationLevel, RunOptions, SessionOptions
    from sardonyx.providers.partition import Placement
    from sardonyx.session import (
        InferenceSession,
        ModelMetadata,
        get_all_providers,
        get_available_providers,
        get_device,
    )

    __version__: str

# Where each public name lives. It is imported when it is first asked for, so that `import sardonyx` is quick.
_HOME = {
    "CompileError": "errors",
    "ConfigError": "errors",
    "ConversionError": "errors",
    "DownloadError": "errors",
    "ExecutionError": "errors",
    "ExecutionMode": "options",
    "GraphOptimizationLevel": "options",
    "InferenceSession": "session",
    "InvalidInputError": "errors",
    "InvalidModelError": "errors",
    "MissingExtraError": "errors",
    "ModelFileError": "errors",
    "ModelMetadata": "session",
    "NodeArg": "feeds",
    "ParityError": "errors",
    "Placement": "providers.partition",
    "ProviderError": "errors",
    "RunOptions": "options",
    "SardonyxError": "errors",
    "SessionOptions": "options",
    "UnsupportedOperatorError": "errors",
    "get_all_providers": "session",
    "get_available_providers": "session",
    "get_device": "session",
    "install_as_onnxruntime": "compat.install",
    "register_op": "model.custom",
    "unregister_op": "model.custom",
}

__all__ = [
    "CompileError",
    "ConfigError",
    "ConversionError",
    "DownloadError",
    "ExecutionError",
    "ExecutionMode",
    "GraphOptimizationLevel",
    "InferenceSession",
    "InvalidInputError",
    "InvalidModelError",
    "MissingExtraError",
    "ModelFileError",
    "ModelMetadata",
    "NodeArg",
    "ParityError",
    "Placement",
    "ProviderError",
    "RunOptions",
    "SardonyxError",
    "SessionOptions",
    "UnsupportedOperatorError",
    "__version__",
    "convert",
    "get_all_providers",
    "get_available_providers",
    "get_device",
    "install_as_onnxruntime",
    "register_op",
    "unregister_op",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            value: Any = version("sardonyx")
        except PackageNotFoundError:  # A source tree that is not installed.
            value = "0+source"
    elif name == "convert":
        value = import_module(f"{__name__}.convert")  # a package that is callable
    elif name in _HOME:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
