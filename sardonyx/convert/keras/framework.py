"""Keras itself, run in a process of its own: `python -m sardonyx.convert.keras.framework`, see `process.serve`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from sardonyx.convert.process import serve

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Ends:
    """The names of a model's inputs and outputs, and the keys they go by where it takes or gives a dict."""

    inputs: list[str]
    input_keys: list[str]
    outputs: list[str]
    output_keys: list[str]


def evaluate(model: Any, inputs: dict[str, Array], ends: Ends) -> dict[str, Array]:
    """A Keras model's outputs by name."""
    given: Any = [inputs[name] for name in ends.inputs]
    if ends.input_keys:
        given = dict(zip(ends.input_keys, given, strict=True))
    elif len(given) == 1:
        given = given[0]
    made = model(given, training=False)
    if isinstance(made, dict):
        made = [made[key] for key in ends.output_keys]
    arrays = [np.asarray(y.detach().cpu() if hasattr(y, "detach") else y) for y in _flat(made)]
    return dict(zip(ends.outputs, arrays, strict=True))


def _flat(made: Any) -> list[Any]:
    return [leaf for item in made for leaf in _flat(item)] if isinstance(made, list | tuple) else [made]


def _serve(arguments: dict[str, Any], inputs: dict[str, Array]) -> tuple[None, dict[str, Array]]:
    keras = import_module(arguments["package"])
    model = keras.models.load_model(arguments["path"], compile=False)
    return None, evaluate(model, inputs, Ends(**arguments["ends"]))


if __name__ == "__main__":
    serve(_serve)
