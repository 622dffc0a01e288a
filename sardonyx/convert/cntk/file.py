"""CNTK's file: a nested dictionary in protobuf (CNTK.proto), and the functions and variables that it lists.

Shapes lie in the file with the fastest axis first. Here they are as NumPy has them, and axes, which the file counts
from the fastest, are counted from the end: axis k of the file is -1 - k.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sardonyx.convert.base import Array
from sardonyx.convert.reading.protobuf import Schema, numbers
from sardonyx.errors import ModelFileError

SCHEMA = Schema(
    "cntk",
    """
    message NDShape { repeated uint64 shape_dim = 1 [packed]; }
    message Axis { int32 static_axis_idx = 1; string name = 2; bool is_ordered_dynamic_axis = 3; }
    message FloatValues { repeated bytes value = 1; }
    message DoubleValues { repeated bytes value = 1; }
    message NDArrayView {
      int32 data_type = 1;
      int32 storage_format = 2;
      NDShape shape = 3;
      FloatValues float_values = 4;
      DoubleValues double_values = 5;
    }
    message Vector { repeated DictionaryValue value = 1; }
    message Dictionary {
      uint64 version = 1;
      map<string, DictionaryValue> data = 2;
    }
    message DictionaryValue {
      uint64 version = 1;
      int32 value_type = 2;
      bool bool_value = 3;
      int32 int_value = 4;
      uint64 size_t_value = 5;
      float float_value = 6;
      double double_value = 7;
      string string_value = 8;
      NDShape nd_shape_value = 9;
      Axis axis_value = 10;
      Vector vector_value = 11;
      Dictionary dictionary_value = 12;
      NDArrayView nd_array_view_value = 13;
    }
    """,
)

_NAMES = """
    Negate Sigmoid Tanh ReLU Exp Log Sqrt Floor Abs Reciprocal Softmax Hardmax TransposeAxes Where Slice Dropout
    Reshape Pooling SumAll Plus Minus ElementTimes Equal NotEqual Less LessEqual Greater GreaterEqual PackedIndex
    GatherPacked ScatterPacked Times TransposeTimes Convolution SquaredError CrossEntropyWithSoftmax
    ClassificationError PastValue FutureValue ReduceElements BatchNormalization Clip Select Splice Combine
    RandomSample RandomSampleInclusionFrequency ROIPooling Logistic OptimizedRNNStack ReconcileDynamicAxis
    LogSoftmax LogPlus CosDistance Sin Cos Pass Block Unpooling LambdaRank NDCG EditDistanceError NoOp LabelsToGraph
    StopGradient ELU ForwardBackward CosDistanceWithNegativeSamples OneHotOp Pow ToSequence ToSequenceLike
    UnpackSequenceOp Assign Gather StableSigmoid RandomDistribution Sinh Cosh UnpackBatch ToBatch Asin Acos Pad Crop
    Atanh Asinh TopK Squeeze ConstantOp LatticeSequenceWithSoftmax Cast EyeLikeOp CustomProxyOp StraightThrough Tan
    Atan ConvolutionSequenceShape
"""
OPERATORS = dict(enumerate(_NAMES.split()))
"""PrimitiveOpType's names by number (PrimitiveOpType.h of 2.7)."""

INPUT, OUTPUT, PARAMETER, CONSTANT, PLACEHOLDER = range(5)
"""Kinds of variables (VariableKind)."""
BATCH = "defaultBatchAxis"
DYNAMIC, ALL_STATIC, END = 2**31 - 1, 2**31 - 2, 2**31 - 4
"""Numbers of axes that stand for something else (CNTKLibrary.h)."""
_UNKNOWN = 2**63
"""From here on dims are inferred, free or unknown."""
MOST = 2**34
"""Elements of an input or a parameter."""

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Axis:
    """An axis: its number from the fastest (may be negative: from the slowest), or the name of a dynamic one."""

    number: int
    name: str

    @property
    def dynamic(self) -> bool:
        """Whether it is the batch or a sequence."""
        return self.number == DYNAMIC


