"""Caffe's two files: the layers of the prototxt, the weights of the caffemodel, and which belongs to which."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sardonyx.convert.base import HEAD, Options, Source
from sardonyx.convert.caffe.prototxt import Message, parse
from sardonyx.convert.reading.protobuf import Schema, numbers
from sardonyx.convert.shaped import Unsupported
from sardonyx.errors import ConversionError, ModelFileError

Array = np.ndarray[Any, Any]
T = TypeVar("T")

SCHEMA = """
message Shape { repeated int64 dim = 1 [packed]; }
message Blob {
  int32 num = 1; int32 channels = 2; int32 height = 3; int32 width = 4;
  repeated bytes data = 5;
  Shape shape = 7;
  repeated bytes double_data = 8;
  int32 raw_data_type = 10;
  bytes raw_data = 12;
}
message V0 { bytes name = 1; bytes type = 2; repeated Blob blobs = 50; }
message V1 { V0 layer = 1; repeated bytes bottom = 2; repeated bytes top = 3; bytes name = 4; repeated Blob blobs = 6; }
message Layer { bytes name = 1; bytes type = 2; repeated bytes bottom = 3; repeated bytes top = 4;
  repeated Blob blobs = 7; }
message Net { bytes name = 1; repeated V1 layers = 2; repeated Layer layer = 100; }
"""
"""What is read of caffe.proto (BVLC/caffe and NVIDIA/caffe): names and blobs. Weights stay packed as they lie."""

_RAW = {0: "f8", 1: "f4", 2: "f2"}
_MAX_TEXT = 4 * 2**20
_MAX_FILES = 500
_V1_TYPES = {
    "ABSVAL": "AbsVal", "ARGMAX": "ArgMax", "BNLL": "BNLL", "HDF5_DATA": "HDF5Data", "INNER_PRODUCT": "InnerProduct",
    "LRN": "LRN", "MVN": "MVN", "RELU": "ReLU", "TANH": "TanH", "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
}  # fmt: skip
_V0_TYPES = {
    "bnll": "BNLL", "concat": "Concat", "conv": "Convolution", "data": "Data", "dropout": "Dropout",
    "euclidean_loss": "EuclideanLoss", "flatten": "Flatten", "images": "ImageData", "innerproduct": "InnerProduct",
    "lrn": "LRN", "padding": "Padding", "pool": "Pooling", "relu": "ReLU", "sigmoid": "Sigmoid", "softmax": "Softmax",
    "softmax_loss": "SoftmaxWithLoss", "split": "Split", "tanh": "TanH", "accuracy": "Accuracy",
}  # fmt: skip
_V0_FIELDS = {"kernelsize": "kernel_size", "biasterm": "bias_term", "batchsize": "batch_size", "cropsize": "crop_size"}


@dataclass(frozen=True)
class Layer:
    """A layer of the network that is run: `message` is its text (V0 and V1 as V2 would have it)."""

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    message: Message


@dataclass(frozen=True)
class Network:
    """The layers for testing in order, with weights by layer, and inputs that are declared beside the layers.

    `version` is that of the text: V0, V1 or V2; `files` are the prototxt and the caffemodel.
    """

    name: str
    layers: tuple[Layer, ...]
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    weights: Mapping[str, Sequence[Array]]
    version: str
    files: tuple[Path, Path]


@cache
def schema() -> Schema:
    """The messages of caffemodels."""
    return Schema("caffe", SCHEMA)


def looks_like_weights(head: bytes) -> bool:
    """Whether a binary file's first bytes are those of a caffemodel: its name, then layers with names."""
    at = 0
    for _ in range(200):
        tag, at = _varint(head, at)
        if tag & 7 == 0 and tag >> 3 in (4, 5, 7):
            _, at = _varint(head, at)
            continue
        size, at = _varint(head, at)
        body = head[at : at + size]
        if tag == 0x0A:
            if not _is_text(body):
                return False
        elif tag in (0x12, 100 << 3 | 2):
            length, start = _varint(body, 1)
            first = body[0] if body else 0
            known = (0x0A, 0x12) if tag != 0x12 else (0x0A, 0x12, 0x1A, 0x22)
            inner = body[start : start + length]
            return length > 0 and first in known and (_is_text(inner) or (first == 0x0A and tag == 0x12))
        elif tag not in (0x1A, 0x22, 0x32, 0x42):
            return False
        at += size
    return False


