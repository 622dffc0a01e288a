"""Does the ONNX model compute what its source computes? Both run on the same inputs; the report says on what, by whom.

The first oracle that can be had is taken: the framework, recorded values, an independent evaluation. Without any, the
report says "unverified", which is a verdict of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from sardonyx.convert.base import Array, Converted, Oracle, Sample, Values
from sardonyx.convert.finish import Finished
from sardonyx.errors import InvalidInputError, MissingExtraError, SardonyxError

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.session import InferenceSession

Verdict = Literal["verified", "different", "unverified"]
T = TypeVar("T")

TOLERANCES = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-5, "float64": 1e-5}
"""The largest relative L2 difference of an output, by its type. Labels and other integers must be equal."""

BATCHES = (1, 3)
MANY = 64
"""Rows of a third batch, where a reader makes up rows of few numbers: pictures would take gigabytes."""
MOST_ELEMENTS = 1 << 18
"""Numbers in such a batch."""
SIZES = (16, 33, 64, 128, 224)
"""What open dims besides the batch are tried with; the first two that the source takes count."""


@dataclass(frozen=True)
class Comparison:
    """One output for one sample: the largest absolute and the relative L2 difference from the source's."""

    output: str
    sample: str
    shape: tuple[int, ...]
    dtype: str
    max_abs: float
    relative: float
    tolerance: float

    @property
    def same(self) -> bool:
        """Whether the difference is rounding."""
        return self.relative <= self.tolerance


