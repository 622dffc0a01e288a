"""Paddle in a process of its own: a program exported by paddle2onnx, or run by Paddle's predictor."""

from __future__ import annotations

import os
import pickle
from typing import Any

import numpy as np

from sardonyx.convert.process import serve
from sardonyx.errors import ConversionError

Array = np.ndarray[Any, Any]

_OPSET = 20  # the newest that paddle2onnx 2.1 writes


def _refuse(*_: Any, **__: Any) -> Any:
    raise ConversionError("Paddle wants to load a pickle, which is not done since that runs code")


def work(arguments: dict[str, Any], arrays: dict[str, Array]) -> tuple[Any, dict[str, Array]]:
    """`do` is "export" (to `target`) or "run" (`arrays` by the program's input names; results by their number)."""
    os.environ["POLYGRAPHY_AUTOINSTALL_DEPS"] = "0"
    if arguments["do"] == "export":
        import paddle2onnx

        pickle.loads = pickle.load = _refuse
        # Its optimiser, polygraphy, would install packages of its own accord.
        paddle2onnx.export(
            arguments["program"], arguments["parameters"], arguments["target"], opset_version=_OPSET,
            auto_upgrade_opset=False, enable_onnx_checker=True, enable_optimize=False, verbose=False,
        )  # fmt: skip
        return None, {}
    from paddle import inference

    pickle.loads = pickle.load = _refuse
    config = inference.Config(arguments["program"], arguments["parameters"])
    config.disable_glog_info()
    config.disable_gpu()
    predictor = inference.create_predictor(config)
    for name in predictor.get_input_names():
        array = np.ascontiguousarray(arrays[name])
        handle = predictor.get_input_handle(name)
        handle.reshape(list(array.shape))
        handle.copy_from_cpu(array)
    predictor.run()
    names = predictor.get_output_names()
    return None, {str(i): predictor.get_output_handle(name).copy_to_cpu() for i, name in enumerate(names)}


if __name__ == "__main__":
    serve(work)
