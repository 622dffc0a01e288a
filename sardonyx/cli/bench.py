"""`sardonyx bench`: how fast a model runs, next to other runtimes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sardonyx.cli import common

if TYPE_CHECKING:
    from sardonyx.errors import SardonyxError
    from sardonyx.measure.footprint import Footprint
    from sardonyx.measure.runners import Inputs
    from sardonyx.measure.timing import Plan, Timing


@dataclass(frozen=True)
class Job:
    """What is measured: a model and its inputs on named runtimes, the first of them Sardonyx."""

    model: Path
    inputs: Inputs
    names: tuple[str, ...]
    threads: int
    plan: Plan


@dataclass(frozen=True)
class Measured:
    """The measurements, and the peers that cannot run the model with what they say of it."""

    timing: Timing
    footprints: tuple[Footprint, ...]
    failed: dict[str, SardonyxError]


@common.reports_errors
def bench(
    *,
    model: common.Model = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Peers, with commas: onnxruntime, openvino; or none.",
            show_default="the installed ones",
        ),
    ] = None,
    provider: Annotated[str, typer.Option(help="The provider of Sardonyx to measure.")] = "cpu",
    threads: common.Threads = None,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Turns of each runtime.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.01, max=3600, help="Time of calls of each runtime, in all.")] = 2.0,
    dim: common.Dims = None,
    seed: common.Seed = 0,
    json_: common.JSON = False,
    debug: common.Debug = False,
) -> None:
    """Measure latency, throughput, load time and memory, interleaved with other runtimes.

    Inputs are made up. Ratios are the peer's time over Sardonyx's: above 1 Sardonyx is faster.
    """
    from sardonyx.measure.inputs import random_inputs, specs
    from sardonyx.measure.runners import default_threads, runner
    from sardonyx.measure.timing import Plan
    from sardonyx.model.file import load

    path = common.model_or_digits(model)
    names = (runner(f"sardonyx/{provider}").name, *_peers(against))
    dims = common.parse_dims(dim)
    declared = common.open_session(path, [provider], threads).get_inputs()
    inputs = random_inputs(specs(declared, dims, load(path)), seed)
    job = Job(path, inputs, names, threads or default_threads(), Plan(rounds=rounds, seconds=seconds))
    found = _measure(job)
    if json_:
        common.print_json(_machine(job, found))
    else:
        _tell(job, found)


def _peers(against: str | None) -> list[str]:
    """Names of the peers to measure. Those asked for must be there; by default it is those that are."""
    from sardonyx.measure.runners import PEERS, runner

    if against is None:
        return [peer.name for peer in PEERS if peer.availability().available]
    wanted = [name.strip() for name in against.split(",") if name.strip() not in ("", "none")]
    return list(dict.fromkeys(runner(name).name for name in wanted))


def _measure(job: Job) -> Measured:
    from sardonyx.measure.footprint import footprint
    from sardonyx.measure.timing import measure
    from sardonyx.measure.trial import attempt

    with common.progress((job.plan.rounds + 1) * len(job.names)) as step:
        tried = attempt(job.names, job.model, job.inputs, job.threads)
        if job.names[0] in tried.errors:
            raise tried.errors[job.names[0]]
        timing = measure(tried.runs, job.inputs, job.plan, progress=lambda name: step(f"timing {name}"))
        costs = []
        for name in tried.runs:
            step(f"memory of {name}")
            costs.append(footprint(name, job.model, job.inputs, job.threads))
    return Measured(timing, tuple(costs), tried.errors)


def _machine(job: Job, found: Measured) -> dict[str, Any]:
    costs = {cost.name: asdict(cost) for cost in found.footprints}
    ratios = {ratio.peer: asdict(ratio) for ratio in found.timing.ratios}
    return {
        "model": str(job.model),
        "threads": job.threads,
        "inputs": {name: {"dtype": str(a.dtype), "shape": list(a.shape)} for name, a in job.inputs.items()},
        "plan": asdict(job.plan),
        "ratio": "the peer's time over that of the first runtime; above 1 the first is faster",
        "runtimes": [
            {**asdict(latency), **costs[latency.name], "ratio": ratios.get(latency.name)}
            for latency in found.timing.latencies
        ],
        "failed": {name: error.as_dict() for name, error in found.failed.items()},
    }


def _tell(job: Job, found: Measured) -> None:
    console = common.stdout()
    shapes = ", ".join(f"{name} {a.dtype} {list(a.shape)}" for name, a in job.inputs.items())
    how = f"{job.plan.rounds} interleaved rounds, {job.plan.seconds:g} s of calls for each runtime"
    console.print(common.text(f"{job.model.name}: {shapes}", style="bold"))
    console.print(common.text(f"{job.threads} threads; {how}", style="dim"))
    _tell_latencies(job, found.timing)
    costs = [(c.name, f"{c.load_ms:.0f}", f"{c.first_run_ms:.1f}", _or_unknown(c.peak_mib)) for c in found.footprints]
    head = ("load ms", "first run ms", "peak MiB")
    title = "In a fresh process, above the bare runtime"
    common.print_table(title, "runtime", *head, rows=costs, numeric=head)
    for name, error in found.failed.items():
        console.print(common.text(f"{name} is left out: {error}", style="yellow"))


def _tell_latencies(job: Job, timing: Timing) -> None:
    ours = job.names[0]
    times = [
        (
            x.name,
            f"{x.p50_ms:.3f}",
            f"{x.p90_ms:.3f}",
            f"{x.p99_ms:.3f}",
            f"{x.throughput:,.0f}",
            f"{x.calls:,}",
        )
        for x in timing.latencies
    ]
    head = ("p50 ms", "p90 ms", "p99 ms", "runs/s", "calls")
    common.print_table("Latency", "runtime", *head, rows=times, numeric=head)
    ratios = [(r.peer, f"{r.median:.2f}x", f"{r.low:.2f} to {r.high:.2f}") for r in timing.ratios]
    if ratios:
        title = f"Peer's time / {ours}'s time (above 1: {ours} is faster)"
        common.print_table(title, "peer", "median", "rounds", rows=ratios, numeric=("median",))


def _or_unknown(mib: float | None) -> str:
    return "unknown" if mib is None else f"{mib:.1f}"
