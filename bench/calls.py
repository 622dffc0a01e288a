"""What a call costs besides its arithmetic, and what two threads that call one session get done."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from bench import direct
from bench.direct import OURS, PEER
from bench.duel import Case
from bench.verdict import Spread, round_ratios, spread
from sardonyx.measure.runners import Inputs, Run
from sardonyx.measure.steps import compiled
from sardonyx.measure.timing import PAUSE, Plan, measure

CALL_GOAL, THREADS_GOAL = 1.0, 1.8
_CALLS = 2000


@dataclass(frozen=True)
class CallCost:
    """Microseconds of a call, the ratio of onnxruntime's to ours, and the parts of ours in percent.

    `checks` is what looks at the inputs; `binding` writes addresses, makes results and gets into native code; `native`
    are the compiled steps.
    """

    us: float
    peer_us: float
    ratio: Spread
    checks: float
    binding: float
    native: float


def call_cost(case: Case, threads: int, rounds: int, seconds: float, progress: Callable[[str], None]) -> CallCost:
    """Both runtimes by turns, then the parts of ours."""
    session = direct.ours(case.path, threads)
    runs: dict[str, Run] = {OURS: partial(session.run, None), PEER: direct.peer(case.path, threads)}
    medians = measure(runs, case.inputs, Plan(rounds=rounds, seconds=seconds * rounds), progress=progress).medians
    progress("its parts")
    ours, peer = (1e3 * statistics.median(medians[name]) for name in (OURS, PEER))
    return CallCost(ours, peer, spread(round_ratios(medians, OURS)), *_parts(runs[OURS], case, threads))


def _parts(run: Run, case: Case, threads: int) -> tuple[float, float, float]:
    """What percentage of a call is checks, binding and native: a call, its program's run and its steps by turns."""
    graph, made = compiled(case.path, threads, case.inputs)
    (segment,) = made.segments
    feeds = [case.inputs[value.name or ""] for value in graph.inputs]
    times = []
    for _ in range(_CALLS):
        start = time.perf_counter_ns()
        run(case.inputs)
        middle = time.perf_counter_ns()
        segment.run(feeds)
        end = time.perf_counter_ns()
        times.append((middle - start, end - middle, sum(step.duration_ns for step in segment.profile())))
    call, program, native = (statistics.median(column) for column in zip(*times, strict=True))
    return 100 * (call - program) / call, 100 * (program - native) / call, 100 * native / call


@dataclass(frozen=True)
class Sharing:
    """Runs a second of one calling thread and of two, and how many times as many the two do: medians of rounds."""

    name: str
    alone: float
    together: float
    gain: Spread


def sharing(case: Case, rounds: int, seconds: float, progress: Callable[[str], None]) -> list[Sharing]:
    """Sardonyx and onnxruntime, each one session whose calls use no other thread than the caller's."""
    runs: dict[str, Run] = {
        OURS: partial(direct.ours(case.path, 1).run, None),
        PEER: direct.peer(case.path, 1),
    }
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for run in runs.values():
        run(case.inputs)
    for _ in range(rounds):
        for name, run in runs.items():
            progress(name)
            time.sleep(PAUSE)
            rates[name].append((_rate(run, case.inputs, 1, seconds), _rate(run, case.inputs, 2, seconds)))
    return [
        Sharing(
            name,
            statistics.median(alone for alone, _ in found),
            statistics.median(together for _, together in found),
            spread([together / alone for alone, together in found]),
        )
        for name, found in rates.items()
    ]


def _rate(run: Run, inputs: Inputs, callers: int, seconds: float) -> float:
    """Runs a second of so many threads that call without a break."""
    begin = threading.Barrier(callers)

    def call() -> float:
        begin.wait()
        count, start = 0, time.perf_counter()
        while (now := time.perf_counter()) < start + seconds or not count:
            run(inputs)
            count += 1
        return count / (now - start)

    with ThreadPoolExecutor(callers) as pool:
        calls = [pool.submit(call) for _ in range(callers)]
        return sum(done.result() for done in calls)
