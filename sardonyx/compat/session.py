"""InferenceSession as onnxruntime has it, on sardonyx.InferenceSession."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any

import sardonyx.session as native
from sardonyx import options as native_options
from sardonyx.compat import environment
from sardonyx.compat.binding import IOBinding
from sardonyx.compat.devices import (
    PROCESSOR_MEMORY,
    OrtEpAssignedNode,
    OrtEpAssignedSubgraph,
    OrtEpDevice,
    OrtMemoryInfo,
)
from sardonyx.compat.failures import Fail, InvalidArgument, InvalidProtobuf, NoSuchFile, StatusError, failed, translated
from sardonyx.compat.inputs import converted, require_names, require_outputs
from sardonyx.compat.options import RunOptions, SessionOptions
from sardonyx.compat.values import OrtValue, OrtValueVector
from sardonyx.errors import InvalidInputError, SardonyxError
from sardonyx.feeds import NodeArg, SeveralSizesError

Providers = Sequence[str | tuple[str, dict[Any, Any]]]
Chosen = Sequence[tuple[str, dict[str, str]]]
_NO_VERSION = 2**63 - 1  # what onnxruntime shows where a model says none


class InferenceSession:
    """A model, ready to run."""

    def __init__(
        self,
        path_or_bytes: str | bytes | os.PathLike[str],
        sess_options: SessionOptions | None = None,
        providers: Providers | None = None,
        provider_options: Sequence[dict[Any, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        """Load a model from a path or from bytes; providers that are not available are left out, with a warning.

        Keyword arguments: `enable_fallback`; others are accepted.
        """
        self._enable_fallback = int(kwargs.get("enable_fallback", 1)) == 1
        self._model_path: str | None = None
        self._model_bytes: bytes | None = None
        if isinstance(path_or_bytes, str | os.PathLike):
            self._model_path = os.fspath(path_or_bytes)
        elif isinstance(path_or_bytes, bytes):
            self._model_bytes = path_or_bytes
        else:
            raise TypeError(f"Unable to load from type '{type(path_or_bytes)}'")
        if sess_options is not None and not isinstance(sess_options, SessionOptions):
            raise TypeError(f"sess_options must be SessionOptions, not {type(sess_options).__name__}")
        self._sess_options_initial = sess_options
        self._create(providers, provider_options)

    def set_providers(
        self, providers: Providers | None = None, provider_options: Sequence[dict[Any, Any]] | None = None
    ) -> None:
        """Load the model again, for other providers."""
        self._create(providers, provider_options)

    def _create(self, providers: Providers | None, provider_options: Sequence[dict[Any, Any]] | None) -> None:
        self.__dict__.pop("_loose", None)
        added = self._sess_options_initial._providers if self._sess_options_initial is not None else {}
        try:
            names = _chosen(providers if providers is not None else (list(added.items()) or None), provider_options)
        except (ValueError, TypeError) as error:
            if not self._enable_fallback:
                raise
            print("*************** EP Error ***************")
            print(f"EP Error {error} when using {providers}")
            print("Falling back to ['CPUExecutionProvider'] and retrying.")
            print("****************************************")
            names = []
        source = self._model_path if self._model_path is not None else self._model_bytes
        assert source is not None
        self._open(source, self._sess_options_initial, names)

    def _open(self, source: str | bytes, sess_options: SessionOptions | None, names: Chosen) -> None:
        """Load the model for providers that are available."""
        self._sess_options = deepcopy(sess_options) if sess_options is not None else SessionOptions()
        self._source, self._names = source, names
        self._session = _session(source, self._sess_options, names)
        self._inputs_meta, self._outputs_meta = self._session.get_inputs(), self._session.get_outputs()
        self._overridable = self._session.get_overridable_initializers()
        self._all_inputs = [*self._inputs_meta, *self._overridable]
        self._input_names = frozenset(arg.name for arg in self._all_inputs)

    @cached_property
    def _loose(self) -> native.InferenceSession:
        """The same model for calls in which a symbol has several sizes."""
        return _session(self._source, self._sess_options, self._names, {native.SYMBOLS_ENTRY: "distinct"})

    @cached_property
    def _callers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(os.cpu_count(), "run_async")

    def get_session_options(self) -> SessionOptions:
        """The options the session was made with."""
        return self._sess_options

    def get_inputs(self) -> list[NodeArg]:
        """Inputs that a run must be given."""
        return list(self._inputs_meta)

    def get_outputs(self) -> list[NodeArg]:
        """Outputs, in order."""
        return list(self._outputs_meta)

    def get_overridable_initializers(self) -> list[NodeArg]:
        """Inputs that have values in the model."""
        return list(self._overridable)

    def get_modelmeta(self) -> native.ModelMetadata:
        """What the model says about itself."""
        meta = self._session.get_modelmeta()
        return native.ModelMetadata(**{**vars(meta), "version": meta.version or _NO_VERSION})

    def get_input_memory_infos(self) -> list[OrtMemoryInfo]:
        """Where inputs are read: the processor's memory."""
        return [PROCESSOR_MEMORY for _ in self._inputs_meta]

    def get_output_memory_infos(self) -> list[OrtMemoryInfo]:
        """Where outputs are written, likewise."""
        return [PROCESSOR_MEMORY for _ in self._outputs_meta]

    def get_input_epdevices(self) -> list[OrtEpDevice]:
        """Who reads each input: the session's first provider."""
        return [OrtEpDevice(self.get_providers()[0], "Sardonyx", environment.processor()) for _ in self._inputs_meta]

    def get_providers(self) -> list[str]:
        """Names of the providers."""
        return self._session.get_providers()

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """The options of each provider."""
        return self._session.get_provider_options()

    def get_provider_graph_assignment_info(self) -> list[OrtEpAssignedSubgraph]:
        """The nodes of the optimised model by provider."""
        found: dict[str, list[OrtEpAssignedNode]] = {}
        for placement in self._session.explain():
            domain, _, operator = placement.op.rpartition(".")
            node = OrtEpAssignedNode(placement.node, domain, operator)
            found.setdefault(environment.public_name(placement.provider), []).append(node)
        return [OrtEpAssignedSubgraph(name, tuple(nodes)) for name, nodes in found.items()]

    def disable_fallback(self) -> None:
        """Let an error of a provider end the call."""
        self._enable_fallback = False

    def enable_fallback(self) -> None:
        """Accepted: what a provider cannot run goes to the processor before any call."""
        self._enable_fallback = True

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: RunOptions | None = None
    ) -> list[Any]:
        """Outputs by name (None or nothing: all), for inputs by name."""
        try:
            return self._session.run(output_names, input_feed, run_options)
        except InvalidInputError as error:
            return self._run_anyway(output_names, input_feed, run_options, error)
        except SardonyxError as error:
            raise failed(error) from error

    def _run_anyway(
        self,
        names: Sequence[str] | None,
        feed: Mapping[str, Any],
        run_options: RunOptions | None,
        refusal: InvalidInputError,
        out: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """The outputs of a call that was refused, if onnxruntime would take it; else its exception."""
        if run_options is not None and not isinstance(run_options, native_options.RunOptions):
            raise TypeError("run(): incompatible function arguments: run_options must be RunOptions") from refusal
        require_names(feed, self._inputs_meta)
        if names:
            require_outputs(names, self._outputs_meta)
            names = list(names)
        feed = converted(feed, self._all_inputs, self._inputs_meta)
        try:
            return self._session.run(names, feed, run_options, out=out)
        except SeveralSizesError:
            pass
        except SardonyxError as error:
            raise failed(error) from error
        try:
            return self._loose.run(names, feed, run_options, out=out)
        except SardonyxError as error:
            raise failed(error) from error

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        callback: Callable[[list[Any], Any, str], None],
        user_data: Any,
        run_options: RunOptions | None = None,
    ) -> None:
        """Run in another thread, which calls `callback(outputs, user_data, error)`: no outputs, or an empty error."""
        require_names(input_feed, self._inputs_meta)

        def call() -> None:
            try:
                outputs, message = self.run(output_names, input_feed, run_options), ""
            except (StatusError, RuntimeError, TypeError, ValueError) as error:
                outputs, message = [], str(error)
            callback(outputs, user_data, message)

        self._callers.submit(call)

    def run_with_ort_values(
        self,
        output_names: Sequence[str] | None,
        input_dict_ort_values: Mapping[str, OrtValue],
        run_options: RunOptions | None = None,
    ) -> list[OrtValue]:
        """As `run`, from OrtValues to OrtValues."""
        require_names(input_dict_ort_values, self._inputs_meta)
        feed = {name: value._get_c_value()._value for name, value in input_dict_ort_values.items()}
        return [OrtValue.of(value) for value in self.run(output_names, feed, run_options)]

    def run_with_ortvaluevector(
        self,
        run_options: RunOptions | None,
        feed_names: Sequence[str],
        feeds: Sequence[OrtValue],
        fetch_names: Sequence[str],
        fetches: OrtValueVector,
        fetch_devices: Sequence[Any],
    ) -> None:
        """As `run_with_ort_values`; results are put into `fetches`."""
        results = self.run_with_ort_values(fetch_names, dict(zip(feed_names, feeds, strict=True)), run_options)
        fetches[:] = results

    def io_binding(self) -> IOBinding:
        """A binding for this session."""
        return IOBinding(self)

    def run_with_iobinding(self, iobinding: IOBinding, run_options: RunOptions | None = None) -> None:
        """Run with what is bound. RuntimeError when it fails."""
        if iobinding._session is not self:
            raise ValueError("IOBinding must be used with the session that created it.")
        names = list(iobinding._outputs)
        if not names:
            raise RuntimeError("Error in execution: At least one output should be requested.")
        out, shared = iobinding._memory()
        try:
            try:
                results = self._session.run(names, iobinding._inputs, run_options, out=out or None)
            except InvalidInputError as error:
                results = self._run_anyway(names, iobinding._inputs, run_options, error, out or None)
        except (SardonyxError, StatusError, ValueError) as error:
            raise RuntimeError(f"Error in execution: {error}") from error
        iobinding._keep(dict(zip(names, results, strict=True)), shared)

    def create_ortvalue_from_shape_and_type(
        self, shape: Sequence[int], element_type: Any, device_type: str, device_id: int = 0, vendor_id: int = -1
    ) -> OrtValue:
        """A tensor whose elements are yet to be written."""
        return OrtValue.ortvalue_from_shape_and_type(shape, element_type, device_type, device_id, vendor_id)

    def end_profiling(self) -> str:
        """Write the profile; its file's name, or nothing without profiling."""
        try:
            return self._session.end_profiling()
        except SardonyxError as error:
            raise translated(error) from error

    def get_profiling_start_time_ns(self) -> int:
        """The clock at time 0 of the profile."""
        return self._session.get_profiling_start_time_ns()

    def release_captured_graph(self, graph_annotation_id: int = 0) -> None:
        """Accepted: no graphs of a GPU are captured."""

    def set_ep_dynamic_options(self, options: Mapping[str, str]) -> None:
        """Accepted: providers here have no such options."""

    def get_tuning_results(self) -> list[Any]:
        """Nothing: `sardonyx tune` keeps its results in the cache."""
        return []

    def set_tuning_results(self, results: Sequence[Any], *, error_on_invalid: bool = False) -> None:
        """Accepted likewise."""

    @property
    def _sess(self) -> InferenceSession:
        return self

    def __getstate__(self) -> Any:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")


