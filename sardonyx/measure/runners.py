"""Runtimes behind one small interface, so that they can be measured and compared side by side.

`runners()` is the one table of them: every Sardonyx provider, then the peers. A runtime's package is imported
only when it is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from sardonyx.errors import MissingExtraError, ProviderError
from sardonyx.providers.base import Array, Availability

Source = Path | bytes
Inputs = Mapping[str, Array]
Run = Callable[[Inputs], list[Array]]


class Runner(Protocol):
    """A way to run a model. Holds no state: `load` returns the function that runs."""

    @property
    def name(self) -> str:
        """As in the table of `runners`."""
        ...

    def availability(self) -> Availability:
        """Whether `load` can work on this machine. Cheap; imports nothing heavy."""
        ...

    def load(self, model: Source, threads: int) -> Run:
        """A function from inputs by name to fresh outputs in the model's order.

        `threads` counts all threads a run may use, the caller's included. A model the runtime refuses is a
        ProviderError that carries the runtime's own words.
        """
        ...


@dataclass(frozen=True)
class SardonyxRunner:
    """One provider of Sardonyx."""

    provider: str

    @property
    def name(self) -> str:
        """`sardonyx/` and the provider's name."""
        return f"sardonyx/{self.provider}"

    def availability(self) -> Availability:
        """What the provider says of itself."""
        from sardonyx.providers import registry

        return registry.availability()[self.provider]

    def load(self, model: Source, threads: int) -> Run:
        """A session of this provider alone."""
        import sardonyx

        options = sardonyx.SessionOptions()
        options.intra_op_num_threads = threads
        session = sardonyx.InferenceSession(model, options, providers=[self.provider])
        return lambda inputs: [_array(output) for output in session.run(None, inputs)]


@dataclass(frozen=True)
class OnnxRuntimeRunner:
    """onnxruntime on its CPU provider, with its default optimisations."""

    name: str = "onnxruntime"

    def availability(self) -> Availability:
        """Whether the package is installed."""
        return _installed("onnxruntime")

    def load(self, model: Source, threads: int) -> Run:
        """An InferenceSession with `threads` intra-op threads."""
        session, refusals = self.session(model, threads), onnxruntime_refusals()

        def run(inputs: Inputs) -> list[Array]:
            try:
                return [_array(output) for output in session.run(None, inputs)]
            except refusals as error:
                raise _refused(self.name, str(error)) from error

        return run

    def session(self, model: Source, threads: int) -> Any:
        """onnxruntime's own InferenceSession; ProviderError where it refuses the model."""
        _require("onnxruntime")
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # its warnings about a model are not ours to print
        source = model if isinstance(model, bytes) else str(model)
        try:
            return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except onnxruntime_refusals() as error:
            raise _refused(self.name, str(error)) from error


def onnxruntime_refusals() -> tuple[type[Exception], ...]:
    """What onnxruntime raises for a model or inputs it will not run."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
    return tuple(getattr(state, name) for name in (*names, "RuntimeException"))


@dataclass(frozen=True)
class OpenVinoRunner:
    """OpenVINO on the CPU, asked for the lowest latency at full float32 precision."""

    name: str = "openvino"

    def availability(self) -> Availability:
        """Whether the package is installed."""
        return _installed("openvino")

    def load(self, model: Source, threads: int) -> Run:
        """A compiled model's inference request."""
        _require("openvino")
        import openvino

        config = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # its default is bf16 where the processor has it
            "INFERENCE_NUM_THREADS": threads,
        }
        core = openvino.Core()
        try:
            network = core.read_model(model if isinstance(model, bytes) else str(model))
            request = core.compile_model(network, "CPU", config).create_infer_request()
        except RuntimeError as error:
            raise _refused(self.name, str(error)) from error

        def run(inputs: Inputs) -> list[Array]:
            try:
                return list(request.infer(dict(inputs), share_inputs=True).to_tuple())
            except RuntimeError as error:
                raise _refused(self.name, str(error)) from error

        return run


PEERS: tuple[Runner, ...] = (OnnxRuntimeRunner(), OpenVinoRunner())


def runners() -> dict[str, Runner]:
    """Every runner by name, available or not: Sardonyx's providers, then the peers."""
    from sardonyx.providers import registry

    own: list[Runner] = [SardonyxRunner(name) for name in registry.whole()]
    return {runner.name: runner for runner in [*own, *PEERS]}


def available_runners() -> dict[str, Availability]:
    """For every runner by name: can it run here, and if not, why and what to do about it."""
    return {name: runner.availability() for name, runner in runners().items()}


def runner(name: str) -> Runner:
    """The runner called `name` (`cpu` stands for `sardonyx/cpu`); ProviderError unless it can run here."""
    table = runners()
    found = table.get(name) or table.get(f"sardonyx/{name}")
    if found is None:
        raise ProviderError(f"unknown runtime {name!r}", expected=f"one of {', '.join(table)}")
    state = found.availability()
    if not state.available:
        raise ProviderError(f"{found.name} cannot run here: {state.reason}", fix=state.fix or None)
    return found


def default_threads() -> int:
    """The number of processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _installed(package: str) -> Availability:
    if find_spec(package) is None:
        return Availability(False, f"the package {package!r} is not installed", "pip install 'sardonyx[peers]'")
    try:
        return Availability(True, f"version {version(package)}")
    except PackageNotFoundError:
        return Availability(True, "from a source tree")


def _require(package: str) -> None:
    if find_spec(package) is None:
        raise MissingExtraError.of(package, "peers", f"running on {package}")


def _refused(name: str, words: str) -> ProviderError:
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return ProviderError(f"{name} cannot run this model", got=" ".join(lines)[:500])


def _array(output: Any) -> Array:
    import numpy as np

    return np.asarray(output)
