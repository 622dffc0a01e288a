"""What the demo found out, told by the terminal, the page and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sardonyx.cli.subjects import Subject
    from sardonyx.measure.trial import Trials


@dataclass(frozen=True)
class Story:
    """All that the demo found out. `probabilities`: one for each class, from the first runtime that ran."""

    subject: Subject
    trials: Trials
    probabilities: tuple[float, ...]
    threads: int
    machine: str
    version: str
    note: str  # why it is not the subject asked for, if so

    def ranking(self) -> list[tuple[str, float]]:
        """Classes and probabilities, the likeliest first."""
        return ranking(self.subject, self.probabilities)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "subject": self.subject.name,
            "note": self.note,
            "expected": self.subject.expected,
            "probabilities": dict(self.ranking()),
            "threads": self.threads,
            "machine": self.machine,
            "version": self.version,
            "stages": {stage.title: dict(stage.facts) for stage in self.subject.stages},
            "runtimes": [trial.as_dict() for trial in self.trials.trials],
            "ratios": [asdict(ratio) for ratio in self.trials.ratios],
        }


def ranking(subject: Subject, probabilities: Sequence[float]) -> list[tuple[str, float]]:
    """Classes and probabilities, the likeliest first."""
    return sorted(zip(subject.classes, probabilities, strict=True), key=lambda pair: -pair[1])