Session = InferenceSession
"""onnxruntime's base class of InferenceSession; there are no other sessions here."""


def _chosen(providers: Providers | None, provider_options: Sequence[dict[Any, Any]] | None) -> Chosen:
    """Available providers among those asked for. ValueError for a name that means nothing."""
    available = environment.get_available_providers()
    names, options = environment.normalized_providers(providers, provider_options, available)
    for name in names:
        if name not in available and name not in environment.KNOWN_PROVIDERS:
            raise ValueError(f"Unknown Provider Type: {name}")
    return [(name, given) for name, given in zip(names, options, strict=True) if name in available]


def _session(
    source: str | bytes, options: SessionOptions, names: Chosen, entries: Mapping[str, str] | None = None
) -> native.InferenceSession:
    """Our session, or onnxruntime's exception."""
    if isinstance(source, str) and not Path(source).exists():
        raise NoSuchFile.of(f"Load model from {source} failed:Load model {source} failed. File doesn't exist")
    kept = deepcopy(options)
    kept.intra_op_num_threads = max(0, kept.intra_op_num_threads)
    kept.profile_file_prefix += "_"
    if not kept.use_per_session_threads and not kept.intra_op_num_threads:
        kept.intra_op_num_threads = environment.threads_of_all
    if isinstance(source, bytes) and native.FOLDER_ENTRY not in kept.config_entries:
        kept.add_session_config_entry(native.FOLDER_ENTRY, str(Path.cwd()))
    for key, value in (entries or {}).items():
        kept.add_session_config_entry(key, value)
    try:
        return native.InferenceSession(source, kept, list(names) or None)
    except SardonyxError as error:
        raise _unloadable(error, source) from error


def _unloadable(error: SardonyxError, source: str | bytes) -> StatusError:
    status = translated(error)
    if isinstance(status, InvalidProtobuf):
        size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
        if size == 0:
            return InvalidArgument.of("No graph was found in the protobuf.")
        if "external" in str(error):
            return Fail.of(str(error))
    return status
