"""Scalar expressions: what a kernel does to each element, as a hashable straight-line program.

An `Expr` has leaves (values given from outside: an accumulator, an operand's element) and a body of instructions,
each reading earlier registers. Leaves are registers 0, 1, ...; instruction i writes register `len(leaves) + i`; the
last register is the result. Straight-line rather than a tree, so that a value used twice is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sardonyx.compiler import vmath
from sardonyx.compiler.builder import Builder, Val
from sardonyx.compiler.dtypes import DType, Rounding

CASTS = {
    "cast": Rounding(),
    **{
        f"cast_{'' if saturate else 'over_'}{mode}": Rounding(saturate, mode)
        for saturate in (True, False)
        for mode in ("up", "down", "nearest")
        if (saturate, mode) != (True, "up")
    },
}
"""Instructions that convert, by how they round."""
TOGETHER = 4
"""Vectors of a long computation that are computed at once: on AVX2 erf takes two thirds of the time of one by one."""
_CAST_NAMES = {rounding: name for name, rounding in CASTS.items()}


@dataclass(frozen=True)
class Instruction:
    """`op` of earlier registers, giving a value of `dtype`; `value` is the number of a `const`."""

    op: str
    operands: tuple[int, ...]
    dtype: DType
    value: float | None = None


@dataclass(frozen=True)
class Expr:
    """A straight-line program; with an empty body it is its first leaf."""

    leaves: tuple[DType, ...]
    body: tuple[Instruction, ...] = ()

    @property
    def dtype(self) -> DType:
        """Type of the result."""
        return self.body[-1].dtype if self.body else self.leaves[0]

    @property
    def is_long(self) -> bool:
        """Whether it calls functions of `vmath`, whose instructions wait for one another."""
        return any(step.op in vmath.FUNCTIONS for step in self.body)

    def evaluate(self, k: Builder, leaves: Sequence[Val]) -> Val:
        """Emit the code; all leaves have the same number of lanes."""
        registers = list(leaves)
        lanes = leaves[0].lanes
        for step in self.body:
            if step.op == "const":
                assert step.value is not None
                registers.append(k.const(step.value, step.dtype, lanes))
            elif step.op in CASTS:
                registers.append(k.cast(registers[step.operands[0]], step.dtype, CASTS[step.op]))
            else:
                registers.append(SCALAR_OPS[step.op](k, *(registers[i] for i in step.operands)))
        return registers[-1] if self.body else registers[0]

    def __str__(self) -> str:
        lines = [f"r{i}: {leaf.value}" for i, leaf in enumerate(self.leaves)]
        for index, step in enumerate(self.body, len(self.leaves)):
            inside = str(step.value) if step.op == "const" else ", ".join(f"r{i}" for i in step.operands)
            lines.append(f"r{index} = {step.op}({inside}) {step.dtype.value}")
        return "; ".join(lines)


class ExprBuilder:
    """Grows an `Expr`; registers are plain integers."""

    def __init__(self) -> None:
        self._leaves: list[DType] = []
        self._body: list[Instruction] = []
        self._dtypes: dict[int, DType] = {}
        self._order: list[int] = []

    def leaf(self, dtype: DType) -> int:
        """A new value from outside."""
        self._leaves.append(dtype)
        register = -len(self._leaves)
        self._dtypes[register] = dtype
        return register

    def const(self, value: float, dtype: DType) -> int:
        """A constant."""
        return self._append(Instruction("const", (), dtype, float(value) if dtype.is_float else int(value)))

    def cast(self, register: int, dtype: DType, rounding: Rounding | None = None) -> int:
        """The value as another type; as a narrow one it is rounded, unless it comes from there."""
        if self._dtypes[register] is dtype:
            return register
        step = self._body[register] if register >= 0 else None
        if step is not None and step.op in CASTS and dtype.is_narrow and self._dtypes[step.operands[0]] is dtype:
            return step.operands[0]
        return self._append(Instruction(_CAST_NAMES[rounding or Rounding()], (register,), dtype))

    def constant(self, register: int) -> float | None:
        """The number that a register holds whatever the leaves are, if it is known."""
        step = self._body[register] if register >= 0 else None
        return step.value if step is not None and step.op == "const" else None

    def op(self, name: str, *operands: int, dtype: DType | None = None) -> int:
        """Apply a scalar operation; its type is that of the last operand unless said."""
        if name not in SCALAR_OPS:
            raise KeyError(name)
        return self._append(Instruction(name, operands, dtype or self._dtypes[operands[-1]]))

    def dtype(self, register: int) -> DType:
        """Type of a register."""
        return self._dtypes[register]

    def _append(self, step: Instruction) -> int:
        self._body.append(step)
        register = len(self._body) - 1
        self._dtypes[register] = step.dtype
        return register

    def build(self, result: int) -> Expr:
        """The program that computes `result`; instructions it does not need are left out."""
        needed, stack = set(), [result]
        while stack:
            register = stack.pop()
            if register >= 0 and register not in needed:
                needed.add(register)
                stack.extend(self._body[register].operands)
        place = {-(i + 1): i for i in range(len(self._leaves))}
        for index, register in enumerate(sorted(needed)):
            place[register] = len(self._leaves) + index
        body = tuple(
            Instruction(s.op, tuple(place[o] for o in s.operands), s.dtype, s.value)
            for s in (self._body[r] for r in sorted(needed))
        )
        if result < 0 and result != -1:
            raise ValueError("an expression without a body must be its first leaf")
        return Expr(tuple(self._leaves), body)


def identity(dtype: DType) -> Expr:
    """The expression that passes its one leaf on."""
    return Expr((dtype,))


def _compare(op: str) -> Callable[..., Val]:
    return lambda k, a, b: a.compare(op, b)


def maximum(k: Builder, a: Val, b: Val) -> Val:
    """The larger; NaN if either is NaN. Of two zeros either one."""
    return k.intrinsic("llvm.maximum", a, b, fast=("nsz",)) if a.dtype.is_float else k.select(a > b, a, b)


def minimum(k: Builder, a: Val, b: Val) -> Val:
    """The smaller; NaN if either is NaN. Of two zeros either one."""
    return k.intrinsic("llvm.minimum", a, b, fast=("nsz",)) if a.dtype.is_float else k.select(a < b, a, b)


def _relu(k: Builder, x: Val) -> Val:
    zero = k.const(0, x.dtype, x.lanes)
    return k.select(zero > x, zero, x)  # one instruction on x86, and NaN passes


def _clip(k: Builder, x: Val, low: Val, high: Val) -> Val:
    x = k.select(low > x, low, x)
    return k.select(high < x, high, x)


def _abs(k: Builder, x: Val) -> Val:
    return k.intrinsic("llvm.fabs", x) if x.dtype.is_float else k.select(x < k.const(0, x.dtype, x.lanes), -x, x)


def _sign(k: Builder, x: Val) -> Val:
    zero, one = k.const(0, x.dtype, x.lanes), k.const(1, x.dtype, x.lanes)
    magnitude = k.select(x.compare("==", zero) | x.compare("!=", x), x, one)
    return k.select(x < zero, zero - one, magnitude)


def _not(k: Builder, x: Val) -> Val:
    return x ^ k.const(True if x.dtype is DType.BOOL else -1, x.dtype, x.lanes)


def _shift_left(k: Builder, x: Val, count: Val) -> Val:
    """Of integers; 0 when no bit is left, or the count is negative."""
    within = count & k.const(8 * x.dtype.size - 1, x.dtype, x.lanes)
    moved = Val(k, k.ir.shl(x.ir, within.ir), x.dtype, x.lanes)
    return k.select(count.compare("==", within), moved, k.const(0, x.dtype, x.lanes))


def _shift_right(k: Builder, x: Val, count: Val) -> Val:
    """Of integers, the sign too; nothing but the sign when no bit is left, or the count is negative."""
    last = k.const(8 * x.dtype.size - 1, x.dtype, x.lanes)
    within = count & last
    move = k.ir.ashr if x.dtype.is_signed else k.ir.lshr
    moved, sign = (Val(k, move(x.ir, places.ir), x.dtype, x.lanes) for places in (within, last))
    if not x.dtype.is_signed:
        sign = k.const(0, x.dtype, x.lanes)
    return k.select(count.compare("==", within), moved, sign)


def _power(k: Builder, x: Val, y: Val) -> Val:
    """x ** y in the type of x; integers of floats truncated."""
    if not x.dtype.is_float:
        if not y.dtype.is_float:
            return _integer_power(k, x, y)
        return k.cast(vmath.power(k, k.cast(x, DType.F64), k.cast(y, DType.F64)), x.dtype)
    if y.dtype is not x.dtype:
        y = k.cast(y, DType.F64)
    return vmath.power(k, x, y)


def _integer_power(k: Builder, x: Val, y: Val) -> Val:
    """Modulo the type's range; 0 for a negative y, but for x of 1 and -1."""

    def number(value: int, like: Val) -> Val:
        return k.const(value, like.dtype, like.lanes)

    one = number(1, x)
    carried = [one, x, y]
    with k.loop(8 * y.dtype.size, carry=carried):
        result, square, rest = carried
        odd = (rest & number(1, rest)).compare("!=", number(0, rest))
        carried[:] = [k.select(odd, result * square, result), square * square, vmath.shifted_right(k, rest, 1)]
    if not y.dtype.is_signed:
        return carried[0]
    is_one = x.compare("==", one) | x.compare("==", -one) if x.dtype.is_signed else x.compare("==", one)
    return k.select((y < number(0, y)) & (is_one ^ k.const(True, DType.BOOL, x.lanes)), number(0, x), carried[0])


