"""The kernel language: a thin typed layer over llvmlite.ir.

Kernels are Python functions that call a `Builder`. Index arithmetic is in `Int` (64 bits, folding constants), data
in `Val` (a scalar or a vector of one `DType`), addresses in `Ptr`. Loops and branches are context managers; what a
loop carries from one turn to the next stands in a Python list that the body assigns to.

Every kernel has the native signature `void kernel(i64* args, i64 begin, i64 end, i8* scratch)`: `args` holds
addresses and integers in the order of the kernel's parameters, `[begin, end)` is the part of the step's parallel
domain to compute, and `scratch` is memory of this thread alone, of the size the step asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llvmlite import ir

from sardonyx.compiler.casts import cast
from sardonyx.compiler.dtypes import NEAREST, DType, Rounding
from sardonyx.compiler.narrow import narrowed, widened
from sardonyx.compiler.values import (
    I1,
    I32,
    I64,
    POINTER,
    SSA,
    Int,
    Ptr,
    Val,
    memory_type,
    register_type,
    scalar_type,
)

if TYPE_CHECKING:
    from sardonyx.compiler.target import Target

__all__ = ["I32", "I64", "KERNEL_TYPE", "POINTER", "Builder", "Inside", "Int", "Parameter", "Ptr", "Val"]

KERNEL_TYPE = ir.FunctionType(ir.VoidType(), [POINTER, I64, I64, POINTER])


@dataclass(frozen=True)
class Parameter:
    """One slot of a kernel's argument block: an address of `dtype` elements, or an integer when None."""

    name: str
    dtype: DType | None = None


@dataclass(frozen=True)
class Inside:
    """Places above `below` and under `high`, int32 in every lane; those asked for are counted from `first`."""

    below: Val
    high: Val
    first: int = 0

    def after(self, count: int) -> Inside:
        """The same for places counted from `count` places further on."""
        return Inside(self.below, self.high, self.first + count)


