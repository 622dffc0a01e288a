"""The thread pool: threads that Python makes and that live inside native code between jobs."""

from __future__ import annotations

import ctypes
import os
import threading
from typing import Any

import numpy as np

from sardonyx.compiler import executor as native
from sardonyx.compiler.target import Target

_SPINS_PER_MICROSECOND = 500
_SUBMIT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
_WORKER = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
_SOLO = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def words(count: int) -> np.ndarray[Any, Any]:
    """Zeroed 64-bit words that start on a cache line."""
    raw = np.zeros(count + native.LINE, np.int64)
    start = (-raw.ctypes.data % 64) // 8
    return raw[start : start + count]


class ThreadPool:
    """`threads` threads, the caller of `run` included. The workers help one job at a time; they spin, then sleep.

    Safe to use from several Python threads: a job that comes while another one is running is done by its caller alone.
    Several callers then share the processor as threads of one job would, without waiting for each other. Workers are
    started by the first job, and again by the first one after a fork, which leaves the child none.
    """

    def __init__(self, target: Target, threads: int, spin_microseconds: int) -> None:
        executor = native.load_executor(target)
        self.threads = threads
        self._spins = spin_microseconds * _SPINS_PER_MICROSECOND
        self._submit, self._solo = _SUBMIT(executor.submit), _SOLO(executor.solo)
        self._serve = _WORKER(executor.worker)
        self.reset()

    def reset(self) -> None:
        """Forget the workers: right only where they no longer exist."""
        self._lock = threading.Lock()
        self._callers = 0
        self._counting = threading.Lock()
        self._memory = words(native.POOL_WORDS)
        self._memory[native.POOL_SPIN] = self._spins
        self._address = int(self._memory.ctypes.data)
        self._workers: list[threading.Thread] = []
        self._retired: list[object] = []

    def _start(self) -> None:
        serve, memory, address = self._serve, self._memory, self._address

        def work(index: int, _keep: np.ndarray[Any, Any] = memory) -> None:
            serve(address, index)  # reads `memory`, which lives as long as this frame holds it

        self._workers = [
            threading.Thread(target=work, args=(index,), name=f"sardonyx-{index}", daemon=True)
            for index in range(1, self.threads)
        ]
        for worker in self._workers:
            worker.start()

    def run(self, job: int) -> None:
        """Run the job at this address; returns when all its steps are done."""
        if self.threads == 1:
            self._solo(job)
            return
        with self._counting:
            self._callers += 1
            alone = self._callers == 1
        try:
            if alone:
                self._share(job)
            else:
                self._solo(job)
        finally:
            with self._counting:
                self._callers -= 1

    def _share(self, job: int) -> None:
        with self._lock:
            if not self._workers:
                self._start()
            self._submit(self._address, job)
            if self._retired and not self._memory[native.POOL_ACTIVE]:
                self._retired.clear()

    def solo(self, job: int) -> None:
        """Run a job on the calling thread alone."""
        self._solo(job)

    def retire(self, memory: object) -> None:
        """Keep a job's memory until no worker can be looking at it: a later job has been run, and none is active."""
        if self._workers:
            self._retired.append(memory)

    def close(self) -> None:
        """End the workers; a later job starts new ones."""
        with self._lock:
            if self._workers:
                self._submit(self._address, native.EXIT_JOB)
            for worker in self._workers:
                worker.join()
        self.reset()


_POOLS: dict[tuple[int, int], ThreadPool] = {}
_POOLS_LOCK = threading.Lock()


def pool(target: Target, threads: int, spin_microseconds: int) -> ThreadPool:
    """The process' pool of this size, made on first use and shared by all sessions."""
    with _POOLS_LOCK:
        key = (threads, spin_microseconds)
        found = _POOLS.get(key)
        if found is None:
            found = _POOLS[key] = ThreadPool(target, threads, spin_microseconds)
        return found


def _after_fork() -> None:
    """In a forked child: the workers are gone, and a lock may be held by a thread that is gone too."""
    global _POOLS_LOCK  # noqa: PLW0603
    _POOLS_LOCK = threading.Lock()
    for found in _POOLS.values():
        found.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
