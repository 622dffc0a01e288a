"""What a provider is: something that claims nodes of a graph and compiles a subgraph of them to an executable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Availability:
    """Whether a provider can run here; if not, why and what to do about it."""

    available: bool
    reason: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Claim:
    """A provider's answer for one node: `reason` says why not when it is declined.

    `counts` says that only a run tells the dims of its results: nodes that read them then go to a later segment.
    `alone` asks for a segment of nothing else. `after` are inputs of the node that must be results of an earlier
    segment, because the program is made for their values.
    """

    accepted: bool
    reason: str = ""
    counts: bool = False
    alone: bool = False
    after: tuple[ir.Value, ...] = ()


@dataclass(frozen=True)
class CompileOptions:
    """What a session asks of every provider it compiles for.

    `threads` is the number of threads a run may use, the caller's included (0: as many as the machine allows).
    `profile` asks executables to record the time of each step. `provider` holds the provider's own options.
    """

    threads: int = 0
    profile: bool = False
    provider: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StepTime:
    """One timed step: the ONNX nodes it stands for, what ran them, start and duration in nanoseconds."""

    name: str
    kernel: str
    start_ns: int
    duration_ns: int


@runtime_checkable
class Executable(Protocol):
    """A compiled subgraph."""

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Outputs in the order of the subgraph's outputs, for `inputs` in the order of its inputs.

        Inputs have been checked against the declared types. Safe to call from several threads at once.
        """
        ...

    def profile(self) -> list[StepTime]:
        """The steps of the newest run, when compiled with `CompileOptions.profile`; else empty."""
        ...


@runtime_checkable
class WritesInto(Protocol):
    """An executable that can write to memory it is given."""

    def run_into(self, inputs: Sequence[Array], out: Sequence[Array | None]) -> list[Array]:
        """As `Executable.run`, each output into the array given for it, if there is one.

        InvalidInputError when one has another type or other dims than the output.
        """
        ...


@runtime_checkable
class Provider(Protocol):
    """A way to run nodes. Register one under the entry-point group `sardonyx.providers`."""

    @property
    def name(self) -> str:
        """Short name, as in `providers=["cpu"]`."""
        ...

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names that mean this provider, such as onnxruntime's."""
        ...

    def availability(self) -> Availability:
        """Whether it can run on this machine now. Must be cheap and never raise."""
        ...

    def claims(self, model: ir.Model) -> Mapping[ir.Node, Claim]:
        """For every node of `model.graph` (not of its subgraphs): can it run here?"""
        ...

    def compile(self, model: ir.Model, options: CompileOptions) -> Executable:
        """Compile a model all of whose nodes this provider claimed. Symbolic dimensions stay open."""
        ...

    def hash(self) -> str:
        """Identifies the provider's version and everything else that shapes what `compile` returns."""
        ...
