"""Runs a small module of ours in a process of its own, for frameworks that can abort, hang or fill the memory.

`call` starts `python -P -m MODULE` with a job as JSON on its standard input: arguments, and where arrays lie and are to
be put (.npz files in a folder that is gone afterwards). The module ends in

    if __name__ == "__main__":
        serve(function)

where `function(arguments, arrays)` gives a value that JSON can hold and arrays. What it prints is only shown when it
fails. `SARDONYX_<FRAMEWORK>_PYTHON` names another interpreter, for frameworks that live in an environment of their own:
there only numpy and the framework are needed, so such modules import nothing else of Sardonyx than this and `errors`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import sardonyx
from sardonyx import config, errors
from sardonyx.errors import ConversionError, SardonyxError

Array = np.ndarray[Any, Any]
Function = Callable[[dict[str, Any], dict[str, Array]], tuple[Any, Mapping[str, Array]]]

LINES = 12
"""So much of what a failed process printed is shown."""


def interpreter(framework: str | None = None) -> str:
    """The Python that runs `framework`: what `SARDONYX_<FRAMEWORK>_PYTHON` names, else this one."""
    knob = config.KNOBS.get(f"{framework}_python") if framework else None
    return knob.get() if knob is not None else sys.executable


def versions(packages: Iterable[str], framework: str | None = None) -> dict[str, str]:
    """The versions of those distributions that are installed for `framework`'s Python, without importing them."""
    return dict(_versions(tuple(packages), interpreter(framework)))


def call(
    module: str,
    arguments: Mapping[str, Any],
    arrays: Mapping[str, Array] | None = None,
    *,
    timeout: float,
    framework: str | None = None,
    doing: str | None = None,
) -> tuple[Any, dict[str, Array]]:
    """What `function` of `module` gives for `arguments` (which JSON can hold, paths absolute) and `arrays`.

    Raises ConversionError when it raised, crashed or took more than `timeout` seconds (with the last lines it printed;
    `doing` says in words what it was about), and Sardonyx's own errors as it raised them.
    """
    doing = doing or module
    python = interpreter(framework)
    with tempfile.TemporaryDirectory(prefix="sardonyx-") as name:
        folder = Path(name)
        job = {"arguments": dict(arguments), "folder": name, "arrays": _save(folder / "in.npz", arrays or {})}
        command = [python, "-P", "-m", module]
        with (folder / "said").open("wb") as said:
            code = _run(command, json.dumps(job), folder, said, timeout, doing)
        reply = _reply(folder)
        if reply is None or code:
            raise ConversionError(
                f"{doing} failed", where=_where(framework, python), got=_ending(folder / "said", code), fix=_fix(code)
            )
        if "error" in reply:
            raise _error(reply["error"], doing)
        return reply["value"], _load(folder / "out.npz", reply["arrays"])


def serve(function: Function) -> None:
    """The other side of `call`: does the job on standard input."""
    job = json.load(sys.stdin)
    folder = Path(job["folder"])
    reply: dict[str, Any]
    try:
        value, arrays = function(job["arguments"], _load(folder / "in.npz", job["arrays"]))
        reply = {"value": value, "arrays": _save(folder / "out.npz", arrays)}
    except SardonyxError as error:
        reply = {"error": error.as_dict()}
    (folder / "reply.json").write_text(json.dumps(reply))


def _run(command: list[str], job: str, folder: Path, said: Any, timeout: float, doing: str) -> int:
    """The exit code. The process gets a group of its own, so that all it started ends with it."""
    running = subprocess.Popen(
        command, env=_environment(command[0]), cwd=folder, stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    try:
        running.communicate(job.encode(), timeout=timeout)
    except subprocess.TimeoutExpired:
        raise ConversionError(
            f"{doing} did not end", expected=f"an end within {timeout:g} seconds", fix="allow more time: timeout"
        ) from None
    except BrokenPipeError:  # It ended before it read its job.
        running.wait(timeout=timeout)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    return running.returncode


def _environment(python: str) -> dict[str, str]:
    # Another interpreter has packages of its own; of ours it gets Sardonyx alone.
    own = python == sys.executable
    paths = [path for path in sys.path if path] if own else [str(Path(sardonyx.__file__).parent.parent)]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    return quiet | dict(os.environ) | {"PYTHONPATH": os.pathsep.join(paths)}


def _save(path: Path, arrays: Mapping[str, Array]) -> list[str]:
    """Write the arrays; their names in order. Text goes as fixed-width text, since objects would be pickled."""
    stored = {}
    for i, array in enumerate(map(np.asarray, arrays.values())):
        stored[str(i)] = array.astype(str) if array.dtype == object else array
    np.savez(path, **stored)  # type: ignore[arg-type]
    return list(arrays)


def _load(path: Path, names: list[str]) -> dict[str, Array]:
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[str(i)] for i, name in enumerate(names)}


def _reply(folder: Path) -> dict[str, Any] | None:
    try:
        reply: dict[str, Any] = json.loads((folder / "reply.json").read_text())
    except (OSError, ValueError):
        return None
    return reply


def _error(fields: Mapping[str, str], doing: str) -> SardonyxError:
    kinds = {kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "code")}
    given = {key: value for key, value in fields.items() if key not in ("code", "what")}
    kind: type[SardonyxError] = kinds.get(fields["code"], ConversionError)
    return kind(fields.get("what", doing), **given)


def _ending(path: Path, code: int) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8000))
        lines = [line.rstrip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"{how}: {' / '.join(lines[-LINES:]) or 'nothing printed'}"


def _fix(code: int) -> str | None:
    return "is there enough memory?" if code == -signal.SIGKILL else None


def _where(framework: str | None, python: str) -> str | None:
    return python if framework and python != sys.executable else None


@cache
def _versions(packages: tuple[str, ...], python: str) -> tuple[tuple[str, str], ...]:
    if python == sys.executable:
        found = []
        for package in packages:
            with contextlib.suppress(metadata.PackageNotFoundError):
                found.append((package, metadata.version(package)))
        return tuple(found)
    code = (
        "import sys, json\nfrom importlib import metadata\nfound = []\n"
        "for name in sys.argv[1:]:\n    try: found.append((name, metadata.version(name)))\n"
        "    except metadata.PackageNotFoundError: pass\nprint(json.dumps(found))"
    )
    try:
        run = subprocess.run(
            [python, "-I", "-c", code, *packages], capture_output=True, text=True, timeout=60, check=True
        )
        return tuple((name, version) for name, version in json.loads(run.stdout))
    except (OSError, subprocess.SubprocessError, ValueError):
        return ()
