import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from bench import history
from bench.__main__ import app
from bench.direct import OURS
from bench.duel import Case, Protocol, Result, case, dims_of, moved_bytes, turns
from bench.history import Machine, Record, Row
from bench.load import load_costs
from bench.models import CASES, FLOOR, GOALS, OWN, Goal, Subject, chosen, missing, subjects
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


SUBJECT = Subject("m", Goal(1.5))


def result(errors=None, ratio=RATIO, moved=None):
    return Result(SUBJECT, {"onnxruntime": 3.0, OURS: 2.0, "openvino": 2.9}, errors or {}, {}, ratio, moved)


def test_a_network_that_gives_no_answer_or_a_wrong_one_is_not_right():
    assert result({OURS: SUBJECT.most_error}).right
    assert not result({OURS: 1.1 * SUBJECT.most_error}).right
    assert not result({OURS: math.inf}).right
    assert not result({"onnxruntime": 0.0}).right


def test_a_network_without_a_ratio_fails_and_the_best_peer_is_the_fastest():
    assert result(ratio=None).verdict is Verdict.FAIL
    assert result().best_peer == "openvino"
    assert replace(result(), ms={OURS: 1.0}).best_peer == ""


# ---- models ----------------------------------------------------------------------------------------------------------


def test_what_streams_is_told_in_bytes_over_time():
    assert result(moved=10_000_000).gbytes == pytest.approx(5.0)
    assert result().gbytes is None
    assert replace(result(moved=1), ms={}).gbytes is None


def test_every_network_of_the_zoo_is_measured_and_has_a_goal():
    assert sorted({s.network for s in subjects()}) == sorted({*architectures.names(), *OWN})
    assert len({s.name for s in subjects()}) == len(subjects())
    assert not missing(), "a goal for a network that does not exist is checked by nobody"
    own = {subject.name: subject.goal for subject in (*GOALS, *CASES)}
    for subject in subjects():
        assert subject.goal == own.get(subject.name, Goal(FLOOR))
        assert subject.goal.stretch is None or subject.goal.asked < subject.goal.stretch
        assert subject.averaged is (subject not in CASES)


def test_models_are_chosen_by_name():
    assert [s.name for s in chosen(["vgg16", "ferplus", "vgg16"])] == ["vgg16", "ferplus"]
    assert [s.dims["sequence"] for s in chosen(["bert-base"])] == [128, 64, 16, 512]
    assert [s.name for s in chosen(["bert-base-b8-s64"])] == ["bert-base-b8-s64"]
    assert chosen([]) == subjects()
    assert dims_of("bert-base-b8-s64") == {"batch": 8, "sequence": 64}
    assert dims_of(str(digits.model_path())) == {}
    with pytest.raises(InvalidInputError, match="resnet17"):
        chosen(["resnet17"])


def test_a_case_of_a_network_has_inputs_of_its_dims():
    subject = Subject("minilm", dims={"batch": 2, "sequence": 5}, arguments={"layers": 1, "width": 0.1})
    with case(subject) as made:
        assert made.name == "minilm-b2-s5"
        assert {array.shape for array in made.inputs.values()} == {(2, 5)}
    with case(subject, dims={"sequence": 7}) as made:
        assert {array.shape for array in made.inputs.values()} == {(2, 7)}


def test_tables_that_are_looked_up_do_not_count_as_moved(tmp_path):
    text = """<ir_version: 10, opset_import: ["" : 20]>
    g (int64[1] i) => (float[1,2] y) <float[9,2] t = {1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}, float[2,2] w = {1,1,1,1}>
    { r = Gather(t, i) y = MatMul(r, w) }"""
    path, y = tmp_path / "m.onnx", np.zeros((1, 2), np.float32)
    onnx.save(onnx.parser.parse_model(text), path)
    assert moved_bytes(path, {"i": np.zeros(1, np.int64)}, [y]) == 8 + 16 + 8


def test_a_case_is_a_network_of_the_zoo_or_a_file():
    with case(Subject("squeezenet1.1", arguments={"image": 32, "width": 0.25}), batch=3) as made:
        assert made.inputs["input"].shape == (3, 3, 32, 32)
        assert made.path.is_file()
    assert not made.path.exists()
    with pytest.raises(InvalidInputError, match="no fixed dims"), case(str(digits.model_path())):
        pass
    with case(str(digits.model_path()), dims={"N": 3}) as made:
        assert [array.shape[0] for array in made.inputs.values()] == [3]


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
    assert max(model["errors"].values()) < model["most_error"] == SUBJECT.most_error
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


def test_progress_is_told_as_often_as_announced():
    from bench.duel import duel

    subject = Subject("squeezenet1.1", arguments={"image": 32, "width": 0.25})
    protocol = Protocol(("onnxruntime",), 1, 1, 3, 0.001)
    told = []
    found = duel(subject, protocol, told.append)
    assert len(told) == turns([subject], protocol) == 7
    assert found.right
    assert not replace(found, subject=replace(subject, most_error=0.0)).right
