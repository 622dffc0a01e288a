"""The networks that are measured, at which dims, and the ratio to the best peer asked of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    """A network of the zoo, or of OWN, with what its builder is told besides, the goal and the relative L2 error it may
    have to float64.

    `dims` are the sizes of the symbols it is built with; without them it is built for a batch. `averaged` says whether
    it belongs to those of which the geometric mean is taken. With `streams`, reading weights and caches is most of its
    work, and it is told how fast that goes.
    """

    network: str
    goal: Goal = Goal(FLOOR)
    dims: Mapping[str, int] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    most_error: float = 2e-5
    averaged: bool = True
    streams: bool = False

    @property
    def name(self) -> str:
        """The network and each of its dims, as in `bert-base-b1-s128`."""
        return "-".join([self.network, *(f"{symbol[0]}{size}" for symbol, size in self.dims.items())])

    def build(self, batch: int) -> ir.Model:
        """The network, for this batch if it has no dims."""
        from sardonyx.zoo import architectures

        if self.network in OWN:
            return OWN[self.network]()
        sizes: dict[str, Any] = {symbol: symbol for symbol in self.dims} or {"batch": batch}
        return architectures.build(self.network, **sizes, **self.arguments)


def one_node() -> ir.Model:
    """Relu of eight numbers: what is measured is the call."""
    import onnx_ir as ir

    kind, shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([8])
    x = ir.Value(name="x", type=kind, shape=shape)
    node = ir.node("Relu", [x], name="relu")
    y = node.outputs[0]
    y.name, y.type, y.shape = "y", kind, shape
    return ir.Model(ir.Graph([x], [y], nodes=[node], opset_imports={"": 21}, name="one-node"), ir_version=10)


OWN: Mapping[str, Callable[[], ir.Model]] = {"one-node": one_node}
"""Models that are no networks."""


def _case(network: str, asked: float = FLOOR, *, streams: bool = False, **dims: int) -> Subject:
    return Subject(network, Goal(asked), dims, most_error=1e-5, averaged=False, streams=streams)


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
"""Of the geometric mean over the networks that are averaged: those made of convolutions."""

CASES = (
    _case("bert-base", 1.1, batch=1, sequence=128),
    _case("bert-base", 1.1, batch=8, sequence=64),
    _case("bert-base", 1.1, batch=1, sequence=16),
    _case("bert-base", 1.1, batch=1, sequence=512),
    _case("minilm", 1.3, batch=1, sequence=32),
    _case("gpt2", 1.15, batch=1, sequence=128),
    _case("gpt2-cache", 1.15, streams=True, batch=1, sequence=1, past=128),
    _case("gpt2-cache", 1.15, streams=True, batch=1, sequence=1, past=900),
    _case("llama-small", 1.15, streams=True, batch=1, sequence=1, past=128),
    _case("vit-b16", 1.15),
    _case("vit-s16", 1.15),
    _case("bilstm-tagger", 1.5, batch=1, sequence=100),
    _case("whisper-base-encoder"),
    _case("t5-small-stack", batch=1, sequence=64, targets=16),
    _case("one-node", 1.0),
)
"""Networks of sequences at the dims that are measured, and others than those of convolutions."""


def subjects() -> tuple[Subject, ...]:
    """Every network of the zoo: those with a goal of their own first, the cases, then the rest."""
    from sardonyx.zoo import architectures

    known = architectures.names()
    own = [subject for subject in (*GOALS, *CASES) if subject.network in known or subject.network in OWN]
    named = {subject.network for subject in own}
    return (*own, *(Subject(name) for name in known if name not in named))


def missing() -> tuple[str, ...]:
    """Networks with a goal that the zoo does not have yet."""
    from sardonyx.zoo import architectures

    known = {*architectures.names(), *OWN}
    return tuple(dict.fromkeys(subject.network for subject in (*GOALS, *CASES) if subject.network not in known))


def chosen(names: Sequence[str]) -> tuple[Subject, ...]:
    """The subjects of these names, or all those of a network; all of them for none.

    InvalidInputError for a name that is neither.
    """
    table = subjects()
    for name in names:
        if all(name not in (subject.name, subject.network) for subject in table):
            expected = f"some of {', '.join(subject.name for subject in table)}"
            raise InvalidInputError(f"no model {name!r}", where="bench", expected=expected)
    found = [subject for name in names for subject in table if name in (subject.name, subject.network)]
    return tuple({subject.name: subject for subject in found}.values()) if names else table