def _divisor(k: Builder, divisor: Val) -> tuple[Val, Val, Val]:
    """An integer to divide by that no processor traps on, and bits: it was 0, it was -1."""
    zero, one = k.const(0, divisor.dtype, divisor.lanes), k.const(1, divisor.dtype, divisor.lanes)
    nothing, opposite = divisor.compare("==", zero), k.const(False, DType.BOOL, divisor.lanes)
    if divisor.dtype.is_signed:
        opposite = divisor.compare("==", zero - one)
    return k.select(nothing | opposite, one, divisor), nothing, opposite


def _div(k: Builder, a: Val, b: Val) -> Val:
    """Integers: towards 0; 0 when divided by 0, and the least one divided by -1 is itself."""
    if a.dtype.is_float:
        return a / b
    divisor, nothing, opposite = _divisor(k, b)
    return k.select(nothing, k.const(0, a.dtype, a.lanes), k.select(opposite, -a, a / divisor))


def _remainder(k: Builder, a: Val, b: Val) -> Val:
    """What is left of `_div` towards 0, of the sign of `a`; of integers 0 when divided by 0."""
    return vmath.fmod(k, a, b) if a.dtype.is_float else a % _divisor(k, b)[0]


def _modulo(k: Builder, a: Val, b: Val) -> Val:
    """What is left of integers' division downwards, of the sign of `b`; 0 when divided by 0."""
    rest, zero = _remainder(k, a, b), k.const(0, a.dtype, a.lanes)
    return k.select(rest.compare("!=", zero) & ((rest < zero) ^ (b < zero)), rest + b, rest)


