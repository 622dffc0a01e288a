"""MXNet's two files: the nodes of a symbol, and named arrays in the formats of MXNet 0.x to 1.9."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

from sardonyx.convert.base import Options, Source
from sardonyx.convert.mxnet import MAGIC, recognises
from sardonyx.convert.reading.cursor import Cursor
from sardonyx.convert.shaped import Unsupported
from sardonyx.errors import ConversionError, ModelFileError

Array = np.ndarray[Any, Any]
Integers: TypeAlias = tuple[int, ...]
Sizes: TypeAlias = tuple[int | None, ...]
"""`Attributes` has methods of these names."""

_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_TYPES: dict[int, Any] = {
    0: "f4", 1: "f8", 2: "f2", 3: "u1", 4: "i4", 5: "i1", 6: "i8", 7: "?", 8: "i2", 9: "u2", 10: "u4", 11: "u8",
    12: ml_dtypes.bfloat16,
}  # fmt: skip
"""mshadow's numbers for types."""
_MAX_TEXT, _MAX_FILES, _MAX_NODES = 256 * 2**20, 500, 100_000
_NAMED = {"True": True, "False": False, "None": None, "true": True, "false": False}


@dataclass
class Attributes:
    """An operator's parameters, all of them text, and which were read."""

    values: Mapping[str, str]
    seen: set[str] = field(default_factory=set)

    def has(self, name: str) -> bool:
        """Whether it is given, and is not None."""
        self.seen.add(name)
        return self.values.get(name, "None") != "None"

    def text(self, name: str, default: str = "") -> str:
        """A parameter as text."""
        return self.values[name] if self.has(name) else default

    def value(self, name: str, default: Any) -> Any:
        """A number, a truth value or a tuple of numbers as Python writes them."""
        if not self.has(name):
            return default
        given = self.values[name]
        if given in _NAMED:
            return _NAMED[given]
        try:
            # Old versions wrote (2L,), C++ writes [2,2]; nothing else than numbers is taken.
            if len(given) > 4000 or not re.fullmatch(r"[-+\d.eEL,()\[\] Nonainf]*", given):
                raise ValueError
            cleaned = re.sub(r"(?<=\d)L\b", "", given).replace("[", "(").replace("]", ")")
            found = ast.literal_eval(cleaned)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            raise Unsupported(f"{name} is {given[:40]!r}, expected numbers") from None
        return found

    def bool(self, name: str, default: bool) -> bool:
        """True or False, or 1 or 0."""
        found = self.value(name, default)
        if found not in (True, False):
            raise Unsupported(f"{name} is {self.values[name][:40]!r}, expected True or False")
        return bool(found)

    def float(self, name: str, default: float) -> float:
        """A finite number."""
        found = self.value(name, default)
        if not isinstance(found, int | float) or not abs(found) < 3.5e38:
            raise Unsupported(f"{name} is {self.values[name][:40]!r}, expected a finite number")
        return float(found)

    def int(self, name: str, default: int) -> int:
        """A whole number of 32 bits."""
        found = self.value(name, default)
        if isinstance(found, bool) or not isinstance(found, int) or abs(found) >= 2**31:
            raise Unsupported(f"{name} is {self.values[name][:40]!r}, expected a whole number")
        return found

    def ints(self, name: str, default: Sizes = ()) -> Integers:
        """Whole numbers of 32 bits; a single one counts as a list."""
        found = self.value(name, default)
        found = found if isinstance(found, tuple) else (found,)
        if any(isinstance(n, bool) or not isinstance(n, int) or abs(n) >= 2**31 for n in found):
            raise Unsupported(f"{name} is {self.values.get(name, '')[:40]!r}, expected whole numbers")
        return found

    def ignore(self, *names: str) -> None:
        """Note that these parameters change nothing at inference."""
        self.seen.update(names)

    def refuse(self, **allowed: str) -> None:
        """Refuse parameters that have another value than that which changes nothing."""
        for name, value in allowed.items():
            if self.text(name, value) != value:
                raise Unsupported(f"{name} = {self.values[name][:40]} is not supported")


@dataclass(frozen=True)
class Node:
    """An operator, or a variable where `op` is "null"; inputs are nodes and which of their results."""

    op: str
    name: str
    attributes: Attributes
    inputs: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Network:
    """The nodes in order, which results are the outputs, and the arrays by variable."""

    nodes: tuple[Node, ...]
    heads: tuple[tuple[int, int], ...]
    arrays: Mapping[str, Array]
    version: str
    files: tuple[Path, Path]


def open_network(source: Source, options: Options) -> Network:
    """The network of a symbol or of parameters, and its partner."""
    path = source.file()
    partner = Path(options.structure) if isinstance(options.structure, str | os.PathLike) else None
    has_arrays = source.head.startswith(MAGIC)
    other = partner or _beside(path, arrays=not has_arrays)
    symbol, params = (other, path) if has_arrays else (path, other)
    nodes, heads, version = read_symbol(symbol)
    return Network(nodes, heads, read_arrays(params), version, (symbol, params))


