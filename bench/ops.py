"""The table of operators measured: each one-node model against onnxruntime, interleaved."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import onnx

from bench import direct
from bench.direct import OURS, PEER
from bench.float64 import evaluate
from bench.operators import SIZES, Dims, Row
from bench.verdict import Spread, round_ratios, spread
from sardonyx.errors import SardonyxError
from sardonyx.measure.compare import difference
from sardonyx.measure.runners import Inputs, Run, onnxruntime_refusals
from sardonyx.measure.timing import Plan, measure

SLOW = 1 / 1.2
"""A ratio below this stands out."""
MOST_GAP = 1e-4
"""Relative L2 distance of the two answers above which one is wrong: a float64 evaluation then says which."""


@dataclass(frozen=True)
class Outcome:
    """A row at one size: median milliseconds, how many times as long onnxruntime takes, and how far answers differ.

    `error` is how far ours is from float64, where the answers differ and the operator is one of ONNX's.
    `failure` says why a figure is missing: ours when there is no native code, onnxruntime's when it refuses the model.
    """

    name: str
    size: str
    dims: Dims
    ms: float | None = None
    peer_ms: float | None = None
    ratio: Spread | None = None
    gap: float | None = None
    error: float | None = None
    failure: str = ""

    @property
    def slow(self) -> bool:
        """Whether onnxruntime is faster by more than a fifth."""
        return self.ratio is not None and self.ratio.median < SLOW

    @property
    def wrong(self) -> bool:
        """Whether Sardonyx has no answer or, where onnxruntime has another, its own is not the float64 evaluation's."""
        return self.ms is None or (self.differs and (self.error is None or not self.error <= MOST_GAP))

    @property
    def differs(self) -> bool:
        """Whether onnxruntime has another answer."""
        return self.gap is not None and not self.gap <= MOST_GAP


def measure_rows(
    rows: Sequence[Row], threads: int, rounds: int, seconds: float, progress: Callable[[str], None]
) -> list[Outcome]:
    """Every row at every size. `seconds` are those of the timed calls of one runtime in one round."""
    plan = Plan(rounds=rounds, seconds=seconds * rounds)
    found = []
    for row in rows:
        for size, label in enumerate(SIZES):
            progress(f"{row.name} {label}")
            found.append(_measured(row, size, threads, plan))
    return found


def _measured(row: Row, size: int, threads: int, plan: Plan) -> Outcome:
    proto, feeds = row.model(row.sample(size))
    model, outcome = proto.SerializeToString(), Outcome(row.name, SIZES[size], row.sizes[size])
    try:
        session = direct.ours(model, threads)
        declined = [placement.reason for placement in session.explain() if placement.provider != "cpu"]
        if declined:
            return replace(outcome, failure=declined[0])
        runs: dict[str, Run] = {OURS: partial(session.run, None)}
        answer = runs[OURS](feeds)
    except SardonyxError as error:
        return replace(outcome, failure=str(error))
    refusals: tuple[type[Exception], ...] = (SardonyxError, *onnxruntime_refusals())
    try:
        peer = direct.peer(model, threads)
        outcome = replace(outcome, gap=difference(answer, peer(feeds)).rel_l2)
        runs[PEER] = peer
    except refusals as error:
        outcome = replace(outcome, failure=f"{PEER}: {error}")
    if outcome.differs and {opset.domain for opset in proto.opset_import} <= {""}:
        exact = evaluate(onnx.load_from_string(model), feeds)
        outcome = replace(outcome, error=difference(answer, exact).rel_l2)
    return _timed(outcome, runs, feeds, plan)


def _timed(outcome: Outcome, runs: dict[str, Run], feeds: Inputs, plan: Plan) -> Outcome:
    medians = measure(runs, feeds, plan).medians
    ours = statistics.median(medians[OURS])
    if PEER not in medians:
        return replace(outcome, ms=ours)
    ratio = spread(round_ratios(medians, OURS))
    return replace(outcome, ms=ours, peer_ms=statistics.median(medians[PEER]), ratio=ratio)
