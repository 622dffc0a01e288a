"""`sardonyx demo`: the whole story on one picture, in the terminal and as a page."""

from __future__ import annotations

import enum
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import sardonyx
from sardonyx.cli import common
from sardonyx.cli.demo_show import show_stages, show_trials
from sardonyx.cli.story import Story, ranking
from sardonyx.errors import DownloadError, InvalidInputError

if TYPE_CHECKING:
    from sardonyx.cli.subjects import Subject


class Which(enum.StrEnum):
    """The subjects of `sardonyx.cli.subjects`, and the sentences of `sardonyx.cli.demo_text`."""

    EMOTION = "emotion"
    DIGITS = "digits"
    TEXT = "text"


@common.reports_errors
def demo(
    *,
    subject: Annotated[
        Which | None,
        typer.Argument(help="What to show.", show_default="emotion, or digits when nothing can be downloaded"),
    ] = None,
    sentences: Annotated[
        list[str] | None,
        typer.Argument(metavar="SENTENCE", help="With text: what to compare.", show_default="a few sentences"),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write it as one page too.", show_default=False)
    ] = None,
    threads: common.Threads = None,
    json_: common.JSON = False,
    debug: common.Debug = False,
) -> None:
    """Take a trained network to ONNX, run it everywhere it can run here, and compare.

    emotion reads a face, digits a handwritten digit, text tells how alike sentences are.
    """
    if subject is Which.TEXT:
        if report:
            raise typer.BadParameter("--report tells of pictures, not of text")
        from sardonyx.cli.demo_text import compare

        compare(sentences or [], threads, json_)
        return
    if sentences:
        raise typer.BadParameter("sentences go with text: sardonyx demo text 'A sentence.' 'Another one.'")
    if report:
        _check_report(report)
    with tempfile.TemporaryDirectory(prefix="sardonyx-") as folder:
        story = _tell(subject, Path(folder), threads, quiet=json_)
    if report:
        from sardonyx.cli.report import render

        _write(report, render(story))
    if json_:
        common.print_json(story.as_dict() | ({"report": str(report)} if report else {}))
    elif report:
        common.stdout().print(common.text(f"wrote {report}", style="bold"))


def _tell(which: Which | None, folder: Path, threads: int | None, *, quiet: bool) -> Story:
    """Go through the stages, showing each as soon as it is done unless `quiet`."""
    from sardonyx.measure.machine import processor
    from sardonyx.measure.runners import available_runners, default_threads
    from sardonyx.measure.timing import Plan
    from sardonyx.measure.trial import attempt, hold_trials

    subject, note = _prepare(which, folder)
    if not quiet:
        show_stages(subject.stages, note)
    threads = threads or default_threads()
    names = [name for name, state in available_runners().items() if state.available]

    def answered(outputs: Sequence[Any]) -> None:
        if not quiet:
            _show_answer(subject, ranking(subject, _probabilities(outputs)))

    with common.spinner("running"):
        tried = attempt(names, subject.model, subject.inputs, threads, answered=answered)
    if not tried.outputs:
        raise next(iter(tried.errors.values()))
    probabilities = _probabilities(next(iter(tried.outputs.values())))
    with common.spinner("timing") as tell:
        trials = hold_trials(tried, subject.inputs, Plan(rounds=5, seconds=0.5), progress=tell)
    story = Story(
        subject=subject,
        trials=trials,
        probabilities=probabilities,
        threads=threads,
        machine=processor(),
        version=sardonyx.__version__,
        note=note,
    )
    if not quiet:
        show_trials(story.trials, threads, f"{len(subject.stages) + 2}. How fast, how exact")
    return story


def _probabilities(outputs: Sequence[Any]) -> tuple[float, ...]:
    return tuple(float(p) for p in outputs[0].ravel())


def _prepare(which: Which | None, folder: Path) -> tuple[Subject, str]:
    """The subject, and why it is another than usual, if so. What was asked for by name is not exchanged."""
    from sardonyx.cli.subjects import SUBJECTS

    with common.spinner("getting the model") as tell:
        try:
            return SUBJECTS[which or Which.EMOTION](folder, tell), ""
        except DownloadError as error:
            if which is not None:
                raise
            note = f"The emotion model could not be downloaded, so this is the digits net instead. {error}"
            return SUBJECTS[Which.DIGITS](folder, tell), note


def _show_answer(subject: Subject, ranked: list[tuple[str, float]]) -> None:
    rows = [(name, f"{p:.4f}", "█" * round(30 * p)) for name, p in ranked]
    title = f"\n{len(subject.stages) + 1}. {subject.question}"
    common.print_table(title, "class", "probability", "", rows=rows, numeric=("probability",))
    label, probability = ranked[0]
    right = label == subject.expected
    verdict = "right" if right else f"it is {subject.expected}"
    common.stdout().print(
        common.text(f"{label}, {100 * probability:.2f} %: {verdict}", style="green" if right else "red")
    )


def _check_report(report: Path) -> None:
    """Find out before minutes of work what would make writing the page fail after it."""
    from importlib.util import find_spec

    from sardonyx.errors import MissingExtraError

    if find_spec("jinja2") is None:
        raise MissingExtraError.of("jinja2", "demo", "writing the report")
    if not report.parent.is_dir() or report.is_dir():
        raise InvalidInputError(
            "the report cannot be written there", where=str(report), expected="a file in a folder that exists"
        )


def _write(report: Path, page: str) -> None:
    try:
        report.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InvalidInputError("the report cannot be written", where=str(report), got=error.strerror) from error