class Builder:
    """Emits one kernel into a module of its own."""

    def __init__(self, target: Target, symbol: str, parameters: Sequence[Parameter]) -> None:
        self.target = target
        self.module = ir.Module(name=symbol)
        self.module.triple = target.triple
        function = ir.Function(self.module, KERNEL_TYPE, symbol)
        self.function = function
        block, begin, end, scratch = function.args
        for pointer in (block, scratch):
            pointer.add_attribute("noalias")
        self.ir = ir.IRBuilder(function.append_basic_block("entry"))
        self._entry = self.ir.block
        self.begin, self.end = Int(self, begin), Int(self, end)
        self._scratch = scratch
        self._arguments: dict[str, Int | Ptr] = {}
        for slot, parameter in enumerate(parameters):
            self._arguments[parameter.name] = self._argument(block, slot, parameter)

    def _argument(self, block: ir.Value, slot: int, parameter: Parameter) -> Int | Ptr:
        address = self.ir.gep(block, [ir.Constant(I64, slot)], source_etype=I64)
        if parameter.dtype is None:
            return Int(self, self.ir.load(address, name=parameter.name, typ=I64))
        return Ptr(self, self.ir.load(address, name=parameter.name, typ=POINTER), parameter.dtype)

    # ---- arguments and constants -------------------------------------------------------------------------------

    def size(self, name: str) -> Int:
        """The integer argument `name`."""
        value = self._arguments[name]
        assert isinstance(value, Int), name
        return value

    def pointer(self, name: str) -> Ptr:
        """The address argument `name`."""
        value = self._arguments[name]
        assert isinstance(value, Ptr), name
        return value

    def index(self, value: Int | int) -> Int:
        """An index from a Python int."""
        return value if isinstance(value, Int) else Int(self, int(value))

    def const(self, value: float | bool, dtype: DType, lanes: int = 1) -> Val:
        """A constant, in every lane; of a narrow type's register type."""
        dtype = dtype.register
        literal = float(dtype.numpy.type(value)) if dtype.is_float else int(value)
        one = ir.Constant(scalar_type(dtype), literal)
        return Val(self, ir.Constant(register_type(dtype, lanes), [one] * lanes) if lanes > 1 else one, dtype, lanes)

    # ---- control flow ------------------------------------------------------------------------------------------

    @contextmanager
    def loop(
        self,
        stop: Int | int,
        *,
        start: Int | int = 0,
        step: Int | int = 1,
        carry: list[Val] | None = None,
        moving: list[Int | Ptr] | None = None,
    ) -> Iterator[Int]:
        """Count from `start` while below `stop`; yields the counter.

        The body replaces elements of `carry`; after the loop they hold the values of its last turn (those before
        it when there was none). `moving` is the same for indices and addresses, but is of no use after the loop.
        """
        first, last, stride = self.index(start), self.index(stop), self.index(step)
        carried = carry if carry is not None else []
        walked = moving if moving is not None else []
        known = isinstance(first.value, int) and isinstance(last.value, int) and first.value < last.value
        before, initial = self.ir.block, list(carried)
        body, done = self.ir.append_basic_block("loop"), ir.Block(self.function, "done")
        if known:
            self.ir.branch(body)
        else:
            self.ir.cbranch((first < last).ir, body, done)
        self.ir.position_at_end(body)
        counter = self.ir.phi(I64)
        counter.add_incoming(first.ir, before)
        phis = [self.ir.phi(value.ir.type) for value in initial]
        for phi, value in zip(phis, initial, strict=True):
            phi.add_incoming(value.ir, before)
        carried[:] = [Val(self, phi, v.dtype, v.lanes) for phi, v in zip(phis, initial, strict=True)]
        walks = [self.ir.phi(value.ir.type) for value in walked]
        for phi, walk in zip(walks, walked, strict=True):
            phi.add_incoming(walk.ir, before)
        walked[:] = [walk.at(phi) for phi, walk in zip(walks, walked, strict=True)]
        yield Int(self, counter)
        following = Int(self, self.ir.add(counter, stride.ir, flags=["nsw"]))
        latch = self.ir.block
        counter.add_incoming(following.ir, latch)
        for phi, walk in zip(walks, walked, strict=True):
            phi.add_incoming(walk.ir, latch)
        self.ir.cbranch((following < last).ir, body, done)
        self.function.blocks.append(done)
        self.ir.position_at_end(done)
        for index, (phi, value) in enumerate(zip(phis, initial, strict=True)):
            phi.add_incoming(carried[index].ir, latch)
            result = self.ir.phi(phi.type)
            result.add_incoming(carried[index].ir, latch)
            if not known:
                result.add_incoming(value.ir, before)
            carried[index] = Val(self, result, value.dtype, value.lanes)

    @contextmanager
    def when(self, condition: Val) -> Iterator[None]:
        """Run the body if the bit is set."""
        with self.ir.if_then(condition.ir):
            yield

    def either(self, condition: Val, then: Callable[[], None], otherwise: Callable[[], None]) -> None:
        """Run one of two bodies; for effects, not values."""
        with self.ir.if_else(condition.ir) as (yes, no):
            with yes:
                then()
            with no:
                otherwise()

    # ---- index helpers -----------------------------------------------------------------------------------------

    def min(self, left: Int | int, right: Int | int) -> Int:
        """The smaller index."""
        a, b = self.index(left), self.index(right)
        if isinstance(a.value, int) and isinstance(b.value, int):
            return self.index(min(a.value, b.value))
        return Int(self, self.ir.select((a < b).ir, a.ir, b.ir))

    def max(self, left: Int | int, right: Int | int) -> Int:
        """The larger index."""
        a, b = self.index(left), self.index(right)
        if isinstance(a.value, int) and isinstance(b.value, int):
            return self.index(max(a.value, b.value))
        return Int(self, self.ir.select((a < b).ir, b.ir, a.ir))

    def pick(self, condition: Val, yes: Int | int, no: Int | int) -> Int:
        """One of two indices."""
        return Int(self, self.ir.select(condition.ir, self.index(yes).ir, self.index(no).ir))

    def pick_pointer(self, condition: Val, yes: Ptr, no: Ptr) -> Ptr:
        """One of two addresses."""
        return Ptr(self, self.ir.select(condition.ir, yes.ir, no.ir), yes.dtype)

    # ---- memory ------------------------------------------------------------------------------------------------

    def load(self, address: Ptr, lanes: int = 1, mask: Val | None = None) -> Val:
        """`lanes` consecutive elements; with a mask, zero (and untouched memory) where it is not set."""
        dtype = address.dtype
        kind = memory_type(dtype, lanes)
        if mask is None:
            loaded = self.ir.load(address.ir, align=dtype.alignment, typ=kind)
        else:
            name = f"llvm.masked.load.v{lanes}{_suffix(kind)}.p0"
            intrinsic = self._declare(name, kind, [POINTER, I32, mask.ir.type, kind])
            zero = ir.Constant(kind, None)
            loaded = self.ir.call(intrinsic, [address.ir, ir.Constant(I32, dtype.alignment), mask.ir, zero])
        return self._loaded(loaded, dtype, lanes)

    def _loaded(self, stored: SSA, dtype: DType, lanes: int) -> Val:
        """What was read from memory, as it is in a register."""
        if dtype is DType.BOOL:
            stored = self.ir.icmp_unsigned("!=", stored, ir.Constant(memory_type(dtype, lanes), None))
        if not dtype.is_narrow:
            return Val(self, stored, dtype, lanes)
        made = widened(self, stored, dtype, lanes)
        return Val(self, made.ir, made.dtype, lanes, (dtype, stored))

    def load_index(self, address: Ptr) -> Int:
        """One 64-bit integer from memory, to count or address with."""
        return Int(self, self.load(address).ir)

    def table(self, dtype: DType, values: Sequence[int]) -> Ptr:
        """Constants in memory, to be read at an index that only a run knows."""
        kind = ir.ArrayType(memory_type(dtype, 1), len(values))
        made = ir.GlobalVariable(self.module, kind, self.module.get_unique_name("table"))
        made.linkage, made.global_constant = "internal", True
        made.initializer = ir.Constant(kind, [ir.Constant(memory_type(dtype, 1), value) for value in values])
        return Ptr(self, made, dtype)

    def ticket(self) -> Val:
        """A number that no other call of this kernel's code has drawn, in this process."""
        counter = ir.GlobalVariable(self.module, I64, self.module.get_unique_name("tickets"))
        counter.linkage, counter.initializer = "internal", ir.Constant(I64, 0)
        return Val(self, self.ir.atomic_rmw("add", counter, ir.Constant(I64, 1), "monotonic"), DType.I64, 1)

    def store(self, value: Val, address: Ptr, mask: Val | None = None) -> None:
        """Write consecutive elements, those the mask selects; to elements of a narrow type rounded."""
        stored, dtype = value.ir, address.dtype if address.dtype.is_narrow else value.dtype
        kind = memory_type(dtype, value.lanes)
        if value.dtype is DType.BOOL:
            stored = self.ir.zext(stored, kind)
        elif dtype.is_narrow:
            known = value.stored if value.stored is not None and value.stored[0] is dtype else None
            stored = known[1] if known is not None else narrowed(self, value, dtype, NEAREST)
        if mask is None:
            self.ir.store(stored, address.ir, align=dtype.alignment)
            return
        name = f"llvm.masked.store.v{value.lanes}{_suffix(kind)}.p0"
        intrinsic = self._declare(name, ir.VoidType(), [kind, POINTER, I32, mask.ir.type])
        self.ir.call(intrinsic, [stored, address.ir, ir.Constant(I32, dtype.alignment), mask.ir])

    def prefetch(self, address: Ptr) -> None:
        """Ask for the cache line of an address, which need not be valid, in the second-level cache."""
        function = self._declare("llvm.prefetch.p0", ir.VoidType(), [POINTER, I32, I32, I32])
        self.ir.call(function, [address.ir, *(ir.Constant(I32, number) for number in (0, 2, 1))])

    def load_apart(self, address: Ptr, step: int, lanes: int, inside: Inside | None = None) -> Val:
        """`lanes` elements `step` apart, by vectors that reach from the first to the last and no further; with `inside`
        only what that allows is read of those, and the rest is 0.
        """
        last = (lanes - 1) * step
        starts = [max(0, min(start, last + 1 - lanes)) for start in range(0, last + 1, lanes)]
        masks = [None if inside is None else self.between(range(at, at + lanes), inside) for at in starts]
        vectors = [self.load(address + at, lanes, mask) for at, mask in zip(starts, masks, strict=True)]
        if lanes == 1 or step == 1:
            return vectors[0]
        wanted = range(0, last + 1, step)
        return self.chosen(vectors, [at - starts[at // lanes] + at // lanes * lanes for at in wanted])

    def gather(self, address: Ptr, stride: Int, lanes: int, count: Int | None = None) -> Val:
        """`lanes` elements `stride` apart; with `count`, only the first of them are read and the rest repeat one."""
        parts: list[Val] = []
        for lane in range(lanes):
            index = self.index(lane) if count is None else self.min(lane, count - 1)
            parts.append(self.load(address + index * stride))
        return self.vector(parts)

    def gather_at(self, address: Ptr, indices: Val) -> Val:
        """The elements at these (32-bit) indices, one a lane."""
        dtype, lanes = address.dtype, indices.lanes
        if lanes == 1:
            return self.load(address + Int(self, self.ir.sext(indices.ir, I64)))
        kind, pointers = memory_type(dtype, lanes), ir.VectorType(POINTER, lanes)
        places = self.ir.gep(address.ir, [indices.ir], source_etype=memory_type(dtype, 1))
        places.type = pointers  # which llvmlite does not infer
        mask = ir.Constant(ir.VectorType(I1, lanes), [True] * lanes)
        name = f"llvm.masked.gather.v{lanes}{_suffix(kind)}.v{lanes}p0"
        intrinsic = self._declare(name, kind, [pointers, I32, mask.type, kind])
        zero = ir.Constant(kind, None)
        loaded = self.ir.call(intrinsic, [places, ir.Constant(I32, dtype.alignment), mask, zero])
        return self._loaded(loaded, dtype, lanes)

    def scatter(self, value: Val, address: Ptr, stride: Int, count: Int | None = None) -> None:
        """Write the lanes `stride` elements apart, the first `count` only when given."""
        for lane in range(value.lanes):
            element = self.lane(value, lane)
            if count is None:
                self.store(element, address + self.index(lane) * stride)
            else:
                with self.when(self.index(lane) < count):
                    self.store(element, address + self.index(lane) * stride)

    def workspace(self, dtype: DType) -> Ptr:
        """This thread's scratch memory, of the size the step asks for."""
        return Ptr(self, self._scratch, dtype)

    def store_pointer(self, value: Ptr, index: Int | int) -> None:
        """Keep an address as word `index` of the scratch memory."""
        self.ir.store(value.ir, self._word(index), align=8)

    def load_pointer(self, index: Int | int, dtype: DType) -> Ptr:
        """An address kept there."""
        return Ptr(self, self.ir.load(self._word(index), align=8, typ=POINTER), dtype)

    def _word(self, index: Int | int) -> SSA:
        return self.ir.gep(self._scratch, [self.index(index).ir], source_etype=I64)

    # ---- vectors -----------------------------------------------------------------------------------------------

    def broadcast(self, value: Val, lanes: int) -> Val:
        """One element in every lane."""
        if value.lanes == lanes:
            return value
        kind = register_type(value.dtype, lanes)
        one = self.ir.insert_element(ir.Constant(kind, ir.Undefined), value.ir, ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, lanes), None)
        return Val(self, self.ir.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros), value.dtype, lanes)

    def vector(self, elements: Sequence[Val]) -> Val:
        """A vector of these scalars (the scalar itself when there is one)."""
        if len(elements) == 1:
            return elements[0]
        dtype, lanes = elements[0].dtype, len(elements)
        result = ir.Constant(register_type(dtype, lanes), ir.Undefined)
        for lane, element in enumerate(elements):
            result = self.ir.insert_element(result, element.ir, ir.Constant(I32, lane))
        return Val(self, result, dtype, lanes)

    def lane(self, value: Val, index: int) -> Val:
        """One element of a vector."""
        if value.lanes == 1:
            return value
        return Val(self, self.ir.extract_element(value.ir, ir.Constant(I32, index)), value.dtype, 1)

    def transpose(self, rows: Sequence[Val]) -> list[Val]:
        """The square matrix of these rows, as many as each has lanes, as its columns: blocks off the diagonal change
        places, single elements first.
        """
        lanes, values, size = len(rows), list(rows), 1
        while size < lanes:
            low, high = (
                [lane ^ size | lanes if bool(lane & size) is upper else lane for lane in range(lanes)]
                for upper in (True, False)
            )
            for index in range(lanes):
                if not index & size:
                    a, b = values[index], values[index | size]
                    values[index], values[index | size] = self.shuffle(a, b, low), self.shuffle(b, a, high)
            size *= 2
        return values

    def shuffle(self, a: Val, b: Val, lanes: Sequence[int]) -> Val:
        """Lanes of the first, counted from 0, and of the second, counted on from there."""
        places = ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes))
        return Val(self, self.ir.shuffle_vector(a.ir, b.ir, places), a.dtype, len(lanes))

    def chosen(self, vectors: Sequence[Val], places: Sequence[int]) -> Val:
        """A vector as long as these of the lanes at `places`, counted on from each vector to the next."""
        lanes, first = len(places), vectors[0]
        found = self.shuffle(first, vectors[1 % len(vectors)], [p if p < 2 * lanes else 0 for p in places])
        for number, vector in enumerate(vectors[2:], 2):
            here = [lanes + p % lanes if p // lanes == number else lane for lane, p in enumerate(places)]
            found = self.shuffle(found, vector, here)
        return found

    def joined(self, vectors: Sequence[Val]) -> Val:
        """The lanes of vectors (or scalars) of one length, of which there are a power of two, one after another."""
        vectors = [self.vector(vectors)] if vectors[0].lanes == 1 else list(vectors)
        while len(vectors) > 1:
            lanes = range(2 * vectors[0].lanes)
            vectors = [self.shuffle(a, b, lanes) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
        return vectors[0]

    def parts(self, vector: Val, lanes: int) -> list[Val]:
        """A vector cut into vectors of so many lanes."""
        if vector.lanes == lanes:
            return [vector]
        if lanes == 1:
            return [self.lane(vector, at) for at in range(vector.lanes)]
        return [self.shuffle(vector, vector, range(at, at + lanes)) for at in range(0, vector.lanes, lanes)]

    def interleaved(self, vectors: Sequence[Val]) -> list[Val]:
        """The first lanes of all vectors, then their second lanes and so on, as vectors of the same length."""
        count, lanes = len(vectors), vectors[0].lanes
        if count == 1 or lanes == 1:
            return list(vectors)
        order = [at % count * lanes + at // count for at in range(count * lanes)]
        return [self.chosen(vectors, order[at : at + lanes]) for at in range(0, count * lanes, lanes)]

    def first_lanes(self, count: Int, lanes: int) -> Val:
        """The mask of the first `count` lanes (none when count <= 0, all when it is large)."""
        bounded = self.max(self.min(count, lanes), 0)
        narrow = Val(self, self.ir.trunc(bounded.ir, I32), DType.I32, 1)
        iota = ir.Constant(ir.VectorType(I32, lanes), list(range(lanes)))
        return Val(self, iota, DType.I32, lanes) < self.broadcast(narrow, lanes)

    def inside(self, low: Int, high: Int, limit: int, lanes: int) -> Inside:
        """The places from `low` to below `high`, for vectors of `lanes` places from 0 to `limit`."""
        bounds = [self.max(self.min(bound, limit), 0) for bound in (low, high)]
        bounds[0] = bounds[0] - 1
        narrow = [Val(self, self.ir.trunc(bound.ir, I32), DType.I32, 1) for bound in bounds]
        return Inside(self.broadcast(narrow[0], lanes), self.broadcast(narrow[1], lanes))

    def between(self, places: Sequence[int], inside: Inside) -> Val:
        """The mask of the lanes whose place is inside."""
        offsets = [place + inside.first for place in places]
        here = Val(self, ir.Constant(ir.VectorType(I32, len(places)), offsets), DType.I32, len(places))
        return (here > inside.below) & (here < inside.high)

    def any(self, bits: Val) -> Val:
        """One bit: whether one of the lanes' is set."""
        if bits.lanes == 1:
            return bits
        function = self._declare(f"llvm.vector.reduce.or.v{bits.lanes}i1", I1, [bits.ir.type])
        return Val(self, self.ir.call(function, [bits.ir]), DType.BOOL, 1)

    def reduce(self, value: Val, combine: Callable[[Val, Val], Val]) -> Val:
        """All lanes combined into one element, halving the vector each time."""
        while value.lanes > 1:
            half = value.lanes // 2
            kind = ir.VectorType(I32, half)
            low, high = (
                Val(
                    self,
                    self.ir.shuffle_vector(
                        value.ir,
                        ir.Constant(value.ir.type, ir.Undefined),
                        ir.Constant(kind, list(range(at, at + half))),
                    )
                    if half > 1
                    else self.lane(value, at).ir,
                    value.dtype,
                    half,
                )
                for at in (0, half)
            )
            value = combine(low, high)
        return value

    # ---- arithmetic --------------------------------------------------------------------------------------------

    def fma(self, a: Val, b: Val, c: Val) -> Val:
        """a * b + c; of floats rounded once, where the processor has such an instruction."""
        if not a.dtype.is_float:
            return a * b + c
        return self.intrinsic("llvm.fmuladd", a, b, c)

    def select(self, condition: Val, yes: Val, no: Val) -> Val:
        """Lane by lane, one of two."""
        return Val(self, self.ir.select(condition.ir, yes.ir, no.ir), yes.dtype, yes.lanes)

    def intrinsic(self, name: str, *operands: Val, fast: tuple[str, ...] = ()) -> Val:
        """An LLVM intrinsic overloaded on the type of its (equal) operands; `fast` are LLVM's fast-math flags."""
        first = operands[0]
        kind = first.ir.type
        lanes = f"v{first.lanes}" if first.lanes > 1 else ""
        function = self._declare(f"{name}.{lanes}{_suffix(kind)}", kind, [kind] * len(operands))
        result = self.ir.call(function, [operand.ir for operand in operands], fastmath=fast)
        return Val(self, result, first.dtype, first.lanes)

    def bits(self, value: Val, dtype: DType) -> Val:
        """The same bits as another type of the same size."""
        return Val(self, self.ir.bitcast(value.ir, register_type(dtype, value.lanes)), dtype, value.lanes)

    def cast(self, value: Val, dtype: DType, rounding: Rounding | None = None) -> Val:
        """The number as another type: see `casts`. To a narrow type it is rounded, and stays in a wider register."""
        return cast(self, value, dtype, rounding or Rounding())

    def _declare(self, name: str, result: ir.Type, operands: list[ir.Type]) -> ir.Function:
        known: Any = self.module.globals.get(name)
        return known or ir.Function(self.module, ir.FunctionType(result, operands), name)

    def finish(self) -> ir.Module:
        """End the function; the module is complete."""
        self.ir.ret_void()
        return self.module


def _suffix(kind: ir.Type) -> str:
    """LLVM's name of a scalar type in an intrinsic's name."""
    element = kind.element if isinstance(kind, ir.VectorType) else kind
    if isinstance(element, ir.IntType):
        return f"i{element.width}"
    return "f32" if isinstance(element, ir.FloatType) else "f64"
