"""What kind of TensorFlow's sources one is, told by its first bytes or its files."""

from __future__ import annotations

import re
from pathlib import Path

from sardonyx.convert.base import Source

SAVED_MODEL = "SavedModel"
GRAPH = "GraphDef"
GRAPH_TEXT = "GraphDef in text"
CHECKPOINT = "checkpoint"
LIVE = "live object"

_OPERATOR = re.compile(rb"[A-Z_][A-Za-z0-9_>]*\Z")
_TEXT = re.compile(r"(\s|#[^\n]*\n)*(node|versions|library)\s*\{")
_TABLE_END = (0xDB4775248B80FB57).to_bytes(8, "little")


def kind(source: Source) -> str | None:
    """The kind, None where it is no TensorFlow."""
    if source.path is None:
        return LIVE if "tensorflow" in source.frameworks and "keras" not in source.frameworks else None
    if source.path.is_dir():
        if (source.path / "saved_model.pb").is_file():
            return SAVED_MODEL
        return CHECKPOINT if len(metas(source.path)) == 1 or (source.path / "checkpoint").is_file() else None
    return _kind_of_file(source)


def metas(folder: Path) -> list[Path]:
    """The meta graphs of a folder that have an index beside them."""
    return sorted(path for path in folder.iterdir() if path.name.endswith(".meta") and _index(path).is_file())


def _index(meta: Path) -> Path:
    return meta.with_name(f"{meta.name[:-5]}.index")


def _kind_of_file(source: Source) -> str | None:
    head = source.head
    if _is_saved_model(head):
        return SAVED_MODEL
    first = _field(head, 0)
    if first is not None and first[0] == 0x0A:
        _, start, end = first
        inner = _field(head, start)
        if inner is not None and inner[0] == 0x0A and _is_node(head, inner, end):
            return GRAPH
        if inner is not None and inner[0] in (0x12, 0x22, 0x2A) and source.file().name.endswith(".meta"):
            return CHECKPOINT
    if source.file().name.endswith(".index") and _ends_as_table(source.file()):
        return CHECKPOINT
    text = head.decode(errors="replace")
    return GRAPH_TEXT if _TEXT.match(text) and re.search(r"\bop:\s*\"", text) else None


def _field(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Tag, start and end of the length-delimited field at a place."""
    if at + 2 > len(data):
        return None
    length = shift = 0
    for i in range(at + 1, min(at + 11, len(data))):
        length |= (data[i] & 127) << shift
        shift += 7
        if data[i] < 128:
            return data[at], i + 1, i + 1 + length
    return None


def _is_node(data: bytes, name: tuple[int, int, int], end: int) -> bool:
    """Whether there is a name and then an operator."""
    _, start, stop = name
    op = _field(data, stop)
    if op is None or op[0] != 0x12 or stop <= start or op[2] > min(end, len(data)):
        return False
    return _OPERATOR.match(data[op[1] : op[2]]) is not None


def _is_saved_model(head: bytes) -> bool:
    """Version 1, then a meta graph, whose first message is about tags, versions and operators."""
    if not head.startswith(b"\x08\x01\x12"):
        return False
    graph = _field(head, 2)
    inner = _field(head, graph[1]) if graph is not None else None
    return (
        inner is not None and inner[0] == 0x0A and head[inner[1] : inner[1] + 1] in (b"\x0a", b"\x12", b"\x22", b"\x2a")
    )


def _ends_as_table(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 8))
        return file.read() == _TABLE_END
