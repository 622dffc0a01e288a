"""PyTorch's exporters made easy: dynamic batch, names, and the older exporter where the newer cannot.

Runs in this process for live modules, which need not survive pickling, and in a process of its own for files
(`pytorch_driver`), possibly of another Python: so it imports nothing of Sardonyx but `errors`.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from sardonyx.errors import ConversionError

Array = np.ndarray[Any, Any]
Dims = Mapping[str, tuple[int | str | None, ...]]


@dataclass(frozen=True)
class Call:
    """A call of a module: its arguments, and which of them are inputs, by name and in order."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    names: tuple[str, ...]

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The inputs' example values."""
        return [leaf for leaf in pytree.tree_leaves((self.args, dict(self.kwargs))) if isinstance(leaf, torch.Tensor)]

    def with_tensors(self, tensors: Sequence[torch.Tensor]) -> Call:
        """The same call of other values."""
        leaves, spec = pytree.tree_flatten((self.args, dict(self.kwargs)))
        left = iter(tensors)
        args, kwargs = pytree.tree_unflatten(
            [next(left) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves], spec
        )
        return Call(args, kwargs, self.names)

    def axes(self, symbols: Sequence[Mapping[int, Any]]) -> tuple[Any, Any]:
        """What is open of each input, in the arguments' structure; None elsewhere."""
        left = iter(symbols)
        leaves, spec = pytree.tree_flatten((self.args, dict(self.kwargs)))
        shapes = [(dict(next(left)) or None) if isinstance(leaf, torch.Tensor) else None for leaf in leaves]
        args, kwargs = pytree.tree_unflatten(shapes, spec)
        return args, kwargs


