"""Live TensorFlow objects: saved by TensorFlow itself, and asked for values in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from sardonyx.convert.base import Options, Values
from sardonyx.errors import ConversionError


@dataclass(frozen=True)
class LiveOracle:
    """The function that was saved, called in this process: TensorFlow is loaded already."""

    name: str
    function: Any

    def run(self, inputs: Values) -> Values:
        """Values by the names of the signature's outputs."""
        tf: Any = import_module("tensorflow")
        found = self.function(**{name: tf.constant(array) for name, array in inputs.items()})
        return {name: np.asarray(value) for name, value in found.items()}


def save(tf: Any, thing: Any, folder: Path, options: Options) -> LiveOracle:
    """Write `thing` as a SavedModel with the one signature `serving_default`, and tell how to call that.

    Raises ConversionError when it has no function with known inputs.
    """
    chosen = _function(tf, thing, options)
    holder = tf.Module()
    holder.function, holder.variables_held = chosen, list(chosen.variables)
    if isinstance(thing, tf.Module):
        holder.origin = thing
    try:
        tf.saved_model.save(holder, str(folder), signatures={"serving_default": chosen})
    except Exception as error:
        raise ConversionError("TensorFlow could not save the object", got=str(error)[-300:]) from error
    loaded = tf.saved_model.load(str(folder))
    return LiveOracle(f"TensorFlow {tf.__version__}", _Held(loaded, loaded.signatures["serving_default"]))


@dataclass(frozen=True)
class _Held:
    """A signature with what holds its variables."""

    owner: Any
    function: Any

    def __call__(self, **inputs: Any) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.function(**inputs)
        return found


def _function(tf: Any, thing: Any, options: Options) -> Any:
    """The one concrete function of an object."""
    signatures = getattr(thing, "signatures", None)
    if signatures:
        name = options.signature or ("serving_default" if "serving_default" in signatures else next(iter(signatures)))
        return signatures[name]
    if hasattr(thing, "structured_outputs") and hasattr(thing, "graph"):
        return thing
    if not callable(thing):
        raise ConversionError("the object cannot be called", where=type(thing).__name__)
    function = thing
    if not hasattr(function, "get_concrete_function"):
        method = thing.__call__
        function = method if hasattr(method, "get_concrete_function") else tf.function(method)
    example = [tf.TensorSpec(np.shape(item), tf.as_dtype(np.asarray(item).dtype)) for item in options.example]
    try:
        return function.get_concrete_function(*example)
    except (TypeError, ValueError) as error:
        raise ConversionError(
            "the function's inputs are not known", where=type(thing).__name__, got=str(error)[-200:],
            fix="give it an input_signature, or example arguments",
        ) from error  # fmt: skip
