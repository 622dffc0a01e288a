"""Weights that PyTorch saved, read without PyTorch and without unpickling: no pickle is executed.

A pickle is a program for a small stack machine. The machine here knows the instructions that tensors, numbers, text
and containers need; what it is told to call must be in a table of a dozen names (`_KNOWN`), which are functions of
ours. Anything else is refused by name. Files are those of `torch.save`, as zip archives (PyTorch 1.6 and later) or the
stream before that, as `torch/serialization.py` writes them.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from sardonyx.convert.reading.cursor import Cursor
from sardonyx.errors import ConversionError, ModelFileError

Array = np.ndarray[Any, Any]

LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""How files before PyTorch 1.6 start: a pickle of a number."""

_EXPANDED = 1 << 20  # elements that a tensor may have beyond its storage's, by steps of 0
_DEPTH = 200
_PICKLE_LIMIT = 1 << 28  # bytes of structure; the elements lie apart
_DTYPES: dict[str, Any] = {
    "Float": np.float32,
    "Double": np.float64,
    "Half": np.float16,
    "BFloat16": ml_dtypes.bfloat16,
    "Long": np.int64,
    "Int": np.int32,
    "Short": np.int16,
    "Char": np.int8,
    "Byte": np.uint8,
    "Bool": np.bool_,
    "ComplexFloat": np.complex64,
    "ComplexDouble": np.complex128,
}


@dataclass(frozen=True)
class Storage:
    """The elements of tensors: which record of the file holds them."""

    key: str
    dtype: Any
    count: int