def open_network(source: Source, options: Options) -> Network:
    """The network of a prototxt or a caffemodel and its partner. Raises ModelFileError and ConversionError."""
    path = source.file()
    partner = Path(options.structure) if isinstance(options.structure, str | os.PathLike) else None
    if looks_like_weights(source.head):
        name, weights = read_weights(path)
        files = [partner] if partner else _beside(path, _is_prototxt)
        text, message = _choose(path, files, ".prototxt", read_structure, lambda found: _covers(found, weights))
        return _network(message, name, weights, (text, path), options.tag)
    message = read_structure(path)
    files = [partner] if partner else _beside(path, _is_caffemodel)
    binary, (name, weights) = _choose(path, files, ".caffemodel", read_weights, lambda got: _covers(message, got[1]))
    return _network(message, name, weights, (path, binary), options.tag)


def read_structure(path: Path) -> Message:
    """The text of a prototxt."""
    try:
        if path.stat().st_size > _MAX_TEXT:
            raise ModelFileError("the text is too long for a network", where=str(path))
        return parse(path.read_text(encoding="utf-8", errors="replace"), str(path))
    except OSError as error:
        raise ModelFileError("the file cannot be read", where=str(path), got=error.strerror) from error


def read_weights(path: Path) -> tuple[str, dict[str, list[Array]]]:
    """The network's name and the weights by layer in a caffemodel."""
    try:
        # Nobody holds the bytes once they are parsed: they are as many as the weights.
        net = schema().parse(path.read_bytes(), "Net", str(path))
    except OSError as error:
        raise ModelFileError("the file cannot be read", where=str(path), got=error.strerror) from error
    layers = [(item.layer.name or item.name, [*item.layer.blobs, *item.blobs]) for item in net.layers]
    layers += [(item.name, item.blobs) for item in net.layer]
    weights = {_text(name): [_array(blob, str(path), _text(name)) for blob in blobs] for name, blobs in layers if blobs}
    if not weights:
        raise ConversionError("it holds no weights", where=str(path), expected="a caffemodel with blobs of layers")
    return _text(net.name), weights


def _array(blob: Any, where: str, layer: str) -> Array:
    """A blob as stored, of float16, float32 or float64 numbers, with its shape."""
    legacy = (blob.num, blob.channels, blob.height, blob.width)
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else legacy if any(legacy) else None
    try:
        if blob.raw_data:
            array = numbers([blob.raw_data], _RAW[blob.raw_data_type])
        elif blob.double_data:
            array = numbers(blob.double_data, "f8")
        else:
            array = numbers(blob.data, "f4")
    except (KeyError, ValueError) as error:
        raise ModelFileError(f"weights of {layer!r} are damaged", where=where, got=str(error)) from error
    if shape is None:
        return array
    if len(shape) > 32 or any(dim < 0 for dim in shape) or math.prod(shape) != array.size:
        raise ModelFileError(
            f"weights of {layer!r} are damaged", where=where,
            expected=f"as many as the shape {list(shape)[:32]} has", got=f"{array.size:,}",
        )  # fmt: skip
    return array.reshape(shape)


# Which files belong together


def _beside(path: Path, kind: Callable[[Path], bool]) -> list[Path]:
    """The files of a kind in the same folder; the one with the same stem alone where there is one."""
    found = []
    for file in sorted(path.parent.iterdir())[:_MAX_FILES]:
        if file != path and file.is_file() and kind(file):
            found.append(file)
    same = [file for file in found if file.stem == path.stem]
    return same or found


def _is_prototxt(path: Path) -> bool:
    from sardonyx.convert.caffe import recognises

    return recognises(Source(path)) and not _is_caffemodel(path)


