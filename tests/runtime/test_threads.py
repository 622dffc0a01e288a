"""Threads: idle ones cost nothing, forks and concurrent callers are safe, failures do not hang."""

import os
import threading
import time

import numpy as np
import pytest

import sardonyx
from sardonyx.compiler import executor as native
from sardonyx.compiler.jit import host_target
from sardonyx.compiler.target import available_threads
from sardonyx.runtime.threads import ThreadPool, words
from tests.suites.operators import Case, floats, node

WEIGHT = floats(96, 96)
CASE = Case(
    "threads",
    [node("MatMul", "x w", "m"), node("Relu", "m", "r"), node("MatMul", "r w")],
    {"x": floats(64, 96)},
    {"w": WEIGHT},
)


def session(threads: int = 2) -> sardonyx.InferenceSession:
    options = sardonyx.SessionOptions()
    options.intra_op_num_threads = threads
    return sardonyx.InferenceSession(CASE.model().SerializeToString(), options)


def expected(x: np.ndarray) -> np.ndarray:
    return np.maximum(x.astype(np.float64) @ WEIGHT, 0) @ WEIGHT


def test_idle_session_uses_no_cpu() -> None:
    ready = session()
    ready.run(None, dict(CASE.feeds))
    time.sleep(0.1)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.01


def test_runs_after_sleeping() -> None:
    ready = session()
    for _ in range(3):
        (y,) = ready.run(None, dict(CASE.feeds))
        np.testing.assert_allclose(y, expected(CASE.feeds["x"]), rtol=1e-4, atol=1e-3)
        time.sleep(0.05)


def test_several_callers_of_one_session() -> None:
    ready, wrong = session(), []

    def call(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(50):
            x = random.standard_normal((64, 96)).astype(np.float32)
            (y,) = ready.run(None, {"x": x})
            if not np.allclose(y, expected(x), rtol=1e-4, atol=1e-3):
                wrong.append(seed)

    callers = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not wrong


def test_survives_fork() -> None:
    ready = session()
    ready.run(None, dict(CASE.feeds))
    child = os.fork()
    if child == 0:
        (y,) = ready.run(None, dict(CASE.feeds))
        os._exit(0 if np.allclose(y, expected(CASE.feeds["x"]), rtol=1e-4, atol=1e-3) else 1)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            break
        time.sleep(0.01)
    else:
        os.kill(child, 9)
        raise AssertionError("the child hangs")
    ready.run(None, dict(CASE.feeds))


def test_more_threads_than_processors() -> None:
    (y,) = session(threads=5).run(None, dict(CASE.feeds))
    np.testing.assert_allclose(y, expected(CASE.feeds["x"]), rtol=1e-4, atol=1e-3)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    feeds = dict(CASE.feeds)
    np.testing.assert_array_equal(session(1).run(None, feeds)[0], session(3).run(None, feeds)[0])


def test_pool_closes() -> None:
    pool = ThreadPool(host_target(), 3, 10)
    job = words(native.JOB_WORDS)  # no steps
    for _ in range(10):
        pool.run(job.ctypes.data)
    pool.close()


def test_count_respects_affinity() -> None:
    assert 1 <= available_threads() <= len(os.sched_getaffinity(0))


def test_calls_at_the_same_time_do_not_wait_for_each_other() -> None:
    """A job that comes while another one runs is done by its caller: no worker is even started for it."""
    ready = session()
    pool = ThreadPool(host_target(), 3, 100)
    job = words(native.JOB_WORDS)
    pool._callers = 1
    pool.run(int(job.ctypes.data))
    assert not pool._workers
    pool._callers = 0
    pool.run(int(job.ctypes.data))
    assert len(pool._workers) == 2
    pool.close()
    assert ready.run(None, dict(CASE.feeds))


def test_throughput_mode_takes_one_thread_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    options = sardonyx.SessionOptions()
    options.add_session_config_entry("sardonyx.mode", "throughput")
    model = CASE.model().SerializeToString()
    before = threading.active_count()
    (y,) = sardonyx.InferenceSession(model, options).run(None, dict(CASE.feeds))
    np.testing.assert_allclose(y, expected(CASE.feeds["x"]), rtol=1e-4, atol=1e-3)
    assert threading.active_count() == before
    assert sardonyx.InferenceSession(model, options)._threads() == 1
    options.intra_op_num_threads = 2
    assert sardonyx.InferenceSession(model, options)._threads() == 2, "what is said more exactly counts"
    monkeypatch.setenv("SARDONYX_MODE", "throughput")
    assert sardonyx.InferenceSession(model)._threads() == 1


def test_unknown_mode_is_an_error() -> None:
    options = sardonyx.SessionOptions()
    options.add_session_config_entry("sardonyx.mode", "fast")
    with pytest.raises(sardonyx.InvalidInputError, match="unknown mode"):
        sardonyx.InferenceSession(CASE.model().SerializeToString(), options)
