import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from bench import history
from bench.__main__ import app
from bench.duel import MOST_ERROR, OURS, Case, Protocol, Result, case, turns
from bench.history import Machine, Record, Row
from bench.load import load_costs
from bench.models import FLOOR, GOALS, Goal, Subject, chosen, missing, subjects
from bench.show import median_costs
from bench.verdict import Spread, Verdict, geometric_mean, judge, round_ratios, spread
from sardonyx.errors import InvalidInputError
from sardonyx.measure.footprint import Footprint
from sardonyx.zoo import architectures, digits

ROOT = Path(__file__).parents[2]
MACHINE = Machine("a processor", 8, 2, 204.5, 0.98)
RATIO = Spread(1.4, 1.5, 1.6)
RECORD = Record(
    date="2026-01-02 03:04",
    commit="abc1234+",
    machine=MACHINE,
    versions={"sardonyx": "0.1.0", "onnxruntime": "1.32.0"},
    threads=2,
    batch=1,
    rounds=7,
    rows=(Row("resnet18", {OURS: 5.0, "onnxruntime": 7.5}, RATIO, 1.2e-6), Row("vgg16", {}, None, None)),
    mean=None,
)


def bench(*arguments):
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


# ---- ratios and goals ------------------------------------------------------------------------------------------------


def test_a_rounds_ratio_is_its_fastest_peers_time_over_ours():
    medians = {"a": [6.0, 9.0, 4.0], OURS: [2.0, 3.0, 4.0], "b": [8.0, 6.0, 2.0]}
    assert round_ratios(medians, OURS) == (3.0, 2.0, 0.5)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=40))
def test_quartiles_are_numpys(values):
    found = spread(values)
    assert [found.low, found.median, found.high] == pytest.approx(np.percentile(values, [25, 50, 75]))


def test_the_mean_of_ratios_is_geometric():
    found = geometric_mean([Spread(1, 2, 4), Spread(4, 8, 9), Spread(2, 4, 6)])
    assert [found.low, found.median, found.high] == pytest.approx([2, 4, 6])


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (Spread(1.0, 1.2, 1.49), Verdict.FAIL),
        (Spread(1.0, 1.2, 1.50), Verdict.WARN),
        (Spread(1.4, 1.49, 3.0), Verdict.WARN),
        (Spread(0.5, 1.50, 1.6), Verdict.PASS),
        (Spread(1.5, 1.89, 2.5), Verdict.PASS),
        (Spread(1.5, 1.90, 2.5), Verdict.STRETCH),
    ],
)
def test_a_goal_is_missed_only_when_most_rounds_miss_it(ratio, verdict):
    assert judge(ratio, Goal(1.5, 1.9)) is verdict


def test_one_busy_round_of_seven_does_not_fail_a_goal():
    assert judge(spread([1.6, 1.6, 0.3, 1.6, 1.6, 1.6, 1.6]), Goal(1.5)) is Verdict.PASS


def result(errors=None, ratio=RATIO):
    return Result("m", Goal(1.5), {"onnxruntime": 3.0, OURS: 2.0, "openvino": 2.9}, errors or {}, {}, ratio)


def test_a_network_that_gives_no_answer_or_a_wrong_one_is_not_right():
    assert result({OURS: MOST_ERROR}).right
    assert not result({OURS: 1.1 * MOST_ERROR}).right
    assert not result({OURS: math.inf}).right
    assert not result({"onnxruntime": 0.0}).right


def test_a_network_without_a_ratio_fails_and_the_best_peer_is_the_fastest():
    assert result(ratio=None).verdict is Verdict.FAIL
    assert result().best_peer == "openvino"
    assert replace(result(), ms={OURS: 1.0}).best_peer == ""


# ---- models ----------------------------------------------------------------------------------------------------------


def test_every_network_of_the_zoo_is_measured_once_and_has_a_goal():
    assert sorted(s.name for s in subjects()) == sorted(architectures.names())
    assert not missing(), "a goal for a network that does not exist is checked by nobody"
    own = {subject.name: subject.goal for subject in GOALS}
    for subject in subjects():
        assert subject.goal == own.get(subject.name, Goal(FLOOR))
        assert subject.goal.stretch is None or subject.goal.asked < subject.goal.stretch


def test_models_are_chosen_by_name():
    assert [s.name for s in chosen(["vgg16", "ferplus", "vgg16"])] == ["vgg16", "ferplus"]
    assert chosen([]) == subjects()
    with pytest.raises(InvalidInputError, match="resnet17"):
        chosen(["resnet17"])


def test_a_case_is_a_network_of_the_zoo_or_a_file():
    with case(Subject("squeezenet1.1", arguments={"image": 32, "width": 0.25}), batch=3) as made:
        assert made.inputs["input"].shape == (3, 3, 32, 32)
        assert made.path.is_file()
    assert not made.path.exists()
    with pytest.raises(InvalidInputError, match="no fixed dims"), case(str(digits.model_path())):
        pass


# ---- history ---------------------------------------------------------------------------------------------------------


