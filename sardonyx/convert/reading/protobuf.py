"""Protobuf messages by a table of fields, without generated code. Unknown fields are skipped.

A schema is text in the syntax of .proto files, as much of it as messages, enums and fields need:

    message Blob {
      repeated int64 shape = 1 [packed];
      bytes data = 2;
      Kind kind = 3;
      map<string, Blob> parts = 4;
      enum Kind { PLAIN = 0; SPARSE = 1; }
    }

The protobuf library parses; it bounds depth and checks lengths. Lists of numbers that may be long (weights) are best
declared `repeated bytes`: packed numbers look like that on the wire, and `numbers` views them without a copy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError, Message

from sardonyx.errors import ModelFileError

Array = np.ndarray[Any, Any]

_Proto = descriptor_pb2.FieldDescriptorProto
_TYPES = {name[5:].lower(): number for name, number in _Proto.Type.items()}
_TOKEN = re.compile(r"\s+|//[^\n]*|([A-Za-z_][\w.]*|-?\d+|[{}=;<>,\[\]])")


class Schema:
    """Messages of one format. `parse` and `parse_text` give objects with a field an attribute, as protobuf has them."""

    def __init__(self, name: str, text: str) -> None:
        """`name` is the protobuf package, of letters; `text` as this module's docstring shows."""
        file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package=name, syntax="proto2")
        _Parser(text, file).run()
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        self._pool, self._name = pool, name

    def new(self, message: str) -> Any:
        """An empty message of that type, to be filled (tests make files so)."""
        found = self._pool.FindMessageTypeByName(f"{self._name}.{message}")
        return message_factory.GetMessageClass(found)()

    def parse(self, data: bytes | memoryview, message: str, where: str) -> Any:
        """The message in `data`. Raises ModelFileError, with `where`, when it is not well-formed."""
        result = self.new(message)
        try:
            result.ParseFromString(bytes(data))
        except DecodeError as error:
            raise ModelFileError(
                f"the protobuf message {message} is damaged", where=where, got=str(error), fix="fetch the file again"
            ) from error
        return result

    def parse_text(self, text: str, message: str, where: str) -> Any:
        """The message in protobuf's text format. Raises ModelFileError, with `where` and the line."""
        try:
            return text_format.Parse(text, self.new(message), allow_unknown_field=True)
        except (text_format.ParseError, RecursionError) as error:
            raise ModelFileError(f"the text of {message} cannot be read", where=where, got=str(error)[:200]) from error


def numbers(fields: Iterable[bytes], dtype: Any) -> Array:
    """Packed fixed-width numbers that a schema declares as `repeated bytes`, as an array of one axis.

    Raises ValueError when their bytes are no whole number of elements.
    """
    parts = [np.frombuffer(part, np.dtype(dtype).newbyteorder("<")) for part in fields]
    return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.empty(0, dtype)


def which(message: Message, *names: str) -> str | None:
    """The first of the fields `names` that is set: a oneof."""
    return next((name for name in names if message.HasField(name)), None)


class _Parser:
    """From a schema's text to protobuf's descriptors."""

    def __init__(self, text: str, file: Any) -> None:
        self._tokens = [match[1] for match in _TOKEN.finditer(text) if match[1]]
        self._file = file
        self._at = 0
        self._unresolved: list[tuple[Any, str]] = []
        self._messages: set[str] = set()
        self._enums: set[str] = set()

    def run(self) -> None:
        while self._at < len(self._tokens):
            self._definition(self._file, "", self._file.message_type)
        for field, scope in self._unresolved:
            self._resolve(field, scope)

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, token: str) -> None:
        found = self._next()
        if found != token:
            raise ValueError(f"expected {token!r}, got {found!r} in {' '.join(self._tokens[self._at - 6 : self._at])}")

    def _definition(self, owner: Any, scope: str, messages: Any) -> None:
        kind = self._next()
        name = self._next()
        self._expect("{")
        if kind == "enum":
            self._enum(owner.enum_type.add(name=name), f"{scope}.{name}")
        elif kind == "message":
            self._message(messages.add(name=name), f"{scope}.{name}")
        else:
            raise ValueError(f"expected 'message' or 'enum', got {kind!r}")

    def _enum(self, enum: Any, path: str) -> None:
        self._enums.add(path)
        enum.options.allow_alias = True
        while (name := self._next()) != "}":
            self._expect("=")
            enum.value.add(name=name, number=int(self._next()))
            self._expect(";")

    def _message(self, message: Any, path: str) -> None:
        self._messages.add(path)
        while (token := self._next()) != "}":
            if token in ("message", "enum"):
                self._at -= 1
                self._definition(message, path, message.nested_type)
            else:
                self._field(message, path, token)

    def _field(self, message: Any, path: str, token: str) -> None:
        label = {"repeated": _Proto.LABEL_REPEATED}.get(token, _Proto.LABEL_OPTIONAL)
        kind = self._next() if token in ("repeated", "optional", "required") else token
        if kind == "map":
            kind, label = self._map_entry(message, path), _Proto.LABEL_REPEATED
        name = self._next()
        self._expect("=")
        field = message.field.add(name=name, number=int(self._next()), label=label)
        if self._tokens[self._at] == "[":
            while self._next() != "]":
                pass
            field.options.packed = label == _Proto.LABEL_REPEATED
        self._expect(";")
        self._typed(field, kind, path)

    def _map_entry(self, message: Any, path: str) -> str:
        """`map<key, value>` is a list of messages of both."""
        self._expect("<")
        key = self._next()
        self._expect(",")
        value = self._next()
        self._expect(">")
        name = "".join(part.capitalize() for part in self._tokens[self._at].split("_")) + "Entry"
        entry = message.nested_type.add(name=name)
        entry.options.map_entry = True
        self._messages.add(f"{path}.{name}")
        for number, (field, kind) in enumerate((("key", key), ("value", value)), 1):
            self._typed(entry.field.add(name=field, number=number, label=_Proto.LABEL_OPTIONAL), kind, f"{path}.{name}")
        return name

    def _typed(self, field: Any, kind: str, path: str) -> None:
        if kind in _TYPES and kind not in ("message", "enum", "group"):
            field.type = _TYPES[kind]
        else:
            field.type_name = kind
            self._unresolved.append((field, path))

    def _resolve(self, field: Any, scope: str) -> None:
        name = field.type_name
        while True:
            path = f"{scope}.{name}"
            if path in self._messages or path in self._enums:
                field.type = _Proto.TYPE_MESSAGE if path in self._messages else _Proto.TYPE_ENUM
                field.type_name = f".{self._file.package}{path}"
                return
            if not scope:
                raise ValueError(f"the schema has no type {name!r}")
            scope = scope.rpartition(".")[0]
