"""The cache: whole entries or none, whoever else writes, reads, fills the disk or clears up."""

import errno
import multiprocessing
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from sardonyx.compiler import cache as module
from sardonyx.compiler.cache import ArrayCache, ObjectCache, cache_folder, trim
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import identity
from sardonyx.compiler.jit import host_target, kernel_object, object_cache
from sardonyx.compiler.kernels.elementwise import CONTIGUOUS, Elementwise

KERNEL = Elementwise(identity(DType.F32), (CONTIGUOUS,), CONTIGUOUS, 0)


def entries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch):
    """As if this process had added nothing to a cache yet."""
    monkeypatch.setattr(module, "_GROWTH", module._Growth())


def test_round_trip(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    assert cache.get("a") is None
    assert cache.put("a", b"code")
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


@pytest.mark.parametrize("dtype", [kind.numpy for kind in DType])
def test_arrays_come_back_as_they_were(tmp_path: Path, dtype) -> None:
    cache = ArrayCache(tmp_path)
    for dims in ((3, 5, 7), (0, 4), (), (1,) * 20, (1000,)):
        array = np.random.default_rng(0).integers(0, 2, dims).astype(dtype)
        assert cache.put(f"{dims}", array)
        found = cache.get(f"{dims}")
        assert found is not None
        assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())
        assert found.__array_interface__["data"][0] % 64 == 0
        assert not found.flags.writeable


def test_strided_arrays_are_kept_dense(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 6).T[::2]
    cache = ArrayCache(tmp_path)
    assert cache.put("a", array)
    assert np.array_equal(cache.get("a"), array)


def test_any_damage_to_an_array_is_found(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path)
    cache.put("a", np.arange(100, dtype=np.float32))
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    damaged = [whole[:size] for size in (0, 1, 21, 22, 100, 320, len(whole) - 1)] + [whole + b"x", b"\0" * len(whole)]
    damaged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    for content in damaged:
        entry.write_bytes(content)
        assert cache.get("a") is None
        assert not entry.exists()
    cache.put("a", np.arange(100, dtype=np.float32))
    assert cache.get("a") is not None


def test_an_array_outlives_its_file(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path)
    cache.put("a", np.arange(1 << 16, dtype=np.float32))
    found = cache.get("a")
    assert found is not None
    trim(tmp_path.parent, 0)
    shutil.rmtree(tmp_path)
    assert np.array_equal(found, np.arange(1 << 16, dtype=np.float32))


def test_unwritable_folder_is_no_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    cache = ObjectCache(blocked)
    assert not cache.put("a", b"code")
    assert cache.get("a") is None


def test_read_only_folder_is_read() -> None:
    root = Path(tempfile.mkdtemp())  # below no folder that only this user can pass
    try:
        cache = ObjectCache(root / "objects")
        cache.put("a", b"code")
        for path in (root, *root.rglob("*")):
            path.chmod(0o555)
        root_user = os.geteuid() == 0  # for whom nothing is read-only
        if root_user:
            os.seteuid(65534)
        try:
            assert cache.get("a") == b"code"
            assert not cache.put("b", b"more")
        finally:
            if root_user:
                os.seteuid(0)
        assert cache.get("b") is None
    finally:
        for path in (root, *(path for path in root.rglob("*") if path.is_dir())):
            path.chmod(0o700)
        shutil.rmtree(root)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch) -> None:
    def full(descriptor: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "write", full)
    assert not ArrayCache(tmp_path).put("a", np.zeros(1000, np.float32))
    assert entries(tmp_path) == []


def test_no_folder_holds_nothing() -> None:
    assert not ObjectCache(None).put("a", b"code")
    assert ObjectCache(None).get("a") is None


def _hammer(folder: str, seed: int) -> int:
    cache = ObjectCache(Path(folder))
    random, broken = np.random.default_rng(seed), 0
    for _ in range(300):
        key = f"key{random.integers(8)}"
        found = cache.get(key)
        broken += found is not None and found != key.encode() * 5000
        cache.put(key, key.encode() * 5000)
    return broken


