"""`python -m bench`: Sardonyx against every installed peer on every network of the zoo."""

from __future__ import annotations

from typing import Annotated

import typer

from sardonyx.cli import common
from sardonyx.cli.common import Dims

app = typer.Typer(
    help="Measure Sardonyx against the installed peers, and look at where its time goes.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Threads = Annotated[int, typer.Option(min=1, help="Threads of a run, the caller's included.")]
Batch = Annotated[
    int, typer.Option(min=1, help="Batch size of networks of the zoo that are not measured at dims of their own.")
]
Model = Annotated[str, typer.Argument(help="A network of the zoo, a case of one, or an ONNX file.")]

Rounds = Annotated[int, typer.Option(min=1, help="Turns of each runtime.")]
Seconds = Annotated[float, typer.Option(min=0.001, help="Time of calls in one turn.")]


@app.callback(invoke_without_command=True)
@common.reports_errors
def table(
    context: typer.Context,
    *,
    models: Annotated[
        str,
        typer.Option(
            metavar="NAMES", help="Networks or cases of them, with commas.", show_default="the whole zoo and every case"
        ),
    ] = "",
    threads: Threads = 2,
    batch: Batch = 1,
    rounds: Rounds = 7,
    seconds: Seconds = 0.5,
    record: Annotated[bool, typer.Option("--record", help="Add the results to bench/history.jsonl.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit status 1 where a goal is missed.")] = False,
    json_: common.JSON = False,
    debug: common.Debug = False,
) -> None:
    """Measure the networks against the peers: interleaved, as ratios, with answers held against float64.

    A goal is missed when three quarters of the rounds lie below it. A wrong answer is exit status 1 in any case.
    """
    if context.invoked_subcommand is not None:
        return
    from bench import history, show
    from bench.duel import Protocol, duel, turns
    from bench.models import MEAN, chosen, missing, subjects
    from bench.verdict import Verdict, geometric_mean, judge

    wanted = chosen(_names(models))
    protocol = Protocol(_peers(), threads, batch, rounds, seconds)
    with common.progress(turns(wanted, protocol)) as step:
        results = [duel(subject, protocol, step) for subject in wanted]
    ratios = [result.ratio for result in results if result.ratio is not None and result.subject.averaged]
    mean = geometric_mean(ratios) if ratios else None
    judged = len(ratios) == sum(subject.averaged for subject in subjects())
    if record:
        history.append(history.record_of(results, protocol, mean if judged else None))
    if json_:
        common.print_json(show.results_json(results, protocol, mean, judged))
    else:
        show.print_results(results, protocol, mean, judged)
        show.print_streams(results, threads)
        for name in missing():
            common.stdout().print(common.text(f"{name} has a goal, but is not in the zoo yet", style="yellow"))
    failed = any(r.verdict is Verdict.FAIL for r in results)
    failed |= judged and mean is not None and judge(mean, MEAN) is Verdict.FAIL
    if not all(result.right for result in results) or (check and failed):
        raise typer.Exit(1)


def _peers() -> tuple[str, ...]:
    from sardonyx.errors import MissingExtraError
    from sardonyx.measure.runners import PEERS

    found = tuple(peer.name for peer in PEERS if peer.availability().available)
    if not found:
        raise MissingExtraError.of(PEERS[0].name, "peers", "measuring against it")
    return found


@app.command()
@common.reports_errors
def history(
    model: Annotated[
        str | None, typer.Argument(help="A network of the zoo.", show_default="the geometric mean of all")
    ] = None,
    *,
    json_: common.JSON = False,
    debug: common.Debug = False,
) -> None:
    """Show how a network's ratio has changed over the recorded runs."""
    from dataclasses import asdict

    from bench import show
    from bench.history import read

    records = read()
    if json_:
        common.print_json([asdict(record) for record in records])
    else:
        show.print_history(model, records)


@app.command()
@common.reports_errors
def steps(
    model: Model,
    *,
    dim: Dims = None,
    threads: Threads = 2,
    batch: Batch = 1,
    runs: Annotated[int, typer.Option(min=1, help="Runs of which the medians are shown.")] = 50,
    json_: common.JSON = False,
    debug: common.Debug = False,
) -> None:
    """Show the time of every compiled step beside the least it could take on this machine."""
    from bench import show
    from bench.duel import case
    from sardonyx.measure.roofline import roofline
    from sardonyx.measure.steps import measure_steps

    with case(model, batch, common.parse_dims(dim)) as made, common.spinner(f"running {model}"):
        limits = [roofline(count) for count in sorted({1, threads})]
        report = measure_steps(made.path, made.inputs, limits[-1], runs=runs)
    if json_:
        common.print_json(show.steps_json(report, limits))
    else:
        show.print_steps(made.name, report, limits)


@app.command()
@common.reports_errors
def load(
    model: Model,
    *,
    dim: Dims = None,
    threads: Threads = 2,
    batch: Batch = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Fresh processes of each kind.")] = 3,
    json_: common.JSON = False,
    debug: common.Debug = False,
) -> None:
    """Measure load time and peak memory in fresh processes: with an empty cache, with a full one, and the peers."""
    from bench import show
    from bench.duel import case
    from bench.load import load_costs

    peers = _peers()
    with case(model, batch, common.parse_dims(dim)) as made, common.progress(repeats * (2 + len(peers)) + 1) as step:
        costs = show.median_costs(load_costs(made, peers, threads, repeats, step))
    if json_:
        common.print_json({"model": made.name, "threads": threads, "repeats": repeats, "runtimes": costs})
    else:
        show.print_costs(made.name, costs)


@app.command()
@common.reports_errors
def ops(
    *,
    only: Annotated[
        str, typer.Option(metavar="NAMES", help="Operators, with commas.", show_default="all that are native")
    ] = "",
    threads: Threads = 2,
    rounds: Rounds = 5,
    seconds: Seconds = 0.05,
    record: Annotated[bool, typer.Option("--record", help="Write the table to docs/operator_speed.md.")] = False,
    json_: common.JSON = False,
    debug: common.Debug = False,
) -> None:
    """Measure every native operator against onnxruntime in models of one node, at three sizes.

    An answer that differs from onnxruntime's is exit status 1.
    """
    from dataclasses import asdict

    from bench import history, show_ops
    from bench.direct import PEER
    from bench.duel import Protocol
    from bench.operators import SIZES, rows
    from bench.ops import measure_rows

    wanted = rows(_names(only))
    with common.progress(len(SIZES) * len(wanted)) as step:
        outcomes = measure_rows(wanted, threads, rounds, seconds, step)
    if record:
        protocol = Protocol((PEER,), threads, 1, rounds, seconds)
        show_ops.PAGE.write_text(show_ops.page(outcomes, history.record_of([], protocol, None)), encoding="utf-8")
    if json_:
        common.print_json([asdict(o) | {"slow": o.slow, "wrong": o.wrong} for o in outcomes])
    else:
        show_ops.print_ops(outcomes, threads)
    if any(outcome.wrong for outcome in outcomes):
        raise typer.Exit(1)


@app.command()
@common.reports_errors
def lengths(
    model: Model = "bert-base",
    *,
    dim: Dims = None,
    along: Annotated[str, typer.Option(help="The dimension that changes.")] = "sequence",
    most: Annotated[int, typer.Option(min=2, help="The longest; all from 1 are run.")] = 512,
    threads: Threads = 2,
    json_: common.JSON = False,
    debug: common.Debug = False,
) -> None:
    """Run a model at every length in random order: what a new one costs in time, programs, kernels and memory.

    Exit status 1 where a kernel is compiled, memory grows or most new lengths cost more than the goal.
    """
    from dataclasses import asdict

    from bench import show_calls
    from bench.duel import case, dims_of
    from bench.lengths import length_costs

    sizes = dims_of(model) | common.parse_dims(dim)
    with case(model, dims={**sizes, along: most}) as made, common.progress(most) as step:
        costs = length_costs(made.path, sizes, along, most, threads, step)
    if json_:
        common.print_json(asdict(costs) | {"model": made.name, "good": costs.good})
    else:
        show_calls.print_lengths(made.name, costs)
    if not costs.good:
        raise typer.Exit(1)


@app.command()
@common.reports_errors
def threads(
    model: Model = "minilm",
    *,
    dim: Dims = None,
    rounds: Rounds = 5,
    seconds: Seconds = 1.0,
    json_: common.JSON = False,
    debug: common.Debug = False,
) -> None:
    """Call one session from two Python threads, one native thread a call, beside onnxruntime."""
    from dataclasses import asdict

    from bench import show_calls
    from bench.calls import sharing
    from bench.duel import case

    with case(model, dims=common.parse_dims(dim)) as made, common.progress(2 * rounds) as step:
        found = sharing(made, rounds, seconds, step)
    if json_:
        common.print_json({"model": made.name, "runtimes": [asdict(one) for one in found]})
    else:
        show_calls.print_sharing(made.name, found)


@app.command()
@common.reports_errors
def call(
    model: Model = "one-node",
    *,
    dim: Dims = None,
    threads: Threads = 2,
    rounds: Rounds = 9,
    seconds: Seconds = 0.1,
    json_: common.JSON = False,
    debug: common.Debug = False,
) -> None:
    """Measure a call of a model that has next to nothing to do, beside onnxruntime, and what it goes into."""
    from dataclasses import asdict

    from bench import show_calls
    from bench.calls import call_cost
    from bench.duel import case

    with case(model, dims=common.parse_dims(dim)) as made, common.progress(2 * rounds + 1) as step:
        cost = call_cost(made, threads, rounds, seconds, step)
    if json_:
        common.print_json({"model": made.name} | asdict(cost))
    else:
        show_calls.print_call(made.name, cost)


@app.command()
@common.reports_errors
def classical(
    *,
    only: Annotated[
        str, typer.Option(metavar="WORD", help="Cases with this word in their name.", show_default="all")
    ] = "",
    threads: Threads = 2,
    rounds: Rounds = 7,
    seconds: Seconds = 0.3,
    check: Annotated[bool, typer.Option("--check", help="Exit status 1 where a goal is missed.")] = False,
    json_: common.JSON = False,
    debug: common.Debug = False,
) -> None:
    """Measure models of classical machine learning against onnxruntime, by turns."""
    from dataclasses import asdict

    from bench import show_calls
    from bench.classical import CASES, outcome

    wanted = [case for case in CASES if only in case.name]
    with common.progress(len(wanted)) as step:
        found = [outcome(case, threads, rounds, seconds, step) for case in wanted]
    if json_:
        common.print_json([asdict(o) | {"case": o.case.name, "goal": o.case.goal, "good": o.good} for o in found])
    else:
        show_calls.print_classical(found, threads)
    if check and not all(one.good for one in found):
        raise typer.Exit(1)


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]


if __name__ == "__main__":
    app(prog_name="python -m bench")
