"""InferenceSession: a model made ready to run, behind onnxruntime's interface."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sardonyx import config
from sardonyx.errors import ExecutionError, InvalidInputError, ModelFileError
from sardonyx.feeds import Feeds, NodeArg, closest, given_outputs, input_spec, node_arg, placed_outputs
from sardonyx.garbage import no_garbage_collection
from sardonyx.options import GraphOptimizationLevel, RunOptions, SessionOptions
from sardonyx.plan import Plan
from sardonyx.providers import registry
from sardonyx.providers.base import CompileOptions, Executable, Provider, StepTime, WritesInto
from sardonyx.providers.functions import expand_foreign, expand_functions
from sardonyx.providers.partition import Partition, Placement, partition
from sardonyx.trace import Trace

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    Source: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | ir.Model | onnx.ModelProto

MODE_ENTRY = "sardonyx.mode"
"""The session config entry that says what a session's calls are to be good at, in place of the knob `mode`."""
SYMBOLS_ENTRY = "sardonyx.symbols"
"""`distinct`: a symbol of the model may have several sizes in one call, as onnxruntime lets it."""
FOLDER_ENTRY = "session.model_external_initializers_file_folder_path"
"""The folder of external data, where it is not the model file's; a model given as bytes has no other."""
Providers = Sequence[str | tuple[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class ModelMetadata:
    """What a model says about itself, under onnxruntime's names."""

    producer_name: str = ""
    graph_name: str = ""
    domain: str = ""
    description: str = ""
    graph_description: str = ""
    version: int = 0
    custom_metadata_map: dict[str, str] = field(default_factory=dict)


class InferenceSession:
    """A model, checked, optimised and compiled; `run` computes outputs from inputs.

    Nothing about a session changes after it is made. `run` may be called from several threads at once.
    A session pickles: it is made anew from its source, which for a file is its path.
    """

    @no_garbage_collection()
    def __init__(
        self,
        path_or_bytes: Source,
        sess_options: SessionOptions | None = None,
        providers: Providers | None = None,
        provider_options: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Load and compile a model.

        `path_or_bytes` is a path, the bytes of a file, an `onnx_ir.Model` or an `onnx.ModelProto`; the last
        two are left as they are. `providers` is in order of preference (default: the knob `providers`, else
        `cpu`): names, onnxruntime's names, or (name, options) pairs.

        Raises ModelFileError, InvalidModelError, UnsupportedOperatorError or ProviderError.
        """
        _warn_once()
        self._options = _snapshot(sess_options)
        self._choices = registry.resolve(providers, provider_options)
        self._source, model, self._where = _load(path_or_bytes, self._options)
        from sardonyx.model.tensors import contents

        self._metadata = _metadata(model)
        model = _prepare(model, self._options, self._choices[0].provider)
        graph = model.graph
        defaults = {value: contents(value.const_value) for value in graph.inputs if value.const_value is not None}
        self._inputs = tuple(node_arg(value) for value in graph.inputs if value not in defaults)
        self._overridable = tuple(node_arg(value) for value in graph.inputs if value in defaults)
        self._outputs = tuple(node_arg(value) for value in graph.outputs)
        self._positions = {value.name: index for index, value in enumerate(self._outputs)}
        self._feeds = Feeds([input_spec(value, defaults.get(value)) for value in graph.inputs])
        model = expand_functions(model, self._choices[0].provider)
        parts = partition(model, [choice.provider for choice in self._choices])
        self._placements = parts.placements
        self._executables = self._compile(parts)
        self._execute_into = None
        self._plan = None
        if parts.whole:
            whole = self._executables[0][1]
            self._execute = whole.run
            if isinstance(whole, WritesInto):
                self._execute_into = whole.run_into
        else:
            compiled = [executable for _, executable in self._executables]
            models = [segment.model for segment in parts.segments]
            self._plan = Plan(model, list(zip(models, compiled, strict=True)))
            self._execute = self._plan.run
        self._trace = Trace() if self._options.enable_profiling else None
        self._traced = threading.Lock()

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: RunOptions | None = None,
        *,
        out: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """Values of the named outputs (None or nothing: all, in the model's order).

        `input_feed` holds, by name, NumPy arrays of the declared types, or DLPack objects, which are read in
        place, or Python numbers and lists. Nothing is converted silently: a wrong type, rank or dimension, a
        missing, unknown or inconsistent input is an InvalidInputError.

        `out` holds arrays to write outputs to, by name: of their types and dims, contiguous, and apart from the inputs
        and each other. Those outputs are these arrays; the others are new ones.
        """
        if run_options is not None and not isinstance(run_options, RunOptions):
            raise _wrong_options("run_options", "sardonyx.RunOptions", run_options)
        if run_options is not None and run_options.terminate:
            raise ExecutionError("the run was told to terminate")
        chosen = self._chosen(output_names) if output_names else None
        inputs = self._feeds.bind(input_feed)
        given = None if out is None else given_outputs(out, self._positions, input_feed.values())
        if self._trace is not None:
            outputs = self._run_traced(inputs, self._trace)
        elif run_options is not None and self._plan is not None:
            outputs = self._plan.run(inputs, lambda: run_options.terminate)
        elif given is not None and self._execute_into is not None:
            return self._pick(self._execute_into(inputs, given), chosen)
        else:
            outputs = self._execute(inputs)
        if given is not None:
            outputs = placed_outputs(outputs, given, [value.name for value in self._outputs])
        return self._pick(outputs, chosen)

    @staticmethod
    def _pick(outputs: list[Any], chosen: Sequence[int] | None) -> list[Any]:
        return outputs if chosen is None else [outputs[position] for position in chosen]

    def get_inputs(self) -> list[NodeArg]:
        """The inputs `run` must be given."""
        return list(self._inputs)

    def get_outputs(self) -> list[NodeArg]:
        """The outputs, in the order `run` returns them."""
        return list(self._outputs)

    def get_overridable_initializers(self) -> list[NodeArg]:
        """Initializers that are inputs as well: `run` may be given them in place of their values."""
        return list(self._overridable)

    def get_providers(self) -> list[str]:
        """The providers asked for, in order, under onnxruntime's names where they have one.

        What a provider leaves to its host steps is told by `explain`.
        """
        return [_public_name(choice) for choice in self._choices if not choice.implied]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """The options given for each provider."""
        return {_public_name(choice): dict(choice.options) for choice in self._choices if not choice.implied}

    def get_modelmeta(self) -> ModelMetadata:
        """What the model says about itself."""
        return deepcopy(self._metadata)

    def get_session_options(self) -> SessionOptions:
        """A copy of the options the session was made with."""
        return deepcopy(self._options)

    def explain(self) -> tuple[Placement, ...]:
        """For every node of the optimised model which provider runs it, and why."""
        return self._placements

    def step_times(self) -> list[StepTime]:
        """When each step of the newest run began and how long it took, in order; empty without profiling."""
        if self._trace is None:
            return []
        with self._traced:
            return [step for _, executable in self._executables for step in executable.profile()]

    def get_profiling_start_time_ns(self) -> int:
        """The clock (`time.perf_counter_ns`) at time 0 of the profile; 0 without profiling."""
        return self._trace.start_ns if self._trace is not None else 0

    def end_profiling(self) -> str:
        """Write what has been profiled so far and return the file's name; empty without profiling."""
        return self._trace.write(self._options.profile_file_prefix) if self._trace is not None else ""

    def __reduce__(self) -> tuple[Any, ...]:
        source = self._source
        if not isinstance(source, str | bytes):
            source = _serialized(source)
        asked = [(choice.provider.name, dict(choice.options)) for choice in self._choices if not choice.implied]
        return (InferenceSession, (source, self._options, asked))

    def __repr__(self) -> str:
        return f"<InferenceSession {self._where} on {', '.join(self.get_providers())}>"

    def _compile(self, parts: Partition) -> list[tuple[str, Executable]]:
        options = {choice.provider.name: choice.options for choice in self._choices}
        threads = self._threads()
        compiled = []
        for segment in parts.segments:
            name = segment.provider.name
            asked = CompileOptions(threads, self._options.enable_profiling, options[name])
            compiled.append((name, segment.provider.compile(segment.model, asked)))
        return compiled

    def _threads(self) -> int:
        """Threads of a call; 0: as many as the machine allows."""
        mode = self._options.config_entries.get(MODE_ENTRY) or config.MODE.get()
        if mode not in ("latency", "throughput"):
            expected = "latency or throughput"
            raise InvalidInputError("an unknown mode", where=f"config entry {MODE_ENTRY}", expected=expected, got=mode)
        return self._options.intra_op_num_threads or (1 if mode == "throughput" else config.THREADS.get())

    def _chosen(self, output_names: Sequence[str]) -> list[int]:
        if isinstance(output_names, str):
            raise InvalidInputError(
                "output_names is one name", expected="a list of names or None", fix=f"pass [{output_names!r}]"
            )
        if not isinstance(output_names, list | tuple):
            got = type(output_names).__name__
            raise InvalidInputError("output_names is not a list", expected="a list of names or None", got=got)
        chosen = []
        for name in output_names:
            position = self._positions.get(name) if isinstance(name, str) else None
            if position is None:
                close = closest(name, self._positions)
                raise InvalidInputError(
                    f"no output {name!r}",
                    expected=f"some of {', '.join(map(repr, self._positions))}",
                    fix=f"did you mean {close!r}?" if close else None,
                )
            chosen.append(position)
        return chosen

    def _run_traced(self, inputs: list[Any], trace: Trace) -> list[Any]:
        # Executables report the steps of their newest run, so profiled runs go one at a time.
        with self._traced:
            start = time.perf_counter_ns()
            outputs = self._execute(inputs)
            end = time.perf_counter_ns()
            shown = {choice.provider.name: _public_name(choice) for choice in self._choices}
            trace.add_run(start, end, [(shown[name], executable.profile()) for name, executable in self._executables])
        return outputs


def get_available_providers() -> list[str]:
    """Names of the providers that can run on this machine, as `providers=` takes them."""
    return registry.available()


def get_all_providers() -> list[str]:
    """Names of all installed providers, whether they can run on this machine or not."""
    return list(registry.names())


def get_device() -> str:
    """The kind of device sessions run on unless told otherwise, as onnxruntime says it."""
    return "CPU"


@cache
def _warn_once() -> None:
    config.warn_unknown()


def _snapshot(options: SessionOptions | None) -> SessionOptions:
    if options is None:
        return SessionOptions()
    if not isinstance(options, SessionOptions):
        raise _wrong_options("sess_options", "sardonyx.SessionOptions", options)
    if options.intra_op_num_threads < 0:
        raise InvalidInputError(
            "a negative number of threads",
            where="SessionOptions.intra_op_num_threads",
            expected="0 (as many as the machine allows) or more",
            got=str(options.intra_op_num_threads),
        )
    return deepcopy(options)


def _wrong_options(name: str, expected: str, got: Any) -> InvalidInputError:
    kind = type(got)
    return InvalidInputError(f"{name} of the wrong type", expected=expected, got=f"{kind.__module__}.{kind.__name__}")


def _public_name(choice: registry.Choice) -> str:
    aliases = choice.provider.aliases
    return next((alias for alias in aliases if alias.endswith("ExecutionProvider")), choice.provider.name)


def _load(source: Source, options: SessionOptions) -> tuple[str | bytes | ir.Model, ir.Model, str]:
    """The source in a form to remember, the model (ours to change), and how errors name it."""
    from sardonyx.model import file  # before onnx_ir, whose import it makes light

    # isort: split
    import onnx
    import onnx_ir as ir

    from sardonyx.model.check import require_valid
    from sardonyx.model.supplied import Supplied
    from sardonyx.passes.normalize import normalized

    if isinstance(source, ir.Model) and (options.given_initializers or options.given_external_initializers):
        source = _serialized(source)
    if isinstance(source, ir.Model):
        where = f"model {source.graph.name!r}"
        require_valid(source, where)
        kept_model = normalized(source)
        return kept_model, normalized(kept_model), where
    if isinstance(source, onnx.ModelProto):
        source = _serialized(source)
    kept: str | bytes
    if isinstance(source, bytes | bytearray | memoryview):
        kept = bytes(source)
        where = f"model of {len(kept)} bytes"
    elif isinstance(source, str | os.PathLike):
        where = os.fspath(source)
        kept = os.path.abspath(where)  # noqa: PTH100 - the process may change its folder later
    else:
        raise ModelFileError(
            "no model given",
            expected="a path, bytes, an onnx_ir.Model or an onnx.ModelProto",
            got="None" if source is None else type(source).__name__,
        )
    folder = options.config_entries.get(FOLDER_ENTRY)
    supplied = Supplied(
        Path(folder) if folder else None,
        options.files_in_memory,
        options.given_initializers,
        options.given_external_initializers,
    )
    model = file.load(kept, supplied)
    require_valid(model, where)
    return kept, model, where


def _serialized(model: ir.Model | onnx.ModelProto) -> bytes:
    import onnx
    from google.protobuf.message import EncodeError

    from sardonyx.model.proto import to_proto

    proto = model if isinstance(model, onnx.ModelProto) else to_proto(model, f"model {model.graph.name!r}")
    try:
        data: bytes = proto.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise ModelFileError(
            f"a model past 2 GiB cannot be turned into bytes: {error}",
            fix="save it to a file and give its path",
        ) from error
    return data


def _prepare(model: ir.Model, options: SessionOptions, provider: Provider) -> ir.Model:
    """The model as it is partitioned: functions and foreign operators expanded, shapes inferred, optimised."""
    from sardonyx.model.shapes import fix_denoted, fix_dimensions, infer_shapes, open_symbols
    from sardonyx.model.standard.gradient import expand_gradients
    from sardonyx.model.standard.old_forms import rename_attributes
    from sardonyx.passes.inline import inline_functions
    from sardonyx.passes.normalize import normalized
    from sardonyx.passes.pipeline import NEWEST_OPSET, optimize
    from sardonyx.passes.verify import Debug

    inline_functions(model)
    unknown = fix_dimensions(model.graph, options.free_dimension_overrides)
    unknown += fix_denoted(model.graph, options.free_denotation_overrides)
    if unknown:
        warnings.warn(f"no dimension of the model is called {', '.join(map(repr, unknown))}", stacklevel=3)
    if options.config_entries.get(SYMBOLS_ENTRY) == "distinct":
        open_symbols(model.graph)
    rename_attributes(model)
    expand_foreign(model, provider)
    infer_shapes(model)
    expand_gradients(model)
    level = _level(options.graph_optimization_level)
    debug = Debug() if config.DEBUG.get() else None
    # A file can only hold operators of the model's own opset.
    newest = None if options.optimized_model_filepath else NEWEST_OPSET
    if level == "off":
        model = normalized(model)
    else:
        model = optimize(model, level=level, opset_ceiling=newest, debug=debug)
    if options.optimized_model_filepath:
        from sardonyx.model import file

        file.save(model, options.optimized_model_filepath)
    return model


def _level(level: GraphOptimizationLevel) -> Literal["off", "basic", "all"]:
    if level == GraphOptimizationLevel.ORT_DISABLE_ALL:
        return "off"
    return "basic" if level == GraphOptimizationLevel.ORT_ENABLE_BASIC else "all"


def _metadata(model: ir.Model) -> ModelMetadata:
    return ModelMetadata(
        producer_name=model.producer_name or "",
        graph_name=model.graph.name or "",
        domain=model.domain or "",
        description=model.doc_string or "",
        graph_description=model.graph.doc_string or "",
        version=model.model_version or 0,
        custom_metadata_map=dict(model.metadata_props),
    )