@dataclass(frozen=True, eq=False)
class Variable:
    """An input, parameter, constant or placeholder. `dynamic` names its dynamic axes, the batch first."""

    uid: str
    kind: int
    name: str
    shape: Shape
    dynamic: tuple[str, ...]
    sparse: bool = False
    array: Array | None = None


@dataclass(frozen=True, eq=False)
class Function:
    """An operator. `inputs` are uids of variables and results, blocks and placeholders resolved."""

    uid: str
    op: str
    name: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @property
    def shown(self) -> str:
        """What messages and nodes call it."""
        return self.name or self.uid

    def output(self, index: int = 0) -> str:
        """The uid of a result."""
        return f"{self.uid}_Output_{index}"


@dataclass(frozen=True, eq=False)
class Network:
    """A file: variables by uid, operators by uid, outputs by name, and shapes that it tells of results."""

    variables: Mapping[str, Variable]
    functions: Mapping[str, Function]
    outputs: Mapping[str, str]
    results: Mapping[str, str]
    told: Mapping[str, Shape]
    version: int
    layers: Mapping[str, str] = field(default_factory=dict)
    """Blocks' names by the uid of their result."""

    def maker(self, uid: str) -> Function | None:
        """What makes that result."""
        owner = self.results.get(uid)
        return None if owner is None else self.functions[owner]

    def state(self, delay: Function, members: Sequence[Function]) -> Shape | None:
        """The shape of a loop's state: what the file tells of it, else what multiplies it; None where neither does."""
        for uid in (delay.output(), delay.inputs[0]):
            told = self.told.get(uid)
            if told is not None and None not in told:
                return told
        for member in members:
            matrix = self.variables.get(member.inputs[0]) if member.op == "Times" else None
            outer = member.attributes.get("outputRank", 1)
            if matrix is not None and member.inputs[1:] == (delay.output(),) and isinstance(outer, int):
                return matrix.shape[: max(0, len(matrix.shape) - outer)]
        return None


