"""Open dims: arithmetic like that of the numbers they stand for, for all values that the guards admit."""

from __future__ import annotations

import operator
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sardonyx.compiler.dims import (
    Dim,
    Trace,
    array_of,
    broadcast_dims,
    exactly,
    hint,
    is_one,
    is_one_of,
    is_open,
    least,
    most,
    same,
    stretches,
    surely,
)
from sardonyx.compiler.polynomials import evaluate
from sardonyx.errors import CompileError

OPERATIONS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "min": least,
    "max": most,
}
COMPARISONS = (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)


@pytest.fixture
def trace() -> Trace:
    return Trace()


def test_polynomials_cancel(trace: Trace) -> None:
    s, b, p = trace.symbol("s", 16), trace.symbol("b", 3), trace.symbol("p", 7)
    assert 768 * s // 768 is not s
    assert repr(768 * s // 768) == "s"
    assert b * s * 768 // (b * s) == 768
    assert repr(b * (p + s) * 64 // (64 * b)) == "p + s"
    assert b * (p + s) * 64 // (p + s) == b * 64
    assert s - s == 0
    assert (12 * s + 5) % 12 == 5
    assert -(-12 * s // 12) == s
    assert trace.guards == ()


def test_what_always_holds_needs_no_guard(trace: Trace) -> None:
    s, t = trace.symbol("s", 16), trace.symbol("t", 5)
    assert s != 1
    assert s > 0
    assert bool(s)
    assert s * t > t
    assert 64 * (s + t) > 64
    assert -(-s // 4) >= 1
    assert s % 4 < 4
    assert sorted([s * t * 4, 4, s * 4]) == [4, s * 4, s * t * 4]
    assert trace.guards == ()


def test_floors_are_weighed_as_what_they_are_floors_of(trace: Trace) -> None:
    s, t = trace.symbol("s", 16), trace.symbol("t", 5)
    assert s - 2 * (s // 2) >= 0
    assert 2 * ((s + 1) // 2) >= s
    assert s * t >= 3 * (s // 3) * t
    half = (s + 1) // 2
    assert 2 * ((half + 1) // 2) - half < 2
    assert most(0, 2 * half - s + 1) == 2 * half - s + 1
    assert -(-7 // s) >= 1
    assert -(-s // -(-s // 4)) >= 1
    assert trace.guards == ()


def test_keys_do_not_compare(trace: Trace) -> None:
    s, t = trace.symbol("s", 16), trace.symbol("t", 16)
    found = {exactly((1, (s, t))): "one", exactly((1, (t, s))): "other"}
    assert found[exactly((1, (s + 1 - 1, t)))] == "one"
    assert exactly((2, (3,))) == (2, (3,))
    assert trace.guards == ()


def test_what_may_come_out_otherwise_is_a_guard(trace: Trace) -> None:
    s = trace.symbol("s", 16)
    assert s < 100
    assert s + 1 != 40
    assert trace.describe() == ["s - 100 < 0", "s - 39 != 0"]
    assert trace.bound([99]) == [99]
    assert trace.bound([100]) is None
    assert trace.bound([39]) is None


@pytest.mark.parametrize(
    "use",
    [
        int,
        float,
        range,
        lambda s: [0] * s,
        np.zeros,
        lambda s: s / 3,
        lambda s: 0.5 * s,
        lambda s: 1.0 - s,
    ],
)
def test_taking_the_value_fixes_it(trace: Trace, use: object) -> None:
    assert callable(use)
    use(trace.symbol("s", 6))
    assert trace.bound([6]) is not None
    assert trace.bound([7]) is None


def test_a_dim_is_no_int_at_run_time(trace: Trace) -> None:
    """Else C code would take its value without a guard."""
    assert not isinstance(trace.symbol("s", 6), int)


def test_nothing_is_decided_after_lowering(trace: Trace) -> None:
    s = trace.symbol("s", 6)
    trace.close()
    assert s > 1
    with pytest.raises(CompileError, match="after lowering"):
        bool(s > 5)


def test_surely_asks_without_a_guard(trace: Trace) -> None:
    s = trace.symbol("s", 6)
    assert surely(s, ">", 1)
    assert not surely(s, ">", 5)
    assert not surely(s, "<=", 5)
    assert surely(4, "<", 5)
    assert trace.guards == ()


def test_arrays_and_shapes(trace: Trace) -> None:
    s = trace.symbol("s", 6)
    assert array_of([1, 2]).dtype == np.int64
    assert array_of([1, s]).dtype == object
    assert is_open([1, s])
    assert not is_open([1, 2])
    assert broadcast_dims((s, 1, 3), (4, 1)) == (s, 4, 3)
    assert prod((s, 2)) == 2 * s
    with pytest.raises(ValueError, match="do not broadcast"):
        broadcast_dims((s,), (5,))
    assert hint(s) == 6
    assert f"{s:,}" == "s"


def test_what_is_right_for_one_as_well_is_not_asked(trace: Trace) -> None:
    s, t = trace.symbol("s", 6, 1), trace.symbol("t", 6, 1)
    assert not is_one(s)
    assert is_one(1)
    assert not same(s, 5)
    assert stretches(s, s)
    assert stretches(1, s)
    assert not is_one_of(s, [s, t])
    assert broadcast_dims((s, 4), (1, 1), (s, 1)) == (s, 4)
    assert trace.guards == ()
    assert trace.bound([1, 9]) == [1, 9]
    assert is_one(s - 5)
    assert same(s, t)
    assert not is_one_of(s, [64])
    assert trace.bound([6, 6]) is not None
    assert trace.bound([7, 7]) is None
    assert trace.describe() == ["s - 6 == 0", "-1*t + s == 0", "s - 1 != 0"]


def test_bits(trace: Trace) -> None:
    s = trace.symbol("s", 6)
    bits = (s + 1).bit_length()
    assert hint(bits) == 3
    assert trace.bound([255]) == [255, 9]
    assert trace.guards == ()


@st.composite
def expressions(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """Operations on numbers so far: the three symbols, some constants, and the results of earlier operations."""
    count = draw(st.integers(1, 8))
    return [
        (draw(st.sampled_from(sorted(OPERATIONS))), draw(st.integers(0, 5 + i)), draw(st.integers(0, 5 + i)))
        for i in range(count)
    ]


def compute(plan: list[tuple[str, int, int]], start: list[int]) -> list[int]:
    numbers = list(start)
    for op, a, b in plan:
        left, right = numbers[a], numbers[b]
        positive = op not in ("//", "%") or right > 0
        numbers.append(OPERATIONS[op](left, right) if positive else left)
    return numbers


@given(expressions(), st.tuples(*[st.integers(2, 40)] * 3), st.tuples(*[st.integers(1, 40)] * 3), st.integers(0, 9))
@settings(max_examples=400, deadline=None)
def test_a_bound_expression_is_what_the_numbers_give(
    plan: list[tuple[str, int, int]], first: tuple[int, ...], then: tuple[int, ...], fixed: int
) -> None:
    """Arithmetic, bounds and comparisons, at the values they were traced with and at others that the guards admit."""
    trace = Trace()
    symbols = [trace.symbol(name, value, 1) for name, value in zip("abc", first, strict=True)]
    traced = compute(plan, [*symbols, fixed, 1, 7])
    outcomes = [compare(traced[-1], fixed) for compare in COMPARISONS]
    trace.close()
    for values in (first, then):
        atoms = trace.bound(values)
        if atoms is None:
            assert values != first
            continue
        expected = compute(plan, [*values, fixed, 1, 7])
        for number, want in zip(traced, expected, strict=True):
            assert (evaluate(number.terms.items(), atoms) if isinstance(number, Dim) else number) == want
            if isinstance(number, Dim):
                low, high = trace.low(number.terms), trace.high(number.terms)
                assert low is None or low <= want
                assert high is None or want <= high
        assert [compare(expected[-1], fixed) for compare in COMPARISONS] == outcomes
