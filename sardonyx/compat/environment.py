"""What onnxruntime's module says about itself and this machine, and the settings of the process."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sardonyx.compat.choices import OrtHardwareDeviceType
from sardonyx.compat.devices import OrtArenaCfg, OrtEpDevice, OrtHardwareDevice, OrtMemoryInfo
from sardonyx.compat.install import NAME, VERSION
from sardonyx.compat.options import SessionOptions
from sardonyx.providers import registry

KNOWN_PROVIDERS = (
    *("TensorrtExecutionProvider", "CUDAExecutionProvider", "MIGraphXExecutionProvider", "OpenVINOExecutionProvider"),
    *("DnnlExecutionProvider", "VitisAIExecutionProvider", "QNNExecutionProvider", "NnapiExecutionProvider"),
    *("VSINPUExecutionProvider", "JsExecutionProvider", "CoreMLExecutionProvider", "DmlExecutionProvider"),
    *("RknpuExecutionProvider", "WebNNExecutionProvider", "WebGpuExecutionProvider", "XnnpackExecutionProvider"),
    *("CANNExecutionProvider", "AzureExecutionProvider", "CPUExecutionProvider"),
)
"""The names of onnxruntime's own providers, those of this build or not."""
_LEAST, _MOST = 0, 4  # severities: verbose to fatal

threads_of_all = 0
"""Threads of sessions without a pool of their own, by `set_global_thread_pool_sizes`; 0: as many as there are."""


def public_name(name: str) -> str:
    """The name of one of our providers in onnxruntime's style, if it has one."""
    return next((alias for alias in registry.get(name).aliases if alias.endswith("ExecutionProvider")), name)


def get_available_providers() -> list[str]:
    """Providers that can run on this machine and have to be asked for; the processor's last."""
    names = [public_name(name) for name in registry.available() if name not in registry.implied()]
    return sorted(names, key=lambda name: name == "CPUExecutionProvider")


def get_all_providers() -> list[str]:
    """Providers that onnxruntime knows, and those installed here."""
    return list(dict.fromkeys([*get_available_providers()[:-1], *KNOWN_PROVIDERS]))


def get_device() -> str:
    """The kind of device that sessions run on unless told otherwise."""
    return "CPU"


def get_build_info() -> str:
    """Who this is."""
    from sardonyx import __version__

    return f"ORT Build Info: sardonyx {__version__} behind the interface of onnxruntime {VERSION}"


def get_version_string() -> str:
    """The version of onnxruntime whose interface this is."""
    return VERSION


def has_collective_ops() -> bool:
    """No."""
    return False


def get_ep_devices() -> list[OrtEpDevice]:
    """The available providers, each on the processor."""
    return [OrtEpDevice(name, "Sardonyx", processor()) for name in get_available_providers()]


def get_hardware_devices() -> list[OrtHardwareDevice]:
    """The processor."""
    return [processor()]


def processor() -> OrtHardwareDevice:
    """This machine's processor."""
    return OrtHardwareDevice(OrtHardwareDeviceType.CPU, platform.machine())


def get_default_session_options() -> SessionOptions:
    """New options with the defaults."""
    return SessionOptions()


def set_global_thread_pool_sizes(intra_op_num_threads: int = 0, inter_op_num_threads: int = 0) -> None:
    """Threads of sessions whose `use_per_session_threads` is off."""
    global threads_of_all  # noqa: PLW0603 - a setting of the process, as in onnxruntime
    threads_of_all = max(0, intra_op_num_threads)


def set_default_logger_severity(severity: int) -> None:
    """Accepted: nothing is logged. RuntimeError outside 0 (verbose) to 4 (fatal)."""
    if not _LEAST <= severity <= _MOST:
        raise RuntimeError("Invalid logging severity. 0:Verbose, 1:Info, 2:Warning, 3:Error, 4:Fatal")


def set_default_logger_verbosity(verbosity: int) -> None:
    """Accepted likewise."""


