"""Which of onnxruntime's names are here, as the table in docs/compat.md."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from types import ModuleType
from typing import Any, Literal

Status = Literal["acts", "accepted", "refused", "absent"]

MODULES = ("", "capi.onnxruntime_inference_collection", "capi.onnxruntime_pybind11_state")
"""The modules whose names are told, below `onnxruntime`."""

ACCEPTED = frozenset(
    {
        *(
            "ArenaExtendStrategy",
            "DeviceReset",
            "EngineError",
            "ExecutionMode",
            "ExecutionOrder",
            "IOBinding.synchronize_inputs",
        ),
        *("IOBinding.synchronize_outputs", "InferenceSession.disable_fallback", "InferenceSession.enable_fallback"),
        *("InferenceSession.get_tuning_results", "InferenceSession.release_captured_graph"),
        *("InferenceSession.set_ep_dynamic_options", "InferenceSession.set_tuning_results", "ModelLoadCanceled"),
        *("ModelLoaded", "ModelRequiresCompilation", "NoModel", "NotFound", "OrtAllocatorType", "OrtArenaCfg"),
        *("OrtDeviceMemoryType", "OrtExecutionProviderDevicePolicy", "OrtMemType", "OrtMemoryInfo"),
        *("OrtMemoryInfoDeviceType", "OrtValueVector.reserve", "OrtValueVector.shrink_to_fit"),
        *("RunOptions.add_run_config_entry", "RunOptions.get_run_config_entry", "RunOptions.log_severity_level"),
        *("RunOptions.log_verbosity_level", "RunOptions.logid", "RunOptions.only_execute_path_to_fetches"),
        *("Session.disable_fallback", "Session.enable_fallback", "Session.get_tuning_results"),
        *("Session.release_captured_graph", "Session.set_ep_dynamic_options", "Session.set_tuning_results"),
        *("SessionIOBinding.synchronize_inputs", "SessionIOBinding.synchronize_outputs"),
        *(
            "SessionOptions.enable_cpu_mem_arena",
            "SessionOptions.enable_mem_pattern",
            "SessionOptions.enable_mem_reuse",
        ),
        *("SessionOptions.execution_mode", "SessionOptions.execution_order", "SessionOptions.inter_op_num_threads"),
        *("SessionOptions.log_severity_level", "SessionOptions.log_verbosity_level", "SessionOptions.logid"),
        *("SessionOptions.set_load_cancellation_flag", "SessionOptions.set_provider_selection_policy"),
        *("SessionOptions.set_provider_selection_policy_delegate", "SessionOptions.use_deterministic_compute"),
        *(
            "create_and_register_allocator",
            "create_and_register_allocator_v2",
            "cuda_version",
            "disable_telemetry_events",
        ),
        *("enable_telemetry_events", "has_collective_ops", "import_capi_exception", "kNextPowerOfTwo"),
        *("kSameAsRequested", "preload_dlls", "set_default_logger_callback", "set_default_logger_severity"),
        *("set_default_logger_verbosity", "set_seed"),
    }
)
"""Names that are taken and have no effect; a class with all it has."""

REFUSED = frozenset(
    {
        *("SessionOptions.register_custom_ops_library", "SparseTensor.to_cuda", "register_execution_provider_library"),
        "unregister_execution_provider_library",
    }
)
"""Names that raise, with the reason."""


@dataclass(frozen=True)
class Row:
    """One of onnxruntime's names: the module it is told under, the name below it, and what became of it."""

    module: str
    name: str
    status: Status


def rows() -> list[Row]:
    """All names of the installed onnxruntime, which must be the real one. Those told before are left out."""
    found: list[Row] = []
    told: set[str] = set()
    for module in MODULES:
        real = import_module(".".join(filter(None, ("onnxruntime", module))))
        ours = import_module(".".join(filter(None, ("sardonyx.compat.onnxruntime", module))))
        for name, value in _public(real):
            if name in told:
                continue
            told.add(name)
            mine = getattr(ours, name, None) if name in vars(ours) else None
            found.append(Row(module, name, _status(name, name in vars(ours))))
            if isinstance(value, type) and mine is not None:
                inside = (f"{name}.{member}" for member, _ in _public(value) if not _inherited(value, member))
                found.extend(Row(module, path, _status(path, _has(mine, path.split(".")[1]))) for path in inside)
    return found


def _status(name: str, here: bool) -> Status:
    if not here:
        return "absent"
    if name in REFUSED:
        return "refused"
    return "accepted" if name in ACCEPTED or name.partition(".")[0] in ACCEPTED else "acts"


def _has(kind: Any, name: str) -> bool:
    """Whether objects of the class have it: of the class, or an attribute that each is given."""
    declared = any(name in vars(base).get("__annotations__", {}) for base in kind.__mro__)
    return declared or hasattr(kind, name) or (issubclass(kind, Enum) and name in ("name", "value"))


def _public(holder: Any) -> Iterator[tuple[str, Any]]:
    for name in sorted(dir(holder), key=str.lower):
        if name.startswith("_") and name != "__version__":
            continue
        value = inspect.getattr_static(holder, name)
        # What a module imports for itself is none of its names.
        foreign = isinstance(value, ModuleType) and not value.__name__.startswith("onnxruntime")
        typing = isinstance(holder, ModuleType) and getattr(value, "__module__", "").partition(".")[0] in _BORROWED
        if not foreign and not typing and name not in ("annotations", "opkernel", "schemadef"):
            yield name, value


_BORROWED = {"typing", "collections", "abc", "enum", "__future__"}


def _inherited(kind: type, name: str) -> bool:
    return any(name in vars(base) for base in (Exception, BaseException, int, list, object) if issubclass(kind, base))


def table() -> str:
    """The rows as Markdown: a line for each module's plain names, and for each class."""
    lines = ["| name | acts | accepted without effect | refused or absent |", "|---|---|---|---|"]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows():
        groups.setdefault((row.module, row.name.rpartition(".")[0]), []).append(row)
    for (module, owner), group in sorted(groups.items(), key=lambda item: (MODULES.index(item[0][0]), item[0][1])):
        cells = []
        for statuses in (("acts",), ("accepted",), ("refused", "absent")):
            names = [_shown(row) for row in group if row.status in statuses]
            cells.append(", ".join(names))
        title = owner or ".".join(filter(None, ("onnxruntime", module)))
        lines.append(f"| **{title}** | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _shown(row: Row) -> str:
    name = row.name.rpartition(".")[2]
    return f"`{name}` (raises)" if row.status == "refused" else f"`{name}`"