def call_of(forward: Callable[..., Any], example: Sequence[Any]) -> Call:
    """The call of `forward` with `example` arguments; a dict in the last place, where more than it is given or the
    module takes keywords of these names, is keyword arguments. NumPy arrays are taken as tensors."""
    example = pytree.tree_map(lambda leaf: torch.from_numpy(leaf) if isinstance(leaf, np.ndarray) else leaf, example)
    args, kwargs = tuple(example), {}
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    if args and isinstance(args[-1], dict) and set(args[-1]) <= {one.name for one in parameters}:
        args, kwargs = args[:-1], dict(args[-1])
    paths = [path for path, leaf in pytree.tree_flatten_with_path((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
    if not paths:
        raise ConversionError("no tensor among the example arguments", fix="give some: example=(tensor, ...)")
    return Call(args, kwargs, _distinct(_input_name(path, parameters) for path in paths))


def _input_name(path: Sequence[Any], parameters: Sequence[inspect.Parameter]) -> str:
    """`x`, `past_0_key`: the parameter's name and the way from there."""
    words = [_word(key) for key in path]
    if words[0] == "0":  # positional
        index = int(words[1])
        plain = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
        words[1] = (
            plain[index].name
            if index < len(plain)
            else f"input_{index}"
            if parameters == []
            else _rest(parameters, index - len(plain))
        )
    return "_".join(words[1:])


def _rest(parameters: Sequence[inspect.Parameter], index: int) -> str:
    starred = [one.name for one in parameters if one.kind is one.VAR_POSITIONAL]
    return f"{starred[0] if starred else 'input'}_{index}"


def _word(key: Any) -> str:
    for field in ("key", "idx", "name"):
        if hasattr(key, field):
            return str(getattr(key, field))
    return str(key)


def _distinct(names: Any) -> tuple[str, ...]:
    found: list[str] = []
    for name in names:
        free, count = name, 0
        while free in found:
            count += 1
            free = f"{name}_{count}"
        found.append(free)
    return tuple(found)


def outputs_of(result: Any) -> dict[str, torch.Tensor]:
    """A module's result as tensors by name: keys of dicts and fields of records, numbers of tuples."""
    if isinstance(result, torch.Tensor):
        return {"output": result}
    found = [(path, leaf) for path, leaf in pytree.tree_flatten_with_path(result)[0] if isinstance(leaf, torch.Tensor)]
    words = ["_".join(_word(key) for key in path) for path, _ in found]
    names = _distinct(f"output_{name}" if name[:1].isdigit() else name for name in words)
    return dict(zip(names, (leaf for _, leaf in found), strict=True))


def run(module: Callable[..., Any], call: Call, inputs: Mapping[str, Array], *, inner: bool = True) -> dict[str, Array]:
    """The module's results by name, and with `inner` those of its innermost modules by their path. Weights and modes
    stay as they are."""
    examples = dict(zip(call.names, call.tensors, strict=True))
    tensors = [
        torch.from_numpy(np.array(inputs[name])).to(dtype=example.dtype, device=example.device)
        for name, example in examples.items()
    ]
    filled = call.with_tensors(tensors)
    seen: dict[str, Array] = {}
    with torch.no_grad(), evaluating(module), _watched(module if inner else None, seen):
        result = module(*filled.args, **filled.kwargs)
    return seen | {name: _array(value) for name, value in outputs_of(result).items()}


def _array(value: torch.Tensor) -> Array:
    value = value.detach().cpu()
    array: Array = (value.float() if value.dtype is torch.bfloat16 else value).resolve_conj().numpy().copy()
    return array


@contextlib.contextmanager
def _watched(module: Any, seen: dict[str, Array]) -> Iterator[None]:
    """Note the results of innermost modules."""
    handles = []
    if isinstance(module, torch.nn.Module) and not isinstance(module, torch.jit.ScriptModule):
        for path, inner in module.named_modules():
            if path and not next(inner.children(), None):

                def note(_: Any, __: Any, result: Any, path: str = path) -> None:
                    if isinstance(result, torch.Tensor):
                        seen[path] = _array(result)

                with contextlib.suppress(RuntimeError):  # Modules that take no hooks.
                    handles.append(inner.register_forward_hook(note))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def evaluating(module: Any) -> Iterator[None]:
    """The module and all inside in evaluation mode; afterwards as they were."""
    modules = list(module.modules()) if isinstance(module, torch.nn.Module) else []
    modes = [inner.training for inner in modules]
    for inner in modules:
        with contextlib.suppress(AttributeError, RuntimeError, NotImplementedError):
            inner.training = False
    try:
        yield
    finally:
        for inner, mode in zip(modules, modes, strict=True):
            with contextlib.suppress(AttributeError, RuntimeError, NotImplementedError):
                inner.training = mode


def open_axes(call: Call, shapes: Dims, batch: int | str) -> list[dict[int, str]]:
    """Which dims of each input are open, by symbol: those that `shapes` gives, else the first."""
    unknown = sorted(set(shapes) - set(call.names))
    if unknown:
        raise ConversionError(f"there is no input {unknown[0]!r}", expected=f"one of {', '.join(call.names)}")
    tensors = dict(zip(call.names, call.tensors, strict=True))
    sizes = [tensor.shape[0] for name, tensor in tensors.items() if tensor.ndim and name not in shapes]
    found = []
    for name, tensor in tensors.items():
        if name in shapes:
            found.append(_asked(name, tuple(tensor.shape), shapes[name], batch))
        elif isinstance(batch, int) or not tensor.ndim:
            found.append({})
        else:
            found.append({0: batch if tensor.shape[0] == sizes[0] else f"{name}_0"})
    return found


def _asked(name: str, example: tuple[int, ...], dims: tuple[int | str | None, ...], batch: int | str) -> dict[int, str]:
    wrong = [f"dim {i}: {dim}" for i, dim in enumerate(dims) if isinstance(dim, int) and example[i : i + 1] != (dim,)]
    if len(dims) != len(example) or wrong:
        raise ConversionError(
            "the shape does not fit the example argument", where=f"input {name!r}",
            expected=str(list(example)), got=str(list(dims)), fix="give an example of that shape, or leave dims open",
        )  # fmt: skip
    free = [batch if axis == 0 and isinstance(batch, str) else f"{name}_{axis}" for axis in range(len(dims))]
    return {axis: dim or free[axis] for axis, dim in enumerate(dims) if not isinstance(dim, int)}


def _larger(call: Call, symbols: Sequence[Mapping[int, str]]) -> Call:
    """The call with open dims of 1 doubled: the exporter takes a 1 for a number that stays."""
    tensors = []
    for tensor, axes in zip(call.tensors, symbols, strict=True):
        for axis in axes:
            tensor = tensor if tensor.shape[axis] != 1 else torch.cat([tensor, tensor], axis)  # noqa: PLW2901
        tensors.append(tensor)
    return call.with_tensors(tensors)


def export(
    module: Any,
    call: Call,
    symbols: Sequence[Mapping[int, str]],
    path: Path,
    *,
    strict: bool,
    accept: Callable[[Path], str | None] = lambda _: None,
) -> dict[str, Any]:
    """Write `module` as ONNX to `path`; which exporter did, and what is to be told.

    Exporters are tried one after the other: the newer with all asked dims open, with those that it can leave open, the
    older, the newer with fixed sizes. `accept` says what is wrong with a file, if anything. `strict`: dims were asked
    for, so none may turn out fixed. Where the older exporter would freeze a decision that hangs on values (it warns of
    that) its file is not taken. Raises ConversionError when no exporter can, with what each said.
    """
    ways = [_dynamo, _script] if strict else [_dynamo, _automatic, _script, _fixed]
    if isinstance(module, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        ways = [_script]
    failed: list[str] = []
    for way in ways:
        name = "TorchScript" if way is _script else "dynamo"
        try:
            with evaluating(module), torch.no_grad(), _quietly() as said:
                notes = way(module, call, symbols, path)
            frozen = [text for text in said if text.startswith("TracerWarning")]
            wrong = f"it would keep what the example gave ({'; '.join(frozen[:3])})" if frozen else accept(path)
        except Exception as error:
            wrong = _line(error)
        if wrong is None:
            if failed and way is _script:
                notes.append(f"the TorchScript exporter wrote it, since the newer one could not: {failed[0]}")
            return {"exporter": name, "notes": notes, "version": torch.__version__.partition("+")[0]}
        failed.append(f"{name} exporter: {wrong}")
    raise ConversionError(
        "no exporter of PyTorch can write this module",
        got="; ".join(dict.fromkeys(failed)),
        fix="change the module as they say",
    )


def _dynamo(module: Any, call: Call, symbols: Sequence[Mapping[int, str]], path: Path) -> list[str]:
    larger = _larger(call, symbols)
    _save_dynamo(module, larger, larger.axes(symbols), path)
    return []


def _automatic(module: Any, call: Call, symbols: Sequence[Mapping[int, str]], path: Path) -> list[str]:
    """The exporter decides which dims can be open."""
    auto = [dict.fromkeys(axes, torch.export.Dim.AUTO) for axes in symbols]
    return _told(_save_dynamo(module, call, call.axes(auto), path), call, symbols)


def _fixed(module: Any, call: Call, symbols: Sequence[Mapping[int, str]], path: Path) -> list[str]:
    """All sizes as in the example."""
    return _told(_save_dynamo(module, call, call.axes([{} for _ in symbols]), path), call, symbols)


def _told(program: Any, call: Call, symbols: Sequence[Mapping[int, str]]) -> list[str]:
    fixed = [
        f"dim {axis} of {name!r}"
        for name, axes, value in zip(call.names, symbols, program.model.graph.inputs, strict=True)
        for axis in axes
        if isinstance(value.shape[axis], int)
    ]
    return [f"the module cannot be exported for more than one size of {', '.join(fixed)}: fixed"] if fixed else []


def _save_dynamo(module: Any, call: Call, axes: tuple[Any, Any], path: Path) -> Any:
    shapes = _by_parameter(module, call, *axes)
    program = torch.onnx.export(
        module, call.args, kwargs=dict(call.kwargs), dynamo=True, dynamic_shapes=shapes, verbose=False
    )
    if program is None:
        raise ConversionError("the exporter gave nothing")
    program.save(path)
    return program


def _by_parameter(module: Any, call: Call, args: Any, kwargs: Any) -> Any:
    """torch.export wants positions alone, or all by name."""
    if not call.kwargs:
        return args
    bound = inspect.signature(module.forward).bind_partial(*args, **kwargs)
    return dict(bound.arguments)


def _script(module: Any, call: Call, symbols: Sequence[Mapping[int, str]], path: Path) -> list[str]:
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # This exporter does not know the operator that it takes.
    try:
        torch.onnx.export(
            module, call.args, path, kwargs=dict(call.kwargs), dynamo=False, input_names=list(call.names),
            dynamic_axes={name: dict(axes) for name, axes in zip(call.names, symbols, strict=True) if axes},
            verbose=False,
        )  # fmt: skip
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return []


def export_program(program: Any, path: Path) -> dict[str, Any]:
    """Write a `torch.export` program as ONNX to `path`."""
    try:
        with torch.no_grad(), _quietly():
            written = torch.onnx.export(program, dynamo=True, verbose=False)
            if written is None:
                raise ConversionError("the exporter gave nothing")
            written.save(path)
    except Exception as error:
        raise ConversionError("PyTorch's exporter cannot write this program", got=_line(error)) from error
    return {"exporter": "dynamo", "notes": [], "version": torch.__version__.partition("+")[0]}


def program_call(program: Any) -> Call:
    """The call that a program was exported with."""
    if program.example_inputs is None:
        raise ConversionError("the program has no example inputs", fix="export it again with torch.export.export")
    args, kwargs = program.example_inputs
    from torch.export.graph_signature import InputKind, TensorArgument

    names = [
        spec.arg.name
        for spec in program.graph_signature.input_specs
        if spec.kind is InputKind.USER_INPUT and isinstance(spec.arg, TensorArgument)
    ]
    return Call(tuple(args), dict(kwargs), tuple(names))


@contextlib.contextmanager
def _quietly() -> Iterator[list[str]]:
    """Nothing printed or warned; the warnings' texts, once the block is over."""
    texts: list[str] = []
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("always")
            yield texts
        kinds = dict.fromkeys(f"{one.category.__name__}: {_short(str(one.message))}" for one in caught)
        texts.extend(kinds)
    finally:
        logging.disable(level)


def _line(error: BaseException) -> str:
    """An error in a line: that of its cause, since exporters wrap it in advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {_short(str(error))}"


def _short(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:2])[:300]
