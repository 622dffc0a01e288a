"""What the commands share: options, the way errors are told, consoles, tables and JSON."""

from __future__ import annotations

import functools
import json
import math
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from sardonyx.errors import SardonyxError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    import sardonyx

P = ParamSpec("P")

JSON = Annotated[bool, typer.Option("--json", help="Print JSON for machines, errors too, and nothing else.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Threads a run may use.", show_default="every processor"),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of random inputs.")]
Dims = Annotated[
    list[str] | None,
    typer.Option("--dim", metavar="NAME=SIZE", help="Size of a symbolic dimension; repeatable.", show_default=False),
]
Model = Annotated[Path | None, typer.Argument(help="An ONNX file.", show_default="the digits net")]


def reports_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Tells a SardonyxError as a block on stderr (with `--json` as JSON on stdout); exit status 1."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except SardonyxError as error:
            if kwargs.get("debug"):
                traceback.print_exc(file=sys.stderr)
            if kwargs.get("json_"):
                print_json({"error": error.as_dict()})
            else:
                print_error(error)
            raise typer.Exit(1) from error
        except typer.BadParameter as error:
            if not kwargs.get("json_"):
                raise
            print_json({"error": {"code": "usage", "what": error.message}})
            raise typer.Exit(2) from error

    return wrapper


def print_error(error: SardonyxError) -> None:
    """The error's fields as a red block on stderr."""
    from rich.panel import Panel

    lines = grid()
    fields = error.as_dict()
    code = fields.pop("code")
    for name, value in fields.items():
        lines.add_row(name, text(value, style="bold" if name == "what" else ""))
    stderr().print(Panel(lines, title=f"error: {code}", title_align="left", border_style="red"))


def stdout() -> Console:
    """The console for results. Piped, it is as wide as its content needs, so that no line is cut."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def stderr() -> Console:
    """The console for progress and errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


@contextmanager
def spinner(message: str) -> Iterator[Callable[[str], None]]:
    """A spinner on stderr while the body works, silent in a pipe; call what it gives for a new message."""
    console = stderr()
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status(clean(message)) as status:
        yield lambda news: status.update(clean(news).replace("[", r"\["))


@contextmanager
def progress(steps: int) -> Iterator[Callable[[str], None]]:
    """A bar on stderr, silent in a pipe; call what it gives at the start of each step with its name."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = stderr()
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("loading", total=steps, completed=-1)
        yield lambda name: bar.update(task, advance=1, description=name)


@contextmanager
def counted(message: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, silent in a pipe; tell what it gives how many turns are done of how many."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = stderr()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(message, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def download(message: str) -> Iterator[tuple[Callable[[str], None], Callable[[int, int], None]]]:
    """A bar on stderr, silent in a pipe, and how to tell it what is done now, and how many bytes of how many came."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    console = stderr()
    columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(clean(message), total=None)
        yield (
            lambda news: bar.update(task, description=clean(news)),
            lambda done, total: bar.update(task, completed=done, total=total),
        )


def clean(value: object) -> str:
    """`value` as text in which nothing can steer the terminal: names in model files are not to be trusted."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in str(value))


def text(value: object, style: str = "") -> Any:
    """A table cell or line that is printed as it stands, without rich's markup."""
    from rich.text import Text

    return Text(clean(value), style=style)


def grid() -> Table:
    """Rows of a dim name and a value, without lines."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def print_table(title: str, *columns: str, rows: Sequence[Sequence[object]], numeric: Sequence[str] = ()) -> None:
    """A table on stdout of cells shown as they stand; the columns in `numeric` are aligned to the right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(text(column), justify="right" if column in numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(text(cell) for cell in row))
    stdout().print(text(title, style="bold"), table)


def print_json(value: object) -> None:
    """`value` as JSON on stdout. NaN and infinities, which JSON lacks, become the strings protobuf uses."""
    print(json.dumps(_finite(value), indent=2, allow_nan=False))


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def model_or_digits(model: Path | None) -> Path:
    """The file to work on: `model`, or the digits net that ships with the package."""
    from sardonyx.zoo import digits

    return digits.model_path() if model is None else model


def open_session(model: Path, providers: Sequence[str] | None, threads: int | None) -> sardonyx.InferenceSession:
    """A session on `model` with its default options but the number of threads."""
    import sardonyx

    options = sardonyx.SessionOptions()
    options.intra_op_num_threads = threads or 0
    with spinner(f"loading {model.name}"):
        return sardonyx.InferenceSession(model, options, providers=list(providers) if providers else None)


def parse_dims(arguments: Sequence[str] | None) -> dict[str, int]:
    """`["N=4"]` as `{"N": 4}`."""
    dims: dict[str, int] = {}
    for argument in arguments or ():
        name, equals, size = argument.rpartition("=")
        if not equals or not name or not size.isdecimal():
            raise typer.BadParameter(f"--dim wants NAME=SIZE, such as N=4, not {argument!r}")
        dims[name] = int(size)
    return dims


def opsets(versions: Mapping[str, int]) -> str:
    """Operator sets for people: `ai.onnx opset 21`."""
    return ", ".join(f"{domain or 'ai.onnx'} opset {version}" for domain, version in versions.items())


def kib(size: int) -> str:
    """A size in bytes for people."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"
