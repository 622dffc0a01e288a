"""Darknet's two files: sections with options, and one row of floats."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from sardonyx.convert.base import Options, Source
from sardonyx.convert.reading.cursor import Cursor
from sardonyx.convert.shaped import Unsupported
from sardonyx.errors import ConversionError, ModelFileError

Array = np.ndarray[Any, Any]
Integers: TypeAlias = list[int]
Numbers: TypeAlias = list[float]
"""`Section` has methods of these names."""

_MAX_TEXT, _MAX_FILES, _MAX_SECTIONS = 4 * 2**20, 500, 5_000


@dataclass
class Section:
    """A layer's name and options, and which of these were read. A later option wins, as in Darknet's list."""

    kind: str
    values: dict[str, str]
    seen: set[str] = field(default_factory=set)

    def text(self, name: str, default: str = "") -> str:
        """An option as text."""
        self.seen.add(name)
        return self.values.get(name, default)

    def int(self, name: str, default: int) -> int:
        """A whole number below 2**31."""
        value = self.text(name, str(default))
        if not re.fullmatch(r"[-+]?\d{1,10}", value) or abs(int(value)) >= 2**31:
            raise Unsupported(f"{name} is {value[:40]!r}, expected a whole number")
        return int(value)

    def float(self, name: str, default: float) -> float:
        """A finite number."""
        return _floats(name, self.text(name, str(default)))[0]

    def floats(self, name: str) -> Numbers:
        """Finite numbers, with commas between them."""
        value = self.text(name)
        return _floats(name, value) if value else []

    def ints(self, name: str) -> Integers:
        """Whole numbers, with commas between them."""
        found = self.floats(name)
        if any(value != int(value) or abs(value) >= 2**31 for value in found):
            raise Unsupported(f"{name} is {self.values[name][:40]!r}, expected whole numbers")
        return [int(value) for value in found]


@dataclass(frozen=True)
class Files:
    """The network: [net], the layers in order, the weights (its reader at the first), and where they lie."""

    net: Section
    layers: tuple[Section, ...]
    weights: Array
    transposed: bool
    cfg: Path
    binary: Path


def _floats(name: str, value: str) -> list[float]:
    parts = [part.strip() for part in value.split(",")]
    parts = parts[:-1] if len(parts) > 1 and not parts[-1] else parts
    try:
        result = [float(part) for part in parts]
    except ValueError:
        result = [float("nan")]
    if not result or any(not abs(number) < 3.5e38 for number in result):
        raise Unsupported(f"{name} is {value[:40]!r}, expected numbers")
    return result


def beside(path: Path, *, weights: bool) -> list[Path]:
    """The other files in the folder: weights or texts; the one with the same stem alone where there is one."""
    found = []
    for file in sorted(path.parent.iterdir())[:_MAX_FILES]:
        if file != path and file.is_file() and _is_weights(file) == weights and (weights or _is_cfg(file)):
            found.append(file)
    return [file for file in found if file.stem == path.stem] or found


def _is_cfg(path: Path) -> bool:
    from sardonyx.convert.darknet import _CFG

    try:
        with path.open("rb") as file:
            return bool(_CFG.match(file.read(4096)))
    except OSError:
        return False


def _is_weights(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = np.frombuffer(file.read(12), "<i4")
    except (OSError, ValueError):
        return False
    return len(head) == 3 and int(head.min()) >= 0 and int(head[0]) <= 2 and int(head[1:].max()) <= 10


def open_files(source: Source, options: Options) -> Files:
    """Both files of a network. Raises ModelFileError and ConversionError."""
    path = source.file()
    is_cfg = _is_cfg(path)
    partner = Path(options.structure) if isinstance(options.structure, str | os.PathLike) else None
    found = [partner] if partner else beside(path, weights=is_cfg)
    if len(found) != 1:
        raise ConversionError(
            f"a Darknet network is two files, and {'several fit' if found else 'the other is not there'}",
            where=str(path), expected=f"one {'.weights' if is_cfg else '.cfg'} beside it",
            got=", ".join(file.name for file in found[:5]) or "none", fix="name the other file as the structure",
        )  # fmt: skip
    cfg, binary = (path, found[0]) if is_cfg else (found[0], path)
    sections = read_cfg(cfg)
    weights, transposed = read_weights(binary)
    return Files(sections[0], tuple(sections[1:]), weights, transposed, cfg, binary)


def read_cfg(path: Path) -> list[Section]:
    """The sections of a .cfg, [net] first."""
    try:
        if path.stat().st_size > _MAX_TEXT:
            raise ModelFileError("the text is too long for a network", where=str(path))
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ModelFileError("the file cannot be read", where=str(path), got=error.strerror) from error
    sections: list[Section] = []
    for number, line in enumerate(lines, 1):
        # Darknet takes all spaces out of a line, and comments only where a line starts with them.
        content = re.sub(r"\s", "", line)
        if not content or content[0] in "#;":
            continue
        if content[0] == "[":
            sections.append(Section(content.strip("[]").lower(), {}))
            continue
        name, equals, value = content.partition("=")
        if not sections or not equals or not name:
            raise ModelFileError(f"line {number} is no option", where=str(path), got=repr(content[:60]))
        sections[-1].values[name] = value
    if not sections or sections[0].kind not in ("net", "network") or not 2 <= len(sections) <= _MAX_SECTIONS:
        raise ModelFileError("it is no network of Darknet", where=str(path), expected="[net] and layers")
    return sections


def read_weights(path: Path) -> tuple[Array, bool]:
    """All floats after the header, and whether matrices are transposed in the file (load_weights_upto)."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError("the file cannot be read", where=str(path), got=error.strerror) from error
    cursor = Cursor(data, str(path))
    major, minor, _ = cursor.unpack("3i")
    wide = major * 10 + minor >= 2 and major < 1000 and minor < 1000
    cursor.take(8 if wide else 4)  # how many pictures it has seen
    if cursor.left % 4:
        raise ModelFileError("its size is no whole number of floats", where=str(path), fix="fetch the file again")
    return cursor.array("f4", [cursor.left // 4]), major > 1000 or minor > 1000
