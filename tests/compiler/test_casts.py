"""Casts between all types, as vectors and in tails: floats to integers truncated and saturated, everything to narrow
floats rounded once, half to even, as a search among all their numbers has it.
"""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import helper

import sardonyx
from tests.suites.case import Case, node

Array = np.ndarray[Any, Any]
EDGES = (0, 1.5, -1.5, -0.9, 127.9, 128, 255.9, 256, -128.9, -129, 32767.9, 32768, -32768.5, -32769, 65535.9, 65536)
EDGES += (4294967040, 4294967295, 4294967296, 9.2e18, 2.0**63, -(2.0**63), -9.3e18, 1.8e19, 2.0**64, 123456789012)
EDGES += (2147483520, 2147483648, -2147483648, -2147483904, 3e9, -3e9, 1e30, -1e30, np.inf, -np.inf, np.nan, -0.0)
NARROW_INTEGERS = ("int4", "uint4", "int2", "uint2")
WHOLE_BYTES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
EIGHT_BITS = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
SMALLER = {"float6_e2m3fn": 6, "float6_e3m2fn": 6, "float4_e2m1fn": 4}
FLOATS = ("float16", "bfloat16", *EIGHT_BITS, *SMALLER)
BITS = {"float16": 16, "bfloat16": 16, **SMALLER, "int4": 4, "uint4": 4, "int2": 2, "uint2": 2}


def numpy_type(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, name))


def every(name: str) -> Array:
    """All numbers of a narrow type, in order of their bits."""
    dtype = numpy_type(name)
    return np.arange(1 << BITS.get(name, 8), dtype=np.dtype(f"uint{8 * dtype.itemsize}")).view(dtype)


def cast(x: Array, name: str, **attributes: Any) -> Array:
    to = helper.np_dtype_to_tensor_dtype(numpy_type(name))
    case = Case("cast", [node("Cast", "x", to=to, **attributes)], {"x": x}, opset=25)
    session = sardonyx.InferenceSession(case.model().SerializeToString(), providers=["cpu"])
    assert {placement.provider for placement in session.explain()} == {"cpu"}
    (got,) = session.run(None, {"x": x})
    assert got.dtype == numpy_type(name)
    return got


def assert_same(got: Array, want: Array) -> None:
    """The same numbers with the same signs; NaN for NaN."""
    a, b = got.astype(np.float64), want.astype(np.float64)
    np.testing.assert_array_equal(a, b)
    number = ~np.isnan(b)
    np.testing.assert_array_equal(np.signbit(a)[number], np.signbit(b)[number])


def nearest(x: Array, name: str, *, saturate: bool = True) -> Array:
    """Of all numbers of a type the one nearest to each float64, by search; half to the even one."""
    table = every(name).astype(np.float64)
    codes = np.flatnonzero((table >= 0) & np.isfinite(table) & ~np.signbit(table))
    values = table[codes]
    order = np.argsort(values)
    codes, values = codes[order], values[order]
    overflow = np.append(values, 2 * values[-1] - values[-2])  # what would come next
    size = np.abs(x)
    above = np.clip(np.searchsorted(overflow, size), 1, len(overflow) - 1)
    middle = (overflow[above - 1] + overflow[above]) / 2
    up = (size > middle) | ((size == middle) & (np.append(codes, codes[-1] + 1)[above] % 2 == 0))
    rounded = np.where(up, overflow[above], overflow[above - 1])
    if name in SMALLER or (saturate and name in EIGHT_BITS):
        rounded = np.where(rounded > values[-1], values[-1], rounded)
    else:
        beyond = np.inf if np.isinf(table).any() else np.nan
        rounded = np.where(rounded > values[-1], beyond, rounded)
    result = np.copysign(np.where(np.isnan(x), np.nan, rounded), x)
    return np.where((result == 0) & (name.endswith("fnuz")), 0.0, result)


def numbers(name: str) -> Array:
    """All of a type's numbers, the middles between them, and what lies just beside both; and what is far from them."""
    table = every(name).astype(np.float64)
    values = np.unique(table[np.isfinite(table)])
    middles = (values[1:] + values[:-1]) / 2
    last = values[-1] + (values[-1] - values[-2]) * np.array([0.25, 0.5, 0.75, 1.0, 4.0])
    edges = np.concatenate([values, middles, last, -last])
    beside = [np.nextafter(edges, towards) for towards in (-np.inf, np.inf)]
    small = np.nextafter(edges.astype(np.float32), np.float32(np.inf)).astype(np.float64)
    far = np.array([0.0, -0.0, np.inf, -np.inf, 1e30, -1e30, 1e300, -1e300, 5e-324, -5e-324, 1e-40, -1e-40])
    return np.concatenate([edges, *beside, small, far])


