"""SessionOptions and RunOptions with onnxruntime's defaults and exceptions."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sardonyx import options
from sardonyx.compat.devices import OrtEpDevice
from sardonyx.compat.failures import translated
from sardonyx.compat.values import OrtValue
from sardonyx.errors import InvalidInputError


class _Lenient:
    """Takes what pybind11 takes for a bool, an int or a path; AttributeError and TypeError for the rest."""

    def __setattr__(self, name: str, value: Any) -> None:
        fields: dict[str, Any] = type(self).__dataclass_fields__  # type: ignore[attr-defined]
        if name not in fields:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        kind = fields[name].type
        if kind == "bool":
            value = bool(value)
        elif kind == "int" and hasattr(value, "__index__"):
            value = value.__index__()
        elif kind == "str" and isinstance(value, os.PathLike):
            value = os.fspath(value)
        try:
            super().__setattr__(name, value)
        except InvalidInputError as error:
            raise TypeError(f"{name}: incompatible value: {error}") from error

    def __repr__(self) -> str:
        return object.__repr__(self)


@dataclass(repr=False)
class SessionOptions(_Lenient, options.SessionOptions):
    """What a session is made with; docs/compat.md tells which parts act."""

    profile_file_prefix: str = "onnxruntime_profile_"
    log_severity_level: int = -1
    _providers: dict[str, dict[str, str]] = field(default_factory=dict, init=False)

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Note `value` under `key`."""
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError("add_session_config_entry(): key and value must be str")
        super().add_session_config_entry(key, value)

    def get_session_config_entry(self, key: str) -> str:
        """The value noted under `key`; RuntimeError when there is none."""
        if key not in self._config:
            raise RuntimeError(f"SessionOptions does not have configuration with key: {key}")
        return self._config[key]

    def add_initializer(self, name: str, value: Any) -> None:
        """Take an OrtValue for the initializer `name`, where the model has it."""
        if not isinstance(value, OrtValue):
            raise RuntimeError("The provided Python object must be an OrtValue")
        try:
            super().add_initializer(name, value.numpy())
        except InvalidInputError as error:
            raise RuntimeError(str(translated(error))) from error

    def add_external_initializers(self, names: Sequence[str], values: Sequence[Any]) -> None:
        """Take OrtValues for initializers that the model has as external data."""
        if len(names) != len(values):
            raise RuntimeError("Expecting names and ort_values lists to have equal length")
        super().add_external_initializers(names, [value.numpy() for value in values])

    def add_external_initializers_from_files_in_memory(
        self, names: Sequence[str], buffers: Sequence[Any], sizes: Sequence[int]
    ) -> None:
        """Take buffers for files of external data."""
        try:
            super().add_external_initializers_from_files_in_memory(names, buffers, sizes)
        except InvalidInputError as error:
            raise RuntimeError(str(error)) from error

    def add_provider(self, provider_name: str, provider_options: Mapping[str, str] | None = None) -> None:
        """Use this provider, after those added before, where InferenceSession is given none."""
        self._providers[provider_name] = dict(provider_options or {})

    def add_provider_for_devices(self, devices: Sequence[OrtEpDevice], provider_options: Mapping[str, str]) -> None:
        """Use the provider of these devices, likewise."""
        for device in devices:
            self.add_provider(device.ep_name, provider_options)

    def has_providers(self) -> bool:
        """Whether any was added."""
        return bool(self._providers)

    def set_provider_selection_policy(self, policy: Any) -> None:
        """Accepted: there is one device."""

    def set_provider_selection_policy_delegate(self, delegate: Callable[..., Any]) -> None:
        """Accepted: there is one device."""

    def set_load_cancellation_flag(self, flag: bool) -> None:
        """Accepted: loading is not cancelled."""

    def register_custom_ops_library(self, path: str) -> None:
        """Refused: such libraries are built for onnxruntime's own kernels."""
        raise RuntimeError(
            f"the custom operators in {path} are kernels of onnxruntime and cannot run here; "
            "sardonyx.register_op takes a Python function for an operator"
        )


@dataclass(repr=False)
class RunOptions(_Lenient, options.RunOptions):
    """Options of one call; docs/compat.md tells which parts act."""

    log_severity_level: int = -1

    def get_run_config_entry(self, key: str) -> str:
        """The value noted under `key`; RuntimeError when there is none."""
        if key not in self._config:
            raise RuntimeError(f"RunOptions does not have configuration with key: {key}")
        return self._config[key]