def _is_caffemodel(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return looks_like_weights(file.read(HEAD))
    except OSError:
        return False


def _choose(
    path: Path, files: Sequence[Path], ending: str, load: Callable[[Path], T], fits: Callable[[T], bool]
) -> tuple[Path, T]:
    """The one of these files that fits, and what it holds."""
    if len(files) == 1:
        return files[0], load(files[0])
    found: list[tuple[Path, T]] = []
    for file in files:
        try:
            loaded = load(file)
            if fits(loaded):
                found.append((file, loaded))
        except (ModelFileError, ConversionError, Unsupported):
            continue
    if len(found) > 1:
        found = [item for item in found if "deploy" in item[0].name.lower()] or found
    if len(found) == 1:
        return found[0]
    raise ConversionError(
        f"a Caffe network is two files, and {'several fit' if found else 'the other is not there'}",
        where=str(path), expected=f"one {ending} beside it that has the same layers",
        got=", ".join(file.name for file, _ in found[:5]) or "none", fix="name the other file as the structure",
    )  # fmt: skip


def _covers(message: Message, weights: Mapping[str, Any]) -> bool:
    """Whether the network has the layers that have weights, all but those of training."""
    names = {layer.name for layer in _layers(message)}
    known = [layer for layer in _layers(message) if layer.type in ("Convolution", "InnerProduct", "Deconvolution")]
    return bool(names & set(weights)) and all(layer.name in weights for layer in known)


# The network of the text


def _network(
    message: Message, name: str, weights: Mapping[str, Sequence[Array]], files: tuple[Path, Path], stage: str | None
) -> Network:
    try:
        layers = tuple(_layers(message, (stage,) if stage else ()))
        if not layers:
            raise Unsupported("it has no layers")
        old = message.messages("layers")
        version = "V2" if not old else "V0" if old[0].messages("layer") else "V1"
        title = message.text("name") or name or files[0].stem
        return Network(title, layers, tuple(_inputs(message)), weights, version, files)
    except Unsupported as error:
        raise ConversionError(f"the prototxt cannot be converted: {error}", where=str(files[0])) from error


def _inputs(message: Message) -> Iterator[tuple[str, tuple[int, ...]]]:
    names, dims = message.texts("input"), message.ints("input_dim")
    shapes = [tuple(shape.ints("dim")) for shape in message.messages("input_shape")]
    if dims and not shapes:
        shapes = [tuple(dims[i : i + 4]) for i in range(0, len(dims), 4)]
    if len(shapes) == 1:
        shapes *= len(names)
    for i, name in enumerate(names):
        yield name, shapes[i] if i < len(shapes) else ()


def _layers(message: Message, stages: Sequence[str] = ()) -> Iterator[Layer]:
    """The layers that are there in the test phase."""
    old_style = message.messages("layers")
    for i, outer in enumerate([*old_style, *message.messages("layer")]):
        bottoms, tops, kind = tuple(outer.texts("bottom")), tuple(outer.texts("top")), outer.text("type")
        item = outer
        if i < len(old_style) and outer.messages("layer"):
            item, kind = _from_v0(outer.messages("layer")[-1])
        elif i < len(old_style):
            kind = _V1_TYPES.get(kind) or "".join(part.capitalize() for part in kind.split("_"))
        included, excluded = item.messages("include"), item.messages("exclude")
        if included and not any(_meets(rule, stages) for rule in included):
            continue
        if any(_meets(rule, stages) for rule in excluded):
            continue
        if not included and item.text("phase") in ("TRAIN", "0"):
            continue
        yield Layer(item.text("name"), kind, bottoms, tops, item)


def _meets(rule: Message, stages: Sequence[str]) -> bool:
    """Whether the state of testing (level 0) meets a rule (Net::StateMeetsRule)."""
    if rule.text("phase", "TEST") not in ("TEST", "1") or rule.int("min_level", 0) > 0 or rule.int("max_level", 0) < 0:
        return False
    return set(rule.texts("stage")) <= set(stages) and not set(rule.texts("not_stage")) & set(stages)


def _from_v0(old: Message) -> tuple[Message, str]:
    """A layer of 2013 as those of today: its fields went into a message for each type."""
    kind = _V0_TYPES.get(old.text("type"), old.text("type"))
    names = {
        "Convolution": "convolution_param", "Padding": "convolution_param", "Pooling": "pooling_param",
        "InnerProduct": "inner_product_param", "LRN": "lrn_param", "Concat": "concat_param", "Data": "transform_param",
    }  # fmt: skip
    result, inner = Message(), Message()
    for field, values in old.fields.items():
        if field in ("name", "type"):
            result.fields[field] = values
        elif field not in ("weight_filler", "bias_filler", "blobs", "blobs_lr", "weight_decay", "dropout_ratio"):
            inner.fields[_V0_FIELDS.get(field, field)] = values
    if inner.fields:
        result.fields[names.get(kind, "v0_param")] = [inner]
    return result, kind


# Bytes


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(10):
        if at + i >= len(data):
            return 0, len(data)
        value |= (data[at + i] & 127) << 7 * i
        if data[at + i] < 128:
            return value, at + i + 1
    return 0, len(data)


def _is_text(data: bytes) -> bool:
    return all(byte >= 32 for byte in data)


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