def _unary(intrinsic: str) -> Callable[..., Val]:
    return lambda k, x: k.intrinsic(intrinsic, x)


SCALAR_OPS: dict[str, Callable[..., Val]] = {
    "add": lambda k, a, b: a + b,
    "sub": lambda k, a, b: a - b,
    "mul": lambda k, a, b: a * b,
    "div": _div,
    "modulo": _modulo,
    "remainder": _remainder,
    "neg": lambda k, a: -a,
    "abs": _abs,
    "sign": _sign,
    "relu": _relu,
    "clip": _clip,
    "max": maximum,
    "min": minimum,
    "sqrt": _unary("llvm.sqrt"),
    "floor": _unary("llvm.floor"),
    "ceil": _unary("llvm.ceil"),
    "round": _unary("llvm.roundeven"),
    "truncate": _unary("llvm.trunc"),
    **vmath.FUNCTIONS,
    "power": _power,
    "is_nan": lambda k, x: x.compare("!=", x),
    "shift_left": _shift_left,
    "shift_right": _shift_right,
    "less": _compare("<"),
    "less_equal": _compare("<="),
    "greater": _compare(">"),
    "greater_equal": _compare(">="),
    "equal": _compare("=="),
    "and": lambda k, a, b: a & b,
    "or": lambda k, a, b: a | b,
    "xor": lambda k, a, b: a ^ b,
    "not": _not,
    "select": lambda k, condition, yes, no: k.select(condition, yes, no),
}
"""Scalar operations by name: each takes and returns vectors."""