def _hammer_arrays(folder: str, seed: int) -> int:
    cache = ArrayCache(Path(folder) / "weights")
    random, broken = np.random.default_rng(seed), 0
    held = []
    for turn in range(200):
        number = int(random.integers(8))
        found = cache.get(f"key{number}")
        if found is not None:
            held.append((number, found))
        cache.put(f"key{number}", np.full(20_000, number, np.int32))
        if turn % 20 == 0:
            trim(Path(folder), 200_000)  # while others read and write
    for number, found in held:
        broken += not (found == number).all()
    return broken


@pytest.mark.parametrize("work", [_hammer, _hammer_arrays])
def test_concurrent_processes(tmp_path: Path, work) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as workers:
        assert workers.starmap(work, [(str(tmp_path), seed) for seed in range(3)]) == [0, 0, 0]
    assert 1 <= len(entries(tmp_path)) <= 8


def test_cache_follows_the_environment(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SARDONYX_CACHE", str(tmp_path))
    assert object_cache().folder.is_relative_to(tmp_path)


def test_folders_are_made_for_this_user_alone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SARDONYX_CACHE", str(tmp_path / "a" / "b"))
    before = os.umask(0)
    try:
        object_cache().put("a", b"code")
    finally:
        os.umask(before)
    (entry,) = entries(tmp_path)
    for path in (tmp_path / "a" / "b", tmp_path / "a" / "b" / "objects", entry.parent, entry):
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o757])
@pytest.mark.parametrize("place", [".", "objects"])
def test_a_folder_that_others_write_to_is_not_used(tmp_path: Path, monkeypatch, mode, place) -> None:
    monkeypatch.setenv("SARDONYX_CACHE", str(tmp_path))
    object_cache().put("a", b"code")
    (tmp_path / place).chmod(mode)
    with pytest.warns(UserWarning, match=r"others can write.*chmod go-w"):
        assert cache_folder("objects") is None
    (tmp_path / place).chmod(0o755)
    assert object_cache().get("a") == b"code"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_of_another_user_is_not_used(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SARDONYX_CACHE", str(tmp_path))
    os.chown(tmp_path, 12345, -1)
    with pytest.warns(UserWarning, match="others can write"):
        assert cache_folder("weights") is None


def age(cache: ObjectCache, key: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(cache._path(key), (then, then))


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SARDONYX_CACHE", str(tmp_path))
    monkeypatch.setenv("SARDONYX_CACHE_LIMIT", "500_000")
    cache = object_cache()
    for number in range(4):
        assert cache.put(f"{number}", bytes(100_000))
        age(cache, f"{number}", (10 - number) * 7200)
    assert cache.get("0") is not None  # a use, which is noted
    assert cache.put("4", bytes(100_000))
    kept = [number for number in range(5) if cache.get(f"{number}") is not None]
    assert kept in ([0, 3, 4], [0, 2, 3, 4])
    assert sum(path.stat().st_blocks * 512 for path in entries(tmp_path)) <= 500_000


def test_the_limit_holds_for_objects_and_weights_together(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SARDONYX_CACHE", str(tmp_path))
    monkeypatch.setenv("SARDONYX_CACHE_LIMIT", "1_000_000")
    arrays = ArrayCache(cache_folder("weights"))
    for number in range(20):
        assert object_cache().put(f"{number}", bytes(60_000))
        assert arrays.put(f"{number}", np.zeros(30_000, np.float32))
        used = sum(path.stat().st_blocks * 512 for path in entries(tmp_path))
        assert used <= 1_000_000 * (1 + 1 / 16) + 8192
    assert not arrays.put("large", np.zeros(300_000, np.float32))
    assert arrays.get("19") is not None


def test_a_limit_of_nothing_keeps_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SARDONYX_CACHE", str(tmp_path))
    monkeypatch.setenv("SARDONYX_CACHE_LIMIT", "0")
    assert not object_cache().put("a", b"code")
    assert entries(tmp_path) == []


def test_leftovers_of_dead_processes_go(tmp_path: Path) -> None:
    folder = tmp_path / "weights" / "ab"
    folder.mkdir(parents=True)
    old, young, other = folder / ".new-old", folder / ".new-young", tmp_path / "zoo"
    for path in (old, young, other):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    os.utime(other, (0, 0))
    trim(tmp_path, 1 << 30)
    assert [old.exists(), young.exists(), other.exists()] == [False, True, True]
