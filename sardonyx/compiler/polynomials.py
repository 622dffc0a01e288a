"""Polynomials with integer coefficients over numbered atoms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Monomial = tuple[int, ...]
"""Atoms, by number, in ascending order; () is 1."""
Terms = dict[Monomial, int]
"""A polynomial: coefficients, none of them 0."""
Key = tuple[tuple[Monomial, int], ...]
"""The same, hashable."""


def evaluate(terms: Iterable[tuple[Monomial, int]], atoms: Sequence[int]) -> int:
    """A polynomial's value for values of the atoms."""
    total = 0
    for monomial, count in terms:
        part = count
        for number in monomial:
            part *= atoms[number]
        total += part
    return total


def key_of(terms: Terms) -> Key:
    """The polynomial, hashable."""
    return tuple(sorted(terms.items()))


def plain(key: Key) -> int | None:
    """The number that a polynomial is, if it is one."""
    return key[0][1] if len(key) == 1 and key[0][0] == () else None


def plus(a: Terms, b: Terms, factor: int) -> Terms:
    """a + factor * b."""
    result = dict(a)
    for monomial, count in b.items():
        total = result.get(monomial, 0) + factor * count
        if total:
            result[monomial] = total
        else:
            result.pop(monomial, None)
    return result


def times(a: Terms, b: Terms) -> Terms:
    """a * b."""
    result: Terms = {}
    for monomial, count in a.items():
        part = {tuple(sorted(monomial + other)): count * times for other, times in b.items()}
        result = plus(result, part, 1)
    return result


def divided(monomial: Monomial, by: Monomial) -> Monomial | None:
    """What is left of a product of atoms without the atoms of another one; None where it lacks some."""
    left = list(monomial)
    for number in by:
        if number not in left:
            return None
        left.remove(number)
    return tuple(left)


def divide(a: Terms, b: Terms) -> tuple[Terms, Terms]:
    """(q, r) with a = q * b + r, r without terms that the leading one of b divides."""
    lead = max(b, key=lambda monomial: (len(monomial), monomial))
    whole: Terms = {}
    rest: Terms = {}
    left = dict(a)
    while left:
        monomial = max(left, key=lambda m: (len(m), m))
        factor, count = divided(monomial, lead), left[monomial] // b[lead]
        if factor is None or not count:
            rest[monomial] = left.pop(monomial)
            continue
        if left[monomial] % b[lead] and len(b) > 1:
            rest[monomial] = left.pop(monomial)
            continue
        whole = plus(whole, {factor: count}, 1)
        left = plus(left, times(b, {factor: count}), -1)
        if monomial in left:  # less than the divisor's coefficient
            rest[monomial] = left.pop(monomial)
    return whole, rest
