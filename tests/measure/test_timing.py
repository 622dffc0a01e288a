import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sardonyx.measure.timing import Plan, measure, percentile


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0, 100))
def test_percentile_is_numpys(values, percent):
    assert percentile(sorted(values), percent) == pytest.approx(np.percentile(values, percent), abs=1e-6)


def sleeper(seconds, log, name):
    def run(_inputs):
        log.append(name)
        time.sleep(seconds)
        return []

    return run


def test_runtimes_take_turns_and_ratios_are_the_peers_time_over_ours():
    log, heard = [], []
    runs = {"ours": sleeper(0.002, log, "ours"), "peer": sleeper(0.008, log, "peer")}
    plan = Plan(rounds=3, seconds=0.06, warm_up=2, pause=0.001)
    timing = measure(runs, {}, plan, progress=heard.append)

    assert heard == ["ours", "peer"] * 3
    turns = [name for i, name in enumerate(log) if i == 0 or log[i - 1] != name]
    assert turns == ["ours", "peer"] * 3
    ours, peer = timing.latencies
    assert ours.calls + peer.calls == len(log) - 2 * 2 * 3, "warm-up calls are not timed"
    assert ours.min_ms >= 2
    assert ours.min_ms <= ours.p50_ms <= ours.p90_ms <= ours.p99_ms
    assert 0 < ours.throughput <= 500
    (ratio,) = timing.ratios
    assert ratio.peer == "peer"
    assert ratio.low <= ratio.median <= ratio.high
    assert ratio.median > 1.2
    assert {name: len(medians) for name, medians in timing.medians.items()} == {"ours": 3, "peer": 3}
    ratios = [b / a for a, b in zip(timing.medians["ours"], timing.medians["peer"], strict=True)]
    assert sorted(ratios) == pytest.approx([ratio.low, ratio.median, ratio.high])


def test_a_runtime_slower_than_the_budget_is_called_once_a_round():
    log = []
    timing = measure({"slow": sleeper(0.02, log, "slow")}, {}, Plan(rounds=2, seconds=0.001, warm_up=0, pause=0))
    assert timing.latencies[0].calls == len(log) == 2
    assert timing.ratios == ()


def test_a_busy_round_counts_like_any_other(monkeypatch):
    """Two rounds of three are slow: though most calls are of the fast one, the median is of the slow ones."""
    clock = [0.0]

    def run(_inputs):
        clock[0] += 1 if clock[0] < 100 else 50
        return []

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    timing = measure({"a": run}, {}, Plan(rounds=3, seconds=300, warm_up=0, pause=0))
    (latency,) = timing.latencies
    assert latency.calls == 100 + 2 + 2
    assert (latency.min_ms, latency.p50_ms, latency.p99_ms) == (1e3, 50e3, 50e3)
    assert latency.throughput == 1 / 50
