"""The object cache: whole entries or none, whoever else writes."""

import multiprocessing
from pathlib import Path

import numpy as np

from sardonyx.compiler.cache import ObjectCache
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import identity
from sardonyx.compiler.jit import host_target, kernel_object, object_cache
from sardonyx.compiler.kernels.elementwise import CONTIGUOUS, Elementwise

KERNEL = Elementwise(identity(DType.F32), (CONTIGUOUS,), CONTIGUOUS, 0)


def entries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_round_trip(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    assert cache.get("a") is None
    cache.put("a", b"code")
    assert cache.get("a") == b"code"
    assert cache.get("b") is None


def test_damaged_entries_are_rebuilt(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SARDONYX_CACHE", str(tmp_path))
    code = kernel_object(KERNEL, host_target())
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    for damaged in (b"", whole[:10], whole[:-1], whole[:40] + b"x" + whole[41:]):
        entry.write_bytes(damaged)
        assert kernel_object(KERNEL, host_target()) == code
        assert entry.read_bytes() == whole


def test_unwritable_folder_is_no_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    cache = ObjectCache(blocked)
    cache.put("a", b"code")
    assert cache.get("a") is None


def _hammer(folder: str, seed: int) -> int:
    cache = ObjectCache(Path(folder))
    random, broken = np.random.default_rng(seed), 0
    for _ in range(300):
        key = f"key{random.integers(8)}"
        found = cache.get(key)
        broken += found is not None and found != key.encode() * 5000
        cache.put(key, key.encode() * 5000)
    return broken


def test_concurrent_processes(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as workers:
        assert workers.starmap(_hammer, [(str(tmp_path), seed) for seed in range(3)]) == [0, 0, 0]
    assert len(entries(tmp_path)) == 8


def test_cache_follows_the_environment(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SARDONYX_CACHE", str(tmp_path))
    assert object_cache().folder.is_relative_to(tmp_path)
