"""What was measured before: one line of JSON for each recorded run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.duel import Protocol, Result
from bench.verdict import Spread
from sardonyx.errors import InvalidInputError

FILE = Path(__file__).parent / "history.jsonl"


@dataclass(frozen=True)
class Machine:
    """Where it was measured: float32 lanes of a vector, processors in use, measured peak and how steady it was."""

    processor: str
    lanes: int
    cores: int
    gflops: float
    steady: float


@dataclass(frozen=True)
class Row:
    """One network: median milliseconds by runtime, the ratio to the fastest peer, and our error to float64.

    `gbytes` is how fast a network that streams moved what it must, in GB/s.
    """

    model: str
    ms: Mapping[str, float]
    ratio: Spread | None
    error: float | None
    gbytes: float | None = None


@dataclass(frozen=True)
class Record:
    """One run of the benchmark. `commit` ends in + where the tree held changes; `mean` is None for part of the zoo."""

    date: str
    commit: str
    machine: Machine
    versions: Mapping[str, str]
    threads: int
    batch: int
    rounds: int
    rows: tuple[Row, ...]
    mean: Spread | None


def record_of(results: Sequence[Result], protocol: Protocol, mean: Spread | None) -> Record:
    """The record of a run that has just ended."""
    return Record(
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        commit=commit(Path(__file__).parent),
        machine=machine(protocol.threads),
        versions={name: _version(name) for name in ("sardonyx", *protocol.peers)},
        threads=protocol.threads,
        batch=protocol.batch,
        rounds=protocol.rounds,
        rows=tuple(Row(r.subject.name, r.ms, r.ratio, r.error, r.gbytes) for r in results),
        mean=mean,
    )


def append(record: Record, file: Path = FILE) -> None:
    """Add a record at the end of the file."""
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(asdict(record), allow_nan=False) + "\n")


def read(file: Path = FILE) -> list[Record]:
    """The records, oldest first; none without a file. InvalidInputError names a line that is no record."""
    if not file.exists():
        return []
    records = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            records.append(_record(json.loads(line)))
        except (KeyError, TypeError, ValueError) as error:
            where = f"{file.name}, line {number}"
            raise InvalidInputError("this is no record of the benchmark", where=where, got=repr(error)) from error
    return records


def _record(fields: dict[str, Any]) -> Record:
    rows = tuple(Row(**row | {"ratio": _spread(row["ratio"])}) for row in fields["rows"])
    machine = Machine(**fields["machine"])
    return Record(**fields | {"machine": machine, "rows": rows, "mean": _spread(fields["mean"])})


def _spread(fields: dict[str, float] | None) -> Spread | None:
    return None if fields is None else Spread(**fields)


def machine(threads: int) -> Machine:
    """This machine, its peak measured now with so many threads."""
    from sardonyx.compiler.dtypes import DType
    from sardonyx.compiler.jit import host_target
    from sardonyx.compiler.target import available_threads
    from sardonyx.measure.machine import processor
    from sardonyx.measure.roofline import roofline

    limits = roofline(threads)
    lanes, cores = host_target().lanes(DType.F32), available_threads()
    return Machine(processor(), lanes, cores, round(limits.gflops, 1), round(limits.steady, 3))


def commit(folder: Path) -> str:
    """The commit checked out there, with + for changes that are not in it; `unknown` outside a repository."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + (
            "+" if git("status", "--porcelain", "--", ":/", f":!{FILE.name}") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
