"""Times of a session's steps, written as a Chrome trace with the fields onnxruntime writes."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sardonyx.errors import ModelFileError
from sardonyx.providers.base import StepTime

# Some 200 bytes each; what comes later is counted and dropped.
_MOST_EVENTS = 1_000_000


class Trace:
    """Collects events from any thread. Times are microseconds since the trace was made."""

    def __init__(self) -> None:
        self.start_ns = time.perf_counter_ns()
        self._lock = threading.Lock()
        self._events: list[dict[str, Any]] = []
        self._dropped = 0

    def add_run(self, start_ns: int, end_ns: int, steps: Sequence[tuple[str, Sequence[StepTime]]]) -> None:
        """Note one call of `run` and, for each provider that took part, its steps."""
        events = [self._event("Session", "model_run", start_ns, end_ns - start_ns, {})]
        for provider, times in steps:
            events.extend(
                self._event(
                    "Node",
                    f"{step.name}_kernel_time",
                    step.start_ns,
                    step.duration_ns,
                    {"provider": provider, "op_name": step.kernel},
                )
                for step in times
            )
        with self._lock:
            room = _MOST_EVENTS - len(self._events)
            self._events.extend(events[:room])
            self._dropped += max(0, len(events) - room)

    def write(self, prefix: str) -> str:
        """Write `<prefix><date>_<time>.json`, a list of events, and return its name."""
        path = Path(f"{prefix}{datetime.now():%Y-%m-%d_%H-%M-%S}.json")
        with self._lock:
            events = list(self._events)
            if self._dropped:
                events.append(self._event("Session", f"{self._dropped} events dropped", self.start_ns, 0, {}))
        try:
            path.write_text(json.dumps(events, indent=0))
        except OSError as error:
            raise ModelFileError(
                f"the profile cannot be written: {error.strerror}",
                where=str(path),
                fix="set SessionOptions.profile_file_prefix to a place that can be written to",
            ) from error
        return str(path)

    def _event(self, cat: str, name: str, start_ns: int, duration_ns: int, args: dict[str, str]) -> dict[str, Any]:
        return {
            "cat": cat,
            "pid": os.getpid(),
            "tid": threading.get_native_id(),
            "dur": duration_ns // 1000,
            "ts": (start_ns - self.start_ns) // 1000,
            "ph": "X",
            "name": name,
            "args": args,
        }
