"""Options of sessions and runs, under onnxruntime's names and with its defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from sardonyx.errors import InvalidInputError


class GraphOptimizationLevel(IntEnum):
    """How far the graph is rewritten before it is compiled; numbered as in onnxruntime."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(IntEnum):
    """Accepted as onnxruntime does; nodes run in order in both, each on all threads."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class _Typed:
    """Refuses unknown attributes and values of another type than the default's."""

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self)
        fields: dict[str, Any] = getattr(kind, "__dataclass_fields__", {})
        if name not in fields:
            raise InvalidInputError(
                f"no such option {name!r}", where=kind.__name__, fix=f"known are {', '.join(public(fields))}"
            )
        expected = _TYPES.get(fields[name].type, dict)
        wrong_bool = isinstance(value, bool) and expected is int
        if not isinstance(value, expected) or wrong_bool:
            raise InvalidInputError(
                "an option of the wrong type",
                where=f"{kind.__name__}.{name}",
                expected=expected.__name__,
                got=f"{type(value).__name__} ({value!r})",
            )
        object.__setattr__(self, name, value)


def public(fields: dict[str, Any]) -> list[str]:
    """The names that do not start with an underscore."""
    return [name for name in fields if not name.startswith("_")]


_TYPES: dict[str, type] = {
    "int": int,
    "bool": bool,
    "str": str,
    "GraphOptimizationLevel": GraphOptimizationLevel,
    "ExecutionMode": ExecutionMode,
}


@dataclass
class SessionOptions(_Typed):
    """What a session is made with. A session keeps its own copy; later changes here do not reach it.

    In effect: `intra_op_num_threads` (0: as many as the machine allows), `graph_optimization_level`,
    `enable_profiling`, `profile_file_prefix`, `optimized_model_filepath` (where the optimised model is saved)
    and the free dimension overrides. The others are accepted so that code written for onnxruntime runs as it
    is; what they steer there does not exist here.
    """

    intra_op_num_threads: int = 0
    inter_op_num_threads: int = 0
    graph_optimization_level: GraphOptimizationLevel = GraphOptimizationLevel.ORT_ENABLE_ALL
    execution_mode: ExecutionMode = ExecutionMode.ORT_SEQUENTIAL
    enable_profiling: bool = False
    profile_file_prefix: str = "sardonyx_profile_"
    optimized_model_filepath: str = ""
    enable_mem_pattern: bool = True
    enable_mem_reuse: bool = True
    enable_cpu_mem_arena: bool = True
    use_deterministic_compute: bool = False
    log_severity_level: int = 2
    log_verbosity_level: int = 0
    logid: str = ""
    _config: dict[str, str] = field(default_factory=dict, init=False)
    _dimensions: dict[str, int] = field(default_factory=dict, init=False)

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Note `value` under `key`; readable with `get_session_config_entry`."""
        self._config[str(key)] = str(value)

    def get_session_config_entry(self, key: str) -> str:
        """The value noted under `key`; InvalidInputError when there is none."""
        try:
            return self._config[key]
        except KeyError:
            raise InvalidInputError(
                f"no session config entry {key!r}",
                where="SessionOptions",
                fix="add_session_config_entry first",
            ) from None

    def add_free_dimension_override_by_name(self, name: str, dim: int) -> None:
        """Fix the symbolic dimension `name` of the model at `dim`, which lets more be computed beforehand."""
        if isinstance(dim, bool) or not isinstance(dim, int) or dim < 0:
            raise InvalidInputError(
                f"a size for dimension {name!r}",
                where="SessionOptions",
                expected="an int, 0 or more",
                got=repr(dim),
            )
        self._dimensions[str(name)] = dim

    @property
    def free_dimension_overrides(self) -> dict[str, int]:
        """The dimensions fixed by `add_free_dimension_override_by_name`."""
        return dict(self._dimensions)


@dataclass
class RunOptions(_Typed):
    """Options of one call of `run`.

    `terminate`, set from any thread, ends the run with an error before its next segment. The logging options
    are accepted as onnxruntime does and have no effect.
    """

    terminate: bool = False
    logid: str = ""
    log_severity_level: int = 2
    log_verbosity_level: int = 0
    _config: dict[str, str] = field(default_factory=dict, init=False)

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Note `value` under `key`; readable with `get_run_config_entry`."""
        self._config[str(key)] = str(value)

    def get_run_config_entry(self, key: str) -> str:
        """The value noted under `key`; InvalidInputError when there is none."""
        try:
            return self._config[key]
        except KeyError:
            fix = "add_run_config_entry first"
            raise InvalidInputError(f"no config entry {key!r}", where="RunOptions", fix=fix) from None
