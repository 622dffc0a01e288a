"""The `sardonyx` command. One file a command; whatever is heavy is imported inside a command that runs."""

from __future__ import annotations

from typing import Annotated

import typer

from sardonyx.cli.bench import bench
from sardonyx.cli.convert import convert
from sardonyx.cli.demo import demo
from sardonyx.cli.inspect import inspect
from sardonyx.cli.ops import ops
from sardonyx.cli.opset import opset
from sardonyx.cli.optimize import optimize
from sardonyx.cli.providers import providers
from sardonyx.cli.run import run
from sardonyx.cli.tune import tune

app = typer.Typer(
    name="sardonyx",
    help="Take a machine-learning model to ONNX and run it fast.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (demo, run, inspect, bench, tune, convert, optimize, opset, ops, providers):
    app.command()(command)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"sardonyx {version('sardonyx')}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take a machine-learning model to ONNX and run it fast."""


def main() -> None:
    """Run the command line of this process: exit status 0, 1 for an error, 2 for wrong usage."""
    app()