def open_network(path: Path) -> Network:
    """The function in the file. Raises ModelFileError where it is none or is damaged."""
    where = str(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError("the file cannot be read", where=where, got=error.strerror) from error
    whole = _dictionary(SCHEMA.parse(data, "Dictionary", where), where)
    kind = whole.get("type")
    if kind != "CompositeFunction":
        raise ModelFileError("the file holds no function", where=where, expected="CompositeFunction", got=repr(kind))
    return _Reading(whole, where).run()


# ---- the dictionary --------------------------------------------------------------------------------------------------


def dims(sizes: Sequence[int]) -> Shape:
    """A shape as NumPy has it; None is a dim that is not known."""
    return tuple(None if size >= _UNKNOWN else int(size) for size in reversed(sizes))


def _view(view: Any, where: str) -> Array:
    shape = dims(view.shape.shape_dim)
    if view.storage_format != 0:
        raise ModelFileError("sparse arrays are not supported", where=where)
    fields = {1: (view.float_values.value, np.float32), 2: (view.double_values.value, np.float64)}
    if view.data_type not in fields:
        raise ModelFileError("an array's type is not supported", where=where, got=f"type {view.data_type}")
    values, dtype = fields[view.data_type]
    try:
        array = numbers(values, dtype)
    except ValueError as error:
        raise ModelFileError("an array is damaged", where=where, got=str(error)) from error
    known = [dim for dim in shape if dim is not None]
    if len(known) != len(shape) or array.size != math.prod(known):
        raise ModelFileError(
            "an array has not as many elements as its shape says", where=where, expected=str(shape), got=str(array.size)
        )
    return array.reshape(known)


_VALUES: dict[int, Callable[[Any, str], Any]] = {
    0: lambda value, where: None,
    1: lambda value, where: value.bool_value,
    2: lambda value, where: value.int_value,
    3: lambda value, where: value.size_t_value,
    4: lambda value, where: value.float_value,
    5: lambda value, where: value.double_value,
    6: lambda value, where: value.string_value,
    7: lambda value, where: list(value.nd_shape_value.shape_dim),
    8: lambda value, where: Axis(value.axis_value.static_axis_idx, value.axis_value.name),
    9: lambda value, where: [_value(item, where) for item in value.vector_value.value],
    10: lambda value, where: _dictionary(value.dictionary_value, where),
    11: lambda value, where: _view(value.nd_array_view_value, where),
}
"""By DictionaryValue.Type."""


def _value(value: Any, where: str) -> Any:
    read = _VALUES.get(value.value_type)
    if read is None:
        raise ModelFileError("a value's type is not known", where=where, got=f"type {value.value_type}")
    return read(value, where)


def _dictionary(dictionary: Any, where: str) -> dict[str, Any]:
    return {key: _value(value, where) for key, value in dictionary.data.items()}


# ---- functions -------------------------------------------------------------------------------------------------------


class _Reading:
    """From the dictionary to a network without blocks and placeholders."""

    def __init__(self, whole: Mapping[str, Any], where: str) -> None:
        self.whole, self.where = whole, where
        self.aliases: dict[str, str] = {}
        """Placeholders and results of blocks, by what they stand for."""

    def take(self, holder: Mapping[str, Any], key: str, kind: type[Any] | tuple[type[Any], ...]) -> Any:
        value = holder.get(key)
        if not isinstance(value, kind):
            raise ModelFileError(f"its {key!r} is missing or of another kind", where=self.where, got=repr(value)[:80])
        return value

    def texts(self, holder: Mapping[str, Any], key: str) -> list[str]:
        values = self.take(holder, key, list)
        if not all(isinstance(value, str) for value in values):
            raise ModelFileError(f"its {key!r} is no list of names", where=self.where)
        return list(values)

    def run(self) -> Network:
        variables = {variable.uid: variable for variable in map(self.variable, self.take(self.whole, "inputs", list))}
        stored = {self.take(each, "uid", str): each for each in map(self.dictionary, self.take(
            self.whole, "primitive_functions", list))}  # fmt: skip
        for uid, each in stored.items():
            if self.op(each) == "Block":
                self.block(uid, each, stored)
        functions = {uid: self.function(uid, each) for uid, each in stored.items() if self.op(each) != "Block"}
        results = {
            function.output(i): uid for uid, function in functions.items() for i in range(self.count(stored[uid]))
        }
        told = {
            self.resolve(uid): variable.shape for uid, variable in variables.items() if variable.kind == PLACEHOLDER
        }
        layers = {self.resolve(f"{uid}_Output_0"): each["name"] for uid, each in stored.items()
                  if self.op(each) == "Block" and isinstance(each.get("name"), str) and each["name"]}  # fmt: skip
        known = {uid: variable for uid, variable in variables.items() if variable.kind != PLACEHOLDER}
        for function in functions.values():
            for uid in function.inputs:
                if uid not in known and uid not in results:
                    raise ModelFileError(
                        "an operator's input is missing", where=self.where, got=f"{function.uid}: {uid}"
                    )
        version = self.whole.get("version")
        number = version if isinstance(version, int) else 0
        return Network(known, functions, self.outputs(stored), results, told, number, layers)

    def dictionary(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ModelFileError("an entry is no dictionary", where=self.where, got=repr(value)[:80])
        return value

    def op(self, each: Mapping[str, Any]) -> str:
        if each.get("type") == "UserDefinedFunction" or "op" not in each:
            return f"user function {each.get('name') or each.get('op_name') or each.get('uid')}"
        number = self.take(each, "op", int)
        return OPERATORS.get(number, f"operator {number}")

    def variable(self, value: Any) -> Variable:
        each = self.dictionary(value)
        kind = self.take(each, "kind", int)
        shape = dims(self.take(each, "shape", list))
        axes = self.take(each, "dynamic_axis", list)
        if not all(isinstance(axis, Axis) for axis in axes):
            raise ModelFileError("a variable's dynamic axes are damaged", where=self.where)
        name = each.get("name")
        array = self.take(each, "value", np.ndarray) if kind in (PARAMETER, CONSTANT) else None
        if array is not None and array.shape != shape:
            raise ModelFileError("a parameter has another shape than its value", where=self.where, got=str(shape))
        if math.prod(dim for dim in shape if dim is not None) > MOST or len(shape) > 12:
            raise ModelFileError("a variable has no sensible size", where=self.where, got=str(shape))
        return Variable(
            self.take(each, "uid", str), kind, name if isinstance(name, str) else "", shape,
            tuple(axis.name for axis in reversed(axes)), bool(each.get("is_sparse")), array,
        )  # fmt: skip

    def function(self, uid: str, each: Mapping[str, Any]) -> Function:
        name = each.get("name")
        attributes = each.get("attributes")
        return Function(
            uid, self.op(each), name if isinstance(name, str) else "",
            tuple(self.resolve(item) for item in self.texts(each, "inputs")),
            attributes if isinstance(attributes, dict) else {},
        )  # fmt: skip

    def block(self, uid: str, each: Mapping[str, Any], stored: Mapping[str, Mapping[str, Any]]) -> None:
        keys = self.texts(each, "block_function_composite_arguments_map_keys")
        values = self.texts(each, "block_function_composite_arguments_map_values")
        if len(keys) != len(values):
            raise ModelFileError("a block's arguments are damaged", where=self.where, got=uid)
        # What goes in may keep its own uid inside.
        self.aliases.update((key, value) for key, value in zip(keys, values, strict=True) if key != value)
        root = self.take(self.take(each, "block_function_composite", dict), "root", str)
        for i, result in enumerate(self.results(root, stored)):
            self.aliases[f"{uid}_Output_{i}"] = result

    def results(self, root: str, stored: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """The uids of a function's results."""
        if root not in stored:
            raise ModelFileError("a function's root is missing", where=self.where, got=root)
        each = stored[root]
        if self.op(each) == "Combine":
            return self.texts(each, "inputs")
        if self.op(each) == "Block":
            inner = self.take(self.take(each, "block_function_composite", dict), "root", str)
            if inner in stored and self.op(stored[inner]) == "Combine":
                return [f"{root}_Output_{i}" for i in range(len(self.texts(stored[inner], "inputs")))]
        return [f"{root}_Output_{i}" for i in range(self.count(each))]

    def count(self, each: Mapping[str, Any]) -> int:
        """How many results an operator has."""
        attributes = each.get("attributes")
        suppressed = isinstance(attributes, dict) and attributes.get("sequenceUnpackSuppressMaskOutput")
        return 2 if self.op(each) == "TopK" or (self.op(each) == "UnpackSequenceOp" and not suppressed) else 1

    def resolve(self, uid: str) -> str:
        seen = set()
        while uid in self.aliases:
            if uid in seen:
                raise ModelFileError("blocks go round", where=self.where, got=uid)
            seen.add(uid)
            uid = self.aliases[uid]
        return uid

    def outputs(self, stored: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """The root's results, by the name of what makes them where that is theirs alone, else by uid."""
        found = self.results(self.take(self.whole, "root", str), stored)
        names = [stored[uid.rpartition("_Output_")[0]].get("name") if uid.rpartition("_Output_")[0] in stored else None
                 for uid in found]  # fmt: skip
        taken = [each.get("name") for each in self.whole["inputs"] if each.get("kind") == INPUT]
        return {name if isinstance(name, str) and name and [*names, *taken].count(name) == 1 else uid: self.resolve(uid)
                for name, uid in zip(names, found, strict=True)}  # fmt: skip