@dataclass(frozen=True)
class Parity:
    """The report. `oracle` computed the source's values, `runtime` the model's; `notes` say what could not be had.

    `diverging` is the first of the source's layers that differs, where layers' values are known.
    """

    source: str
    format: str
    route: str
    verdict: Verdict
    oracle: str | None
    runtime: str
    comparisons: tuple[Comparison, ...] = ()
    notes: tuple[str, ...] = ()
    diverging: str | None = None
    source_sha256: str | None = None

    def worst(self) -> Comparison | None:
        """The comparison that is furthest from its tolerance."""
        return max(self.comparisons, key=lambda one: one.relative / max(one.tolerance, 1e-30), default=None)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; infinite differences become null."""
        facts = asdict(self)
        for told, one in zip(facts["comparisons"], self.comparisons, strict=True):
            told["shape"], told["same"] = list(one.shape), one.same
            for key in ("max_abs", "relative"):
                told[key] = told[key] if np.isfinite(told[key]) else None
        return facts

    def to_json(self) -> str:
        """The report as indented JSON."""
        return json.dumps(self.as_dict(), indent=1)


@dataclass(frozen=True)
class _Run:
    """The model on a sample: `feeds` as it takes them, and outputs by name, which a thread computes meanwhile."""

    sample: Sample
    feeds: dict[str, Array]
    outputs: Future[dict[str, Array]]


@dataclass
class Check:
    """A comparison in the making.

    The model is compiled and run in a thread of its own, while the source's values are computed in the caller's: both
    take about as long, and neither is given anything by the other.
    """

    converted: Converted
    finished: Finished
    where: str
    data: Sequence[Sample] = ()
    tolerance: float | None = None
    seed: int = 0
    tell: Callable[[str], None] = lambda message: None
    notes: list[str] = field(default_factory=list)
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "parity"))

    def run(self) -> Parity:
        """The report. Never raises for what the source or the model does with the inputs; that is its content."""
        try:
            return self._report()
        finally:
            self._thread.shutdown(cancel_futures=True)

    def _report(self) -> Parity:
        empty = Parity(self.where, self.converted.format, self.converted.route, "unverified", None, self._runtime)
        recorded = [sample for sample in (*self.data, *self.converted.samples) if sample.outputs is not None]
        compared: list[Comparison] = []
        names: list[str] = []
        diverging = None
        try:
            for oracle, runs in self._computed():
                compared = self._compare(runs)
                if any(not one.same for one in compared):
                    diverging = self._diverging(runs)
                names.append(oracle)
                break
            if recorded:
                compared += self._compare([self._run(sample) for sample in recorded])
                names.append("recorded outputs")
        except _FailedError as failure:
            return replace(empty, verdict="different", oracle=" and ".join(names) or None,
                           notes=(*self.notes, str(failure)))  # fmt: skip
        if not compared:
            return replace(empty, notes=tuple(self.notes))
        verdict: Verdict = "verified" if all(one.same for one in compared) else "different"
        return replace(
            empty, verdict=verdict, oracle=" and ".join(names), comparisons=tuple(compared),
            notes=tuple(self.notes), diverging=diverging,
        )  # fmt: skip

    @property
    def _runtime(self) -> str:
        import sardonyx

        return f"sardonyx {sardonyx.__version__}"

    @cached_property
    def _session(self) -> InferenceSession:
        from sardonyx.session import InferenceSession

        try:
            return InferenceSession(self.finished.model)
        except SardonyxError as error:
            raise _FailedError(f"the converted model does not load: {error}") from error

    def _in_thread(self, do: Callable[..., T], *arguments: Any) -> Future[T]:
        return self._thread.submit(copy_context().run, do, *arguments)

    def _run(self, sample: Sample) -> _Run:
        """Begin to run the model on a sample."""
        feeds = self._fitting(self.finished.from_source(sample.inputs))
        return _Run(sample, feeds, self._in_thread(self._outputs, feeds, sample.origin))

    def _computed(self) -> Iterator[tuple[str, list[_Run]]]:
        """The oracle's name and samples with its outputs: of the first oracle that takes any."""
        for make in self.converted.oracles:
            try:
                oracle = make()
            except MissingExtraError as error:
                self.notes.append(str(error))
                continue
            except Exception as error:  # whatever a framework raises
                self.notes.append(f"an oracle could not be made: {_line(error)}")
                continue
            if oracle is None:
                continue
            self.tell(f"comparing with {oracle.name}")
            self._in_thread(getattr, self, "_session")
            runs = [self._run(sample) for sample in self._answered(oracle)]
            if runs:
                yield oracle.name, runs

    def _answered(self, oracle: Oracle) -> Iterator[Sample]:
        """Samples with what the oracle makes of them. Of several sizes for open dims two are enough."""
        problems: list[str] = []
        answered = 0
        for choices, enough in self._wanted():
            found = 0
            for sample in choices:
                try:
                    outputs = oracle.run(sample.inputs)
                except Exception as error:  # whatever a framework raises
                    problems.append(f"{oracle.name} on {sample.origin}: {_line(error)}")
                    continue
                answered += 1
                found += 1
                yield replace(sample, outputs=outputs)
                if found == enough:
                    break
        if not answered:
            self.notes.extend(dict.fromkeys(problems[:3]))

    def _wanted(self) -> Iterator[tuple[Iterator[Sample], int]]:
        """Groups of samples, and how many of a group are enough."""
        given = [replace(sample, outputs=None) for sample in (*self.data, *self.converted.samples)]
        if given:
            yield iter(given), 8
        if self.converted.make_inputs is not None:
            yield self._made(self.converted.make_inputs), 3
            return
        for index, batch in enumerate(BATCHES):
            yield self._made_up(batch, self.seed + index), 2 if index == 0 else 1

    def _made(self, make: Callable[[int, np.random.Generator], Values]) -> Iterator[Sample]:
        """What the reader makes up: small rows many at a time too, of which each takes another way through a tree."""
        rng, row = np.random.default_rng(self.seed), 0
        for size in (*BATCHES, MANY):
            if size == MANY and size * row > MOST_ELEMENTS:
                return
            inputs = make(size, rng)
            row = sum(value.size for value in inputs.values()) // size
            yield Sample(inputs, origin=f"made up, batch {size}")

    def _made_up(self, batch: int, seed: int) -> Iterator[Sample]:
        from sardonyx.feeds import node_arg
        from sardonyx.measure.inputs import random_inputs, specs

        model = self.finished.model
        declared = [node_arg(value) for value in model.graph.inputs if value.const_value is None]
        firsts = {value.shape[0] for value in declared if value.shape and not isinstance(value.shape[0], int)}
        named = {f"{value.name}[0]" for value in declared if value.shape and value.shape[0] is None}
        first = {str(name) for name in firsts if name} | named
        try:
            others = {name for spec in specs(declared, None, model) for name in spec.assumed} - first
        except InvalidInputError as error:
            self.notes.append(f"no inputs can be made up: {error}")
            return
        for size in SIZES if others else (0,):
            dims = dict.fromkeys(first, batch) | dict.fromkeys(others, size)
            inputs = random_inputs(specs(declared, dims, model), seed)
            told = ", ".join([f"batch {batch}", *([f"open dims {size}"] if others else []), f"seed {seed}"])
            yield Sample(self.finished.to_source(inputs), origin=f"made up, {told}")

    def _compare(self, runs: Sequence[_Run]) -> list[Comparison]:
        found: list[Comparison] = []
        for run in runs:
            outputs, origin = run.outputs.result(), run.sample.origin
            wanted = self.finished.results(run.sample.outputs or {})
            if not wanted:
                raise _FailedError(f"the source gave none of the outputs {', '.join(outputs)} ({origin})")
            found += [self._compared(name, origin, outputs[name], want) for name, want in wanted.items()]
        return found

    def _fitting(self, feeds: Values) -> dict[str, Array]:
        """In the types that the model takes: recorded values may be wider."""
        dtypes = {value.name: value.dtype for value in self.finished.model.graph.inputs}
        return {name: _cast(value, dtypes.get(name)) for name, value in feeds.items()}

    def _outputs(self, feeds: Values, origin: str) -> dict[str, Array]:
        names = [value.name for value in self._session.get_outputs()]
        try:
            return dict(zip(names, self._session.run(None, feeds), strict=True))
        except SardonyxError as error:
            raise _FailedError(f"the converted model fails where the source runs ({origin}): {error}") from error

    def _compared(self, name: str, sample: str, have: Any, want: Array) -> Comparison:
        from sardonyx.measure.compare import difference

        have = np.asarray(have)
        exact = have.dtype.kind in "biuOSU"
        tolerance = 0.0 if exact else self._tolerance(str(have.dtype))
        if exact and have.dtype.kind in "iu" and self.converted.tolerance and self.converted.tolerance >= 1:
            tolerance = self.converted.tolerance  # quantised outputs may be so many steps apart
        fits = have.shape == want.shape
        apart = difference([have], [want]) if fits else None
        if exact and tolerance and apart is not None:
            apart = replace(apart, rel_l2=apart.max_abs)
        return Comparison(
            name, sample, tuple(have.shape), str(have.dtype) if fits else f"{have.dtype}, the source's {want.shape}",
            apart.max_abs if apart else float("inf"), apart.rel_l2 if apart else float("inf"), tolerance,
        )  # fmt: skip

    def _tolerance(self, dtype: str) -> float:
        if self.tolerance is not None:
            return self.tolerance
        own = self.converted.tolerance
        return max(TOLERANCES.get(dtype, 1e-5), own if own is not None and own < 1 else 0.0)

    def _diverging(self, runs: Sequence[_Run]) -> str | None:
        """The first layer, in the model's order, whose values differ from the source's."""
        from sardonyx.session import InferenceSession

        for run in runs:
            told = run.sample.outputs or {}
            model = self.finished.model.clone()
            wanted = _with_outputs(model, {k: v for k, v in self.converted.layers.items() if v in told})
            if not wanted:
                return None
            names = [value.name or "" for value in model.graph.outputs]
            try:
                values = dict(zip(names, InferenceSession(model).run(None, run.feeds), strict=True))
            except SardonyxError:
                return None
            for name in wanted:
                layer = self.converted.layers[name]
                want = np.asarray(told[layer])
                if not _alike(np.asarray(values[name]), want, self._tolerance(str(np.asarray(values[name]).dtype))):
                    return layer
        return None


