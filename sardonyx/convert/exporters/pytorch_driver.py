"""PyTorch's files in a process of their own: exported, or run. Their pickles are never executed.

`torch.load` is held to weights alone, as PyTorch's own switch has it, and objects that a program holds as pickles are
refused. TorchScript archives are read by PyTorch's C++ reader, which knows no Python objects.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from sardonyx.convert.process import serve
from sardonyx.errors import ConversionError

Array = np.ndarray[Any, Any]


def _refuse(*_: Any, **__: Any) -> Any:
    raise ConversionError(
        "the file holds pickled Python objects, which are not loaded since that runs code",
        fix="convert the live module: sardonyx.convert(module, example=(...))",
    )


def work(arguments: dict[str, Any], arrays: dict[str, Array]) -> tuple[Any, dict[str, Array]]:
    """`do` is "export" or "run"; `kind` is "program" or "script"; `example` says that arrays are example inputs."""
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    pickle.loads = pickle.load = _refuse
    import torch

    from sardonyx.convert.exporters import pytorch_export as exporting

    path = arguments["path"]
    module: Any
    if arguments["kind"] == "program":
        program = _loaded(torch.export.load, path)
        module, call = program.module(), exporting.program_call(program)
    else:
        program, module = None, _loaded(torch.jit.load, path)
        names = [one.name for one in module.forward.schema.arguments[1:]]
        example = [torch.from_numpy(arrays[f"example/{i}"]) for i in range(arguments["examples"])]
        if len(example) > len(names):
            raise ConversionError(f"{len(example)} arguments for {len(names)}", expected=", ".join(names))
        call = exporting.Call(tuple(example), {}, tuple(names[: len(example)]))
    if arguments["do"] == "run":
        inputs = {name: array for name, array in arrays.items() if name in call.names}
        return None, exporting.run(module, call, inputs)
    target = Path(arguments["target"])
    shapes = {name: tuple(dims) for name, dims in arguments["shapes"].items()}
    if program is not None:
        facts = exporting.export_program(program, target)
    else:
        symbols = exporting.open_axes(call, shapes, arguments["batch"])
        facts = exporting.export(module, call, symbols, target, strict=bool(shapes))
    with torch.no_grad(), exporting.evaluating(module):
        outputs = list(exporting.outputs_of(module(*call.args, **call.kwargs)))
    return facts | {"inputs": list(call.names), "outputs": outputs}, {}


def _loaded(load: Any, path: str) -> Any:
    try:
        return load(path)
    except ConversionError:
        raise
    except Exception as error:
        # What may only be weights and is more says so in several lines.
        text = " ".join(str(error).split())[:400]
        raise ConversionError(
            "PyTorch does not load this file", got=f"{type(error).__name__}: {text}", fix="save it again"
        ) from error


if __name__ == "__main__":
    serve(work)
