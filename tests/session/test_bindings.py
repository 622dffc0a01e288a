"""One lowering for all sizes of open dims: small transformers over random sizes, against onnxruntime."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
import pytest

import sardonyx
from sardonyx.model.proto import to_proto
from sardonyx.providers.cpu import CPUExecutable
from sardonyx.zoo import architectures

VOCABULARY = 50

SMALL: dict[str, dict[str, Any]] = {
    "bert-base": {"layers": 1, "width": 1 / 6, "vocabulary": VOCABULARY},
    "gpt2": {"layers": 1, "width": 1 / 6, "vocabulary": VOCABULARY},
    "gpt2-cache": {"layers": 1, "width": 1 / 6, "vocabulary": VOCABULARY},
    "llama-small": {"layers": 1, "width": 1 / 2, "vocabulary": VOCABULARY},
    "t5-small-stack": {"layers": 1, "width": 1 / 4, "vocabulary": VOCABULARY},
    "bilstm-tagger": {"vocabulary": VOCABULARY, "width": 1 / 8},
}


def feeds(session: sardonyx.InferenceSession, sizes: Mapping[str, int], seed: int) -> dict[str, np.ndarray]:
    """Inputs with these sizes: token ids, masks of ones, positions, random floats."""
    random = np.random.default_rng(seed)
    made: dict[str, np.ndarray] = {}
    for value in session.get_inputs():
        dims = [size(d, sizes) if isinstance(d, str) else d for d in value.shape]
        if "float" in value.type:
            made[value.name] = random.standard_normal(dims).astype(np.float32)
        elif "mask" in value.name:
            made[value.name] = np.ones(dims, np.int64)
        else:
            most = 2 if value.name == "token_type_ids" else VOCABULARY
            made[value.name] = random.integers(0, most, dims)
    return made


def size(dim: str, sizes: Mapping[str, int]) -> int:
    """A dim such as `past + sequence`."""
    return sum(sizes[name.strip()] for name in dim.split("+"))


def executable(session: sardonyx.InferenceSession) -> CPUExecutable:
    ((_, found),) = session._executables
    assert isinstance(found, CPUExecutable)
    return found


@pytest.fixture(params=SMALL)
def model(request: pytest.FixtureRequest) -> bytes:
    data: bytes = to_proto(architectures.build(request.param, **SMALL[request.param]), "small").SerializeToString()
    return data


def test_all_sizes_from_one_lowering(model: bytes) -> None:
    """A batch of 1 has its own program; the sizes of all others come in any order."""
    ours, theirs = sardonyx.InferenceSession(model), onnxruntime.InferenceSession(model)
    random = np.random.default_rng(0)
    native = executable(ours)._native
    for turn in range(25):
        sizes = {name: int(random.integers(2, 40)) for name in ("batch", "sequence", "past", "targets")}
        given = feeds(ours, sizes, turn)
        for got, want in zip(ours.run(None, given), theirs.run(None, given), strict=True):
            assert got.shape == want.shape
            error = np.linalg.norm(got - want) / max(1e-9, np.linalg.norm(want))
            assert error < 1e-5, (sizes, error)
    assert native.lowerings == 1
    for turn, sequence in enumerate((1, 5, 1, 30)):
        given = feeds(ours, {"batch": 1, "sequence": sequence, "past": 7, "targets": 1}, turn)
        for got, want in zip(ours.run(None, given), theirs.run(None, given), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
    assert native.lowerings <= 3


@pytest.mark.parametrize("name", ["bert-base", "gpt2"])
def test_length_one_is_served_by_the_program_of_all_lengths(name: str) -> None:
    """So that no length is compiled for after the first; a batch of 1 has its own program."""
    data = to_proto(architectures.build(name, **SMALL[name]), "small").SerializeToString()
    ours, theirs = sardonyx.InferenceSession(data), onnxruntime.InferenceSession(data)
    for count, batch in enumerate((1, 3), 1):
        for turn, sequence in enumerate((16, 1, 2, 1, 33)):
            given = feeds(ours, {"batch": batch, "sequence": sequence}, turn)
            for got, want in zip(ours.run(None, given), theirs.run(None, given), strict=True):
                assert got.shape == want.shape
                assert np.linalg.norm(got - want) < 1e-5 * np.linalg.norm(want)
        assert executable(ours)._native.lowerings == count


def test_one_query_of_many_keys_has_its_own_program() -> None:
    """A step with a cache is worth other kernels than a prompt; what it reads may be of length 1 all the same."""
    data = to_proto(architectures.build("gpt2-cache", **SMALL["gpt2-cache"]), "small").SerializeToString()
    ours = sardonyx.InferenceSession(data)
    for lowerings, sequence, past in ((1, 5, 7), (1, 4, 1), (2, 1, 9), (2, 1, 30)):
        ours.run(None, feeds(ours, {"batch": 2, "sequence": sequence, "past": past}, 0))
        assert executable(ours)._native.lowerings == lowerings


def test_sizes_from_several_threads(model: bytes) -> None:
    """Bindings are made and dropped, and the arena grows, while others run."""
    ours, theirs = sardonyx.InferenceSession(model), onnxruntime.InferenceSession(model)
    wrong: list[str] = []

    def call(seed: int) -> None:
        random = np.random.default_rng(seed)
        for turn in range(12):
            sizes = {name: int(random.integers(2, 60)) for name in ("batch", "sequence", "past", "targets")}
            sizes["batch"] = 2
            given = feeds(ours, sizes, seed * 100 + turn)
            (got, *_), (want, *_) = ours.run(None, given), theirs.run(None, given)
            if not np.allclose(got, want, rtol=1e-3, atol=1e-4):
                wrong.append(str(sizes))

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_memory_is_that_of_the_largest_sizes() -> None:
    """Frames are dropped, and all share one arena."""
    data = to_proto(architectures.build("bert-base", **SMALL["bert-base"]), "small").SerializeToString()
    session = sardonyx.InferenceSession(data)
    native = executable(session)._native

    def call(sequence: int) -> None:
        session.run(None, feeds(session, {"batch": 2, "sequence": sequence}, 0))

    call(10)
    call(200)
    (workspace,) = native._free
    arena = workspace.arena
    for sequence in range(2, 200, 3):
        call(sequence)
    assert native._free == [workspace]
    assert workspace.arena is arena
    assert len(workspace._frames) <= 16
    assert len(native._bindings) <= 64


def test_a_size_too_large_for_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    data = to_proto(architectures.build("bert-base", **SMALL["bert-base"]), "small").SerializeToString()
    session = sardonyx.InferenceSession(data)
    session.run(None, feeds(session, {"batch": 2, "sequence": 10}, 0))
    monkeypatch.setenv("SARDONYX_MEMORY", str(10 << 20))
    with pytest.raises(sardonyx.ExecutionError, match="too much memory"):
        session.run(None, feeds(session, {"batch": 500, "sequence": 500}, 0))
    assert session.run(None, feeds(session, {"batch": 2, "sequence": 11}, 0))


def test_the_program_of_a_binding_has_its_numbers() -> None:
    """As tools show it, whatever sizes it was lowered for."""
    data = to_proto(architectures.build("bert-base", **SMALL["bert-base"]), "small").SerializeToString()
    session = sardonyx.InferenceSession(data)
    native = executable(session)._native
    session.run(None, feeds(session, {"batch": 2, "sequence": 10}, 0))
    program = native.program(((3, 7),) * 3)
    assert native.lowerings == 1
    assert not program.is_open
    assert program.inputs[0].dims == (3, 7)
    program.verify()
