"""What a run is fed: checked against the model's declared inputs and made ready for providers.

The common case, a C-contiguous NumPy array of the right type and shape, costs well under a microsecond.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.errors import InvalidInputError
from sardonyx.runtime.given import fitting

if TYPE_CHECKING:
    import onnx_ir as ir

Array = np.ndarray[Any, Any]
Dims = tuple[int | str | None, ...]

_MISSING: Any = object()


class SeveralSizesError(InvalidInputError):
    """A symbol of the model stands for several sizes in one call."""


@dataclass(frozen=True)
class NodeArg:
    """An input or output of a model: name, type such as `tensor(float)`, and dimensions.

    A dimension is an int, the name of a symbol, or None when unknown. As in onnxruntime the shape is an empty
    list for a scalar, and also where the model does not say or the value is no tensor.
    """

    name: str
    type: str
    shape: list[int | str | None]


@dataclass(frozen=True)
class InputSpec:
    """What one input must be. `dtype` is None for a sequence or optional, `dims` when the rank is open.

    `default` is the value of an initializer that may be overridden.
    """

    name: str
    type: str
    kind: ir.TypeProtocol | None
    dtype: np.dtype[Any] | None
    dims: Dims | None
    default: Array | None = None

    @property
    def where(self) -> str:
        """How errors name it."""
        return f"input {self.name!r}"


def node_arg(value: ir.Value) -> NodeArg:
    """The public description of a graph input or output."""
    from sardonyx.model.shapes import tensor_spec

    spec = tensor_spec(value)
    return NodeArg(spec.name, spec.type, list(spec.dims or ()) if spec.dtype is not None else [])


def input_spec(value: ir.Value, default: Array | None = None) -> InputSpec:
    """The check for a graph input."""
    from sardonyx.model.shapes import tensor_spec

    spec = tensor_spec(value)
    return InputSpec(spec.name, spec.type, value.type, spec.dtype, spec.dims, default)


class Feeds:
    """Binds the mapping given to `run` to a model's inputs, in their order."""

    def __init__(self, specs: Sequence[InputSpec]) -> None:
        self._specs = tuple(specs)
        # Per input: name, the type an array must have to pass as it is, rank, dimensions fixed by the model.
        self._fast = tuple(
            (
                spec.name,
                None if spec.dtype is None or spec.dtype.hasobject else spec.dtype,
                None if spec.dims is None else len(spec.dims),
                tuple((axis, dim) for axis, dim in enumerate(spec.dims or ()) if isinstance(dim, int)),
                spec,
            )
            for spec in self._specs
        )
        self._symbols = _shared_symbols(self._specs)

    def bind(self, feed: Mapping[str, Any]) -> list[Any]:
        """The values in order of the inputs: contiguous, aligned, in the declared types.

        InvalidInputError on a missing or unknown name, a wrong type, rank or dimension, and, as SeveralSizesError,
        on a symbol that would have two sizes.
        """
        if not isinstance(feed, Mapping):
            raise InvalidInputError(
                "input_feed is not a dict",
                expected="a dict from input names to arrays",
                got="None" if feed is None else type(feed).__name__,
                fix=f"run(None, {{{self._specs[0].name!r}: array}})" if self._specs else "run(None, {})",
            )
        values = []
        given = len(feed)
        for name, dtype, rank, fixed, spec in self._fast:
            value = feed.get(name, _MISSING)
            if value is _MISSING:
                if spec.default is None:
                    raise self._wrong_names(feed)
                values.append(spec.default)
                given += 1
                continue
            if value.__class__ is not np.ndarray or value.dtype != dtype or not value.flags.carray:
                value = _ready(value, spec)
                if spec.dtype is None:
                    values.append(value)
                    continue
            shape = value.shape
            if rank is not None:
                if len(shape) != rank:
                    raise _misfit(spec, shape, f"{rank} dimensions", f"{len(shape)}")
                for axis, size in fixed:
                    if shape[axis] != size:
                        raise _misfit(spec, shape, f"{size} in dimension {axis}", f"{shape[axis]}")
            values.append(value)
        if given != len(values):
            raise self._wrong_names(feed)
        if self._symbols:
            self._check_symbols(values)
        return values

    def _unknown(self, feed: Mapping[str, Any]) -> list[str]:
        return [name for name in feed if name not in {spec.name for spec in self._specs}]

    def _wrong_names(self, feed: Mapping[str, Any]) -> InvalidInputError:
        missing = [spec.name for spec in self._specs if spec.default is None and spec.name not in feed]
        unknown = self._unknown(feed)
        parts = []
        if missing:
            parts.append(f"missing input{_s(missing)} {_quoted(missing)}")
        if unknown:
            parts.append(f"unknown input{_s(unknown)} {_quoted(unknown)}")
        expected = ", ".join(f"{spec.name} {spec.type}{_shape(spec.dims)}" for spec in self._specs) or "no inputs"
        close = closest(unknown[0], missing) if unknown else None
        return InvalidInputError(
            " and ".join(parts),
            expected=expected,
            got=_quoted(list(feed)) or "nothing",
            fix=f"did you mean {close!r}?" if close else None,
        )

    def _check_symbols(self, values: Sequence[Any]) -> None:
        for symbol, places in self._symbols:
            sizes = [values[position].shape[axis] for position, axis in places]
            if sizes.count(sizes[0]) != len(sizes):
                seen = ", ".join(
                    f"{size} in dimension {axis} of {self._specs[position].name!r}"
                    for size, (position, axis) in zip(sizes, places, strict=True)
                )
                raise SeveralSizesError(
                    f"the dimension {symbol!r} has several sizes",
                    where=", ".join(dict.fromkeys(self._specs[position].where for position, _ in places)),
                    expected="one size wherever the symbol stands",
                    got=seen,
                )


