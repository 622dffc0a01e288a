"""Sessions as a user makes them: where a call takes microseconds, wrappers around runtimes would be part of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sardonyx.measure.runners import OnnxRuntimeRunner, Run

if TYPE_CHECKING:
    from sardonyx.session import InferenceSession

OURS, PEER = "sardonyx/cpu", OnnxRuntimeRunner.name


def ours(model: Path | bytes, threads: int) -> InferenceSession:
    """A session of Sardonyx's compiler."""
    import sardonyx

    options = sardonyx.SessionOptions()
    options.intra_op_num_threads = threads
    return sardonyx.InferenceSession(model, options, providers=["cpu"])


def peer(model: Path | bytes, threads: int) -> Run:
    """A session of onnxruntime, as its `run`; ProviderError where it refuses the model."""
    return partial(OnnxRuntimeRunner().session(model, threads).run, None)