def _beside(path: Path, *, arrays: bool) -> Path:
    """The other file: of the same name before -symbol or -0000, of several epochs the last; or the only one."""
    found = []
    for file in sorted(path.parent.iterdir())[:_MAX_FILES]:
        if file == path or not file.is_file():
            continue
        source = Source(file)
        if recognises(source) and source.head.startswith(MAGIC) == arrays:
            found.append(file)
    found = [file for file in found if _prefix(file) == _prefix(path)][-1:] or found
    if len(found) != 1:
        raise ConversionError(
            f"an MXNet network is two files, and {'several fit' if found else 'the other is not there'}",
            where=str(path), expected=f"one {'.params' if arrays else '-symbol.json'} beside it",
            got=", ".join(file.name for file in found[:5]) or "none", fix="name the other file as the structure",
        )  # fmt: skip
    return found[0]


def _prefix(path: Path) -> str:
    return re.sub(r"-(symbol|\d+)$", "", path.name.removesuffix(path.suffix))


def read_symbol(path: Path) -> tuple[tuple[Node, ...], tuple[tuple[int, int], ...], str]:
    """The nodes, the outputs and the version of MXNet that wrote them."""
    try:
        if path.stat().st_size > _MAX_TEXT:
            raise ModelFileError("the text is too long for a network", where=str(path))
        graph = json.loads(path.read_bytes())
        nodes = tuple(_node(item, i) for i, item in enumerate(graph["nodes"]))
        heads = tuple((int(head[0]), int(head[1])) for head in graph["heads"])
        version = graph.get("attrs", {}).get("mxnet_version", ["int", 0])[1]
        version = f"{version // 10000}.{version // 100 % 100}.{version % 100}" if version else "before 0.9"
    except OSError as error:
        raise ModelFileError("the file cannot be read", where=str(path), got=error.strerror) from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, OverflowError) as error:
        raise ModelFileError("it is no symbol of MXNet", where=str(path), got=repr(error)[:200]) from error
    if not nodes or not heads or len(nodes) > _MAX_NODES or any(not 0 <= index < len(nodes) for index, _ in heads):
        raise ModelFileError("it is no symbol of MXNet", where=str(path), expected="nodes, and outputs among them")
    return nodes, heads, version


def _node(item: dict[str, Any], index: int) -> Node:
    values: dict[str, str] = {}
    for key in ("attr", "param", "attrs"):  # of users and operators apart once, later together
        values |= item.get(key) or {}
    inputs = tuple((int(entry[0]), int(entry[1])) for entry in item["inputs"])
    if any(not 0 <= source < index or not 0 <= result < 1000 for source, result in inputs):
        raise ValueError(f"node {index} takes what comes after it")
    op, name = item["op"], item["name"]
    if not isinstance(op, str) or not isinstance(name, str) or not all(isinstance(v, str) for v in values.values()):
        raise ValueError(f"node {index} is malformed")
    return Node(op, name, Attributes(values), inputs)


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of a .params file by name, without `arg:` and `aux:` before it."""
    try:
        cursor = Cursor(path.read_bytes(), str(path))
    except OSError as error:
        raise ModelFileError("the file cannot be read", where=str(path), got=error.strerror) from error
    if bytes(cursor.take(16)) != MAGIC:
        raise ModelFileError("it is no file of arrays of MXNet", where=str(path), expected="0x112 at its start")
    count = cursor.one("Q")
    if count * 8 > cursor.left:
        raise ModelFileError(f"it claims {count:,} arrays", where=str(path), fix="fetch the file again")
    arrays = [_array(cursor) for _ in range(count)]
    if cursor.one("Q") != count:
        raise ModelFileError("it has not as many names as arrays", where=str(path), fix="save it with names")
    names = [cursor.text(cursor.one("Q")) for _ in range(count)]
    return {re.sub(r"\A(arg|aux):", "", name): array for name, array in zip(names, arrays, strict=True)}


def _array(cursor: Cursor) -> Array:
    """One array (NDArray::Load and its LegacyLoad)."""
    magic = cursor.one("I")
    kind = 0
    if magic in (_V2, _V3):
        kind = cursor.one("i")
        if kind not in (0, -1):
            raise ConversionError("an array is sparse", where=cursor.where, fix="save it dense: tostype('default')")
        rank = cursor.one("i")
        dims = cursor.unpack(f"{rank}q") if 0 <= rank <= 32 else None
    elif magic == _V1:
        rank = cursor.one("I")
        dims = cursor.unpack(f"{rank}q") if rank <= 32 else None
    else:
        rank = magic
        dims = cursor.unpack(f"{rank}I") if rank <= 32 else None
    if dims is None and not (magic == _V3 and rank == -1):
        raise ModelFileError(f"an array claims {rank} dims", where=cursor.where, fix="fetch the file again")
    if dims is None or (rank == 0 and magic != _V3):
        return np.empty(0, np.float32)  # One that holds nothing has no more than its shape.
    cursor.unpack("2i")  # the device it was on
    number = cursor.one("i")
    if number not in _TYPES:
        raise ModelFileError(f"an array has the unknown type {number}", where=cursor.where, fix="fetch the file again")
    return cursor.array(_TYPES[number], dims)
