"""Sequences: delays, loops as Scan, and the choice of steps by their place.

CNTK packs sequences of different lengths; ONNX's values are [batch, sequence, ...], so all sequences of a batch have
one length here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sardonyx.convert.cntk.emit import Call, Rule, Sample, broadcast, expand
from sardonyx.convert.cntk.file import BATCH, CONSTANT, Axis, Function, Network, Shape
from sardonyx.convert.graph import GraphBuilder
from sardonyx.convert.shaped import Unsupported, text

DELAYS = {"PastValue": 1, "FutureValue": -1}
_LAST = np.iinfo(np.int64).max

Emit = Callable[[GraphBuilder, Function, Mapping[str, Sample]], list[Sample]]
"""Emits one operator, with values by uid."""
Steps = tuple[int | None, int | None]
"""Where in a sequence it is: from the first to before the second, counted from the end where negative."""


def initial(c: Call, start: Sample, shape: Shape, like: Sample) -> ir.Value:
    """What a delay gives before there is anything, [batch, *shape]; `like` has the batch first."""
    if start.dynamic not in ((), like.dynamic[:1]) or broadcast([start.shape, shape]) != shape:
        raise Unsupported(f"its initial state is {text(start.shape)}, its state {text(shape)}")
    batch = Sample(like.value, like.dynamic[:1], ())
    return expand(c, c.ranked(start, len(shape), "initial_given"), shape, batch, "initial")


def offset(c: Call) -> int:
    """How many steps a delay goes back or ahead."""
    steps = c.option("offset", int, 1)
    if not 0 < steps < 2**20:
        raise Unsupported(f"a delay by {steps} steps")
    return int(steps)


def _delay(c: Call) -> list[Sample]:
    """Outside of loops: the sequence moved, with initial values in front (or at its end)."""
    x, steps = c.operand(), offset(c)
    if len(x.dynamic) != 2:
        raise Unsupported("its input is no sequence")
    start = initial(c, c.operand(1), (steps, *x.shape), x)
    moved = c.node("Concat", [start, x.value] if DELAYS[c.function.op] > 0 else [x.value, start], "moved", axis=1)
    # It stays as long as it was.
    length = c.node("Shape", [x.value], "length", start=1, end=2)
    begin, end = c.constant("begin", [0], np.int64), length
    if DELAYS[c.function.op] < 0:
        begin = c.constant("ahead", [steps], np.int64)
        end = c.node("Add", [length, begin], "end")
    return [c.like(x, c.node("Slice", [moved, begin, end, c.constant("time", [1], np.int64)]))]


def _reconcile(c: Call) -> list[Sample]:
    """The value for each step of the other input's sequences."""
    x, like = c.operand(0), c.operand(1)
    if x.dynamic == like.dynamic:
        return [c.like(x, c.node("Identity", [x.value]))]
    if x.dynamic not in ((), like.dynamic[:1]):
        raise Unsupported(f"from the axes {x.dynamic} to {like.dynamic}")
    value = x.value
    if x.dynamic and len(like.dynamic) == 2:
        value = c.node("Unsqueeze", [value, c.constant("time", [1], np.int64)], "step")
    wide = expand(c, Sample(value, x.dynamic, x.shape), x.shape, like, "repeated")
    return [c.made(c.node("Identity", [wide]), like.dynamic, x.shape)]


def _unpack(c: Call) -> list[Sample]:
    """The sequence as a static axis; nothing is padded where all are of one length."""
    x = c.operand()
    c.ignore("sequenceUnpackPaddingValue")
    if len(x.dynamic) != 2:
        raise Unsupported("its input is no sequence")
    values = [c.made(c.node("Identity", [x.value]), x.dynamic[:1], (None, *x.shape))]
    if not c.option("sequenceUnpackSuppressMaskOutput", bool, False):
        sizes = c.node("Shape", [x.value], "sizes", start=0, end=2)
        values.append(c.made(c.node("Expand", [c.constant("one", 1.0), sizes], "mask"), x.dynamic[:1], (None,)))
    return values


