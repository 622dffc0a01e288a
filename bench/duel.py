"""One network on Sardonyx and on the peers: the same inputs, answers held against float64, times taken by turns."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.direct import OURS
from bench.float64 import Array, reference
from bench.models import Subject, chosen
from bench.verdict import Spread, Verdict, judge, round_ratios, spread
from sardonyx.errors import InvalidInputError, SardonyxError
from sardonyx.measure.compare import difference
from sardonyx.measure.inputs import random_inputs, specs
from sardonyx.measure.timing import Plan, measure
from sardonyx.measure.trial import attempt


@dataclass(frozen=True)
class Protocol:
    """How it is measured. `seconds` are those of the timed calls of one runtime in one round."""

    peers: tuple[str, ...]
    threads: int
    batch: int
    rounds: int
    seconds: float


@dataclass(frozen=True)
class Result:
    """What came out for one network.

    `ms` are each runtime's median times over all rounds, `errors` the relative L2 errors of its outputs to float64,
    `failures` what the runtimes said that could not run it. `ratio` is the time of the fastest peer of a round over
    ours, above 1 where Sardonyx is faster; None when it or all the peers failed. `moved` are the bytes that a run of a
    network that streams must at least read or write, None for the others.
    """

    subject: Subject
    ms: Mapping[str, float]
    errors: Mapping[str, float]
    failures: Mapping[str, str]
    ratio: Spread | None
    moved: int | None = None

    @property
    def gbytes(self) -> float | None:
        """GB/s at which Sardonyx moves what must be moved."""
        return None if self.moved is None or OURS not in self.ms else 1e-6 * self.moved / self.ms[OURS]

    @property
    def error(self) -> float | None:
        """Our relative L2 error; None when there is no answer, or one with NaN or infinities that float64 has not."""
        found = self.errors.get(OURS, math.inf)
        return found if math.isfinite(found) else None

    @property
    def right(self) -> bool:
        """Whether Sardonyx ran it and is exact enough."""
        return self.error is not None and self.error <= self.subject.most_error

    @property
    def verdict(self) -> Verdict:
        """What is to be said of speed; a network that could not be measured fails."""
        return judge(self.ratio, self.subject.goal) if self.ratio is not None else Verdict.FAIL

    @property
    def best_peer(self) -> str:
        """The peer with the least time; empty when none ran."""
        return min((name for name in self.ms if name != OURS), key=lambda name: self.ms[name], default="")


@dataclass(frozen=True)
class Case:
    """A model file and inputs for it."""

    name: str
    path: Path
    inputs: Mapping[str, Array]


@contextmanager
def case(subject: Subject | str, batch: int = 1, dims: Mapping[str, int] | None = None) -> Iterator[Case]:
    """A subject, by name too (by a network's, its first), or an ONNX file, for which `batch` does not count.

    `dims` are sizes of symbols besides those of the subject. InvalidInputError where one is left open.
    """
    from sardonyx.model import file

    if isinstance(subject, str) and Path(subject).is_file():
        yield Case(Path(subject).name, Path(subject), inputs_of(Path(subject), dims or {}))
        return
    found = chosen([subject])[0] if isinstance(subject, str) else subject
    with tempfile.TemporaryDirectory(prefix="sardonyx-bench-") as folder:
        path = Path(folder) / f"{found.name}.onnx"
        file.save(found.build(batch), path)
        yield Case(found.name, path, inputs_of(path, {**found.dims, **(dims or {})}))


def dims_of(model: str) -> dict[str, int]:
    """The dims at which a network is first measured; none for a file."""
    return {} if Path(model).is_file() else dict(chosen([model])[0].dims)


def inputs_of(path: Path, dims: Mapping[str, int]) -> dict[str, Array]:
    """Inputs for a model, its symbols of these sizes; InvalidInputError where one is left open."""
    from sardonyx.feeds import node_arg
    from sardonyx.model import file

    model = file.load(path)
    wanted = specs([node_arg(value) for value in model.graph.inputs], dims, model)
    if assumed := sorted({name for spec in wanted for name in spec.assumed}):
        raise InvalidInputError(
            "an input has no fixed dims", where=path.name, got=", ".join(assumed), fix=f"--dim {assumed[0]}=1"
        )
    return random_inputs(wanted)


def moved_bytes(path: Path, inputs: Mapping[str, Array], outputs: Sequence[Array]) -> int:
    """Bytes that a run must read or write at the least: weights but for tables that are looked up, inputs, outputs."""
    from sardonyx.model import file

    graph = file.load(path).graph
    read = [
        value.const_value.nbytes
        for value in graph.initializers.values()
        if value.const_value is not None and any(node.op_type != "Gather" for node, _ in value.uses())
    ]
    return sum(read) + sum(array.nbytes for array in (*inputs.values(), *outputs))


def duel(subject: Subject, protocol: Protocol, progress: Callable[[str], None]) -> Result:
    """Measure one network. `progress` hears `turns(protocol)` times what is done now."""
    progress(f"{subject.name}: float64 reference")
    with case(subject, protocol.batch) as made:
        exact, _ = reference(made.path, made.inputs)
        tried = attempt((OURS, *protocol.peers), made.path, made.inputs, protocol.threads)
        failures = {name: str(error) for name, error in tried.errors.items()}
        errors: dict[str, float] = {}
        for name, outputs in tried.outputs.items():
            try:
                errors[name] = difference(outputs, exact).rel_l2
            except SardonyxError as error:  # outputs of another number or shape are no answer
                failures[name] = str(error)
        answer = tried.outputs.get(OURS, ())
        moved = moved_bytes(made.path, made.inputs, answer) if subject.streams else None
        medians: Mapping[str, Sequence[float]] = {}
        if OURS in errors:
            runs = {name: run for name, run in tried.runs.items() if name in errors}
            plan = Plan(rounds=protocol.rounds, seconds=protocol.seconds * protocol.rounds)
            medians = measure(runs, made.inputs, plan, progress=lambda n: progress(f"{subject.name}: {n}")).medians
    ms = {name: statistics.median(times) for name, times in medians.items()}
    ratio = spread(round_ratios(medians, OURS)) if len(ms) > 1 else None
    return Result(subject, ms, errors, failures, ratio, moved)


def turns(subjects: Sequence[Subject], protocol: Protocol) -> int:
    """How often `duel` tells its progress over all these subjects."""
    return len(subjects) * (1 + protocol.rounds * (1 + len(protocol.peers)))
