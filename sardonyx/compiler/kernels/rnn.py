"""Recurrent layers: what follows the products of the inputs, for a whole sequence in one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import Expr
from sardonyx.compiler.layout import aligned_zeros
from sardonyx.compiler.program import Kernel
from sardonyx.compiler.rounds import WORDS, in_rounds
from sardonyx.compiler.target import Target


@dataclass(frozen=True)
class Cell:
    """What a recurrent layer computes at one time, in ONNX's order of gates.

    `phases` are products one after the other, each for some of the gates; only the first multiplies the state of the
    time before. `slots` is how many numbers a unit keeps: its state before and after, and what belongs to the kind.
    """

    kind: str
    gates: int
    phases: tuple[tuple[int, ...], ...]
    slots: int
    activations: int


LSTM = Cell("LSTM", 4, ((0, 1, 2, 3),), 4, 3)
"""Input, output, forget and cell gate. The cell's states are kept like the hidden ones, before and after."""
GRU = Cell("GRU", 3, ((0, 1), (2,)), 4, 2)
"""Update, reset and hidden gate; keeps the update gate, and the state times the reset gate for the second product."""
GRU_AFTER = Cell("GRU-after", 3, ((0, 1, 2),), 2, 2)
"""The same where the reset gate multiplies the product (`linear_before_reset`), so that one is enough."""
RNN = Cell("RNN", 1, ((0,),), 2, 1)


@dataclass(frozen=True)
class _Row:
    """One sequence at one time: addresses at a panel's first unit, and the row that its phase multiplies."""

    factor: Ptr
    x: Ptr
    slots: Sequence[Ptr]
    active: Val | None
    y: Ptr | None


@dataclass(frozen=True)
class _Time:
    """A time: its number, the slots' order then, and the part of the batch [first, stop) of a direction."""

    number: Int
    direction: Int
    first: Int
    stop: Int

    @property
    def turned(self) -> Int:
        """1 every other time, else 0."""
        return self.number % 2


