"""Caffe's text files: protobuf's text format as a tree, so that what nobody reads can be told.

The protobuf library needs a schema and drops what that does not know; forks of Caffe write what no schema knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sardonyx.convert.shaped import Unsupported
from sardonyx.errors import ModelFileError

_TOKEN = re.compile(
    r"""\s+ | \#[^\n]*
    | (?P<name>[A-Za-z_][\w.]*) | (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[fF]?|-[A-Za-z]+)
    | (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*') | (?P<mark>[{}<>:;,\[\]])""",
    re.VERBOSE,
)
_MAX_DEPTH = 20
_Token = tuple[str, str, int]


class Message:
    """A message of the text: values by field, in order, and which of them were read."""

    def __init__(self, path: str = "") -> None:
        self.path = path
        self.fields: dict[str, list[Any]] = {}
        self._read: set[str] = set()

    def all(self, name: str) -> list[Any]:
        """All values of a field: text, numbers as text, or Messages."""
        self._read.add(name)
        return self.fields.get(name, [])

    def messages(self, name: str) -> list[Message]:
        """The messages of a field. Raises Unsupported where it holds something else."""
        found = self.all(name)
        if not all(isinstance(value, Message) for value in found):
            raise Unsupported(f"the field {name} is no message")
        return found

    def message(self, name: str) -> Message:
        """The last message of a field; an empty one where there is none."""
        found = self.messages(name)
        return found[-1] if found else Message(name)

    def texts(self, name: str) -> list[str]:
        """The values of a field as text."""
        found = self.all(name)
        if any(isinstance(value, Message) for value in found):
            raise Unsupported(f"the field {name} is a message")
        return found

    def text(self, name: str, default: str = "") -> str:
        """The last value of a field, as protobuf takes it."""
        found = self.texts(name)
        return found[-1] if found else default

    def choice(self, name: str, values: tuple[str, ...], default: str) -> str:
        """An enum's value by name; numbers are taken as positions in `values`."""
        value = self.text(name, default)
        if value.isdigit() and int(value) < len(values):
            value = values[int(value)]
        if value not in values:
            raise Unsupported(f"{name} is {value[:40]!r}, expected one of {', '.join(v for v in values if v)}")
        return value

    def floats(self, name: str) -> list[float]:
        """Finite numbers."""
        try:
            result = [float(value.rstrip("fF")) for value in self.texts(name)]
        except ValueError:
            raise Unsupported(f"the field {name} is no number") from None
        if any(not abs(value) < 3.5e38 for value in result):
            raise Unsupported(f"the field {name} is not finite")
        return result

    def float(self, name: str, default: float) -> float:
        """A finite number."""
        found = self.floats(name)
        return found[-1] if found else default

    def ints(self, name: str) -> list[int]:
        """Whole numbers of 32 bits."""
        try:
            result = [int(value) for value in self.texts(name) if len(value) < 12]
        except ValueError:
            result = []
        if len(result) != len(self.all(name)) or any(abs(value) >= 2**31 for value in result):
            raise Unsupported(f"the field {name} is no whole number of 32 bits")
        return result

    def int(self, name: str, default: int) -> int:
        """A whole number."""
        found = self.ints(name)
        return found[-1] if found else default

    def bool(self, name: str, default: bool) -> bool:
        """true or false, or 1 or 0."""
        value = self.text(name, str(default).lower())
        if value not in ("true", "false", "1", "0", "True", "False", "t", "f"):
            raise Unsupported(f"the field {name} is {value[:40]!r}, expected true or false")
        return value.lower() in ("true", "1", "t")

    def ignore(self, *names: str) -> None:
        """Fields that do not change what the network computes."""
        self._read.update(names)

    def unread(self) -> Iterator[str]:
        """Fields that nobody asked for, in messages of messages as `pooling_param.round_mode`."""
        for name, values in self.fields.items():
            if name not in self._read:
                yield name
                continue
            for value in values:
                # A message that was read as a whole but in which no field was asked for is one nobody looked at.
                if isinstance(value, Message) and value._read:
                    yield from (f"{name}.{inner}" for inner in value.unread())


def parse(text: str, where: str) -> Message:
    """The text as a message. Raises ModelFileError with the line where it is not in protobuf's text format."""
    tokens = _tokens(text, where)
    root = Message()
    stack: list[tuple[Message, str]] = [(root, "")]
    for kind, token, line in tokens:
        message, closing = stack[-1]
        if token in ("}", ">") and kind == "mark":
            if token != closing:
                raise _wrong(where, line, token)
            stack.pop()
        elif kind == "name":
            _field(message, token, tokens, stack, where)
        elif token not in (";", ","):
            raise _wrong(where, line, token)
    if len(stack) > 1:
        raise ModelFileError("the text ends within a message", where=where, fix="fetch the file again")
    return root


def _field(message: Message, name: str, tokens: Iterator[_Token], stack: list[tuple[Message, str]], where: str) -> None:
    kind, token, line = next(tokens, ("end", "the end of the file", 0))
    if token == ":":
        kind, token, line = next(tokens, ("end", "the end of the file", 0))
        if kind in ("name", "number", "text"):
            message.fields.setdefault(name, []).append(_value(kind, token))
            return
        if token == "[":
            _list(message.fields.setdefault(name, []), tokens, where)
            return
    if kind != "mark" or token not in ("{", "<"):
        raise _wrong(where, line, token)
    if len(stack) > _MAX_DEPTH:
        raise ModelFileError(f"line {line}: messages are nested too deeply", where=where)
    inner = Message(name)
    message.fields.setdefault(name, []).append(inner)
    stack.append((inner, "}" if token == "{" else ">"))


def _list(values: list[Any], tokens: Iterator[_Token], where: str) -> None:
    for kind, token, line in tokens:
        if token == "]":
            return
        if kind != "mark":
            values.append(_value(kind, token))
        elif token != ",":
            raise _wrong(where, line, token)
    raise ModelFileError("the text ends within a list", where=where, fix="fetch the file again")


def _value(kind: str, token: str) -> str:
    if kind != "text":
        return token
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "t": "\t"}.get(match[1], match[1]), token[1:-1])


def _tokens(text: str, where: str) -> Iterator[_Token]:
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _wrong(where, line, text[at : at + 20].split("\n", maxsplit=1)[0])
        if match.lastgroup is not None:
            yield match.lastgroup, match[0], line
        line += match[0].count("\n")
        at = match.end()


def _wrong(where: str, line: int, got: str) -> ModelFileError:
    return ModelFileError(f"line {line} is not in protobuf's text format", where=where, got=repr(got[:40]))