@dataclass(frozen=True)
class Tensor:
    """A tensor in a file: a view of a storage. `shape` and `strides` count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its elements' type."""
        found: np.dtype[Any] = np.dtype(self.storage.dtype)
        return found

    def view(self, elements: Array) -> Array:
        """The tensor over its storage's elements, of one axis. Raises ValueError where it does not lie inside."""
        reach = self.offset + sum((dim - 1) * step for dim, step in zip(self.shape, self.strides, strict=True))
        if math.prod(self.shape) > max(len(elements), _EXPANDED):
            raise ValueError("a tensor is larger than its storage")
        if 0 in self.shape:
            return np.zeros(self.shape, elements.dtype)
        if not 0 <= self.offset <= reach < len(elements):
            raise ValueError("a tensor lies outside of its storage")
        strides = [step * elements.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(elements[self.offset :], self.shape, strides, writeable=False)


class Weights(Mapping[str, Tensor]):
    """The tensors of a file by name (`features.0.weight`); `array` reads one."""

    def __init__(self, path: Path) -> None:
        """Raises ModelFileError for damaged files, ConversionError where more than tensors is pickled."""
        self._path, self._where = path, str(path)
        if is_archive(path):
            self.content, self._read = _of_archive(path)
        else:
            self.content, self._read = _of_stream(path)
        self._tensors = dict(_named(self.content, "", set()))

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def array(self, name: str) -> Array:
        """The elements, in C order. Raises ModelFileError where the file does not hold them."""
        tensor = self[name]
        elements = self._read(tensor.storage)
        try:
            return np.array(tensor.view(elements), order="C")
        except ValueError as error:
            raise ModelFileError(f"the tensor {name!r} is damaged", where=self._where, got=str(error)) from None


def read_weights(path: str | Path) -> dict[str, Array]:
    """All tensors of a `.pt` or `.pth` file of weights, by name, as arrays.

    Raises ModelFileError for damaged files, ConversionError for files with other pickled objects.
    """
    weights = Weights(Path(path))
    return {name: weights.array(name) for name in weights}


def _named(value: Any, prefix: str, seen: set[int], depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    # A container is gone through once: what refers to itself many times over would take for ever.
    if isinstance(value, Tensor):
        yield prefix or "tensor", value
    elif isinstance(value, dict | list | tuple) and depth < _DEPTH and id(value) not in seen:
        seen.add(id(value))
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from _named(inner, f"{prefix}.{key}" if prefix else str(key), seen, depth + 1)


Read = Callable[[Storage], Array]


def member(archive: zipfile.ZipFile, name: str, limit: int, where: str) -> bytes:
    """A file of a zip archive, of at most `limit` bytes, checked by its checksum. Raises ModelFileError."""
    try:
        # What is compressed can be far larger than the file.
        if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
            limit = min(limit, _PICKLE_LIMIT)
        with archive.open(name) as file:
            data = file.read(limit + 1)
    except KeyError:
        raise ModelFileError(f"the archive has no {name}", where=where, fix="fetch the file again") from None
    except (OSError, EOFError, RuntimeError, NotImplementedError, ValueError, zipfile.BadZipFile, zlib.error,
            struct.error) as error:  # fmt: skip
        raise ModelFileError(f"{name} in the archive is damaged", where=where, got=str(error)[:200]) from error
    if len(data) > limit:
        raise ModelFileError(f"{name} in the archive is too large", where=where, expected=f"at most {limit:,} bytes")
    return data


def is_archive(path: Path) -> bool:
    """Whether the file is a zip archive, sound or not. Raises ModelFileError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError as error:
        raise ModelFileError("the file cannot be read", where=str(path), got=error.strerror) from error


def opened(path: Path) -> zipfile.ZipFile:
    """The archive. Raises ModelFileError."""
    try:
        return zipfile.ZipFile(path)
    except (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile, struct.error) as error:
        raise ModelFileError("the zip archive is damaged", where=str(path), got=str(error)[:200]) from error


def _of_archive(path: Path) -> tuple[Any, Read]:
    with opened(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(names) != 1:
            raise ModelFileError("the archive has no data.pkl", where=str(path), got=f"{len(names)} of them")
        folder = names[0].rpartition("/")[0]
        content = run(Cursor(member(archive, names[0], _PICKLE_LIMIT, str(path)), str(path)))
        if f"{folder}/byteorder" in archive.namelist():
            order = member(archive, f"{folder}/byteorder", 16, str(path))
            if order != b"little":
                raise ConversionError("the weights are not little-endian", where=str(path), got=repr(order))

    def read(storage: Storage) -> Array:
        size = storage.count * np.dtype(storage.dtype).itemsize
        with opened(path) as archive:
            data = member(archive, f"{folder}/data/{storage.key}", size, str(path))
        return Cursor(data, str(path)).array(storage.dtype, (storage.count,))

    return content, read


def _of_stream(path: Path) -> tuple[Any, Read]:
    """Five pickles (a number, the protocol, facts of the machine, the content, the storages' keys), then elements."""
    try:
        data = np.memmap(path, np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise ModelFileError("the file cannot be read", where=str(path), got=str(error)) from error
    cursor = Cursor(memoryview(data.data), str(path))
    cursor.take(len(LEGACY))
    run(cursor)
    facts = run(cursor)
    if isinstance(facts, dict) and facts.get("little_endian", True) is not True:
        raise ConversionError("the weights are not little-endian", where=str(path))
    used: dict[str, Storage] = {}
    content = run(cursor, used)
    keys = run(cursor)
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in used for key in keys):
        raise ModelFileError("the list of storages is damaged", where=str(path))
    places: dict[str, int] = {}
    for key in keys:
        count = cursor.one("q")
        if count != used[key].count:
            raise ModelFileError(f"storage {key} has another size than its tensors say", where=str(path))
        places[key] = cursor.position
        cursor.take(count * np.dtype(used[key].dtype).itemsize)

    def read(storage: Storage) -> Array:
        if storage.key not in places:
            raise ModelFileError(f"there is no storage {storage.key}", where=str(path))
        return Cursor(cursor.data, str(path), places[storage.key]).array(storage.dtype, (storage.count,))

    return content, read


_MARK = object()


@dataclass(frozen=True)
class _Name:
    """Something of a module, as a pickle calls it."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class _Machine:
    """The stack machine. `run` gives what it leaves when it stops."""

    def __init__(self, cursor: Cursor, used: dict[str, Storage]) -> None:
        self.cursor, self.used = cursor, used
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        if not self.stack:
            raise self.damaged("a value is missing")
        return self.stack.pop()

    def marked(self) -> list[Any]:
        values: list[Any] = []
        while (value := self.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def damaged(self, what: str) -> ModelFileError:
        return ModelFileError(
            f"the pickle is damaged at byte {self.cursor.position:,}: {what}", where=self.cursor.where
        )

    def line(self) -> str:
        text = bytearray()
        while (byte := self.cursor.one("B")) != 10:
            text.append(byte)
            if len(text) > 400:
                raise self.damaged("a name without an end")
        return text.decode("utf-8", "replace")

    def execute(self) -> Any:
        while True:
            code = self.cursor.one("B")
            if code == ord("."):
                return self.pop()
            step = _STEPS.get(code)
            if step is None:
                raise ConversionError(
                    f"the pickle uses instruction {code:#04x}, which weights do not need", where=self.cursor.where,
                    fix=_FIX,
                )  # fmt: skip
            step(self)


_FIX = "load the file yourself, if you trust it, and convert the live module: sardonyx.convert(module, example=(...))"


def run(cursor: Cursor, used: dict[str, Storage] | None = None) -> Any:
    """The value of the pickle at the cursor, which is left behind it; storages go into `used` by key."""
    machine = _Machine(cursor, {} if used is None else used)
    try:
        return machine.execute()
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise machine.damaged(f"{type(error).__name__}: {str(error)[:100]}") from error


def _tensor(storage: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> Tensor:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, Storage) or len(shape) != len(strides) or len(shape) > 64:
        raise ValueError("a tensor without a storage")
    if not all(isinstance(number, int) and 0 <= number < 1 << 48 for number in numbers):
        raise ValueError("a tensor of impossible size")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _storage(machine: _Machine, key: Any) -> Storage:
    """What a persistent id means: ("storage", its class, key, place, count, ...)."""
    if not isinstance(key, tuple) or len(key) < 5 or key[0] != "storage":
        raise ValueError("an unknown persistent id")
    kind, name, count = key[1], key[2], key[4]
    if not isinstance(kind, _Name) or not isinstance(name, str) or len(key) > 6:
        raise ValueError("an unknown storage")
    dtype = _DTYPES.get(kind.name.removesuffix("Storage"))
    if dtype is None:
        raise ConversionError(f"weights of {kind} are not supported", where=machine.cursor.where)
    if len(key) == 6 and key[5] is not None:
        raise ConversionError("weights that are views of storages' parts are not supported", where=machine.cursor.where)
    if not isinstance(count, int) or not 0 <= count < 1 << 48:
        raise ValueError("a storage of impossible size")
    return machine.used.setdefault(name, Storage(name, dtype, count))


# What pickles of weights may call, and what we do then.
_KNOWN: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda items=(): {_key(key): value for key, value in items},
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "torch.Size": lambda dims=(): tuple(dims),
    "torch.device": lambda *_: None,
    "torch.jit._pickle.restore_type_tag": lambda value, _: value,
    "torch.jit._pickle.build_intlist": list,
    "torch.jit._pickle.build_doublelist": list,
    "torch.jit._pickle.build_boollist": list,
    "torch.jit._pickle.build_tensorlist": list,
}


def _is_inert(name: _Name) -> bool:
    """Names that only stand for themselves: kinds of storages and types of elements."""
    return name.module in ("torch", "torch.storage") and (
        name.name.endswith("Storage") or name.name in ("float32", "float64", "float16", "bfloat16", "int64", "int32")
    )


def _found(machine: _Machine, module: Any, name: Any) -> None:
    found = _Name(str(module), str(name))
    if str(found) not in _KNOWN and not _is_inert(found):
        raise ConversionError(
            f"the file holds pickled Python objects, which are not loaded since that runs code: it asks for {found}",
            where=machine.cursor.where,
            fix=_FIX,
        )
    machine.stack.append(found)


def _reduce(machine: _Machine) -> None:
    arguments, name = machine.pop(), machine.pop()
    if not isinstance(name, _Name) or not isinstance(arguments, tuple) or str(name) not in _KNOWN:
        raise ValueError("a call of what is no function")
    machine.stack.append(_KNOWN[str(name)](*arguments))


def _build(machine: _Machine) -> None:
    """State of an object: of an OrderedDict the attributes that state_dict() adds, which say nothing of weights."""
    state = machine.pop()
    if not machine.stack or not isinstance(machine.stack[-1], dict) or not isinstance(state, dict):
        raise ValueError("state of what is no dictionary")


def _set_items(machine: _Machine, pairs: list[Any]) -> None:
    target = machine.stack[-1]
    if not isinstance(target, dict) or len(pairs) % 2:
        raise ValueError("items of what is no dictionary")
    target.update(zip(map(_key, pairs[::2]), pairs[1::2], strict=True))


def _key(value: Any) -> Any:
    if not isinstance(value, str | int | float | bool | bytes | None):
        raise ValueError("a key of another kind")
    return value


def _append(machine: _Machine, values: list[Any]) -> None:
    target = machine.stack[-1]
    if not isinstance(target, list):
        raise ValueError("elements of what is no list")
    target.extend(values)


def _long(machine: _Machine) -> int:
    return int.from_bytes(machine.cursor.take(machine.cursor.one("B")), "little", signed=True)


def _put(machine: _Machine, index: int) -> None:
    machine.memo[index] = machine.stack[-1]


def _pair(machine: _Machine) -> list[Any]:
    value, key = machine.pop(), machine.pop()
    return [key, value]


def _tuple(count: int) -> Callable[[_Machine], None]:
    def step(machine: _Machine) -> None:
        machine.stack.append(tuple([machine.pop() for _ in range(count)][::-1]))

    return step


def _push(make: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(make(machine))


def _drop(value: object) -> None:
    """Nothing: it was only read."""


# Instructions by their byte, as `pickletools` lists them.
_STEPS: dict[int, Callable[[_Machine], None]] = {
    0x80: lambda m: _protocol(m, m.cursor.one("B")),
    0x95: lambda m: _drop(m.cursor.unpack("Q")),  # FRAME
    ord("("): _push(lambda m: _MARK),
    ord("N"): _push(lambda m: None),
    0x88: _push(lambda m: True),
    0x89: _push(lambda m: False),
    ord("J"): _push(lambda m: m.cursor.one("i")),
    ord("K"): _push(lambda m: m.cursor.one("B")),
    ord("M"): _push(lambda m: m.cursor.one("H")),
    0x8A: _push(_long),
    ord("G"): _push(lambda m: struct.unpack(">d", m.cursor.take(8))[0]),
    ord("X"): _push(lambda m: m.cursor.text(m.cursor.one("I"))),
    0x8C: _push(lambda m: m.cursor.text(m.cursor.one("B"))),
    0x8D: _push(lambda m: m.cursor.text(m.cursor.one("Q"))),
    ord("U"): _push(lambda m: bytes(m.cursor.take(m.cursor.one("B"))).decode("latin-1")),
    ord("T"): _push(lambda m: bytes(m.cursor.take(m.cursor.one("i"))).decode("latin-1")),
    ord("C"): _push(lambda m: bytes(m.cursor.take(m.cursor.one("B")))),
    ord("B"): _push(lambda m: bytes(m.cursor.take(m.cursor.one("I")))),
    ord("}"): _push(lambda m: {}),
    ord("]"): _push(lambda m: []),
    ord(")"): _push(lambda m: ()),
    ord("t"): _push(lambda m: tuple(m.marked())),
    ord("l"): _push(lambda m: m.marked()),
    0x85: _tuple(1),
    0x86: _tuple(2),
    0x87: _tuple(3),
    ord("a"): lambda m: _append(m, [m.pop()]),
    ord("e"): lambda m: _append(m, m.marked()),
    ord("s"): lambda m: _set_items(m, _pair(m)),
    ord("u"): lambda m: _set_items(m, m.marked()),
    ord("q"): lambda m: _put(m, m.cursor.one("B")),
    ord("r"): lambda m: _put(m, m.cursor.one("I")),
    0x94: lambda m: _put(m, len(m.memo)),
    ord("h"): _push(lambda m: m.memo[m.cursor.one("B")]),
    ord("j"): _push(lambda m: m.memo[m.cursor.one("I")]),
    ord("0"): lambda m: _drop(m.pop()),
    ord("1"): lambda m: _drop(m.marked()),
    ord("c"): lambda m: _found(m, m.line(), m.line()),
    0x93: lambda m: _found(m, *_tail(m)),
    ord("Q"): _push(lambda m: _storage(m, m.pop())),
    ord("R"): _reduce,
    ord("b"): _build,
}


def _tail(machine: _Machine) -> tuple[Any, Any]:
    name, module = machine.pop(), machine.pop()
    return module, name


def _protocol(machine: _Machine, version: int) -> None:
    if not 2 <= version <= 5:
        raise machine.damaged(f"protocol {version}")
