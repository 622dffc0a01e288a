"""`export_chainer`, as onnx-chainer's `export` is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.base import Options, Source


def export_chainer(
    model: Any,
    args: Any,
    filename: str | Path | None = None,
    *,
    input_names: Sequence[str] = (),
) -> ir.Model:
    """The live chain `model` as ONNX, traced with `args` (an array, or a list, tuple or dict of arrays or variables).

    Writes the file `filename` where one is given. The result is not compared with the chain: `sardonyx.convert` does.
    Raises ConversionError for functions that cannot be converted (all are listed).
    """
    from sardonyx.convert.chainer import read

    if isinstance(args, dict):
        input_names, args = input_names or tuple(args), tuple(args.values())
    given = tuple(args) if isinstance(args, list | tuple) else (args,)
    example = tuple(np.asarray(getattr(item, "array", item)) for item in given)
    converted = read(Source(object=model), Options(example=example, inputs=tuple(input_names)))
    if filename is not None:
        ir.save(converted.model, str(filename))
    return converted.model
