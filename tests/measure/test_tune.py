"""Measured choices: found, kept, used, forgotten."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import sardonyx
from sardonyx.compiler.jit import host_target
from sardonyx.compiler.tuning import Choices, choices_for, keep_choices, measured_choices, trial
from sardonyx.measure import tune as tuning
from sardonyx.zoo import architectures


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SARDONYX_CACHE", str(folder))
    return folder


def test_the_best_by_cost_unless_measured() -> None:
    choices = Choices({repr("b"): repr(3), repr("c"): repr(9)})
    assert choices.best("a", [2, 1, 3], float, "n") == 1
    assert choices.best("b", [2, 1, 3], float, "n") == 3
    assert choices.best("c", [2, 1, 3], float, "n") == 1, "a candidate that is no longer there"
    assert choices.made[repr("b")].candidates == ("1", "2", "3")
    choices.best("a", [2, 1, 3], float, "m")
    assert choices.made[repr("a")].nodes == {"n", "m"}


def test_choices_are_kept(cache: Path) -> None:
    target = host_target()
    assert measured_choices(target, 2) == {}
    assert keep_choices(target, 2, {"p": "1", "q": "2"})
    assert keep_choices(target, 2, {"q": "3"})
    assert measured_choices(target, 2) == {"p": "1", "q": "3"}
    assert measured_choices(target, 1) == {}
    assert choices_for(target, 2).measured == {"p": "1", "q": "3"}
    tried = Choices({})
    with trial(tried):
        assert choices_for(target, 2) is tried


def test_a_network_is_tuned(cache: Path, tmp_path: Path) -> None:
    """Every convolution is measured in all its ways, results stay right, and sessions take what was kept."""
    path = tmp_path / "net.onnx"
    model = ir.to_proto(architectures.build("resnet18", image=64))
    path.write_bytes(model.SerializeToString())
    feeds = {model.graph.input[0].name: np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)}
    (want,) = sardonyx.InferenceSession(path, providers=["cpu"]).run(None, feeds)
    told: list[tuple[int, int]] = []
    found = tuning.tune(path, feeds, threads=2, rounds=1, runs=1, progress=lambda *turn: told.append(turn))
    nodes = {node for one in found for node in one.nodes}
    assert {node.name for node in model.graph.node if node.op_type == "Conv"} <= nodes
    assert all(one.kept_ms > 0 and one.kept_ms <= one.favourite_ms for one in found)
    assert told[-1][0] == told[-1][1] > 0
    kept = measured_choices(host_target(), 2)
    assert {one.problem: one.kept for one in found} == kept
    options = sardonyx.SessionOptions()
    options.intra_op_num_threads = 2
    (got,) = sardonyx.InferenceSession(path, options, providers=["cpu"]).run(None, feeds)
    assert np.linalg.norm(got - want) < 1e-5 * np.linalg.norm(want)
    assert tuning.forget(2) == len(kept)
    assert not choices_for(host_target(), 2).measured
