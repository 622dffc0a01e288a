"""Load time and memory of one runtime, each measured in a process of its own.

In a shared process the libraries and allocators of the other runtimes would blur both. The child
(`python -m sardonyx.measure.footprint`) reads a request as JSON from its standard input and writes its
`Footprint` as JSON to its standard output.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sardonyx.errors import ProviderError
from sardonyx.measure.runners import Inputs, runner

TIMEOUT = 600.0  # seconds until a child is given up


@dataclass(frozen=True)
class Footprint:
    """What it costs to have a model ready, once the runtime's own package has been imported.

    `load_ms`: from the file to a loaded model. `first_run_ms`: the first call after it. `peak_mib`: the
    highest resident memory through load and first run above that before the load, in MiB (None where the
    system does not tell). Caches a runtime keeps on disk are used as they are found.
    """

    name: str
    load_ms: float
    first_run_ms: float
    peak_mib: float | None


def footprint(
    name: str, model: Path, inputs: Inputs, threads: int, environment: Mapping[str, str] | None = None
) -> Footprint:
    """The footprint of a runtime (a name of `runners`) on a model file; ProviderError when it fails.

    `environment` are variables of the child besides those of this process.
    """
    from onnx.numpy_helper import from_array

    with tempfile.TemporaryDirectory(prefix="sardonyx-") as folder:
        files: dict[str, str] = {}
        for i, (input_name, array) in enumerate(inputs.items()):  # which may be no fit name for a file
            file = Path(folder) / f"input_{i}.pb"
            file.write_bytes(from_array(array).SerializeToString())
            files[input_name] = str(file)
        request = {"runner": name, "model": str(model.resolve()), "inputs": files, "threads": threads}
        return _ask(request, environment or {})


def _ask(request: dict[str, Any], extra: Mapping[str, str]) -> Footprint:
    name = request["runner"]
    # The child looks for packages exactly where this process does, and not in the current folder (-P).
    command = [sys.executable, "-P", "-m", "sardonyx.measure.footprint"]
    path = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
    environment = {**os.environ, "PYTHONPATH": path, **extra}
    try:
        done = subprocess.run(
            command,
            input=json.dumps(request),
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ProviderError(f"{name} took more than {TIMEOUT:.0f} s to load and run the model once") from error
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise ProviderError(f"{name} failed while its memory was measured", got=last[0])
    # A runtime may print lines of its own; the answer is the last.
    return Footprint(**json.loads(done.stdout.splitlines()[-1]))


def _answer(request: dict[str, Any]) -> Footprint:
    import onnx
    from onnx.numpy_helper import to_array

    files: dict[str, str] = request["inputs"]
    inputs = {name: to_array(onnx.load_tensor(file)) for name, file in files.items()}
    chosen = runner(request["runner"])
    _import_ahead(chosen.name)
    before = _peak_memory(reset=True)
    start = time.perf_counter()
    run = chosen.load(Path(request["model"]), request["threads"])
    loaded = time.perf_counter()
    run(inputs)
    done = time.perf_counter()
    after = _peak_memory(reset=False)
    peak = None if before is None or after is None else (after - before) / 1024
    return Footprint(chosen.name, 1e3 * (loaded - start), 1e3 * (done - loaded), peak)


def _import_ahead(name: str) -> None:
    """Import what the runtime's package brings, which is not the model's cost."""
    import importlib

    importlib.import_module("onnx_ir" if name.startswith("sardonyx/") else name)
    if name.startswith("sardonyx/"):
        importlib.import_module("sardonyx.session")


def _peak_memory(*, reset: bool) -> int | None:
    """The highest resident memory of this process so far, in KiB; `reset` starts anew from the present."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    if reset:
        # Where a hardened system forbids it the highest so far stands, and the difference is understated.
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return int(lines["VmHWM"].split()[0]) if "VmHWM" in lines else None


if __name__ == "__main__":
    print(json.dumps(asdict(_answer(json.loads(sys.stdin.read())))))