def given_outputs(out: Mapping[str, Any], positions: Mapping[str, int], feeds: Iterable[Any]) -> list[Array | None]:
    """The caller's arrays for outputs, in their order. InvalidInputError for what can be no such array."""
    if not isinstance(out, Mapping):
        raise InvalidInputError("out is not a dict", expected="a dict from output names to arrays", got=_seen(out))
    given: list[Array | None] = [None] * len(positions)
    taken = [value for value in feeds if isinstance(value, np.ndarray)]
    for name, array in out.items():
        if name not in positions:
            close = closest(name, positions)
            raise InvalidInputError(f"no output {name!r}", fix=f"did you mean {close!r}?" if close else None)
        if not isinstance(array, np.ndarray):
            raise InvalidInputError(
                "not an array", where=f"output {name!r}", expected="a NumPy array", got=_seen(array)
            )
        if any(np.may_share_memory(array, other) for other in taken):
            fix = "give each output memory of its own"
            raise InvalidInputError("memory that an input or another output has", where=f"output {name!r}", fix=fix)
        given[positions[name]] = array
        taken.append(array)
    return given


def placed_outputs(outputs: list[Any], given: Sequence[Array | None], names: Sequence[str]) -> list[Any]:
    """Outputs copied to the caller's arrays where there are some. InvalidInputError when one does not fit."""
    placed = list(outputs)
    for index, array in enumerate(given):
        if array is None:
            continue
        value = outputs[index]
        where = f"output {names[index]!r}"
        if not isinstance(value, np.ndarray):
            raise InvalidInputError("not a tensor", where=where, fix="leave it out of `out`")
        np.copyto(fitting(array, value.shape, value.dtype, where), value)
        placed[index] = array
    return placed


def _shared_symbols(specs: Sequence[InputSpec]) -> tuple[tuple[str, tuple[tuple[int, int], ...]], ...]:
    """Symbols that stand in more than one place, with those places (input, axis)."""
    places: dict[str, list[tuple[int, int]]] = {}
    for position, spec in enumerate(specs):
        for axis, dim in enumerate(spec.dims or () if spec.dtype is not None else ()):
            if isinstance(dim, str):
                places.setdefault(dim, []).append((position, axis))
    return tuple((symbol, tuple(found)) for symbol, found in places.items() if len(found) > 1)


def _ready(value: Any, spec: InputSpec) -> Any:
    """`value` as the provider gets it; only its shape is left to check."""
    if spec.dtype is not None:
        return _tensor(value, spec)
    return _container(value, spec, spec.kind)


def _container(value: Any, spec: InputSpec, kind: ir.TypeProtocol | None) -> Any:
    """A sequence as a list, an optional as None or its element; other types pass unchecked."""
    import onnx_ir as ir

    from sardonyx.model.types import MapType

    match kind:
        case MapType():
            if not isinstance(value, dict):
                raise InvalidInputError("not a map", where=spec.where, expected="a dict", got=_seen(value))
            return value
        case ir.TensorType():
            inner = replace(input_spec(ir.Value(type=kind)), name=spec.name)
            return _tensor(value, inner) if inner.dtype is not None else value
        case ir.SequenceType():
            if not isinstance(value, list | tuple):
                raise InvalidInputError(
                    "not a sequence", where=spec.where, expected=f"a list for {spec.type}", got=_seen(value)
                )
            return [_container(item, spec, kind.elem_type) for item in value]
        case ir.OptionalType():
            return None if value is None else _container(value, spec, kind.elem_type)
        case _:
            return value


