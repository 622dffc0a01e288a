import json

import numpy as np
import onnx
import onnxruntime
import pytest
from typer.testing import CliRunner

from bench import ops, show_ops
from bench.__main__ import app
from bench.history import Machine, Record
from bench.operators import ROWS, SIZES, UNMEASURED, Row, Sample, rows
from bench.ops import Outcome, measure_rows
from bench.verdict import Spread
from sardonyx.errors import InvalidInputError
from sardonyx.ops import OPERATORS

FAST = Outcome("Relu", "small", (4,), 1.0, 2.0, Spread(1.9, 2.0, 2.1), 0.0)
SLOW = Outcome("Relu", "medium", (40, 2), 1.0, 0.5, Spread(0.4, 0.5, 0.6), 0.0)
FAILED = Outcome("Relu", "large", (400,), failure="no native code")


def test_every_native_operator_is_measured_or_says_why_not():
    measured = {row.op for row in ROWS}
    native = {name for domain, name in OPERATORS if not domain}
    assert native - measured - set(UNMEASURED) == set(), "give these a row in bench/operators.py"
    assert not measured & set(UNMEASURED)
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_rows_are_valid_models(row):
    model, feeds = row.model(row.sample(0))
    context = onnx.checker.C.CheckerContext()
    context.ir_version, context.opset_imports = model.ir_version, {"": model.opset_import[0].version}
    onnx.checker.check_node(model.graph.node[0], context)
    assert {value.name for value in model.graph.input} == set(feeds)


def test_sizes_grow():
    for row in ROWS:
        small, medium, large = (sum(np.prod(dims) for dims in [size]) for size in row.sizes)
        assert small <= medium <= large, row.name


def test_rows_are_chosen_by_operator():
    assert [row.name for row in rows(["Gather"])] == ["Gather words", "Gather columns"]
    assert {row.op for row in rows()} == {row.op for row in ROWS} & {name for _, name in OPERATORS}
    with pytest.raises(InvalidInputError, match="Gathers"):
        rows(["Gathers"])


def test_slow_and_wrong_outcomes_stand_out():
    assert (FAST.slow, SLOW.slow, FAILED.slow) == (False, True, False)
    assert (FAST.wrong, FAILED.wrong) == (False, True)
    assert Outcome("Relu", "small", (4,), 1.0, 1.0, None, 1e-3).wrong
    assert Outcome("Relu", "small", (4,), 1.0, 1.0, None, float("nan")).wrong


def _row(op, *inputs, opset=21):
    return Row(op, ((), (), ()), lambda: Sample([np.asarray(x) for x in inputs], opset=opset))


def test_a_row_is_measured_at_each_size():
    told = []
    found = measure_rows([_row("Relu", np.float32([-1, 2]))], 1, 1, 0.001, told.append)
    assert told == [f"Relu {size}" for size in SIZES]
    assert [outcome.size for outcome in found] == list(SIZES)
    assert all(outcome.ratio and outcome.gap == 0 and not outcome.wrong for outcome in found)


def test_an_operator_without_native_code_is_wrong():
    (found, *_) = measure_rows([_row("StringNormalizer", np.array(["a"], object))], 1, 1, 0.001, lambda _: None)
    assert found.failure
    assert found.wrong


@pytest.mark.parametrize("fails", ["to load", "to run"])
def test_what_onnxruntime_refuses_is_told(monkeypatch, fails):
    def refuse(*_):
        raise onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument(f"fails {fails}")

    monkeypatch.setattr(ops.direct, "peer", refuse if fails == "to load" else lambda *_: refuse)
    (found, *_) = measure_rows([_row("Relu", np.float32([1]))], 1, 1, 0.001, lambda _: None)
    assert found.failure == f"onnxruntime: fails {fails}"
    assert found.ms
    assert found.ratio is None
    assert not found.wrong


def test_a_wrong_answer_is_told(monkeypatch):
    monkeypatch.setattr(ops.direct, "peer", lambda *_: lambda feeds: [np.float32([7, 7])])
    monkeypatch.setattr(ops, "evaluate", lambda *_: [np.float64([7, 7])])
    (found, *_) = measure_rows([_row("Relu", np.float32([-1, 2]))], 1, 1, 0.001, lambda _: None)
    assert found.wrong


def test_where_the_peer_is_wrong_we_are_not(monkeypatch, capsys):
    monkeypatch.setattr(ops.direct, "peer", lambda *_: lambda feeds: [np.float32([7, 7])])
    (found, *_) = measure_rows([_row("Relu", np.float32([-1, 2]))], 1, 1, 0.001, lambda _: None)
    assert (found.differs, found.error, found.wrong) == (True, 0, False)
    show_ops.print_ops([found], 1)
    assert "ours 0.0e+00 from float64" in capsys.readouterr().out


def test_the_page_has_a_line_for_each_operator():
    machine = Machine("a processor", 8, 2, 204.5, 0.98)
    record = Record("2026-01-02 03:04", "abc1234", machine, {"onnxruntime": "1.32.0"}, 2, 1, 5, (), None)
    page = show_ops.page([FAST, SLOW, FAILED], record)
    assert "| Relu | 4: 1 ms, 2.00 | 40x2: 1 ms, **0.50** | 400: - ms |" in page.splitlines()
    assert "a processor with 2 cores" in page


def test_the_command(monkeypatch):
    monkeypatch.setattr(ops, "measure_rows", lambda *_: [FAST, SLOW, FAILED])
    done = CliRunner().invoke(app, ["ops", "--only", "Relu"])
    assert done.exit_code == 1, "an operator without an answer is a failure"
    assert "slow: Relu medium [40, 2]: !0.50" in done.output
    assert "no native code" in done.output
    monkeypatch.setattr(ops, "measure_rows", lambda *_: [FAST, SLOW])
    done = CliRunner().invoke(app, ["ops", "--only", "Relu", "--json"])
    assert done.exit_code == 0
    assert [found["slow"] for found in json.loads(done.output)] == [False, True]