def set_default_logger_callback(callback: Callable[..., Any] | None, severity: int = 2) -> None:
    """Accepted likewise."""
    set_default_logger_severity(severity)


def set_seed(seed: int) -> None:
    """Accepted: random operators without a seed of their own draw from the system."""


def enable_telemetry_events() -> None:
    """Accepted: there is no telemetry."""


def disable_telemetry_events() -> None:
    """Accepted likewise."""


def create_and_register_allocator(memory_info: OrtMemoryInfo, arena_cfg: OrtArenaCfg | None) -> None:
    """Accepted: sessions plan their memory."""


def create_and_register_allocator_v2(
    provider: str, memory_info: OrtMemoryInfo, provider_options: Mapping[str, str], arena_cfg: OrtArenaCfg | None
) -> None:
    """Accepted likewise."""


def preload_dlls(cuda: bool = True, cudnn: bool = True, msvc: bool = True, directory: str | None = None) -> None:
    """Accepted: there is nothing to load."""


def register_execution_provider_library(name: str, path: str) -> None:
    """Refused: such libraries are built for onnxruntime."""
    raise RuntimeError(
        f"the provider library {path} is built for onnxruntime; sardonyx finds providers by entry points"
    )


def unregister_execution_provider_library(name: str) -> None:
    """Refused likewise."""
    raise RuntimeError(f"no provider library {name!r} is registered")


def print_debug_info() -> None:
    """Print what helps to find a fault."""
    from sardonyx import __version__

    print(f"{NAME} version: {VERSION} (the interface; by sardonyx {__version__})")
    print("platform:", platform.platform())
    print("Python:", sys.version.replace("\n", " "))
    for name, state in registry.availability().items():
        print(f"provider {name}: {'available' if state.available else state.reason}")


def get_package_name_and_version_info() -> tuple[str, str, str]:
    """The package's name, its version and that of CUDA."""
    return NAME, VERSION, ""


def check_distro_info() -> None:
    """Accepted: no build is made for one distribution."""


def normalized_providers(
    providers: Sequence[str | tuple[str, dict[Any, Any]]] | None,
    provider_options: Sequence[dict[Any, Any]] | None,
    available: Sequence[str],
) -> tuple[list[str], list[dict[str, str]]]:
    """Names and options of the providers asked for, each once. ValueError for what cannot be read; warnings."""
    import warnings

    if providers is None:
        return [], []
    if not isinstance(providers, Sequence):
        raise ValueError("'providers' should be a sequence.")
    pairs: list[tuple[Any, Any]]
    if provider_options is not None:
        if not isinstance(provider_options, Sequence):
            raise ValueError("'provider_options' should be a sequence.")
        if len(providers) != len(provider_options):
            raise ValueError("'providers' and 'provider_options' should be the same length if both are given.")
        if not all(isinstance(provider, str) for provider in providers):
            raise ValueError("Only string values for 'providers' are supported if 'provider_options' is given.")
        if not all(isinstance(given, dict) for given in provider_options):
            raise ValueError("'provider_options' values must be dicts.")
        pairs = list(zip(providers, provider_options, strict=True))
    else:
        pairs = [(item, {}) if isinstance(item, str) else _pair(item) for item in providers]
    found: dict[str, dict[str, str]] = {}
    for name, given in pairs:
        if name not in available:
            names = ", ".join(available)
            warnings.warn(
                f"Specified provider '{name}' is not in available provider names.Available providers: '{names}'",
                stacklevel=5,
            )
        if name in found:
            warnings.warn(f"Duplicate provider '{name}' encountered, ignoring.", stacklevel=5)
            continue
        found[name] = {str(key): str(value) for key, value in given.items()}
    return list(found), list(found.values())


def _pair(item: Any) -> tuple[str, dict[Any, Any]]:
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], dict):
        return item
    raise ValueError("'providers' values must be either strings or (string, dict) tuples.")
