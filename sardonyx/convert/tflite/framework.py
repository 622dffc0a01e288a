"""Runs a TFLite file in the interpreter. A process of its own does so: see `reader`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from sardonyx.convert.process import serve

Array = np.ndarray[Any, Any]

HOMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter", "tensorflow.lite.python.interpreter")
"""Where the interpreter may be."""


def run(arguments: dict[str, Any], arrays: dict[str, Array]) -> tuple[Any, Mapping[str, Array]]:
    """The values of the tensors that are asked for, by name; what no operator has computed is left out.

    The kernels are TFLite's own, without the delegates, which keep other values than the file says.
    """
    interpreter = _interpreter(arguments["path"])
    details = {detail["index"]: detail for detail in interpreter.get_input_details()}
    for name, index in arguments["inputs"].items():
        if list(details[index]["shape"]) != list(arrays[name].shape):
            interpreter.resize_tensor_input(index, arrays[name].shape, strict=False)
    interpreter.allocate_tensors()
    for name, index in arguments["inputs"].items():
        interpreter.set_tensor(index, arrays[name])
    interpreter.invoke()
    values: dict[str, Array] = {}
    for name, index in arguments["outputs"].items():
        try:
            values[name] = interpreter.get_tensor(index)
        except ValueError:  # its kernel took another's place and keeps nothing
            continue
    return None, values


def _interpreter(path: str) -> Any:
    lite: Any = None
    for name in HOMES:
        with contextlib.suppress(ImportError):
            lite = import_module(name)
            break
    plain = lite.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return lite.Interpreter(path, experimental_op_resolver_type=plain, experimental_preserve_all_tensors=True)


if __name__ == "__main__":
    serve(run)