def _tensor(value: Any, spec: InputSpec) -> Array:
    array = value if isinstance(value, np.ndarray) else _as_array(value, spec)
    if spec.dtype is not None and spec.dtype.hasobject:
        return _strings(array, spec)
    if array.dtype != spec.dtype:
        # The other byte order holds the same values; anything else would be a silent change.
        if array.dtype.kind not in "iufc" or array.dtype.newbyteorder("=") != spec.dtype:
            raise _wrong_type(spec, f"an array of {array.dtype}")
        array = array.astype(spec.dtype)
    return np.require(np.asarray(array), requirements=["C", "A"])


def _as_array(value: Any, spec: InputSpec) -> Array:
    """An array of what is not one: DLPack and array-like objects in their own type, Python values in ours."""
    try:
        if isinstance(value, np.generic) or (hasattr(value, "__array__") and not hasattr(value, "__dlpack__")):
            return np.asarray(value)
        if hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"this {type(value).__name__} cannot be read in place: {error}",
            where=spec.where,
            expected=spec.type,
            fix="pass a NumPy array in the main memory, such as x.detach().cpu().numpy()",
        ) from error
    if isinstance(value, bool | int | float | complex | str | bytes | list | tuple):
        return _from_python(value, spec)
    raise InvalidInputError("not an array", where=spec.where, expected=spec.type, got=_seen(value))


def _from_python(value: Any, spec: InputSpec) -> Array:
    """Python numbers have no width: they take the declared type when it holds them.

    Floats go to any float type; whole numbers to any number type that has each of them exactly.
    """
    try:
        array = np.asarray(value)
    except ValueError:
        raise InvalidInputError(
            "nested lists of different lengths", where=spec.where, expected=f"a regular array of {spec.type}"
        ) from None
    if spec.dtype is None or spec.dtype.hasobject or not _all_python(value):
        return array
    target = spec.type.removeprefix("tensor(")
    to_float = target.startswith(("float", "bfloat", "double"))
    with np.errstate(all="ignore"):
        cast = array.astype(spec.dtype) if array.dtype.kind in "biuf" else array
    if array.size == 0 or (array.dtype.kind == "f" and to_float):
        return cast
    if array.dtype.kind in "iu" and (to_float or target.startswith(("int", "uint"))):
        if not np.array_equal(cast.astype(array.dtype), array):
            raise InvalidInputError(
                "a number the type cannot hold", where=spec.where, expected=spec.type, got=_seen(value)
            )
        return cast
    if array.dtype != spec.dtype:
        raise _wrong_type(spec, f"{type(value).__name__} of {array.dtype} values")
    return array


def _all_python(value: Any) -> bool:
    """Whether the leaves are plain Python values, judged by the first one."""
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return type(value) in (bool, int, float, complex, str, bytes, list, tuple)


def _strings(array: Array, spec: InputSpec) -> Array:
    if array.dtype.kind == "S":
        return np.strings.decode(array, "utf-8").astype(object)
    if array.dtype.kind in "UT":
        return array.astype(object)
    if array.dtype.kind != "O" or not all(isinstance(item, str) for item in array.flat):
        raise InvalidInputError(
            "not an array of strings",
            where=spec.where,
            expected="str elements",
            got=f"an array of {array.dtype}",
        )
    return np.require(array, requirements=["C", "A"])


def _wrong_type(spec: InputSpec, got: str) -> InvalidInputError:
    assert spec.dtype is not None
    plain = spec.dtype.type.__module__ == "numpy"
    name = f"np.{spec.dtype.name}" if plain else f"ml_dtypes.{spec.dtype.name}"
    return InvalidInputError(
        "wrong element type",
        where=spec.where,
        expected=f"{spec.type} ({spec.dtype.name})",
        got=got,
        fix=f"convert it: x.astype({name})",
    )


def _misfit(spec: InputSpec, shape: tuple[int, ...], expected: str, got: str) -> InvalidInputError:
    return InvalidInputError(
        "wrong shape",
        where=spec.where,
        expected=f"{expected} ({_shape(spec.dims)})",
        got=f"{got} ({_shape(shape)})",
    )


def closest(name: Any, known: Iterable[str]) -> str | None:
    """The known name most like `name`, whatever its case, for "did you mean"."""
    folded = {other.casefold(): other for other in known}
    found = difflib.get_close_matches(str(name).casefold(), folded, 1)
    return folded[found[0]] if found else None


def _shape(dims: Iterable[int | str | None] | None) -> str:
    if dims is None:
        return ""
    return f"[{', '.join('?' if dim is None else str(dim) for dim in dims)}]"


def _seen(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:60]!r}" if value is not None else "None"


def _quoted(names: Sequence[Any]) -> str:
    text = ", ".join(repr(name) for name in names[:10])
    return text + (", ..." if len(names) > 10 else "")


def _s(items: Sequence[Any]) -> str:
    return "s" if len(items) > 1 else ""
