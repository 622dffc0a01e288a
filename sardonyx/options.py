"""Options of sessions and runs, under onnxruntime's names and with its defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Self

import numpy as np

from sardonyx.errors import InvalidInputError

Array = np.ndarray[Any, Any]


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


class ExecutionOrder(IntEnum):
    """Accepted as onnxruntime does; nodes run in the model's order."""

    DEFAULT = 0
    PRIORITY_BASED = 1
    MEMORY_EFFICIENT = 2


class _Typed:
    """Refuses unknown attributes and values of another type than the default's.

    A copy has dicts of its own, with the same values in them: arrays are shared.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = object.__new__(type(self))
        for name, value in vars(self).items():
            object.__setattr__(made, name, dict(value) if isinstance(value, dict) else value)
        return made

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
    "ExecutionOrder": ExecutionOrder,
}


@dataclass
class SessionOptions(_Typed):
    """What a session is made with. A session keeps its own copy; later changes here do not reach it.

    In effect: `intra_op_num_threads` (0: as many as the machine allows), `graph_optimization_level`,
    `enable_profiling`, `profile_file_prefix`, `optimized_model_filepath` (where the optimised model is saved),
    the free dimension overrides, initializers given here, and the config entries that `sardonyx.session` names.
    The others are accepted so that code written for onnxruntime runs as it is; what they steer there does not
    exist here.
    """

    intra_op_num_threads: int = 0
    inter_op_num_threads: int = 0
    graph_optimization_level: GraphOptimizationLevel = GraphOptimizationLevel.ORT_ENABLE_ALL
    execution_mode: ExecutionMode = ExecutionMode.ORT_SEQUENTIAL
    execution_order: ExecutionOrder = ExecutionOrder.DEFAULT
    enable_profiling: bool = False
    profile_file_prefix: str = "sardonyx_profile_"
    optimized_model_filepath: str = ""
    enable_mem_pattern: bool = True
    enable_mem_reuse: bool = True
    enable_cpu_mem_arena: bool = True
    use_deterministic_compute: bool = False
    use_per_session_threads: bool = True
    log_severity_level: int = 2
    log_verbosity_level: int = 0
    logid: str = ""
    _config: dict[str, str] = field(default_factory=dict, init=False)
    _dimensions: dict[str, int] = field(default_factory=dict, init=False)
    _denotations: dict[str, int] = field(default_factory=dict, init=False)
    _initializers: dict[str, Array] = field(default_factory=dict, init=False)
    _external: dict[str, Array] = field(default_factory=dict, init=False)
    _files: dict[str, memoryview | bytes] = field(default_factory=dict, init=False)

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
        self._dimensions[str(name)] = _size(f"dimension {name!r}", dim)

    def add_free_dimension_override_by_denotation(self, denotation: str, dim: int) -> None:
        """Fix the open dimensions of inputs whose denotation (as in `DATA_BATCH`) this is at `dim`."""
        self._denotations[str(denotation)] = _size(f"dimensions denoted {denotation!r}", dim)

    def add_initializer(self, name: str, value: Array) -> None:
        """Take `value` for the initializer `name`, where the model has one of this type and these dims.

        The array is not copied: sessions made with these options share it, and it must not be changed.
        """
        if name in self._initializers:
            raise InvalidInputError(f"the initializer {name!r} is given already", where="SessionOptions")
        self._initializers[str(name)] = value

    def add_external_initializers(self, names: Sequence[str], values: Sequence[Array]) -> None:
        """Take `values` for the initializers `names`, which the model must have as external data; files are not read.

        Arrays are not copied, and must not be changed.
        """
        if len(names) != len(values):
            got = f"{len(names)} names, {len(values)} values"
            raise InvalidInputError("a value for each name", where="SessionOptions", got=got)
        self._external.update(zip(map(str, names), values, strict=True))

    def add_external_initializers_from_files_in_memory(
        self, names: Sequence[str], buffers: Sequence[Any], sizes: Sequence[int]
    ) -> None:
        """Take the first `sizes[i]` bytes of `buffers[i]` for the external data file called `names[i]` in the model."""
        if not len(names) == len(buffers) == len(sizes):
            got = f"{len(names)} names, {len(buffers)} buffers, {len(sizes)} sizes"
            raise InvalidInputError("a buffer and a size for each name", where="SessionOptions", got=got)
        for name, buffer, size in zip(names, buffers, sizes, strict=True):
            data = memoryview(buffer).cast("B").toreadonly()
            if not 0 <= size <= len(data):
                raise InvalidInputError(
                    f"the size of {name!r}", where="SessionOptions", expected=f"at most {len(data)}", got=str(size)
                )
            self._files[str(name)] = data[:size]

    @property
    def free_dimension_overrides(self) -> dict[str, int]:
        """The dimensions fixed by `add_free_dimension_override_by_name`."""
        return dict(self._dimensions)

    @property
    def free_denotation_overrides(self) -> dict[str, int]:
        """The dimensions fixed by `add_free_dimension_override_by_denotation`."""
        return dict(self._denotations)

    @property
    def config_entries(self) -> dict[str, str]:
        """What `add_session_config_entry` noted."""
        return dict(self._config)

    @property
    def given_initializers(self) -> Mapping[str, Array]:
        """Values by `add_initializer`, for models that have such initializers."""
        return dict(self._initializers)

    @property
    def given_external_initializers(self) -> Mapping[str, Array]:
        """Values by `add_external_initializers`."""
        return dict(self._external)

    @property
    def files_in_memory(self) -> Mapping[str, memoryview]:
        """Files by `add_external_initializers_from_files_in_memory`."""
        return {name: memoryview(data) for name, data in self._files.items()}

    def __getstate__(self) -> dict[str, Any]:
        # A view does not pickle.
        return {**vars(self), "_files": {name: bytes(data) for name, data in self._files.items()}}


def _size(what: str, dim: int) -> int:
    if isinstance(dim, bool) or not isinstance(dim, int) or dim < 0:
        raise InvalidInputError(
            f"a size for {what}", where="SessionOptions", expected="an int, 0 or more", got=repr(dim)
        )
    return dim


@dataclass
class RunOptions(_Typed):
    """Options of one call of `run`.

    `terminate`, set from any thread, ends the run with an error before its next segment. The others are accepted as
    onnxruntime does and have no effect.
    """

    terminate: bool = False
    logid: str = ""
    log_severity_level: int = 2
    log_verbosity_level: int = 0
    only_execute_path_to_fetches: bool = False
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
