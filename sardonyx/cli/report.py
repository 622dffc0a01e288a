"""The demo's story as one HTML page that needs nothing from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from sardonyx.errors import MissingExtraError
from sardonyx.measure.trial import REFERENCE

if TYPE_CHECKING:
    from sardonyx.cli.story import Story
    from sardonyx.measure.trial import Trial


@dataclass(frozen=True)
class Bar:
    """A bar of a chart: its length as a percentage of the chart's width, and whether it stands out."""

    label: str
    percent: float
    value: str
    strong: bool


def render(story: Story) -> str:
    """The page. Everything that comes from a model or a file is escaped. Needs jinja2 (extra `demo`)."""
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise MissingExtraError.of("jinja2", "demo", "writing the report") from error

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = files("sardonyx.cli").joinpath("templates", "report.html").read_text(encoding="utf-8")
    label, probability = story.ranking()[0]
    page: str = environment.from_string(template).render(
        story=story,
        subject=story.subject,
        label=label,
        probability=probability,
        probabilities=_probabilities(story),
        latencies=_latencies(story),
        verdicts=[_verdict(ratio.peer, ratio.median) for ratio in story.trials.ratios],
        rows=[_row(story, trial) for trial in story.trials.trials],
    )
    return page


def _probabilities(story: Story) -> list[Bar]:
    ranking = story.ranking()
    return [
        Bar(label, 100 * p, f"{100 * p:.2f} %" if p >= 5e-5 else "< 0.01 %", label == ranking[0][0])
        for label, p in ranking
    ]


def _latencies(story: Story) -> list[Bar]:
    """The reference is left out: it is hundreds of times slower and would leave the others no room."""
    timed = [
        (trial.name, trial.latency.p50_ms) for trial in story.trials.trials if trial.latency and trial.name != REFERENCE
    ]
    longest = max((ms for _, ms in timed), default=1.0)
    return [Bar(name, 100 * ms / longest, f"{ms:.3f} ms", name.startswith("sardonyx/")) for name, ms in timed]


def _verdict(peer: str, ratio: float) -> str:
    return f"as fast as {peer}" if 0.95 < ratio < 1.05 else f"{ratio:.2g} times as fast as {peer}"


def _row(story: Story, trial: Trial) -> dict[str, str]:
    if trial.latency is None:
        return {"name": trial.name, "error": str(trial.error)}
    label, probability = max(
        zip(story.subject.classes, trial.outputs[0].ravel().tolist(), strict=True), key=lambda pair: pair[1]
    )
    return {
        "name": trial.name,
        "answer": f"{label}, {100 * probability:.2f} %",
        "median": f"{trial.latency.p50_ms:.3f}",
        "p90": f"{trial.latency.p90_ms:.3f}",
        "rate": f"{trial.latency.throughput:,.0f}",
        "gap": f"{trial.difference.max_abs:.1e}" if trial.difference else "reference",
    }
