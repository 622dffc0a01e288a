"""Dims that a program leaves open.

A graph is lowered with the dims of one call. Those that the model leaves open are then not numbers but `Dim`s: numbers
that remember how they were computed. Rules do arithmetic on them without noticing. Whoever asks something of a `Dim`
that may come out otherwise another time (how it compares, what it is exactly) leaves a *guard*: the program made is
right for all dims for which the guards hold, and to bind it to others is to compute all numbers again.

A `Dim` is a polynomial with integer coefficients over atoms. Atoms are the symbols and what is no polynomial of them:
floors of quotients, remainders, and the smaller or larger of two. So `768 * s // 768` is `s`, and `12 * s` is not
less than `s`, whatever `s` is.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.compiler.polynomials import Key, Monomial, Terms, divide, divided, evaluate, key_of, plain, plus, times
from sardonyx.errors import CompileError

SMALLEST = 2
"""Of what a symbol is when a program is made. Dims of 0 and 1 mean something of their own (nothing, and broadcasting):
a program may be right for 1 as well, but it is not made with it.
"""

LARGEST = 1 << 48
"""Of what a symbol may be: no memory holds more."""

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WITH_FLOATS: dict[str, Callable[[int, float], float]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}
_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_COMPUTE: dict[str, Callable[[int, int], int]] = {
    "//": operator.floordiv,
    "%": operator.mod,
    "min": min,
    "max": max,
    "bits": lambda a, b: a.bit_length(),
}


@dataclass(frozen=True)
class Atom:
    """A symbol (`op` is its name) or an operation on two polynomials, with bounds of its value."""

    op: str
    operands: tuple[Key, ...]
    low: int | None
    high: int | None


class Trace:
    """The symbols of one lowering, the atoms computed from them, and the guards its decisions rest on."""

    def __init__(self) -> None:
        self.atoms: list[Atom] = []
        self._values: list[int] = []
        self._numbers: dict[tuple[str, tuple[Key, ...]], int] = {}
        self._guards: dict[tuple[Key, str], None] = {}
        self._closed = False

    def symbol(self, name: str, value: int, smallest: int = SMALLEST) -> int:
        """A symbol, which is `value` now and always from `smallest` to `LARGEST`."""
        return self._atom(name, (), value, smallest, LARGEST)

    def _atom(self, op: str, operands: tuple[Key, ...], value: int, low: int | None, high: int | None) -> int:
        number = self._numbers.setdefault((op, operands), len(self.atoms))
        if number == len(self.atoms):
            self.atoms.append(Atom(op, operands, low, high))
            self._values.append(value)
        return Dim(self, {(number,): 1}, value)

    def guard(self, dim: Dim, comparison: str) -> None:
        """What was lowered so far is right only where `dim` compares with 0 like this."""
        if self._closed:
            raise CompileError(f"a decision on {dim!r} after lowering")
        self._guards.setdefault((key_of(dim.terms), comparison))

    def close(self) -> None:
        """No more guards from here on."""
        self._closed = True

    @property
    def guards(self) -> tuple[tuple[Key, str], ...]:
        """Polynomials and how they compare with 0."""
        return tuple(self._guards)

    def describe(self) -> list[str]:
        """The guards, for people."""
        return [f"{self.text(dict(key))} {comparison} 0" for key, comparison in self._guards]

    def text(self, terms: Terms) -> str:
        """A polynomial, for people."""
        parts = []
        for monomial, coefficient in sorted(terms.items(), reverse=True):
            factors = [self._atom_text(self.atoms[number]) for number in monomial]
            if coefficient != 1 or not factors:
                factors.insert(0, str(coefficient))
            parts.append("*".join(factors))
        return " + ".join(parts).replace("+ -", "- ") or "0"

    def _atom_text(self, atom: Atom) -> str:
        if not atom.operands:
            return atom.op
        a, b = (self.text(dict(key)) for key in atom.operands)
        return f"{atom.op}({a}, {b})" if atom.op.isalpha() else f"(({a}) {atom.op} ({b}))"

    # ---- what is known of a polynomial for all values of the symbols ---------------------------------------------

    def low(self, terms: Terms) -> int | None:
        """A number that it is never less than, if one is found.

        What is taken away is weighed against a positive term that it divides: s * t - t is at least 0. Floors are also
        weighed as what they are floors of: s - 2 * (s // 2) is at least 0.
        """
        found = self._low(terms)
        if (found is not None and found > 0) or all(count > 0 for count in terms.values()):
            return found
        loosened = self._without_floors(terms)
        other = None if loosened is None else self.low(loosened)
        return other if found is None or (other is not None and other > found) else found

    def _without_floors(self, terms: Terms) -> Terms | None:
        """A polynomial without some floors of quotients that is never more; None where there are no such."""
        result: Terms | None = None
        for monomial, count in terms.items():
            for number in monomial:
                atom = self.atoms[number]
                rest = divided(monomial, (number,))
                divisor = plain(atom.operands[1]) if atom.op == "//" else None
                if rest is None or divisor is None or count % divisor or self._bound(rest, upper=False) is None:
                    continue
                # divisor * floor is at most the dividend, and at least the dividend less the largest remainder.
                whole = plus(dict(atom.operands[0]), {(): 1 - divisor} if count > 0 else {}, 1)
                result = plus(terms if result is None else result, {monomial: count}, -1)
                result = plus(result, times(whole, {rest: count // divisor}), 1)
                break
        return result

    def _low(self, terms: Terms) -> int | None:
        """The same without a look into floors."""
        left = {monomial: count for monomial, count in terms.items() if count > 0}
        bound = 0
        for monomial, count in terms.items():
            if count > 0:
                continue
            surplus = self._covered(monomial, -count, left)
            if surplus is None:
                high = self._bound(monomial, upper=True)
                if high is None:
                    return None
                surplus = count * high
            bound += surplus
        for monomial, count in left.items():
            low = self._bound(monomial, upper=False)
            if low is None:
                return None
            bound += count * low
        return bound

    def high(self, terms: Terms) -> int | None:
        """A number that it is never more than, if one is found."""
        low = self.low({monomial: -count for monomial, count in terms.items()})
        return None if low is None else -low

    def _covered(self, monomial: Monomial, count: int, left: Terms) -> int | None:
        """Take what is at least `count` times a monomial from `left`; the least that is over, or None."""
        for larger, have in left.items():
            rest = divided(larger, monomial)
            factor = None if rest is None else self._bound(rest, upper=False)
            if factor and factor > 0 and have * factor >= count:
                needed = -(-count // factor)
                left[larger] = have - needed
                return (needed * factor - count) * (self._bound(monomial, upper=False) or 0)
        return None

    def _bound(self, monomial: Monomial, *, upper: bool) -> int | None:
        """A bound of a product of atoms; None unless none of them can be negative."""
        result = 1
        for number in monomial:
            atom = self.atoms[number]
            bound = atom.high if upper else atom.low
            if bound is None or atom.low is None or atom.low < 0:
                return None
            result *= bound
        return result

    # ---- operations --------------------------------------------------------------------------------------------

    def make(self, terms: Terms, value: int | None = None) -> int:
        """The number that a polynomial is; `value` if it is known."""
        if any(terms):
            return Dim(self, terms, evaluate(terms.items(), self._values) if value is None else value)
        return terms.get((), 0)

    def quotient(self, a: int, b: int) -> int:
        """The floor of a / b."""
        if not b > 0:
            raise CompileError(f"a quotient by {b}, which is not positive")
        if _terms(a) and all(count < 0 for count in _terms(a).values()):
            return -self.quotient(-a + b - 1, b)
        whole, rest = divide(_terms(a), _terms(b))
        done, left = self.make(whole), self.make(rest)
        if not isinstance(left, Dim) and not isinstance(b, Dim):
            return done + left // b
        if self._is_remainder(plus(rest, _terms(b), 1), b):
            return done - 1
        return done if self._is_remainder(rest, b) else done + self._operation("//", left, b)

    def remainder(self, a: int, b: int) -> int:
        """What the floor of a / b leaves."""
        if not b > 0:
            raise CompileError(f"a remainder by {b}, which is not positive")
        _, rest = divide(_terms(a), _terms(b))
        if not isinstance(b, Dim):
            rest = {monomial: left for monomial, count in rest.items() if (left := count % b)}
            if not any(rest):
                return rest.get((), 0)
        return self.make(rest) if self._is_remainder(rest, b) else self._operation("%", self.make(rest), b)

    def _is_remainder(self, terms: Terms, b: int) -> bool:
        """Whether 0 <= terms < b."""
        return (self.low(terms) or 0) >= 0 and self.low(terms) is not None and self._less(terms, _terms(b))

    def _less(self, a: Terms, b: Terms) -> bool:
        low = self.low(plus(b, a, -1))
        return low is not None and low > 0

    def extreme(self, op: str, a: int, b: int) -> int:
        """The smaller (`min`) or larger (`max`) of two."""
        smaller, larger = (a, b) if op == "min" else (b, a)
        for first, second, result in ((a, b, smaller), (b, a, larger)):
            low = self.low(plus(_terms(second), _terms(first), -1))
            if low is not None and low >= 0:
                return result
        return self._operation(op, a, b)

    def bits(self, a: int) -> int:
        """How many bits a number takes."""
        return self._operation("bits", a, 0)

    def _operation(self, op: str, a: int, b: int) -> int:
        """An atom for what is no polynomial."""
        lows, highs = [self.low(_terms(x)) for x in (a, b)], [self.high(_terms(x)) for x in (a, b)]
        low, high = _bounds(op, lows, highs)
        return self._atom(op, (key_of(_terms(a)), key_of(_terms(b))), _COMPUTE[op](hint(a), hint(b)), low, high)

    # ---- other values ------------------------------------------------------------------------------------------

    def bound(self, symbols: Sequence[int]) -> list[int] | None:
        """Values of all atoms for these of the symbols, which come first; None where a guard does not hold."""
        values: list[int] = list(symbols)
        try:
            for atom in self.atoms[len(values) :]:
                a, b = atom.operands
                values.append(_COMPUTE[atom.op](evaluate(a, values), evaluate(b, values)))
        except ZeroDivisionError:  # the guard that divisors are positive does not hold
            return None
        for key, comparison in self._guards:
            if not _COMPARE[comparison](evaluate(key, values), 0):
                return None
        return values


def _bounds(op: str, lows: Sequence[int | None], highs: Sequence[int | None]) -> tuple[int | None, int | None]:
    """Bounds of an operation by its operands' bounds."""
    (low, low2), (high, high2) = lows, highs
    known_lows, known_highs = [x for x in lows if x is not None], [x for x in highs if x is not None]
    if op == "min":
        return (min(known_lows) if len(known_lows) == 2 else None), min(known_highs, default=None)
    if op == "max":
        return max(known_lows, default=None), (max(known_highs) if len(known_highs) == 2 else None)
    if op == "bits":
        return 0, None if high is None else max(high, 0).bit_length()
    if op == "%":
        return 0, None if high2 is None else high2 - 1
    if low is None or low < 0:
        return None, None
    low2 = max(low2 or 1, 1)  # divisors are positive: that is a guard
    return (0 if high2 is None else low // high2), None if high is None else high // low2


_Number = int
if not TYPE_CHECKING:
    _Number = object  # at run time it is no int, so that nothing takes its value without leaving a guard


class Dim(_Number):
    """A number that depends on open dims. To the type checker it is an int, and rules need not know better."""

    __slots__ = ("hint", "terms", "trace")
    terms: Terms
    hint: int
    trace: Trace

    if TYPE_CHECKING:

        def __new__(cls, trace: Trace, terms: Terms, hint: int) -> Dim:  # noqa: D102 - int's has other arguments
            ...

    def __init__(self, trace: Trace, terms: Terms, hint: int) -> None:
        self.trace, self.terms, self.hint = trace, terms, hint

    def __add__(self, other: int) -> int:
        if not _is_number(other):
            return self._as_float("+", other)
        return self.trace.make(plus(self.terms, _terms(other), 1), self.hint + hint(other))

    __radd__ = __add__

    def __sub__(self, other: int) -> int:
        if not _is_number(other):
            return self._as_float("-", other)
        return self.trace.make(plus(self.terms, _terms(other), -1), self.hint - hint(other))

    def __rsub__(self, other: int) -> int:
        return -self + other

    def __neg__(self) -> int:
        return self.trace.make({monomial: -count for monomial, count in self.terms.items()}, -self.hint)

    def __pos__(self) -> int:
        return self

    def bit_length(self) -> int:
        """As int's, without a guard."""
        return self.trace.bits(self)

    def __abs__(self) -> int:
        return self if self >= 0 else -self

    def __mul__(self, other: int) -> int:
        if not _is_number(other):
            return self._as_float("*", other)
        return self.trace.make(times(self.terms, _terms(other)), self.hint * hint(other))

    __rmul__ = __mul__

    def __floordiv__(self, other: int) -> int:
        return self.trace.quotient(self, _python(other)) if _is_number(other) else NotImplemented

    def __rfloordiv__(self, other: int) -> int:
        return self.trace.quotient(_python(other), self) if _is_number(other) else NotImplemented

    def __mod__(self, other: int) -> int:
        return self.trace.remainder(self, _python(other)) if _is_number(other) else NotImplemented

    def __rmod__(self, other: int) -> int:
        return self.trace.remainder(_python(other), self) if _is_number(other) else NotImplemented

    def _as_float(self, op: str, other: object) -> int:
        """Arithmetic with a float, for which this is the number it is now."""
        result: Any = NotImplemented
        if isinstance(other, float):
            result = _WITH_FLOATS[op](self.__index__(), other)
        found: int = result
        return found

    def __truediv__(self, other: float) -> float:
        return self.__index__() / (other.__index__() if isinstance(other, Dim) else other)

    def __rtruediv__(self, other: float) -> float:
        return other / self.__index__()

    def __divmod__(self, other: int) -> tuple[int, int]:
        return self // other, self % other

    def _compares(self, comparison: str, other: object) -> bool:
        if isinstance(other, float):
            return _COMPARE[comparison](self.__index__(), other)
        if not isinstance(other, int | Dim | np.integer):
            unknown: bool = NotImplemented
            return unknown
        difference: int = self - (other if isinstance(other, Dim) else int(other))
        if not isinstance(difference, Dim):
            return _COMPARE[comparison](difference, 0)
        found = _always(difference, comparison)
        if found is None:
            found = _COMPARE[comparison](difference.hint, 0)
            self.trace.guard(difference, comparison if found else _OPPOSITE[comparison])
        return found

    def __eq__(self, other: object) -> bool:
        return self._compares("==", other)

    def __ne__(self, other: object) -> bool:
        return self._compares("!=", other)

    def __lt__(self, other: int) -> bool:
        return self._compares("<", other)

    def __le__(self, other: int) -> bool:
        return self._compares("<=", other)

    def __gt__(self, other: int) -> bool:
        return self._compares(">", other)

    def __ge__(self, other: int) -> bool:
        return self._compares(">=", other)

    def __hash__(self) -> int:
        return hash(self.hint)  # what is found by it is compared as well, which leaves the guard

    def __bool__(self) -> bool:
        return self != 0

    def __index__(self) -> int:
        if self != self.hint:
            raise CompileError(f"{self!r} is never {self.hint}")
        return self.hint

    __int__ = __index__

    def __float__(self) -> float:
        return float(self.__index__())

    def __repr__(self) -> str:
        return self.trace.text(self.terms)

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec.replace(",", ""))


def value_of(number: int, atoms: Sequence[int]) -> int:
    """What a number is for values of the atoms."""
    return evaluate(number.terms.items(), atoms) if isinstance(number, Dim) else number


def _python(value: int) -> int:
    """Without NumPy's types."""
    return value if isinstance(value, Dim) else int(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | Dim | np.integer)


def _always(difference: Dim, comparison: str) -> bool | None:
    """How a number compares with 0 for all values of the symbols; None when that depends or is not found."""
    low, high = difference.trace.low(difference.terms), difference.trace.high(difference.terms)
    least, most = (-1 if low is None else low), (1 if high is None else high)
    if least > 0 or most < 0:
        return _COMPARE[comparison](1 if least > 0 else -1, 0)
    if low == 0 and comparison in ("<", ">="):
        return comparison == ">="
    if high == 0 and comparison in (">", "<="):
        return comparison == "<="
    return None


def _terms(value: int) -> Terms:
    if isinstance(value, Dim):
        return value.terms
    return {(): int(value)} if value else {}


def hint(value: int) -> int:
    """What a dim is in the call the program is lowered for. Only for what is right whatever it is: costs, messages."""
    return value.hint if isinstance(value, Dim) else value


def surely(a: int, comparison: str, b: int) -> bool:
    """Whether `a` compares with `b` like this for all values of the symbols, as far as that is found."""
    difference = a - b
    if isinstance(difference, Dim):
        return bool(_always(difference, comparison))
    return _COMPARE[comparison](difference, 0)


def same(a: int, b: int) -> bool:
    """Whether two are equal, with a guard if they happen to be, but none that they are not: for what treats equal ones
    rightly in the way of others, too.
    """
    return hint(a) == hint(b) and a == b


def is_one(size: int) -> bool:
    """Whether a dim is 1, without a guard that it is not: for what is right for 1 in the way of other sizes, too."""
    return same(size, 1)


def is_one_of(size: int, others: Iterable[int]) -> bool:
    """Whether a dim is 1, where that pays only beside more of the others: what is open along with them is not asked."""
    return is_one(size) if any(surely(size, ">=", other) for other in others) else size == 1


def is_open(values: Iterable[object]) -> bool:
    """Whether some of these depend on open dims."""
    return any(isinstance(value, Dim) for value in values)


def exactly(value: Any) -> Hashable:
    """A key for a number, or for tuples of them, that finds equal ones: open dims as keys would be compared."""
    if isinstance(value, tuple):
        return tuple(map(exactly, value))
    return ("open", key_of(value.terms)) if isinstance(value, Dim) else value


def array_of(numbers: Iterable[int]) -> np.ndarray[Any, Any]:
    """A vector of dims: int64, or of objects where some are open."""
    found = list(numbers)
    return np.array(found, dtype=object if is_open(found) else np.int64)


def _extreme(op: str, values: Sequence[int]) -> int:
    result = values[0]
    for value in values[1:]:
        trace = next((x.trace for x in (result, value) if isinstance(x, Dim)), None)
        result = _COMPUTE[op](result, value) if trace is None else trace.extreme(op, result, value)
    return result


def least(first: int, *others: int) -> int:
    """The smallest, without a guard."""
    return _extreme("min", (first, *others))


def most(first: int, *others: int) -> int:
    """The largest, without a guard."""
    return _extreme("max", (first, *others))


def stretches(size: int, to: int) -> bool:
    """Whether a dim broadcasts to another, as ONNX has it."""
    return same(size, to) or is_one(size) or size in (to, 1)


def broadcast_dims(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The dims that all of these stretch to by ONNX's multidirectional rule; ValueError when there are none."""
    result: list[int] = []
    for back in range(1, max((len(shape) for shape in shapes), default=0) + 1):
        sizes = [shape[-back] for shape in shapes if len(shape) >= back]
        found = next((size for size in sizes if not is_one(size)), sizes[0])
        if not all(stretches(size, found) for size in sizes):
            raise ValueError(f"shapes {', '.join(str(list(shape)) for shape in shapes)} do not broadcast")
        result.insert(0, found)
    return tuple(result)
