"""Winograd convolution F(2x2, 3x3) and F(4x4, 3x3) on channels-last data (Lavin and Gray, arXiv:1509.09308)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from sardonyx.compiler.builder import Builder, Int, Parameter, Ptr, Val
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.kernels.epilogue import Epilogue
from sardonyx.compiler.kernels.gemm import accumulate
from sardonyx.compiler.layout import aligned_zeros
from sardonyx.compiler.program import Kernel

TAPS = 3
"""Side of a filter."""
SPARE_WORD, HEAD_WORDS = 40, 56
"""Words of 8 bytes at the start of the scratch memory: the addresses of a patch's pixels, then a vector of any type for
results outside the image.
"""

_POINTS = {2: (Fraction(1),), 4: (Fraction(5, 8), Fraction(3, 2))}
"""Besides 0 and infinity, the points p and -p at which F(m, 3) evaluates its polynomials, by m. These for m = 4 halve
the rounding error of the usual 1 and 2 (0.65e-6 instead of 1.4e-6), and all coefficients are exact.
"""

_SIZES: tuple[str, ...] = ("tiles", "down", "across", "tile_blocks", "tile_block", "depths", "depth_block", "channels")
_SIZES += ("chunk", "n", "panels", "panel_block", "taps", "size_d", "size0", "size1", "out0", "out1", "stride_d")
_SIZES += ("dilation_d", "pad_d", "pad0", "pad1", "x_batch", "x_d", "x0", "x1", "y_row", "v_at", "v_row")
_SIZES += ("v_position", "z_at", "z_position")

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Transforms:
    """The matrices of F(m, 3): y = A [(G g) * (B d)] for a patch d of m + 2 inputs and a filter g (Cook and Toom).

    Their middle rows (columns of `a`) come in pairs, for a point and its negative.
    """

    a: Rows
    b: Rows
    g: Rows

    @property
    def side(self) -> int:
        """Inputs of a patch."""
        return len(self.b)


@lru_cache
def transforms(outputs: int) -> Transforms:
    """The matrices of F(outputs, 3); `outputs` is 2 or 4."""
    points = [Fraction(0)]
    for point in _POINTS[outputs]:
        points += [point, -point]
    b, g = [], []
    for point in points:
        others = [other for other in points if other != point]
        norm = Fraction(1)
        for other in others:
            norm *= point - other
        b.append((*_polynomial(others), Fraction(0)))
        g.append(tuple(point**power / norm for power in range(TAPS)))
    b.append(_polynomial(points))
    g.append((Fraction(0), Fraction(0), Fraction(1)))
    a = [(*(point**power for point in points), Fraction(power == outputs - 1)) for power in range(outputs)]
    return Transforms(_floats(a), _floats(b), _floats(g))


def _polynomial(roots: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """Coefficients of the product of (x - root), the constant one first."""
    result = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *result], [*(root * c for c in result), Fraction(0)]
        result = [up - down for up, down in zip(shifted, scaled, strict=True)]
    return tuple(result)


def _floats(rows: Sequence[Sequence[Fraction]]) -> Rows:
    return tuple(tuple(float(value) for value in row) for row in rows)


def transform_weights(weights: np.ndarray[Any, Any], outputs: int, width: int) -> np.ndarray[Any, Any]:
    """Filters [n, channels, taps, 3, 3] as [panels, positions, taps, channels, width], computed in float64."""
    g = np.array(transforms(outputs).g)
    both = np.kron(g, g)  # G g G' of a flattened filter, as one matrix product for all filters
    n, channels, taps = weights.shape[:3]
    packed = aligned_zeros((-(-n // width), len(both), taps, channels, width), weights.dtype)
    for panel, target in enumerate(packed):
        part = weights[panel * width : (panel + 1) * width]
        # In the order of the result before the product, when there is least to move.
        flat = part.reshape(len(part), channels, taps, TAPS * TAPS).transpose(3, 2, 1, 0).astype(np.float64, order="C")
        moved = both @ flat.reshape(TAPS * TAPS, -1)
        target[..., : len(part)] = moved.reshape(len(both), taps, channels, len(part))
    return packed


@dataclass(frozen=True)
class Winograd(Kernel):
    """y = epilogue(x convolved with filters of [taps, 3, 3]), `outputs` by `outputs` pixels of a plane at a time.

    for (block of panels, block of depths, block of tiles) in domain:
        for input plane q of the block, tile:  v[p, q, tile, c] = (B patch(q, tile, c) B')[p], zeros outside the input
        for panel of `vectors` registers of filters:
            for each position p:  z[p, depth, tile] = sum over taps t of v[p, depth + t, tile] * u[panel, p, t]
            for depth, tile:  y[depth, tile, panel] = epilogue(A z[:, depth, tile] A'), what lies inside

    The sums are matrix products over channels. A plane is transformed once for all taps that see it; where depths are
    strided or dilated a block has one depth, and its planes are the taps'. Images are blocks with one plane.

    Scratch memory holds the addresses of a patch's pixels, a half-transformed patch, then v at `v_at` and z at `z_at`
    (elements). Transforms pass over the columns and then the rows of a patch, in loops that write the half between them
    to memory, since so many values live in no processor's registers. They take `chunk` channels at a time, for which
    that half stays in the first-level cache.
    """

    outputs: int
    rows: int
    vectors: int
    dtype: DType
    epilogue: Epilogue

    def parameters(self) -> tuple[Parameter, ...]:
        """x, u, y, `channels` zeros, then sizes, strides and places in the scratch memory."""
        slots = [Parameter(name, self.dtype) for name in ("x", "u", "zeros")]
        slots.append(Parameter("y", self.epilogue.expr.dtype))
        return (*slots, *(Parameter(name) for name in _SIZES), *self.epilogue.parameters())

    @cached_property
    def side(self) -> int:
        """Side of the patch of inputs that a tile of outputs sees."""
        return self.outputs + TAPS - 1

    def emit(self, k: Builder) -> None:
        """See the class."""
        scratch = k.workspace(self.dtype)
        v, z = scratch + k.size("v_at"), scratch + k.size("z_at")
        operands = self.epilogue.bases(k)
        depth_blocks = (k.size("depths") + (k.size("depth_block") - 1)) // k.size("depth_block")
        with k.loop(k.end, start=k.begin) as item:
            block = item % k.size("tile_blocks")
            depth = item // k.size("tile_blocks") % depth_blocks * k.size("depth_block")
            panel = item // k.size("tile_blocks") // depth_blocks * k.size("panel_block")
            first = block * k.size("tile_block")
            count = k.min(k.size("tile_block"), k.size("tiles") - first)
            depths = k.min(k.size("depth_block"), k.size("depths") - depth)
            corner = depth * k.size("stride_d") - k.size("pad_d")
            with k.loop(depths + (k.size("taps") - 1)) as q, k.loop(count) as t:
                self._gather_patch(k, first + t, corner + q * k.size("dilation_d"))
                self._enter(k, v + (q * count + t) * k.size("v_row"))
            with k.loop(k.min(panel + k.size("panel_block"), k.size("panels")), start=panel) as p:
                with k.loop(self.side * self.side) as position:
                    self._multiply(k, v, z, position, p, count, depths)
                with k.loop(depths) as j, k.loop(count) as t:
                    self._leave(k, z, operands, first + t, depth + j, j * count + t, p)

    def _place(self, k: Builder, tile: Int) -> tuple[Int, Int, Int]:
        """The tile's image, and its first output's row and column."""
        across, down = k.size("across"), k.size("down")
        return tile // across // down, tile // across % down * self.outputs, tile % across * self.outputs

    def _gather_patch(self, k: Builder, tile: Int, plane: Int) -> None:
        """Write the addresses of the patch's pixels, or of zeros, to the start of the scratch memory, by columns."""
        image, row, column = self._place(k, tile)
        top, left = row - k.size("pad0"), column - k.size("pad1")
        corner = image * k.size("x_batch") + plane * k.size("x_d") + top * k.size("x0") + left * k.size("x1")
        present = plane.within(k.size("size_d"))
        rows = [present & (top + i).within(k.size("size0")) for i in range(self.side)]
        for j in range(self.side):
            inside = (left + j).within(k.size("size1"))
            for i in range(self.side):
                pixel = k.pointer("x") + (corner + k.size("x0") * i + k.size("x1") * j)
                k.store_pointer(k.pick_pointer(rows[i] & inside, pixel, k.pointer("zeros")), j * self.side + i)

    def _enter(self, k: Builder, target: Ptr) -> None:
        """Transform a patch: its columns, then its rows."""
        lanes, side, chunk = k.target.lanes(self.dtype), self.side, k.size("chunk")
        half = k.workspace(self.dtype) + HEAD_WORDS * 8 // self.dtype.size
        with k.loop(k.size("channels"), step=chunk) as start:
            count = k.min(chunk, k.size("channels") - start)
            with k.loop(side) as j:
                pixels = [k.load_pointer(j * side + i, self.dtype) + start for i in range(side)]

                def down(at: Int, mask: Val | None, pixels: list[Ptr] = pixels, j: Int = j) -> None:
                    values = enter(k, [k.load(pixel + at, lanes, mask) for pixel in pixels])
                    for i, value in enumerate(values):
                        k.store(value, half + ((j + i * side) * chunk + at))

                _vectors(k, count, lanes, down)
            with k.loop(side) as i:
                line = half + i * side * chunk
                out = target + (i * side * k.size("v_position") + start)
                with k.loop(count, step=lanes) as at:
                    values = enter(k, [k.load(line + (chunk * j + at), lanes) for j in range(side)])
                    for column, value in enumerate(values):
                        k.store(value, out + (k.size("v_position") * column + at))

    def _multiply(self, k: Builder, v: Ptr, z: Ptr, position: Int, panel: Int, tiles: Int, depths: Int) -> None:
        """z[position] = sum over taps of v[position] * u[panel, position]; rows past the last repeat it.

        Meanwhile each turn asks for its share of the next position's weights: read only when they are needed, those of
        late layers would come from memory at a third of the speed at which the first rows use them.
        """
        lanes, channels, taps = k.target.lanes(self.dtype), k.size("channels"), k.size("taps")
        width = self.vectors * lanes
        span = channels * width
        weights = k.pointer("u") + (panel * (self.side * self.side) + position) * taps * span
        line, target = v + position * k.size("v_position"), z + position * k.size("z_position")
        plane, count = tiles * k.size("v_row"), tiles * depths
        turns = (count + (self.rows - 1)) // self.rows
        share = (turns + (width - 1)) // turns
        with k.loop(count, step=self.rows) as m:
            rows = [line + k.min(m + r, count - 1) * k.size("v_row") for r in range(self.rows)]
            acc = [k.const(0.0, self.dtype, lanes) for _ in range(self.rows * self.vectors)]
            later = weights + (taps * span + m // self.rows * taps * channels * share)
            with k.loop(taps, carry=acc) as tap:
                here, ahead = weights + tap * span, later + tap * channels * share
                accumulate(k, rows, tap * plane, k.index(1), here, channels, acc, self.vectors, ahead=(ahead, share))
            for r in range(self.rows):
                out = target + (m + r) * width
                for at in range(self.vectors):
                    k.store(acc[r * self.vectors + at], out + at * lanes)

    def _leave(self, k: Builder, z: Ptr, operands: Sequence[Ptr], tile: Int, depth: Int, line: Int, panel: Int) -> None:
        """Transform a tile's products back, columns and then rows; outputs beside the image go to spare memory."""
        lanes, side = k.target.lanes(self.dtype), self.side
        width = self.vectors * lanes
        half = k.workspace(self.dtype) + HEAD_WORDS * 8 // self.dtype.size
        with k.loop(side) as j:
            source = z + (j * k.size("z_position") + line * width)
            for v in range(self.vectors):
                column = [k.load(source + (k.size("z_position") * (side * i) + v * lanes), lanes) for i in range(side)]
                for line_at, value in enumerate(leave(k, column)):
                    k.store(value, half + (j * width + (line_at * side * width + v * lanes)))
        image, row, left = self._place(k, tile)
        top = (image * k.size("depths") + depth) * k.size("out0") + row
        spare = k.workspace(self.epilogue.expr.dtype) + SPARE_WORD * 8 // self.epilogue.expr.dtype.size
        inside = [(left + j) < k.size("out1") for j in range(self.outputs)]
        along = [k.min(left + j, k.size("out1") - 1) for j in range(self.outputs)]
        first = panel * width
        with k.loop(k.min(self.outputs, k.size("out0") - row)) as i:
            base = half + i * (side * width)

            def across(at: Int, mask: Val | None) -> None:
                values = leave(k, [k.load(base + (at + j * width), lanes) for j in range(side)])
                for j, value in enumerate(values):
                    pixel = (top + i) * k.size("out1") + along[j]
                    result = self.epilogue.apply(k, value, operands, pixel, first + at, mask)
                    target = k.pointer("y") + (pixel * k.size("y_row") + (first + at))
                    k.store(result, k.pick_pointer(inside[j], target, spare), mask)

            _vectors(k, k.min(k.size("n") - first, width), lanes, across)


def _vectors(k: Builder, count: Int, lanes: int, body: Callable[[Int, Val | None], None]) -> None:
    """Run `body` over whole vectors and a masked rest."""
    whole = count // lanes * lanes
    with k.loop(whole, step=lanes) as at:
        body(at, None)
    with k.when(whole < count):
        body(whole, k.first_lanes(count - whole, lanes))


def enter(k: Builder, values: Sequence[Val]) -> list[Val]:
    """B d: the rows of a point and its negative are a sum and a difference."""
    matrix = transforms(len(values) - TAPS + 1).b
    result = [combine(k, matrix[0], values)]
    for row in matrix[1:-1:2]:
        even, odd = (combine(k, row[start::2], values[start::2]) for start in (0, 1))
        result += [even + odd, even - odd]
    return [*result, combine(k, matrix[-1], values)]


def leave(k: Builder, values: Sequence[Val]) -> list[Val]:
    """A z: the products of a point and its negative are added for even powers and subtracted for odd ones."""
    matrix = transforms(len(values) - TAPS + 1).a
    pairs = list(zip(values[1:-1:2], values[2:-1:2], strict=True))
    parts = [[one + other for one, other in pairs], [one - other for one, other in pairs]]
    return [
        combine(k, (row[0], *row[1:-1:2], row[-1]), (values[0], *parts[power % 2], values[-1]))
        for power, row in enumerate(matrix)
    ]


def combine(k: Builder, weights: Sequence[float], values: Sequence[Val]) -> Val:
    """The sum of values times constants; zeros and ones cost nothing."""
    terms = [(weight, value) for weight, value in zip(weights, values, strict=True) if weight]
    weight, total = max(terms, key=lambda term: abs(term[0]) == 1)
    terms.remove((weight, total))
    if weight != 1:
        total = -total if weight == -1 else total * k.const(weight, total.dtype, total.lanes)
    for weight, value in terms:
        if abs(weight) == 1:
            total = total + value if weight > 0 else total - value
        else:
            total = k.fma(k.const(weight, value.dtype, value.lanes), value, total)
    return total