def _to_sequence(c: Call) -> list[Sample]:
    """A static axis as the sequence. Lengths may be those that a convolution over a sequence gives, which all agree."""
    x = c.operand()
    axes = c.options("newDynamicAxes", Axis) if c.has("newDynamicAxes") else []
    c.ignore("newDynamicAxes", "sequenceAxisNamePrefix", "sequenceAxis")
    lengths = c.network.maker(c.function.inputs[1]) if len(c.function.inputs) > 1 else None
    while lengths is not None and lengths.op == "StopGradient":
        lengths = c.network.maker(lengths.inputs[0])
    counted = lengths is not None and lengths.op == "ConvolutionSequenceShape"
    if len(c.function.inputs) != 1 + counted or len(x.dynamic) != 1 or not x.rank:
        raise Unsupported("sequences with lengths that are computed are not supported")
    names = tuple(axis.name for axis in reversed(axes)) or (BATCH, f"{c.function.uid}_sequence")
    if len(names) != 2:
        raise Unsupported("its dynamic axes are not known")
    return [c.made(c.node("Identity", [x.value]), names, x.shape[1:])]


# ---- steps chosen by their place -------------------------------------------------------------------------------------


def _gather_packed(c: Call) -> list[Sample]:
    """Some steps of a sequence: those where a condition holds that depends on nothing but their place."""
    x, index = c.operand(0), c.network.maker(c.function.inputs[1])
    if index is None or index.op != "PackedIndex" or index.inputs[0] != c.function.inputs[0]:
        raise Unsupported("it gathers by what is no index of its own")
    where = c.network.maker(index.inputs[1])
    if where is None or where.op != "Where" or len(x.dynamic) != 2:
        raise Unsupported("it gathers by what is no choice of steps")
    start, stop = chosen(c.network, where.inputs[0])
    axes = where.attributes.get("newDynamicAxes")
    if not isinstance(axes, list) or not all(isinstance(axis, Axis) for axis in axes) or len(axes) not in (1, 2):
        raise Unsupported("its dynamic axes are not known")
    names = tuple(axis.name for axis in reversed(axes))
    ends = (0 if start is None else start, _LAST if stop is None else stop)
    parts = [c.constant(f"steps_{i}", [number], np.int64) for i, number in enumerate((*ends, 1))]
    if len(names) == 2:
        return [c.made(c.node("Slice", [x.value, *parts]), names, x.shape)]
    if (start, stop) not in ((0, 1), (-1, None)):
        raise Unsupported("several steps without an axis for them")
    cut = c.node("Slice", [x.value, *parts], "step")
    return [c.made(c.node("Squeeze", [cut, c.constant("time", [1], np.int64)]), names, x.shape)]


def chosen(network: Network, uid: str, depth: int = 0) -> Steps:
    """The steps at which a condition holds. Raises Unsupported where that depends on more than their place."""
    function = network.maker(uid)
    if function is None or depth > 20:
        raise Unsupported("steps chosen by values are not supported")
    if function.op in DELAYS:
        return _marked(network, function)
    if function.op == "Minus" and _number(network, function.inputs[0]) == 1:
        return _complement(chosen(network, function.inputs[1], depth + 1))
    if function.op == "ElementTimes":
        return _both(*(chosen(network, item, depth + 1) for item in function.inputs))
    raise Unsupported("steps chosen by values are not supported")


def _number(network: Network, uid: str) -> float | None:
    """A constant's only element, repeated for each step or not."""
    function = network.maker(uid)
    if function is not None and function.op == "ReconcileDynamicAxis":
        uid = function.inputs[0]
    variable = network.variables.get(uid)
    if variable is None or variable.kind != CONSTANT or variable.array is None or variable.array.size != 1:
        return None
    return float(variable.array.reshape(-1)[0])


def _marked(network: Network, delay: Function) -> Steps:
    """Where a moved constant is 1: its initial value at the ends, itself elsewhere."""
    inner, outer = (_number(network, uid) for uid in delay.inputs)
    steps = delay.attributes.get("offset", 1)
    if (inner, outer) not in ((0, 1), (1, 0)) or not isinstance(steps, int) or not 0 < steps < 2**31:
        raise Unsupported("steps chosen by values are not supported")
    at_end: Steps = (0, steps) if delay.op == "PastValue" else (-steps, None)
    return at_end if outer == 1 else _complement(at_end)


def _complement(steps: Steps) -> Steps:
    match steps:
        case (0, int(stop)):
            return stop, None
        case (int(start), None) if start != 0:
            return 0, start
    raise Unsupported("steps chosen at both ends are not supported")


def _both(first: Steps, second: Steps) -> Steps:
    """The steps from where one begins until where the other ends."""
    for (start, stop), (begin, end) in ((first, second), (second, first)):
        if start is None or end is None or (stop, begin) != (None, 0):
            continue
        if (0 <= start < end) or (end < 0 <= start) or (start < end < 0):
            return start, end
    raise Unsupported("steps chosen so are not supported")