@pytest.mark.parametrize("source", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("target", WHOLE_BYTES)
def test_floats_to_integers(source: str, target: str) -> None:
    with np.errstate(over="ignore"):
        x = np.tile(np.array(EDGES), 5)[1:].astype(numpy_type(source))
    limits = ml_dtypes.iinfo(numpy_type(target))
    wide = np.nan_to_num(x.astype(np.float64), nan=0, posinf=1e300, neginf=-1e300)
    want = [min(max(int(value), int(limits.min)), int(limits.max)) for value in wide]
    np.testing.assert_array_equal(cast(x, target).astype(object), np.array(want, object))


@pytest.mark.parametrize("target", NARROW_INTEGERS)
def test_integers_lose_upper_bits(target: str) -> None:
    bits, signed = BITS[target], not target.startswith("u")
    x = np.arange(-300, 300, dtype=np.int32)
    want = [(int(v) % (1 << bits)) - ((1 << bits) if signed and int(v) >> (bits - 1) & 1 else 0) for v in x]
    for given in (x, x.astype(np.int64), x + np.float32(0.5) * np.sign(x, dtype=np.float32)):
        np.testing.assert_array_equal(cast(given, target).astype(np.int32), want)


@pytest.mark.parametrize("name", [*FLOATS, "float8_e8m0fnu", *NARROW_INTEGERS])
def test_widened(name: str) -> None:
    codes = every(name)
    for wide in ("float32", "float64"):
        assert_same(cast(codes, wide), codes.astype(wide))
    np.testing.assert_array_equal(cast(codes, "bool"), codes.astype(np.float64) != 0)


@pytest.mark.parametrize("source", ["float32", "float64"])
@pytest.mark.parametrize("saturate", [True, False])
@pytest.mark.parametrize("name", FLOATS)
def test_rounded_once(name: str, saturate: bool, source: str) -> None:
    with np.errstate(over="ignore"):
        x = numbers(name).astype(source)
    got = cast(x, name, saturate=int(saturate))
    assert_same(got, nearest(x.astype(np.float64), name, saturate=saturate))
    if name not in SMALLER:
        assert np.isnan(cast(np.full(11, np.nan, source), name).astype(np.float32)).all()


@pytest.mark.parametrize("source", ["int16", "int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("name", FLOATS)
def test_integers_rounded_once(name: str, source: str) -> None:
    limits = np.iinfo(source)
    powers = [1 << bit for bit in range(limits.bits)]
    found = {p + (p >> half) + step for p in powers for half in (2, 3, 4, 8, 9, 11, 12, 70) for step in (-1, 0, 1)}
    found |= {-number for number in found}
    kept = sorted(number for number in found if limits.min <= number <= limits.max)
    want = [_of_integer(number, name) for number in kept]
    assert_same(cast(np.array(kept, source), name), np.array(want))


def _of_integer(number: int, name: str) -> float:
    """The nearest number to an integer that float64 may lack: those have too many digits to be in the middle."""
    size = abs(number)
    if size >= 1 << 53:
        size = size & ~0xFFF | (0x800 if size & 0xFFF else 0)
    return float(nearest(np.array([float(-size if number < 0 else size)]), name)[0])


@pytest.mark.parametrize("source", ["float32", "float64"])
@pytest.mark.parametrize("mode", ["up", "down", "nearest"])
@pytest.mark.parametrize("saturate", [True, False])
def test_powers_of_two(saturate: bool, mode: str, source: str) -> None:
    """float8e8m0 by the standard's table, where it says what becomes of a number."""
    powers = 2.0 ** np.arange(-127, 128)
    x = np.concatenate([powers, powers * 1.5, np.nextafter(powers, 0), np.nextafter(powers, np.inf), powers * 1.25])
    x = np.concatenate([x, [np.nan, np.inf, 1e-45]]).astype(source)
    wide = x.astype(np.float64)
    fraction, exponent = np.frexp(np.nan_to_num(wide, posinf=2.0**200))
    whole = (exponent - 1).astype(int)
    above = {"up": fraction > 0.5, "down": np.zeros_like(fraction, bool), "nearest": fraction >= 0.75}[mode]
    power = whole + above
    want = 2.0 ** np.clip(power, -127, 127).astype(np.float64)
    if not saturate:
        want = np.where((power > 127) | (wide < 2.0**-127), np.nan, want)
    want = np.where(np.isnan(wide), np.nan, want)
    got = cast(x, "float8_e8m0fnu", saturate=int(saturate), round_mode=mode).astype(np.float64)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", FLOATS)
def test_narrow_to_narrow(name: str) -> None:
    for source in set(FLOATS) - {name}:
        codes = every(source)
        wide = codes.astype(np.float64)
        number = ~np.isnan(wide)
        assert_same(cast(codes, name)[number], nearest(wide[number], name))


@pytest.mark.parametrize("name", [*FLOATS, "float8_e8m0fnu", *NARROW_INTEGERS, "complex64", "complex128"])
def test_moves_keep_every_bit(name: str) -> None:
    dtype = numpy_type(name)
    rng = np.random.default_rng(3)
    x = (every(name) if not name.startswith("complex") else rng.random(96).view(dtype)).reshape(2, -1)
    for nodes, want in (
        ([node("Transpose", "x", perm=[1, 0])], x.T),
        ([node("Reshape", "x s")], x.reshape(-1, 2)),
        ([node("Concat", "x x", axis=1)], np.concatenate([x, x], 1)),
        ([node("Gather", "x i", axis=0)], x[[1, 0, 1]]),
    ):
        case = Case("move", nodes, {"x": x}, {"s": np.array([-1, 2]), "i": np.array([1, 0, 1])}, opset=25)
        session = sardonyx.InferenceSession(case.model().SerializeToString(), providers=["cpu"])
        assert {placement.provider for placement in session.explain()} == {"cpu"}
        (got,) = session.run(None, {"x": x})
        assert got.dtype == dtype
        np.testing.assert_array_equal(got.view(np.uint8), np.ascontiguousarray(want).view(np.uint8))
