"""Say what a file is that turned out not to be ONNX, and what to do with it."""

from __future__ import annotations

from sardonyx.errors import ModelFileError

_CONVERT = "convert it to ONNX: `sardonyx convert --help` lists what can be read"
_EXPORT = "export it to ONNX with the framework it came from"

# (offset, bytes there, what that is, what to do)
_MAGIC: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\xff\xd8\xff", "a JPEG picture", "give a model here and the picture as its input"),
    (0, b"\x89PNG\r\n", "a PNG picture", "give a model here and the picture as its input"),
    (0, b"PK\x03\x04", "a zip archive (PyTorch .pt and Keras .keras files are such)", _EXPORT),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first"),
    (0, b"\x89HDF\r\n", "an HDF5 file (Keras .h5 and .hdf5 files are such)", _CONVERT),
    (4, b"TFL3", "a TensorFlow Lite model", _EXPORT),
    (4, b"ORTM", "an onnxruntime .ort model", "give the .onnx file it was made from"),
    (0, b"GGUF", "a GGUF model", _EXPORT),
    (0, b"\x93NUMPY", "a NumPy array", "give a model here and the array as its input"),
    (0, b"\x80", "a Python pickle (older PyTorch and scikit-learn files are such)", _EXPORT),
    (0, b"\x7fELF", "a program or library", "give the .onnx file"),
    (0, b"%PDF", "a PDF document", "give the .onnx file"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch it: git lfs pull"),
)
_TEXT = (
    (b"<!doctype html", "an HTML page, perhaps of a failed download", "fetch the file again"),
    (b"<html", "an HTML page, perhaps of a failed download", "fetch the file again"),
    (b"ir_version", "ONNX in protobuf's text format", "read it with onnx.load(path, format='textproto')"),
    (b"<", "text, perhaps ONNX's text syntax", "read it with onnx.parser.parse_model and save the result"),
    (b"{", "a JSON document", "give the binary .onnx file"),
)


def what_is(data: memoryview, where: str) -> ModelFileError | None:
    """The error for a file that cannot be read as ONNX and is recognised as something else, or None."""
    head = bytes(data[:512])
    kind, fix = _recognise(head)
    if not kind:
        return None
    return ModelFileError("not an ONNX model", where=where, expected="an ONNX file", got=kind, fix=fix)


def _recognise(head: bytes) -> tuple[str, str]:
    if not head:
        return "an empty file", "fetch or export the file again"
    for offset, magic, kind, fix in _MAGIC:
        if head.startswith(magic, offset):
            return kind, fix
    if head[8:9] == b"{" and len(head) > 16 and b'"dtype"' in head:
        return "a safetensors file: weights without a graph", _EXPORT
    if _is_text(head):
        start = head.lstrip().lower()
        for prefix, kind, fix in _TEXT:
            if start.startswith(prefix):
                return kind, fix
        return "a text file", "give the binary .onnx file"
    return "", ""


def _is_text(head: bytes) -> bool:
    """UTF-8 (but for a character cut at the end) without control characters."""
    text = head.decode(errors="replace").rstrip("\N{REPLACEMENT CHARACTER}")
    return bool(text) and all(char.isprintable() or char in "\t\r\n" for char in text)
