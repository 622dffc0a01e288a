"""`python -m sardonyx.compat SCRIPT ARGS...` or `-m MODULE ARGS...`: run a program with sardonyx as onnxruntime."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from sardonyx.compat.install import install_as_onnxruntime

_USAGE = "usage: python -m sardonyx.compat SCRIPT [ARGS...]\n       python -m sardonyx.compat -m MODULE [ARGS...]"


def main(arguments: list[str]) -> None:
    """Run the program that the arguments name, as `python` would."""
    module = arguments[:1] == ["-m"]
    rest = arguments[1:] if module else arguments
    if not rest or rest[0].startswith("-"):
        asked = rest[:1] in (["-h"], ["--help"])
        print(_USAGE, file=sys.stdout if asked else sys.stderr)
        raise SystemExit(0 if asked else 2)
    install_as_onnxruntime()
    sys.argv = rest
    if module:
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        # A script finds modules beside it, not in the folder the command was given in.
        sys.path[0] = str(Path(rest[0]).resolve().parent)
        runpy.run_path(rest[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
