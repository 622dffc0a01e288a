"""A blueprint: a program as arrays, from which a frame is made for any values of its open dims, in little time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sardonyx.compiler.dims import Dim
from sardonyx.compiler.memory import Lifetimes, lifetimes
from sardonyx.compiler.polynomials import Key, evaluate
from sardonyx.compiler.program import MAX_DOMAIN, BufferKind, Computed, Counted, Kernel, Program, Table, View
from sardonyx.errors import CompileError, ExecutionError

Array = np.ndarray[Any, Any]


def _given(program: Program) -> set[int]:
    """The buffers that are given to each run."""
    views = [output.view if isinstance(output, Counted) else output for output in program.outputs]
    return {view.buffer.index for view in (*program.inputs, *views) if isinstance(view, View)}


def address_of(array: Array) -> int:
    """Address of an array's first element."""
    return int(array.__array_interface__["data"][0])


@dataclass(frozen=True)
class Patch:
    """A word of the argument blocks that holds an address in a buffer given to each run; number of the offset."""

    buffer: int
    word: int
    offset: int


@dataclass(frozen=True)
class Columns:
    """Numbers of each step, by index."""

    domain: Array
    chunk: Array
    scratch: Array


@dataclass(frozen=True)
class Recipe:
    """How constants are computed: from which numbers (by index), their dims (likewise), and which buffers they are."""

    made: Computed
    numbers: Array
    dims: tuple[Array, ...]
    buffers: dict[int, int]

    def arrays(self, numbers: Array) -> dict[int, Array]:
        """The constants by buffer index, for these numbers of the program."""
        try:
            found = [np.ascontiguousarray(array) for array in self.made.make(*numbers[self.numbers].tolist())]
        except (ArithmeticError, ValueError) as error:
            raise ExecutionError(f"the dims do not fit: {error}") from error
        for array, (dtype, _), dims in zip(found, self.made.results, self.dims, strict=True):
            if array.dtype != dtype.numpy or list(array.shape) != numbers[dims].tolist():
                expected = f"{dtype.value}{numbers[dims].tolist()}"
                raise CompileError("a table is not what it should be", expected=expected, got=str(array.shape))
        return {buffer: found[index] for buffer, index in self.buffers.items()}


class Numbers:
    """The distinct numbers of a program, by index: those known, and polynomials to evaluate for the open ones."""

    def __init__(self) -> None:
        self._known: list[int] = []
        self._index: dict[Any, int] = {}
        self._open: list[tuple[int, Key]] = []

    def index(self, number: int) -> int:
        """Of a number; the same for equal ones."""
        key: Key | int = tuple(sorted(number.terms.items())) if isinstance(number, Dim) else number
        found = self._index.setdefault(key, len(self._known))
        if found == len(self._known):
            self._known.append(key if isinstance(key, int) else 0)
            if not isinstance(key, int):
                self._open.append((found, key))
        return found

    def indices(self, numbers: Sequence[int]) -> Array:
        """Of several."""
        return np.array([self.index(number) for number in numbers], np.int64)

    def evaluate(self, atoms: Sequence[int]) -> Array:
        """All numbers, int64, for these values of the atoms. ExecutionError when one does not fit."""
        values = list(self._known)
        for index, terms in self._open:
            values[index] = evaluate(terms, atoms)
        try:
            return np.array(values, np.int64)
        except OverflowError as error:
            raise ExecutionError("inputs of these dims are too large", got=str(max(values))) from error


