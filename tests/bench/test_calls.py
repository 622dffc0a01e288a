import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from bench import calls, lengths
from bench.__main__ import app
from bench.direct import OURS, PEER
from bench.duel import case
from bench.lengths import LengthCosts

NET = """<ir_version: 10, opset_import: ["" : 20]>
g (float[batch, sequence, 8] x) => (float[batch, sequence, 8] y) <float[8, 8] w, float[8] s>
{ m = MatMul(x, w) n = LayerNormalization(m, s) y = Softmax(n) }"""


@pytest.fixture
def net(tmp_path):
    """A file of a small model for sequences."""
    model = onnx.parser.parse_model(NET)
    for name, dims in (("w", (8, 8)), ("s", (8,))):
        array = np.ones(dims, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    return path


def test_a_call_is_taken_apart(monkeypatch):
    monkeypatch.setattr(calls, "_CALLS", 50)
    with case("one-node") as made:
        told = []
        cost = calls.call_cost(made, 2, 2, 0.001, told.append)
    assert told == [OURS, PEER, OURS, PEER, "its parts"]
    assert cost.us > 0 < cost.peer_us
    assert cost.checks + cost.binding + cost.native == pytest.approx(100)
    assert 0 < cost.native < 100
    assert cost.ratio.low <= cost.ratio.median <= cost.ratio.high


def test_two_callers_are_counted_together():
    runs = []
    alone = calls._rate(runs.append, {}, 1, 0.02)
    assert 0.5 * len(runs) / 0.02 < alone <= len(runs) / 0.02
    assert calls._rate(lambda inputs: None, {}, 2, 0.01) > 0
    with pytest.raises(ZeroDivisionError):
        calls._rate(lambda inputs: 1 / 0, {}, 1, 0.01)


def test_callers_share_a_session(net):
    with case(str(net), dims={"batch": 1, "sequence": 3}) as made:
        ours, peer = calls.sharing(made, 1, 0.01, lambda _: None)
    assert (ours.name, peer.name) == (OURS, PEER)
    assert min(ours.alone, ours.together, peer.alone, peer.together) > 0


def test_new_lengths_are_counted(net):
    told = []
    before = dict(os.environ)
    costs = lengths.length_costs(net, {"batch": 1}, "sequence", 9, 1, told.append)
    assert sorted(told) == [f"sequence {length}" for length in range(1, 10)]
    assert len(costs.extra_ms) == 8
    assert list(costs.extra_ms) == sorted(costs.extra_ms)
    assert dict(os.environ) == before


def test_what_is_compiled_later_is_counted(net, monkeypatch):
    class Fickle:
        def run(self, names, feeds):
            objects = Path(os.environ["SARDONYX_CACHE"]) / "objects"
            objects.mkdir(exist_ok=True)
            (objects / f"{feeds['x'].shape}").touch()

    monkeypatch.setattr(lengths.direct, "ours", lambda *_: Fickle())
    assert lengths.length_costs(net, {"batch": 1}, "sequence", 6, 1, lambda _: None).kernels == 5


def test_a_verdict_on_lengths_names_the_goals():
    good = LengthCosts(4, 100.0, (0.1, 0.2, 9.0), 0, 0, (100.0, 104.0))
    assert good.good
    assert good.growth == pytest.approx(0.04)
    assert not LengthCosts(4, 100.0, (0.1, 3.1, 9.0), 0, 0, None).good
    assert not LengthCosts(4, 100.0, (0.1, 0.2, 9.0), 0, 1, None).good
    assert not LengthCosts(4, 100.0, (0.1, 0.2, 9.0), 0, 0, (100.0, 106.0)).good


def test_the_commands_print_tables_and_json(net):
    run = CliRunner().invoke
    done = run(app, ["call", "--rounds", "1", "--seconds", "0.01"])
    assert done.exit_code == 0, done.output
    assert all(part in done.output for part in ("A call of one-node", "native steps", "goal 1.00"))
    dims = ["--dim", "batch=1", "--dim", "sequence=4"]
    done = run(app, ["threads", str(net), *dims, "--rounds", "1", "--seconds", "0.01", "--json"])
    assert [found["name"] for found in json.loads(done.output)["runtimes"]] == [OURS, PEER]
    done = run(app, ["lengths", str(net), "--dim", "batch=1", "--most", "5"])
    assert "5 lengths in random order" in done.output
    assert "kernels compiled after the first call" in done.output
