"""Load time and peak memory in fresh processes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence

from bench.direct import OURS
from bench.duel import Case
from sardonyx import config
from sardonyx.measure.footprint import Footprint, footprint


def load_costs(
    case: Case, peers: Sequence[str], threads: int, repeats: int, progress: Callable[[str], None]
) -> dict[str, list[Footprint]]:
    """For Sardonyx with an empty and with a full cache and for each peer, the cost of `repeats` loads by turns."""
    found: dict[str, list[Footprint]] = {}

    def note(name: str, runtime: str, **environment: str) -> None:
        progress(name)
        cost = footprint(runtime, case.path, case.inputs, threads, environment)
        found.setdefault(name, []).append(cost)

    for _ in range(repeats):
        with tempfile.TemporaryDirectory(prefix="sardonyx-cache-") as cache:
            for name in (f"{OURS}, empty cache", f"{OURS}, full cache"):
                note(name, OURS, **{config.CACHE.variable: cache})
        for peer in peers:
            note(peer, peer)
    return found
