"""`python -m bench`: Sardonyx against every installed peer on every network of the zoo."""

from __future__ import annotations

from typing import Annotated

import typer

from sardonyx.cli import common

app = typer.Typer(
    help="Measure Sardonyx against the installed peers, and look at where its time goes.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Threads = Annotated[int, typer.Option(min=1, help="Threads of a run, the caller's included.")]
Batch = Annotated[int, typer.Option(min=1, help="Batch size of networks of the zoo.")]
Model = Annotated[str, typer.Argument(help="A network of the zoo, or an ONNX file.")]


@app.callback(invoke_without_command=True)
@common.reports_errors
def table(
    context: typer.Context,
    *,
    models: Annotated[
        str, typer.Option(metavar="NAMES", help="Networks, with commas.", show_default="the whole zoo")
    ] = "",
    threads: Threads = 2,
    batch: Batch = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each runtime.")] = 7,
    seconds: Annotated[float, typer.Option(min=0.001, help="Time of calls in one turn.")] = 0.5,
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

    wanted = chosen([name.strip() for name in models.split(",") if name.strip()])
    protocol = Protocol(_peers(), threads, batch, rounds, seconds)
    with common.progress(turns(wanted, protocol)) as step:
        results = [duel(subject, protocol, step) for subject in wanted]
    ratios = [result.ratio for result in results if result.ratio is not None]
    mean = geometric_mean(ratios) if ratios else None
    judged = len(ratios) == len(subjects())
    if record:
        history.append(history.record_of(results, protocol, mean if judged else None))
    if json_:
        common.print_json(show.results_json(results, protocol, mean, judged))
    else:
        show.print_results(results, protocol, mean, judged)
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

    with case(model, batch) as made, common.spinner(f"running {model}"):
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
    with case(model, batch) as made, common.progress(repeats * (2 + len(peers)) + 1) as step:
        costs = show.median_costs(load_costs(made, peers, threads, repeats, step))
    if json_:
        common.print_json({"model": made.name, "threads": threads, "repeats": repeats, "runtimes": costs})
    else:
        show.print_costs(made.name, costs)


if __name__ == "__main__":
    app(prog_name="python -m bench")