# ---- loops -----------------------------------------------------------------------------------------------------------


@dataclass
class Loop:
    """Operators that depend on one another through delays, in the order they are computed at each step."""

    network: Network
    members: Sequence[Function]
    values: dict[str, Sample]
    """What is known outside."""
    used: set[str]
    """Results that others outside ask for."""

    def direction(self) -> int:
        """1 where it goes from the first step on, -1 where from the last."""
        found = {DELAYS[member.op] for member in self.members if member.op in DELAYS}
        if len(found) != 1:
            raise Unsupported("a loop that goes both ways")
        return found.pop()

    def given(self) -> tuple[dict[str, Sample], Sample]:
        """Sequences from outside, and one of them."""
        inner = {member.output(i) for member in self.members for i in range(2)}
        found = {
            uid: self.values[uid] for member in self.members
            for uid in (member.inputs[:1] if member.op in DELAYS else member.inputs)
            if uid not in inner and uid in self.values and len(self.values[uid].dynamic) == 2
        }  # fmt: skip
        if not found:
            raise Unsupported("a loop without a sequence")
        if len({x.dynamic for x in found.values()}) > 1:
            raise Unsupported("a loop over several kinds of sequences")
        return found, next(iter(found.values()))


RULES: dict[str, Rule] = {
    "PastValue": _delay, "FutureValue": _delay, "ReconcileDynamicAxis": _reconcile, "UnpackSequenceOp": _unpack,
    "ToSequence": _to_sequence, "GatherPacked": _gather_packed,
}  # fmt: skip
READ_WITH_OTHERS = ("ConvolutionSequenceShape", "PackedIndex", "Where")
"""Operators that GatherPacked and ToSequence read."""


def dependencies(function: Function) -> tuple[str, ...]:
    """The inputs that an operator computes with."""
    return function.inputs[:1] if function.op in ("GatherPacked", "ToSequence") else function.inputs


def scan(graph: GraphBuilder, loop: Loop, emit: Emit) -> dict[str, Sample]:
    """The loop as one Scan over the sequence: its results that are used outside, [batch, sequence, ...]."""
    backwards = int(loop.direction() < 0)
    given, like = loop.given()
    delays = [member for member in loop.members if member.op in DELAYS]
    name, batch = f"{delays[0].shown}/loop", like.dynamic[:1]
    body = graph.body(name)
    inner, starts = dict(loop.values), []
    for delay in delays:
        c = Call(graph, delay, [like, loop.values[delay.inputs[1]]], loop.network)
        if offset(c) != 1:
            raise Unsupported("a delay by several steps in a loop is not supported")
        told = loop.network.state(delay, loop.members)
        shape = c.operand(1).shape if told is None else told
        starts.append(initial(c, c.operand(1), shape, like))
        state = body.input(f"{delay.shown}/state", ir.DataType.FLOAT, [None, *shape])
        inner[delay.output()] = Sample(state, batch, shape)
    for uid, x in given.items():
        inner[uid] = Sample(body.input(f"{uid}/step", ir.DataType.FLOAT, [None, *x.shape]), batch, x.shape)
    for member in loop.members:
        if member.op not in DELAYS:
            for i, made in enumerate(emit(body, member, inner)):
                inner[member.output(i)] = made
    states = []
    for delay in delays:
        result, before = inner[delay.inputs[0]], inner[delay.output()]
        if (result.dynamic, result.shape) != (before.dynamic, before.shape):
            raise Unsupported(f"a state of shape {text(before.shape)} that becomes {text(result.shape)}")
        states.append(result.value)
    shown = [uid for member in loop.members for i in range(2) if (uid := member.output(i)) in loop.used]
    found = graph.nodes(
        "Scan", [*starts, *(x.value for x in given.values())], len(states) + len(shown), name=name,
        body=body.graph([*states, *(inner[uid].value for uid in shown)]), num_scan_inputs=len(given),
        scan_input_axes=[1] * len(given), scan_input_directions=[backwards] * len(given),
        scan_output_axes=[1] * len(shown), scan_output_directions=[backwards] * len(shown),
    )  # fmt: skip
    return {uid: Sample(value, like.dynamic, inner[uid].shape)
            for uid, value in zip(shown, found[len(states) :], strict=True)}  # fmt: skip