class Blueprint:
    """What frames of a program have in common.

    `words` are the argument blocks, one step after another, with the known numbers in place; the other arrays say
    where the other numbers and the addresses go. `bases` has the addresses of constants by buffer index, `results` the
    buffers of outputs.
    """

    def __init__(self, program: Program, addresses: Mapping[Kernel, int]) -> None:
        self.program, self.numbers = program, Numbers()
        self.lifetimes: Lifetimes = lifetimes(program)
        number = self.numbers.index
        self.sizes = self.numbers.indices([buffer.bytes for buffer in program.buffers])
        steps = program.steps
        self.steps = Columns(
            domain=self.numbers.indices([step.domain for step in steps]),
            chunk=self.numbers.indices([step.chunk for step in steps]),
            scratch=self.numbers.indices([step.scratch for step in steps]),
        )
        self.kernels = np.array([addresses[step.kernel] for step in steps], np.int64)
        self.starts = np.cumsum([0, *(len(step.arguments) for step in steps)])
        self.patches: list[Patch] = []
        given = _given(program)
        integers: list[tuple[int, int]] = []
        places: list[tuple[int, int, int]] = []
        word = 0
        for step in steps:
            for argument in step.arguments:
                if not isinstance(argument, View):
                    integers.append((word, number(argument)))
                    word += 1
                    continue
                offset = number(argument.offset * argument.dtype.size)
                if argument.buffer.index in given:
                    self.patches.append(Patch(argument.buffer.index, word, offset))
                else:
                    places.append((word, argument.buffer.index, offset))
                word += 1
        self.integers = np.array(integers, np.int64).reshape(-1, 2).T
        self.places = np.array(places, np.int64).reshape(-1, 3).T
        self.outputs = [self._output(output) for output in program.outputs]
        self.constants, self.tables, self.recipes = self._constants()
        self.bases = np.zeros(len(program.buffers) or 1, np.int64)
        for index, array in self.constants.items():
            self.bases[index] = address_of(array)
        self.results = np.array([b.index for b in program.buffers if b.kind is BufferKind.OUTPUT], np.int64)

    def _output(self, output: View | Counted | Array) -> Array:
        """Indices of the dims, or of the elements of an array of numbers."""
        if isinstance(output, np.ndarray):
            found = output.reshape(-1).tolist() if output.dtype == object else []
            return self.numbers.indices(found)
        return self.numbers.indices((output.view if isinstance(output, Counted) else output).dims)

    def _constants(self) -> tuple[dict[int, Array], dict[int, Array], list[Recipe]]:
        """The constants that steps use by buffer index, at addresses that fit their type, those that are numbers of the
        program, and how those are computed that depend on them.
        """
        steps, buffers = self.program.steps, self.program.buffers
        used = {v.buffer.index for step in steps for v in step.views if v.buffer.kind is BufferKind.CONSTANT}
        constants: dict[int, Array] = {}
        tables: dict[int, Array] = {}
        recipes: dict[Computed, Recipe] = {}
        for index in sorted(used):
            source = buffers[index].source
            if isinstance(source, Table):
                recipe = recipes.setdefault(source.of, self._recipe(source.of))
                recipe.buffers[index] = source.index
                continue
            data = buffers[index].data
            assert data is not None
            if data.dtype == object:
                tables[index] = self.numbers.indices(data.reshape(-1).tolist())
            else:  # a tensor in a file may lie at any byte; native code wants natural alignment
                constants[index] = data if data.flags.aligned else data.copy()
        return constants, tables, list(recipes.values())

    def _recipe(self, made: Computed) -> Recipe:
        dims = tuple(self.numbers.indices(dims) for _, dims in made.results)
        return Recipe(made, self.numbers.indices(made.numbers), dims, {})

    def computed(self, numbers: Array) -> dict[int, Array]:
        """The constants that depend on open dims, by buffer index, for these numbers."""
        found: dict[int, Array] = {}
        for recipe in self.recipes:
            found |= recipe.arrays(numbers)
        return found

    def check(self, numbers: Array) -> None:
        """ExecutionError if a step has more items than can be counted."""
        domains = numbers[self.steps.domain]
        if domains.size and (domains.max() > MAX_DOMAIN or domains.min() < 1):
            raise ExecutionError("a step has too much work for one run", got=f"{domains.max():,} items")