@dataclass(frozen=True)
class Recurrence(Kernel):
    """h[t] = cell(x[t], h[t - 1]) for all t; x has the inputs' products and biases, [t, row, direction, gate, unit].

    for (direction, block of rows) in domain, for t:
        for phase of the cell, for panel of units, for tile of rows in block:
            acc[row, gate, unit] = x + sum over k of h[t - 1][row, k] * w[k, gate, unit]
            h[t][row, unit], ... = the cell's functions of acc;  y[t] = h[t]

    Weights are in panels, the gates of the same units side by side: `w0[direction][panel][k][gate][unit]`, and `w1` of
    a second phase (`pack_gates`). They are read once for each t, from a cache that often holds only a part of them: so
    panels are walked forwards and backwards in turn, and what was read last is read first.

    `units` are vectors of units in a panel, by phase; `tail`: the last panel is not full. `lengths`: each sequence has
    its own, at most `steps`; y is zero after it, and the last states are those of its end, or zero when it is 0 (which
    is how onnxruntime reads the standard). A direction with a number of
    `first_reverse` or more walks each sequence from its end. States lie in `state[direction][slot][row][padded]`.
    `outputs` are those wanted of `y`, `yh` and `yc`. Of an LSTM `peephole` adds p[i, o, f] times the cell's state to
    those gates, `coupled` takes 1 - i for the forget gate. `together`: the items of a direction are not blocks of its
    rows but threads that share the panels, `blocks` of them (`compiler/rounds.py`).
    """

    cell: Cell
    rows: int
    units: tuple[int, ...]
    activations: tuple[Expr, ...]
    dtype: DType
    outputs: tuple[str, ...]
    tail: bool = False
    lengths: bool = False
    peephole: bool = False
    coupled: bool = False
    together: bool = False

    def parameters(self) -> tuple[Parameter, ...]:
        """Tensors, each with the strides of rows and directions where these vary, and counts."""
        slots = [Parameter("x", self.dtype), Parameter("state", self.dtype)]
        names = ["steps", "batch", "hidden", "padded", "block_rows", "blocks", "first_direction", "first_reverse"]
        names += ["x_time", "x_row", "x_direction"]
        for phase in range(len(self.units)):
            slots.append(Parameter(f"w{phase}", self.dtype))
            names.append(f"panels{phase}")
        for name in (*self._initial, *self.outputs):
            slots.append(Parameter(name, self.dtype))
            names += [f"{name}_row", f"{name}_direction"]
        if "y" in self.outputs:
            names.append("y_time")
        if self.cell.kind == "GRU-after":
            slots.append(Parameter("bias", self.dtype))
            names.append("bias_direction")
        if self.peephole:
            slots.append(Parameter("p", self.dtype))
        if self.together:
            slots.append(Parameter("rounds", DType.I64))
            names.append("patience")
        if self.lengths:
            slots += [Parameter("lengths", DType.I32), Parameter("status", DType.I64)]
        return (*slots, *(Parameter(name) for name in names))

    @property
    def _initial(self) -> tuple[str, ...]:
        return ("h0", "c0") if self.cell is LSTM else ("h0",)

    @property
    def writes(self) -> tuple[str, ...]:
        """The tensors it writes."""
        others = {"status": self.lengths, "rounds": self.together}
        return ("state", *self.outputs, *(name for name, is_there in others.items() if is_there))

    def emit(self, k: Builder) -> None:
        """See the class."""
        with k.loop(k.end, start=k.begin) as item:
            direction = k.size("first_direction") + item // k.size("blocks")
            if self.together:
                self._share(k, direction, item)
            else:
                self._alone(k, direction, item % k.size("blocks") * k.size("block_rows"))

    def _alone(self, k: Builder, direction: Int, first: Int) -> None:
        """All times of a block of rows."""
        stop = k.min(first + k.size("block_rows"), k.size("batch"))
        self._begin(k, _Time(k.index(0), direction, first, stop))
        with k.loop(k.size("steps")) as number:
            time = _Time(number, direction, first, stop)
            for phase in range(len(self.units)):
                self._phase(k, time, phase, k.index(0), k.size(f"panels{phase}"))
        self._end(k, _Time(k.size("steps"), direction, first, stop))

    def _share(self, k: Builder, direction: Int, item: Int) -> None:
        """Take part in all rows of a direction: a round for each phase of each time, one before and one after."""
        parts, phases, first = k.size("blocks"), len(self.units), k.index(0)
        rounds = k.size("steps") * phases + 2
        words = k.pointer("rounds") + (direction - k.size("first_direction")) * parts * WORDS

        def work(part: Int, turn: Int) -> None:
            number = k.max(turn - 1, 0)
            time = _Time(number // phases, direction, first, k.size("batch"))
            with k.when((turn + part).equals(0)):
                self._begin(k, time)
            inside = number.within(rounds - 2) & (turn > 0)
            for phase in range(phases):
                panels = k.size(f"panels{phase}")
                with k.when(inside & (number % phases).equals(phase)):
                    self._phase(k, time, phase, part * panels // parts, (part + 1) * panels // parts)
            with k.when((turn + 1).equals(rounds) & part.equals(0)):
                self._end(k, time)

        in_rounds(k, words, item % parts, parts, rounds, k.size("patience"), work)

    def _begin(self, k: Builder, time: _Time) -> None:
        if self.lengths:
            self._check(k, time.first, time.stop)
        for index, name in enumerate(self._initial):
            self._copy(k, time, k.pointer(name), name, self._slot(k, time, 2 * index), "")

    def _end(self, k: Builder, time: _Time) -> None:
        for slot, name in ((0, "yh"), (2, "yc")):
            if name in self.outputs:
                self._copy(k, time, self._slot(k, time, slot), "", k.pointer(name), name)

    def _check(self, k: Builder, first: Int, stop: Int) -> None:
        """Report a length that is negative or beyond the end."""
        with k.loop(stop, start=first) as row:
            length = k.cast(k.load(k.pointer("lengths") + row), DType.I64)
            wrong = k.index(0).at(length.ir).within(k.size("steps") + 1) ^ k.const(True, DType.BOOL)
            with k.when(wrong & length.compare("!=", k.const(0, DType.I64))):
                k.store(length, k.pointer("status"))

    def _slot(self, k: Builder, time: _Time, slot: int) -> Ptr:
        """Row 0 of a slot. Those of the states change places with each time: 0 and 2 are those before."""
        number = k.index(slot)
        if slot < 2 or self.cell is LSTM:
            number = time.turned + slot if slot % 2 == 0 else k.index(slot) - time.turned
        rows = k.size("batch") * k.size("padded")
        own = time.direction - k.size("first_direction")
        return k.pointer("state") + (own * self.cell.slots + number) * rows

    def _copy(self, k: Builder, time: _Time, source: Ptr, given: str, target: Ptr, made: str) -> None:
        """All units of the block's rows from a tensor to a slot or back; a slot's rows are full vectors."""
        lanes = k.target.lanes(self.dtype)

        def row_of(base: Ptr, name: str, row: Int) -> Ptr:
            if not name:
                return base + row * k.size("padded")
            return base + (time.direction * k.size(f"{name}_direction") + row * k.size(f"{name}_row"))

        with k.loop(time.stop, start=time.first) as row:
            here, there = row_of(source, given, row), row_of(target, made, row)
            with k.loop(k.size("hidden"), step=lanes) as unit:
                mask = k.first_lanes(k.size("hidden") - unit, lanes)
                read = mask
                if made and self.lengths:  # what is not read is 0
                    some = k.load(k.pointer("lengths") + row) > k.const(0, DType.I32)
                    read = k.first_lanes(k.pick(some, k.size("hidden") - unit, 0), lanes)
                k.store(k.load(here + unit, lanes, read), there + unit, mask if made else None)

    def _phase(self, k: Builder, time: _Time, phase: int, low: Int, high: Int) -> None:
        """The panels [low, high) of a phase."""
        gates, vectors = self.cell.phases[phase], self.units[phase]
        width = vectors * k.target.lanes(self.dtype)
        panels, depth = k.size(f"panels{phase}"), k.size("hidden")
        with k.loop(high - low) as turn:
            panel = k.pick(time.turned.equals(0), low + turn, high - 1 - turn)
            weights = k.pointer(f"w{phase}") + (time.direction * panels + panel) * depth * (len(gates) * width)
            unit = panel * width
            with k.loop(time.stop, start=time.first, step=self.rows) as first:
                rows = [self._row(k, time, phase, k.min(first + r, time.stop - 1), unit) for r in range(self.rows)]
                masks = self._masks(k, unit, vectors)
                acc = [value for row in rows for value in self._start(k, time, row, gates, unit, masks)]
                factors = [row.factor for row in rows]
                _accumulate(k, factors, weights, depth, acc, len(gates) * vectors)
                for r, row in enumerate(rows):
                    sums = acc[r * len(gates) * vectors :]
                    for v, some in _groups(vectors):
                        own = [k.joined(sums[g * vectors + v : g * vectors + v + some]) for g in range(len(gates))]
                        self._finish(k, time, phase, row, own, unit, v * k.target.lanes(self.dtype))

    def _masks(self, k: Builder, unit: Int, vectors: int) -> list[Val | None]:
        lanes = k.target.lanes(self.dtype)
        left = k.size("hidden") - unit
        return [k.first_lanes(left - v * lanes, lanes) if self.tail else None for v in range(vectors)]

    def _row(self, k: Builder, time: _Time, phase: int, row: Int, unit: Int) -> _Row:
        length, active = k.size("steps"), None
        if self.lengths:
            own = k.index(0).at(k.cast(k.load(k.pointer("lengths") + row), DType.I64).ir)
            length = k.max(k.min(own, length), 0)
            active = time.number < length
        backwards = time.direction >= k.size("first_reverse")
        if active is not None:
            backwards = backwards & active
        at = k.pick(backwards, length - 1 - time.number, time.number)
        x = time.direction * k.size("x_direction") + at * k.size("x_time") + row * k.size("x_row")
        starts = [self._slot(k, time, slot) + row * k.size("padded") for slot in range(self.cell.slots)]
        y = None
        if "y" in self.outputs:
            place = time.direction * k.size("y_direction") + at * k.size("y_time") + row * k.size("y_row")
            y = k.pointer("y") + (place + unit)
        factor = starts[0 if phase == 0 else 3]
        return _Row(factor, k.pointer("x") + (x + unit), [start + unit for start in starts], active, y)

    def _start(
        self, k: Builder, time: _Time, row: _Row, gates: Sequence[int], unit: Int, masks: Sequence[Val | None]
    ) -> list[Val]:
        """The sums before the product: the inputs' part, but for the gate that multiplies it only afterwards."""
        lanes, hidden = k.target.lanes(self.dtype), k.size("hidden")
        result = []
        for gate in gates:
            base = row.x + hidden * gate
            if self.cell is GRU_AFTER and gate == 2:
                base = k.pointer("bias") + (time.direction * k.size("bias_direction") + unit)
            result += [k.load(base + v * lanes, lanes, mask) for v, mask in enumerate(masks)]
        return result

    def _finish(self, k: Builder, time: _Time, phase: int, row: _Row, sums: list[Val], unit: Int, at: int) -> None:
        """The cell's functions for the units of a row from `unit + at` on, as many as the sums have lanes."""
        lanes = sums[0].lanes
        mask = k.first_lanes(k.size("hidden") - unit - at, lanes) if self.tail else None
        before = k.load(row.slots[0] + at, lanes)
        if self.cell is LSTM:
            state = self._lstm(k, time, row, sums, unit + at, at, mask)
        elif self.cell is RNN:
            state = self.activations[0].evaluate(k, sums)
        elif self.cell is GRU_AFTER:
            update, reset = (self.activations[0].evaluate(k, [gate]) for gate in sums[:2])
            inner = k.fma(reset, sums[2], k.load(row.x + (k.size("hidden") * 2 + at), lanes, mask))
            state = _blend(k, update, before, self.activations[1].evaluate(k, [inner]))
        elif phase == 0:
            update, reset = (self.activations[0].evaluate(k, [gate]) for gate in sums)
            k.store(update, row.slots[2] + at)
            k.store(reset * before, row.slots[3] + at)
            return
        else:
            state = _blend(k, k.load(row.slots[2] + at, lanes), before, self.activations[1].evaluate(k, sums))
        shown = state
        if row.active is not None:
            active = k.broadcast(row.active, lanes)
            shown = k.select(active, state, k.const(0.0, self.dtype, lanes))
            state = k.select(active, state, before)
        k.store(state, row.slots[1] + at)
        if row.y is not None:
            k.store(shown, row.y + at, mask)

    def _lstm(self, k: Builder, time: _Time, row: _Row, sums: list[Val], unit: Int, at: int, mask: Val | None) -> Val:
        lanes = sums[0].lanes
        gate, inner, outer = self.activations
        before = k.load(row.slots[2] + at, lanes)
        holes = k.pointer("p") + (time.direction * k.size("hidden") * 3 + unit) if self.peephole else None

        def peeped(index: int, value: Val, state: Val) -> Val:
            if holes is None:
                return value
            return k.fma(k.load(holes + k.size("hidden") * index, lanes, mask), state, value)

        enter = gate.evaluate(k, [peeped(0, sums[0], before)])
        if self.coupled:
            keep = k.const(1.0, self.dtype, lanes) - enter
        else:
            keep = gate.evaluate(k, [peeped(2, sums[2], before)])
        cell = k.fma(keep, before, enter * inner.evaluate(k, [sums[3]]))
        leave = gate.evaluate(k, [peeped(1, sums[1], cell)])
        kept = cell if row.active is None else k.select(k.broadcast(row.active, lanes), cell, before)
        k.store(kept, row.slots[3] + at)
        return leave * outer.evaluate(k, [cell])


def _groups(vectors: int) -> list[tuple[int, int]]:
    """(first, how many) of vectors whose functions are computed at once: pairs wait less, more find no registers."""
    return [(v, min(2, vectors - v)) for v in range(0, vectors, 2)]


_TOGETHER = 2
"""Turns of the inner loop written out."""


def _accumulate(k: Builder, rows: Sequence[Ptr], panel: Ptr, depth: Int, acc: list[Val], vectors: int) -> None:
    """acc[r, v] += sum over i < depth of rows[r][i] * panel[i, v].

    A tile has all its rows' elements in registers and one vector of weights at a time, so that one more row fits than
    the other way round. (Three rows and two of four vectors were as fast on one AVX2 core.)
    """
    lanes = acc[0].lanes

    def turn(at: Int, weights: Ptr) -> None:
        elements = [k.broadcast(k.load(row + at), lanes) for row in rows]
        for v in range(vectors):
            column = k.load(weights + v * lanes, lanes)
            for r, element in enumerate(elements):
                acc[r * vectors + v] = k.fma(element, column, acc[r * vectors + v])

    whole = depth // _TOGETHER * _TOGETHER
    moving: list[Int | Ptr] = [panel]
    with k.loop(whole, step=_TOGETHER, carry=acc, moving=moving) as i:
        (weights,) = moving
        assert isinstance(weights, Ptr)
        for u in range(_TOGETHER):
            turn(i + u, weights + u * vectors * lanes)
        moving[:] = [weights + _TOGETHER * vectors * lanes]
    with k.loop(depth, start=whole, carry=acc) as i:
        turn(i, panel + i * (vectors * lanes))


_L2_BYTES = 24
"""What the second-level cache is taken to give in a cycle."""
_FINISH = 100
"""Cycles that the cell's functions of a tile are waited for, of which the next product hides a part."""


def tile_for(target: Target, dtype: DType, gates: int, hidden: int, rows: Sequence[int]) -> tuple[int, int]:
    """(rows, vectors of units) of the register tile that costs the fewest cycles a row, of those with as many rows.

    See `gemm.tile_costs`; panels of weights are as a rule larger than the first-level cache.
    """
    costs: dict[tuple[int, int], float] = {}
    for units in range(1, 9):
        vectors, panels = gates * units, -(-hidden // (units * target.lanes(dtype)))
        for count in rows:
            if count * vectors + count + (1 if target.has_fma else 2) <= target.vector_registers:
                fetched = vectors * target.vector_bytes / _L2_BYTES
                cycles = max(count * vectors / 2, (count + vectors) / 2, fetched, 4.0)
                costs[count, units] = panels * (cycles + 0.05 * vectors + _FINISH / hidden) / count
    return min(costs, key=costs.__getitem__)


def _blend(k: Builder, update: Val, before: Val, new: Val) -> Val:
    """(1 - update) * new + update * before."""
    one = k.const(1.0, update.dtype, update.lanes)
    return k.fma(update, before, (one - update) * new)


def pack_gates(weights: np.ndarray, gates: Sequence[int], width: int) -> np.ndarray:
    """Weights [directions, all gates, units, depth] as [directions, panels, depth, gates, width], padded with zeros."""
    directions, _, units, depth = weights.shape
    panels = -(-units // width)
    packed = aligned_zeros((directions, panels, depth, len(gates), width), weights.dtype)
    for panel in range(panels):
        part = weights[:, list(gates), panel * width : (panel + 1) * width]
        packed[:, panel, :, :, : part.shape[2]] = part.transpose(0, 3, 1, 2)
    return packed
