"""Inputs of a model out of files: `.npy`, `.npz`, `.pb` (a TensorProto) and pictures.

Files are not trusted: nothing is unpickled, and no more memory is taken than a file's own size (its declared
size, bounded, for `.npz` and pictures) allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sardonyx.errors import InvalidInputError, MissingExtraError
from sardonyx.measure.arrays import load_array, load_arrays
from sardonyx.measure.inputs import Spec, random_array
from sardonyx.providers.base import Array

PIXEL_LIMIT = 2**26  # of a picture
PICTURES = {".png", ".jpg", ".jpeg"}


@dataclass(frozen=True)
class Pixels:
    """How a picture becomes numbers: `(value * scale - mean) / std`, channel by channel; values are 0 to 255.

    `scale` None means 1/255 for floating-point inputs and 1 for others.
    """

    scale: float | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


@dataclass(frozen=True)
class Given:
    """The value of one input and where it came from; `drawn` when nobody gave it."""

    name: str
    array: Array
    source: str
    drawn: bool = False


def gather(arguments: Sequence[str], specs: Sequence[Spec], pixels: Pixels, seed: int = 0) -> list[Given]:
    """A value for every input: from `NAME=FILE` or `FILE` arguments, else made up with `seed`.

    A file without a name feeds the input its content names (`.npz`, `.pb`), else the first without a value.
    """
    given: dict[str, Given] = {}
    for argument in arguments:
        name, file = _split(argument)
        for inner, load in _arrays(file, pixels):
            target = _target(name, inner, specs, given, argument)
            given[target.name] = Given(target.name, load(target), str(file))
    random = np.random.default_rng(seed)
    for spec in specs:
        made = random_array(spec, random)  # always drawn, so that giving one input leaves the others' values
        given.setdefault(spec.name, Given(spec.name, made, f"random, seed {seed}", drawn=True))
    return [given[spec.name] for spec in specs]


def _split(argument: str) -> tuple[str, Path]:
    file = Path(argument)
    name, equals, rest = argument.partition("=")
    if equals and not file.exists():
        return name, Path(rest)
    return "", file


def _target(name: str, inner: str, specs: Sequence[Spec], given: dict[str, Given], argument: str) -> Spec:
    """The input a value is for: named in the argument, else in the file, else the next without a value."""
    by_name = {spec.name: spec for spec in specs}
    if not name and inner in by_name:
        name = inner
    free = [spec for spec in specs if spec.name not in given]
    if not name and free:
        return free[0]
    if name in by_name and name not in given:
        return by_name[name]
    raise InvalidInputError(
        "has two values" if name in given else "the model has no such input" if name else "no input is left for it",
        where=f"input {name!r}" if name else argument,
        expected=f"one value for each of {', '.join(map(repr, by_name))}",
    )


Load = Callable[[Spec], Array]


def _arrays(file: Path, pixels: Pixels) -> Iterator[tuple[str, Load]]:
    """The arrays in a file with their own names ("" for none), each a function that loads it for an input."""
    suffix = file.suffix.lower()
    if not file.is_file():
        raise InvalidInputError("there is no such file", where=str(file))
    if suffix == ".npy":
        yield "", lambda _: load_array(file)
    elif suffix == ".npz":
        arrays = load_arrays(file)
        # One array has no need of the right name.
        yield from (("" if len(arrays) == 1 else name, _constant(array)) for name, array in arrays.items())
    elif suffix == ".pb":
        name, array = _tensor(file)
        yield name, _constant(array)
    elif suffix in PICTURES:
        yield "", lambda spec: _picture(file, spec, pixels)
    else:
        raise InvalidInputError(
            "cannot tell what kind of file this is", where=str(file), expected=".npy, .npz, .pb, .png or .jpg"
        )


def _constant(array: Array) -> Load:
    return lambda _: array


def _tensor(file: Path) -> tuple[str, Array]:
    import onnx
    from google.protobuf.message import DecodeError

    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(file.read_bytes())
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError("its data lie in another file")
        return tensor.name, onnx.numpy_helper.to_array(tensor)
    except (DecodeError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise InvalidInputError("not a TensorProto", where=str(file), got=str(error)) from error


def _picture(file: Path, spec: Spec, pixels: Pixels) -> Array:
    """The picture resized and laid out as `spec` declares: NCHW or NHWC, with 1, 3 or 4 channels; or H, W."""
    layout, channels, size = _layout(spec)
    image = _open(file)
    width, height = size[1] if size[1] > 1 else image.width, size[0] if size[0] > 1 else image.height
    from PIL import Image

    image = image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    values = np.asarray(image).reshape(height, width, channels)
    default = 1.0 if spec.dtype.kind in "iub" else 1 / 255
    scale = default if pixels.scale is None else pixels.scale
    for option, numbers in (("--mean", pixels.mean), ("--std", pixels.std)):
        if len(numbers) not in (1, channels):
            raise InvalidInputError(
                f"{option} does not fit",
                where=str(file),
                expected=f"1 or {channels} numbers",
                got=str(len(numbers)),
            )
    changed = (values * scale - np.array(pixels.mean)) / np.array(pixels.std)
    if layout == "NCHW":
        changed = changed.transpose(2, 0, 1)
    shape = (
        changed.shape if len(spec.shape) == 3 else changed.shape[:2] if len(spec.shape) == 2 else (1, *changed.shape)
    )
    return np.ascontiguousarray(changed.reshape(shape)).astype(spec.dtype)


def _layout(spec: Spec) -> tuple[str, int, tuple[int, int]]:
    """Layout, channels, (height, width) of the picture an input wants; a size of 1 is the picture's own."""
    dims = spec.shape
    if len(dims) == 2:
        return "NHWC", 1, (dims[0], dims[1])
    if len(dims) == 3:
        dims = (1, *dims)
    if len(dims) == 4 and dims[0] == 1:
        if dims[1] in (1, 3, 4):
            return "NCHW", dims[1], (dims[2], dims[3])
        if dims[3] in (1, 3, 4):
            return "NHWC", dims[3], (dims[1], dims[2])
    raise InvalidInputError(
        "a picture cannot be laid out as this input",
        where=f"input {spec.name!r}",
        expected="the shape [1, C, H, W] or [1, H, W, C] with C = 1, 3 or 4",
        got=str(list(spec.shape)),
    )


def _open(file: Path) -> Any:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingExtraError.of("pillow", "images", f"reading {file.name}") from error
    try:
        image = Image.open(file, formats=("PNG", "JPEG"))
        if image.width * image.height > PIXEL_LIMIT:
            raise InvalidInputError(
                "the picture is too big",
                where=str(file),
                expected=f"at most {PIXEL_LIMIT:,} pixels",
                got=f"{image.width} x {image.height}",
            )
        image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError("not a picture", where=str(file), expected="PNG or JPEG", got=str(error)) from error
    return image
