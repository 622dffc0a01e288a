"""What every reader gets and gives: a source, what the user asked, the ONNX model and an oracle to check it by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sardonyx.errors import ModelFileError

if TYPE_CHECKING:
    import onnx_ir as ir

Array = np.ndarray[Any, Any]
Values = Mapping[str, Array]

HEAD = 4096
"""Bytes of a file that are looked at to tell its kind."""


@dataclass(frozen=True)
class Source:
    """What is to be converted: a file, a folder, or an object of a framework in memory. One of both is None."""

    path: Path | None = None
    object: Any = None

    @cached_property
    def head(self) -> bytes:
        """The first bytes of the file; empty for folders and objects.

        Raises ModelFileError when the file cannot be read.
        """
        if self.path is None or self.path.is_dir():
            return b""
        try:
            with self.path.open("rb") as file:
                return file.read(HEAD)
        except OSError as error:
            raise ModelFileError("the file cannot be read", where=self.where, got=error.strerror) from error

    @cached_property
    def frameworks(self) -> frozenset[str]:
        """The top-level packages that define the object's class and its bases: `{"keras", "builtins"}`."""
        if self.path is not None:
            return frozenset()
        return frozenset(kind.__module__.partition(".")[0] for kind in type(self.object).__mro__)

    @property
    def where(self) -> str:
        """The source in messages."""
        return str(self.path) if self.path is not None else f"a {type(self.object).__qualname__} in memory"

    @property
    def stem(self) -> str:
        """A name for the graph where the source has none."""
        return self.path.stem if self.path is not None else type(self.object).__name__

    def file(self) -> Path:
        """The path, for readers of files."""
        assert self.path is not None
        return self.path


@dataclass(frozen=True)
class Options:
    """What the user asked that a reader must know. All else (opset, layout, preprocessing) is done to its result.

    `inputs` and `outputs` name tensors where a format does not say which they are, or others than it says. `shapes`
    gives inputs' dims by name: numbers, symbols, or None for open ones. `example` are arguments for a live model
    that can only be traced. `tag` and `signature` choose in a SavedModel. `structure` is the file or object that
    describes a network of which the source holds only the weights (a prototxt, cfg or symbol.json that does not lie
    beside them). `batch` is the symbol or the size of the first dim of inputs where a format leaves the batch open.
    """

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    shapes: Mapping[str, tuple[int | str | None, ...]] = field(default_factory=dict)
    example: tuple[Any, ...] = ()
    tag: str | None = None
    signature: str | None = None
    structure: Any = None
    batch: int | str = "batch"
    timeout: float = 600.0
    """Seconds that a framework's own exporter may take."""
    dequantize: bool = False
    """Quantised activations (TFLite) become floats, and so do inputs and outputs."""


class Oracle(Protocol):
    """Computes what the source model computes, in a way that shares nothing with how the ONNX was written."""

    @property
    def name(self) -> str:
        """What it is, with its version: `keras 3.12 on tensorflow 2.21`, `float64 evaluation of the source graph`."""
        ...

    def run(self, inputs: Values) -> Values:
        """Values by the names that the ONNX model's outputs have, and layers' values by layer where they are known.

        `inputs` go by the ONNX model's input names. Results have the source's own layout and type (or float64).
        May raise anything; the report tells it.
        """
        ...


@dataclass(frozen=True)
class Sample:
    """Inputs for the comparison, and what the source gave for them where that was recorded."""

    inputs: Values
    outputs: Values | None = None
    origin: str = "made up"


@dataclass(frozen=True)
class Converted:
    """A reader's result.

    `oracles` are makers of what the result is compared with, the best first; one returns None or raises
    MissingExtraError where it needs a framework that is not installed. `layers` maps names of the model's values to
    the source's layers in order, to name the first that diverges. `samples` are inputs that belong to the model
    (a range that only it knows; recorded pairs). `metadata` (class names, authors, licences of the source) goes into
    the model's metadata, `notes` are told to the user, `format` names file format and version as in `Keras 3.12`.
    `channels_last` are the names of inputs and outputs of four dims that are [N, H, W, C].
    """

    model: ir.Model
    format: str
    route: str = "own reader"
    oracles: Sequence[Callable[[], Oracle | None]] = ()
    layers: Mapping[str, str] = field(default_factory=dict)
    samples: Sequence[Sample] = ()
    channels_last: frozenset[str] | None = None
    """None: all values of four dims are taken to be so where a user asks for NCHW."""
    make_inputs: Callable[[int, np.random.Generator], Values] | None = None
    """Inputs for a batch of that size, where numbers from a normal distribution would test little (thresholds of
    trees, indices, pictures)."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    tolerance: float | None = None
    """The relative difference that the source's own arithmetic (float16, int8) makes, where it is more than
    float32 rounding."""
