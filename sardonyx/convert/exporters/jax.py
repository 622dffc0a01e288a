"""JAX functions and modules of Flax and Equinox, by jax2onnx.

Live objects alone, in this process: functions cannot be sent to another one. What they take, `options.example` says;
a Flax linen module's first example argument is its variables, which become weights.
"""

from __future__ import annotations

import inspect
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from sardonyx.convert.base import Array, Converted, Options, Source, Values
from sardonyx.convert.exporters import base
from sardonyx.errors import ConversionError

PACKAGES = ("jax", "jax2onnx")
_FRAMEWORKS = {"jax", "jaxlib", "flax", "equinox"}
_OPSET = 23  # what jax2onnx 0.17 writes by default


def recognises(source: Source) -> bool:
    """Jitted functions, and modules of Flax and Equinox. Plain functions are Python's: name the format, `jax`."""
    return source.path is None and bool(source.frameworks & _FRAMEWORKS)


def read(source: Source, options: Options) -> Converted:
    """The function as ONNX; the first dim of arrays is the batch unless `options.shapes` says otherwise.

    Raises ConversionError where jax2onnx cannot write it, MissingExtraError without it.
    """
    if source.path is not None:
        raise ConversionError("JAX has no files that are models", where=source.where, fix="give the function itself")
    found = base.require(PACKAGES, "jax", "exporting JAX functions")
    if not options.example:
        raise ConversionError(
            "a function can only be traced with example arguments", where=source.where,
            fix="give them: sardonyx.convert(function, example=(array, ...))",
        )  # fmt: skip
    function, arguments = _function(source.object, options.example)
    names = _names(source.object, arguments, options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = _flat(function(*arguments))
    outputs = tuple(options.outputs) or tuple(results)
    if len(outputs) != len(results):
        raise ConversionError(
            "the names of outputs do not fit", where=source.where, expected=f"{len(results)} of them",
            got=", ".join(outputs),
        )  # fmt: skip
    model = _exported(function, arguments, names, outputs, options, source)
    oracle = _Live(f"jax {found['jax']}", function, names, outputs)
    return Converted(
        model,
        format=f"JAX {type(source.object).__qualname__} ({found['jax']})",
        route=f"wrapped exporter ({base.described(found)})",
        oracles=(lambda: oracle,),
        make_inputs=_like(model, dict(zip(names, arguments, strict=True))),
    )


def _function(source: Any, example: Sequence[Any]) -> tuple[Callable[..., Any], list[Array]]:
    """What is called, and with what."""
    if any(kind.__module__.startswith("flax.linen") for kind in type(source).__mro__):
        variables, *rest = example
        return lambda *inputs: source.apply(variables, *inputs), [np.asarray(value) for value in rest]
    return source, [np.asarray(value) for value in example]


def _names(source: Any, arguments: Sequence[Array], options: Options) -> tuple[str, ...]:
    if options.inputs:
        return tuple(options.inputs)
    try:
        parameters = [
            one.name
            for one in inspect.signature(source).parameters.values()
            if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        parameters = []
    return tuple(parameters[: len(arguments)]) if len(parameters) >= len(arguments) else _numbered("x", len(arguments))


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return (name,) if count == 1 else tuple(f"{name}_{index}" for index in range(count))


def _exported(
    function: Callable[..., Any],
    arguments: Sequence[Array],
    names: tuple[str, ...],
    outputs: tuple[str, ...],
    options: Options,
    source: Source,
) -> Any:
    import jax2onnx

    specs = [
        SimpleNamespace(shape=_dims(name, array, options, source), dtype=array.dtype)
        for name, array in zip(names, arguments, strict=True)
    ]
    with tempfile.TemporaryDirectory(prefix="sardonyx-") as folder:
        target = Path(folder) / "exported.onnx"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                jax2onnx.to_onnx(
                    function, specs, model_name=source.stem, opset=_OPSET, return_mode="file", output_path=str(target),
                    input_names=list(names), output_names=list(outputs),
                    enable_double_precision=any(array.dtype == np.float64 for array in arguments),
                )  # fmt: skip
        except Exception as error:
            text = " ".join(str(error).split())[:400]
            raise ConversionError(
                "jax2onnx cannot write this function", where=source.where, got=f"{type(error).__name__}: {text}"
            ) from error
        return base.loaded(target, source.where)


def _dims(name: str, array: Array, options: Options, source: Source) -> tuple[int | str, ...]:
    if name not in options.shapes:
        first = [options.batch] if array.ndim and isinstance(options.batch, str) else list(array.shape[:1])
        return (*first, *array.shape[1:])
    asked = options.shapes[name]
    if len(asked) != array.ndim:
        raise ConversionError("the shape has another number of dims", where=f"{source.where}, input {name!r}",
                              expected=str(array.ndim), got=str(len(asked)))  # fmt: skip
    return tuple(dim if dim is not None else f"{name}_{axis}" for axis, dim in enumerate(asked))


def _flat(result: Any) -> dict[str, Any]:
    """Results by name: keys of dicts, numbers of tuples."""
    import jax

    leaves = jax.tree_util.tree_flatten_with_path(result)[0]
    if len(leaves) == 1 and not leaves[0][0]:
        return {"output": leaves[0][1]}
    words = ["_".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path) for path, _ in leaves]
    names = [f"output_{word}" if word[:1].isdigit() else word for word in words]
    return dict(zip(names, (leaf for _, leaf in leaves), strict=True))


@dataclass(frozen=True)
class _Live:
    """The function itself."""

    name: str
    function: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(self, inputs: Values) -> Values:
        """Results by the ONNX model's names."""
        results = _flat(self.function(*[np.asarray(inputs[name]) for name in self.inputs]))
        return {name: np.asarray(value) for name, value in zip(self.outputs, results.values(), strict=True)}


def _like(model: Any, examples: dict[str, Array]) -> Callable[[int, np.random.Generator], Values]:
    def make(batch: int, random: np.random.Generator) -> Values:
        made: dict[str, Array] = {}
        for value in model.graph.inputs:
            example = examples[value.name]
            shape = [
                dim if isinstance(dim, int) else batch if axis == 0 else example.shape[axis]
                for axis, dim in enumerate(value.shape)
            ]
            if example.dtype.kind == "f":
                made[value.name] = random.normal(size=shape).astype(example.dtype)
            else:
                low, high = (int(example.min()), int(example.max())) if example.size else (0, 0)
                made[value.name] = random.integers(low, high + 1, shape).astype(example.dtype)
        return made

    return make
