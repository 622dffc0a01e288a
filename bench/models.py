"""The networks that are measured, and the ratio to the best peer asked for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sardonyx.errors import InvalidInputError

if TYPE_CHECKING:
    import onnx_ir as ir

FLOOR = 1.05
"""The ratio asked of every network that has no row of its own."""


@dataclass(frozen=True)
class Goal:
    """The ratio that must hold, and the one to reach for (None: none is set)."""

    asked: float
    stretch: float | None = None


@dataclass(frozen=True)
class Subject:
    """An architecture of the zoo, what `zoo.architectures.build` is told besides, and the goal for it."""

    name: str
    goal: Goal = Goal(FLOOR)
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def build(self, batch: int) -> ir.Model:
        """The network for this batch."""
        from sardonyx.zoo import architectures

        return architectures.build(self.name, batch=batch, **self.arguments)


GOALS = (
    Subject("ferplus", Goal(1.55, 2.0)),
    Subject("resnet18", Goal(1.5, 1.9)),
    Subject("resnet50", Goal(1.2, 1.45)),
    Subject("mobilenetv2", Goal(1.1, 1.5)),
    Subject("squeezenet1.1", Goal(1.3, 1.7)),
    Subject("tinyyolov2", Goal(1.4, 1.9)),
    Subject("vgg16", Goal(1.6, 2.1)),
    Subject("fast-style", Goal(1.8, 2.8)),
    Subject("c3d", Goal(1.6, 2.5)),
)
MEAN = Goal(1.45, 1.9)
"""Of the geometric mean over all networks."""


def subjects() -> tuple[Subject, ...]:
    """Every network of the zoo: those with a goal of their own first, then the rest."""
    from sardonyx.zoo import architectures

    known = architectures.names()
    own = [subject for subject in GOALS if subject.name in known]
    named = {subject.name for subject in own}
    return (*own, *(Subject(name) for name in known if name not in named))


def missing() -> tuple[str, ...]:
    """Networks with a goal that the zoo does not have yet."""
    from sardonyx.zoo import architectures

    return tuple(subject.name for subject in GOALS if subject.name not in architectures.names())


def chosen(names: Sequence[str]) -> tuple[Subject, ...]:
    """The subjects of these names, all of them for none; InvalidInputError for a name that is not one."""
    table = {subject.name: subject for subject in subjects()}
    for name in names:
        if name not in table:
            raise InvalidInputError(f"no model {name!r}", where="bench", expected=f"some of {', '.join(table)}")
    return tuple(table[name] for name in dict.fromkeys(names)) if names else tuple(table.values())
