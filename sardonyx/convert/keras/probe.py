"""Finds out whether the HDF5 library survives a file, by reading all of it in a process of its own.

Damaged files can make the library crash or loop for ever, and no exception tells of either. What it read once it
reads again the same way, so after `probe` the file can be opened in this process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from sardonyx.convert.keras.file import WeightError, open_model, open_weights
from sardonyx.errors import ModelFileError, SardonyxError

PATIENCE = 15.0
"""Seconds for starting Python and for what does not grow with the file."""

BYTES_A_SECOND = 10e6
"""Slower than any disk that models are kept on."""


def probe(path: Path, where: str = "") -> None:
    """Raises ModelFileError when reading the file crashes or does not end; other damage is found later.

    What will be needed afterwards is imported meanwhile.
    """
    from sardonyx.convert.parity import load_runtime  # not for the process that reads

    seconds = PATIENCE + path.stat().st_size / BYTES_A_SECOND
    command = [sys.executable, "-P", "-m", "sardonyx.convert.keras.probe", str(path.absolute())]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    nothing = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdin=nothing, stdout=nothing, stderr=subprocess.PIPE) as run:
        try:
            load_runtime()
            _, errors = run.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise _damaged(where or str(path), f"no end after {seconds:.0f} seconds of reading") from None
        finally:
            run.kill()
    if run.returncode:
        said = errors.decode(errors="replace").strip().splitlines()[-1:]
        raise _damaged(where or str(path), f"a crash (exit {run.returncode}) {''.join(said)[:200]}".strip())


def _damaged(where: str, got: str) -> ModelFileError:
    fix = "fetch or save the file again"
    return ModelFileError("the HDF5 file is damaged", where=where, got=got, fix=fix)


def _read_through(path: Path) -> None:
    # Damage that the library reports is not what is looked for here.
    with suppress(SardonyxError, WeightError), open_weights(path, str(path)) as weights:
        for group in weights.groups():
            for read in (weights.named, weights.numbered):
                with suppress(WeightError):
                    for weight in read(group):
                        weight.read()
    with suppress(SardonyxError), open_model(path):
        pass


if __name__ == "__main__":
    _read_through(Path(sys.argv[1]))