def load_runtime() -> None:
    """Import what a comparison needs: for readers that wait for another process anyway."""
    import sardonyx.session  # noqa: F401
    from sardonyx.providers import registry

    registry.resolve(None, None)


class _FailedError(Exception):
    """The converted model fails: a verdict, not a defect of the comparison."""


def _with_outputs(model: ir.Model, layers: Mapping[str, str]) -> list[str]:
    """Make the values named in `layers` outputs; their names in the order of the graph."""
    found: list[str] = []
    present = {value.name for value in model.graph.outputs}
    for node in model.graph:
        for value in node.outputs:
            name = value.name or ""
            if name in layers and value.type is not None:
                found.append(name)
                if name not in present:
                    model.graph.outputs.append(value)
    return found


def _alike(have: Array, want: Array, tolerance: float) -> bool:
    """Whether both hold the same, perhaps with the channels at another place."""
    from sardonyx.measure.compare import difference

    last = list(range(have.ndim))
    orders = [last, [0, *last[2:], 1], [0, last[-1], *last[1:-1]]] if have.ndim > 2 else [last]
    fitting = [have.transpose(order) for order in orders if have.transpose(order).shape == want.shape]
    if not fitting:
        if have.size != want.size:
            return True  # not the same value at all: nothing can be said
        fitting = [have.reshape(want.shape)]
    return any(difference([one], [want]).rel_l2 <= max(tolerance, 1e-5) for one in fitting)


def _cast(value: Array, dtype: ir.DataType | None) -> Array:
    if dtype is None or value.dtype.kind in "OSU":
        return value
    return np.asarray(value).astype(dtype.numpy(), copy=False)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def recorded_beside(path: Path) -> list[Sample]:
    """Inputs and outputs that lie beside a source: `STEM.samples.npz` with arrays `inputs/NAME` and `outputs/NAME`,
    for several samples `0/inputs/NAME` and so on."""
    file = path.with_name(f"{path.stem}.samples.npz")
    return read_samples(file) if file.is_file() else []


def read_samples(file: Path) -> list[Sample]:
    """The samples in an `.npz` file; keys without `inputs/` or `outputs/` are inputs.

    Raises InvalidInputError when the file is none, or holds Python objects.
    """
    from sardonyx.measure.arrays import load_arrays

    groups: dict[str, tuple[dict[str, Array], dict[str, Array]]] = {}
    for key, array in load_arrays(file).items():
        number, _, rest = key.partition("/") if key.split("/")[0].isdecimal() else ("", "", key)
        kind, _, name = rest.partition("/")
        inputs, outputs = groups.setdefault(number, ({}, {}))
        if kind == "outputs" and name:
            outputs[name] = array
        else:
            inputs[name if kind == "inputs" and name else rest] = array
    origin = str(file.name)
    return [
        Sample(inputs, outputs or None, f"{origin} {number}".strip()) for number, (inputs, outputs) in groups.items()
    ]