def test_records_come_back_as_they_were_written(tmp_path):
    file = tmp_path / "history.jsonl"
    assert history.read(file) == []
    other = replace(RECORD, mean=Spread(1, 2, 3), rows=())
    history.append(RECORD, file)
    history.append(other, file)
    assert history.read(file) == [RECORD, other]


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"rows": [], "machine": {}, "mean": null}'])
def test_a_damaged_history_names_the_line(tmp_path, line):
    file = tmp_path / "history.jsonl"
    history.append(RECORD, file)
    with file.open("a") as lines:
        lines.write(line + "\n")
    with pytest.raises(InvalidInputError, match="line 2"):
        history.read(file)


def test_the_recorded_history_can_be_read():
    assert all(record.rows for record in history.read())


def test_a_record_says_what_was_measured_and_where(tmp_path):
    protocol = Protocol(("onnxruntime",), 1, 4, 3, 0.1)
    found = history.record_of([result({OURS: 1e-6})], protocol, None)
    assert (found.threads, found.batch, found.rounds) == (1, 4, 3)
    assert found.rows == (Row("m", result().ms, RATIO, 1e-6),)
    assert found.machine.gflops > 0
    assert 0 < found.machine.steady <= 1
    assert set(found.versions) == {"sardonyx", "onnxruntime"}
    assert history.commit(tmp_path) == "unknown"


# ---- load ------------------------------------------------------------------------------------------------------------


def test_loads_take_turns_and_each_time_begin_with_an_empty_cache(monkeypatch):
    calls = []

    def fake(name, model, inputs, threads, environment):
        cache = environment.get("SARDONYX_CACHE")
        if cache is not None:
            marks = list(Path(cache).iterdir())
            (Path(cache) / "mark").touch()
            calls.append((name, cache, len(marks)))
        return Footprint(name, 10.0 * len(calls), 1.0, None)

    monkeypatch.setattr("bench.load.footprint", fake)
    found = load_costs(Case("m", Path("m.onnx"), {}), ["openvino"], 2, 3, lambda _: None)
    assert [marks for _, _, marks in calls] == [0, 1] * 3
    assert len({cache for _, cache, _ in calls}) == 3
    assert {name: len(costs) for name, costs in found.items()} == dict.fromkeys(found, 3)
    empty, full, peer = median_costs(found)
    assert (empty["load_ms"], full["load_ms"], peer["name"], peer["peak_mib"]) == (30.0, 40.0, "openvino", None)


# ---- the command -----------------------------------------------------------------------------------------------------


def test_help_is_quick_because_nothing_heavy_is_imported():
    code = "import sys, bench.__main__; print([m for m in ('numpy', 'onnx', 'llvmlite') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert bench("--help").returncode == 0


def test_the_bench_runs_end_to_end():
    done = bench("--models", "squeezenet1.1", "--rounds", "2", "--seconds", "0.01", "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (model,) = found["models"]
    assert set(model["ms"]) == set(model["errors"]) == {OURS, "onnxruntime", "openvino"}
    assert model["right"]
    assert max(model["errors"].values()) < MOST_ERROR
    assert model["ratio"]["low"] <= model["ratio"]["median"] <= model["ratio"]["high"]
    assert found["mean"]["median"] == pytest.approx(model["ratio"]["median"])
    assert found["mean_verdict"] is None, "one network is not the zoo"


@pytest.mark.parametrize(
    ("found", "arguments", "status"),
    [
        (result({OURS: 1e-6}), ["--check"], 0),
        (result({OURS: 1e-6}, Spread(1.0, 1.1, 1.2)), [], 0),
        (result({OURS: 1e-6}, Spread(1.0, 1.1, 1.2)), ["--check"], 1),
        (result({OURS: 1e-6}, Spread(1.0, 1.1, 1.6)), ["--check"], 0),
        (result({OURS: 1e-3}), [], 1),
        (result(), [], 1),
    ],
)
def test_a_wrong_answer_always_and_a_missed_goal_when_asked_is_an_exit_status(monkeypatch, found, arguments, status):
    monkeypatch.setattr("bench.duel.duel", lambda *_: found)
    done = CliRunner().invoke(app, ["--models", "vgg16", *arguments])
    assert done.exit_code == status, done.output
    assert ("WRONG" in done.output) is not found.right


def test_the_history_of_a_network_is_shown(monkeypatch):
    monkeypatch.setattr("bench.history.read", lambda: [RECORD])
    done = CliRunner().invoke(app, ["history", "resnet18"])
    assert done.exit_code == 0
    assert all(part in done.output for part in ("abc1234+", "1.50", "1.40-1.60", "█"))
    assert "abc1234+" not in CliRunner().invoke(app, ["history", "vgg16"]).output, "it has no ratio there"


def test_a_wrong_name_is_told_as_json():
    done = bench("--models", "resnet17", "--json")
    assert done.returncode == 1
    assert "resnet17" in json.loads(done.stdout)["error"]["what"]


def test_progress_is_told_as_often_as_announced(monkeypatch):
    from bench.duel import duel

    subject = Subject("squeezenet1.1", arguments={"image": 32, "width": 0.25})
    protocol = Protocol(("onnxruntime",), 1, 1, 3, 0.001)
    told = []
    found = duel(subject, protocol, told.append)
    assert len(told) == turns([subject], protocol) == 7
    assert found.right
    monkeypatch.setattr("bench.duel.MOST_ERROR", 0.0)
    assert not found.right
