"""LibSVM: text models of every type and kernel, read without LibSVM."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sardonyx.convert.base import Source

if TYPE_CHECKING:
    from sardonyx.convert.base import Converted, Options

_HEAD = re.compile(rb"\s*svm_type [a-z_]+\s+kernel_type ")


def recognises(source: Source) -> bool:
    """Whether `source` is a file that `svm_save_model` wrote, or an `svm_model` of its Python package."""
    return "libsvm" in source.frameworks or _HEAD.match(source.head) is not None


def read(source: Source, options: Options) -> Converted:
    """The model as ONNX: see `reader.read`."""
    from sardonyx.convert.libsvm import reader

    return reader.read(source, options)


def operators() -> list[str]:
    """The types of models and the kernels that can be converted."""
    from sardonyx.convert.libsvm.source import KERNELS, TYPES

    return [*TYPES, *KERNELS]
