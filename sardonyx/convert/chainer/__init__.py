"""Chainer to ONNX: a live chain, traced backwards from its output, or an `.npz` of weights with its structure.

The structure of an `.npz` is a live chain whose parameters have the names in the file, or a description (a dict, or
the path of a JSON file) of the functions one after the other:

    {"inputs": {"x": ["batch", 3, "height", "width"]}, "outputs": ["y"],
     "functions": [{"function": "Convolution2DFunction", "inputs": ["x", "conv1/W", "conv1/b"], "output": "h",
                    "pad": 1},
                   {"function": "LeakyReLU", "inputs": ["h"], "output": "y", "slope": 0.1}]}

Functions go by the names of Chainer's classes, options by their attributes, weights by their names in the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sardonyx.convert.base import Converted, Options, Source


def recognises(source: Source) -> bool:
    """Whether this is a live chain (an object of a class of `chainer`), or a zip of arrays with a parameter's name."""
    from sardonyx.convert.chainer import file

    if source.path is None:
        return "chainer" in source.frameworks and hasattr(source.object, "namedparams")
    return file.recognises(source)


def read(source: Source, options: Options) -> Converted:
    """The network as ONNX, checked by Chainer itself for a live chain, else by a float64 evaluation.

    Raises ConversionError for functions that cannot be converted (all are listed) and where the structure or example
    inputs are missing; ModelFileError for damaged files.
    """
    from sardonyx.convert.chainer.reader import read as read_chain

    return read_chain(source, options)


def operators() -> list[str]:
    """Chainer's functions that can be converted."""
    from sardonyx.convert.chainer.functions import FUNCTIONS

    return sorted(FUNCTIONS)
