"""MXNet 1.x as the oracle, in a process of its own: `SARDONYX_MXNET_PYTHON` names the Python that has it.

MXNet 1.9.1 is of numpy before 1.20; with numpy 1.26 it runs once the names that it misses are put back.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from sardonyx.convert.process import serve, versions
from sardonyx.convert.subprocess_oracle import SubprocessOracle

Array = np.ndarray[Any, Any]


def oracle(network: Any, outputs: tuple[str, ...], timeout: float) -> SubprocessOracle | None:
    """MXNet on the network's files; None where it is not installed."""
    found = versions(["mxnet"], "mxnet").get("mxnet")
    if found is None:
        return None
    symbol, params = (str(path.absolute()) for path in network.files)
    return SubprocessOracle(
        f"MXNet {found}", "sardonyx.convert.mxnet.run",
        {"symbol": symbol, "params": params, "outputs": list(outputs)}, timeout=timeout, framework="mxnet",
    )  # fmt: skip


def load() -> Any:
    """The module mxnet."""
    for name, kind in (("bool", np.bool_), ("float", float), ("int", int), ("object", object), ("complex", complex)):
        if name not in vars(np):
            setattr(np, name, kind)
    # Operators joined in subgraphs lose their names and results.
    os.environ.setdefault("MXNET_SUBGRAPH_BACKEND", "NONE")
    import mxnet

    return mxnet


def run(arguments: dict[str, Any], inputs: dict[str, Array]) -> tuple[None, dict[str, Array]]:
    """The outputs by MXNet's names or the nodes', and the first result of every node by its name."""
    mx = load()
    symbol = mx.sym.load(arguments["symbol"])
    loaded = mx.nd.load(arguments["params"])  # a list where there are none
    stored = {key.split(":", 1)[-1]: array for key, array in dict(loaded or {}).items()}
    inner = symbol.get_internals()
    variables = {*symbol.list_arguments(), *symbol.list_auxiliary_states()}
    names = [name for name in inner.list_outputs() if name not in variables]
    group = mx.sym.Group([inner[name] for name in names])
    arguments_of = set(symbol.list_arguments())
    given = {name: array for name, array in (stored | dict(inputs)).items() if name in arguments_of}
    shapes = {name: array.shape for name, array in given.items()}
    types = {name: array.dtype for name, array in given.items()}
    bound = group.simple_bind(mx.cpu(), grad_req="null", type_dict=types, **shapes)
    bound.copy_params_from({key: value for key, value in stored.items() if key in bound.arg_dict},
                           {key: value for key, value in stored.items() if key in bound.aux_dict})  # fmt: skip
    results = bound.forward(
        is_train=False, **{name: mx.nd.array(array, dtype=array.dtype) for name, array in inputs.items()}
    )
    values = {name: value.asnumpy() for name, value in zip(names, results, strict=True)}
    layers = {name.removesuffix("_output").removesuffix("_output0"): value for name, value in values.items()}
    return None, {**layers, **{name: values.get(name, layers.get(name)) for name in arguments["outputs"]}}


if __name__ == "__main__":
    serve(run)
