"""Every knob declared once: name, environment variable, type, default, meaning.

A knob is read from its environment variable each time it is asked for, so that a program may set it before it
makes a session. Options given in code (`SessionOptions`, function arguments) win over knobs.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from sardonyx.errors import ConfigError

T = TypeVar("T")

PREFIX = "SARDONYX_"


@dataclass(frozen=True)
class Knob(Generic[T]):
    """One setting. `parse` turns the variable's text into the value and raises ValueError when it cannot.

    `codegen` says that the value shapes generated code, so it belongs to the key of every compiled object.
    """

    name: str
    default: Callable[[], T]
    parse: Callable[[str], T]
    expected: str
    doc: str
    codegen: bool = False

    @property
    def variable(self) -> str:
        """The environment variable, such as `SARDONYX_THREADS`."""
        return PREFIX + self.name.upper()

    def get(self) -> T:
        """The value now: the environment variable's when that is set and not empty, else the default."""
        text = os.environ.get(self.variable, "").strip()
        if not text:
            return self.default()
        try:
            return self.parse(text)
        except ValueError:
            raise ConfigError(
                "cannot read this environment variable",
                where=self.variable,
                expected=self.expected,
                got=repr(text),
                fix=f"set it to {self.expected} or unset it",
            ) from None


def _flag(text: str) -> bool:
    try:
        return {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}[text.lower()]
    except KeyError:
        raise ValueError(text) from None


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def _accuracy(text: str) -> str:
    if text not in ("default", "exact"):
        raise ValueError(text)
    return text


def _mode(text: str) -> str:
    if text not in ("latency", "throughput"):
        raise ValueError(text)
    return text


def _level(text: str) -> str:
    if text not in ("host", "x86-64-v2", "x86-64-v3", "x86-64-v4"):
        raise ValueError(text)
    return text


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ValueError(text)
    return names


def _interpreter(text: str) -> str:
    path = Path(text).expanduser()
    if not os.access(path, os.X_OK) or path.is_dir():
        raise ValueError(text)
    return str(path.absolute())


def _python(framework: str) -> Knob[str]:
    """The Python in which `framework` lives, for `convert/process.py`."""
    return Knob(
        f"{framework}_python",
        lambda: sys.executable,
        _interpreter,
        "the path of a Python interpreter",
        f"the Python that has {framework}, for conversions and comparisons that run it in a process of its own",
    )


def _user_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "sardonyx"


ACCURACY = Knob(
    "accuracy",
    lambda: "default",
    _accuracy,
    "default or exact",
    "exact: only algorithms that round as plain sums do and keep infinities and NaN where they belong",
)
CACHE = Knob(
    "cache",
    _user_cache,
    lambda text: Path(text).expanduser(),
    "a folder",
    "where downloads, compiled objects and packed weights are kept",
)
CACHE_LIMIT = Knob(
    "cache_limit",
    lambda: 5 << 30,
    _count,
    "a number of bytes",
    "the most the compiled objects and packed weights in the cache may take; what was not used for longest goes first",
)
DEBUG = Knob("debug", lambda: False, _flag, "1 or 0", "verify the graph after every pass; programs always are")
MEMORY = Knob(
    "memory",
    lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    _count,
    "a number of bytes",
    "the most memory one run may need for its results; default: what the machine has",
)
MODE = Knob(
    "mode",
    lambda: "latency",
    _mode,
    "latency or throughput",
    "throughput: each call of a session runs on its caller's thread alone, for programs that call from many threads",
)
PROVIDERS = Knob(
    "providers",
    lambda: ("cpu",),
    _names,
    "provider names with commas between",
    "the providers of a session that names none, in order of preference",
)
SPIN = Knob(
    "spin",
    lambda: 1000,
    _count,
    "microseconds",
    "how long (about) a worker thread waits for the next run before it sleeps",
)
TARGET = Knob(
    "target",
    lambda: "host",
    _level,
    "one of host, x86-64-v2, x86-64-v3, x86-64-v4",
    "the processor to generate code for, read once a process; a level is for trying what less capable ones get",
    codegen=True,
)
THREADS = Knob(
    "threads",
    lambda: 0,
    _count,
    "a whole number, 0 or more",
    "threads of a session that does not say (intra_op_num_threads); 0: as many as the machine allows",
)

CHAINER_PYTHON = _python("chainer")
COREML_PYTHON = _python("coreml")
H2O_PYTHON = _python("h2o")
MXNET_PYTHON = _python("mxnet")
OPENCV_PYTHON = _python("opencv")
PADDLE_PYTHON = _python("paddle")
SPARK_PYTHON = _python("spark")
TENSORFLOW_PYTHON = _python("tensorflow")
TORCH_PYTHON = _python("torch")

KNOBS: dict[str, Knob[Any]] = {
    knob.name: knob
    for knob in (
        *(ACCURACY, CACHE, CACHE_LIMIT, DEBUG, MEMORY, MODE, PROVIDERS, SPIN, TARGET, THREADS),
        *(CHAINER_PYTHON, COREML_PYTHON, H2O_PYTHON, MXNET_PYTHON, OPENCV_PYTHON),
        *(PADDLE_PYTHON, SPARK_PYTHON),
        *(TENSORFLOW_PYTHON, TORCH_PYTHON),
    )
}


def codegen_key() -> tuple[tuple[str, str], ...]:
    """Name and value of every knob that shapes generated code, for the keys of caches."""
    return tuple((knob.name, repr(knob.get())) for knob in KNOBS.values() if knob.codegen)


def warn_unknown() -> None:
    """Warn about environment variables that start with `SARDONYX_` and mean nothing: most are misspelt."""
    known = {knob.variable for knob in KNOBS.values()}
    for variable in sorted(os.environ):
        if variable.startswith(PREFIX) and variable not in known:
            warnings.warn(
                f"the environment variable {variable} means nothing to Sardonyx; known are {', '.join(sorted(known))}",
                stacklevel=3,
            )
