"""What lies between lowering and code: buffers, views of them, and a table of steps."""

from __future__ import annotations

import hashlib
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cache, cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from sardonyx.compiler.builder import Builder, Parameter
from sardonyx.compiler.dims import Dim, hint, is_one, is_open, same, stretches, surely
from sardonyx.compiler.dtypes import DType
from sardonyx.errors import CompileError

MAX_DOMAIN = (1 << 32) - 1
"""Items of a step's domain; tickets count them in 32 bits."""


@dataclass(frozen=True, eq=False)
class Computed:
    """Arrays that `make` returns for numbers, some of them open: made anew for each binding of those.

    `make` depends on nothing else. `results` are the types and dims of what it returns.
    """

    make: Callable[..., Sequence[np.ndarray[Any, Any]]]
    numbers: tuple[int, ...]
    results: tuple[tuple[DType, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Table:
    """The elements of a constant that is one of the arrays of a `Computed`."""

    of: Computed
    index: int


Source = np.ndarray[Any, Any] | Callable[[], np.ndarray[Any, Any]] | Table
"""Of a constant's elements."""


class BufferKind(Enum):
    """Where a buffer's memory comes from."""

    INPUT = "input"
    OUTPUT = "output"
    CONSTANT = "constant"
    ARENA = "arena"
    STATUS = "status"


@dataclass(frozen=True)
class Buffer:
    """Contiguous memory of `bytes` bytes; `source` is the array of a constant, or what computes it.

    A constant of objects holds dims, some of them open: its elements are int64 once they are bound.
    """

    index: int
    kind: BufferKind
    bytes: int
    name: str = ""
    source: Source | None = field(default=None, compare=False, repr=False)

    @property
    def data(self) -> np.ndarray[Any, Any] | None:
        """The array of a constant, dense; None where there is none before dims are bound."""
        if self.source is None or isinstance(self.source, np.ndarray):
            return self.source
        if isinstance(self.source, Table):
            return None
        return np.ascontiguousarray(self.source())


@dataclass(frozen=True)
class View:
    """A strided tensor in a buffer. `offset` and `strides` count elements; a stride of 0 broadcasts.

    Layouts are nothing but strides: a channels-last image of dims [N, C, H, W] has strides [H*W*C, 1, W*C, C].
    """

    buffer: Buffer
    dtype: DType
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.dims)

    @property
    def span(self) -> int:
        """Elements from the first to the last one addressed, both included; 0 when it is empty for all open dims."""
        if surely(self.size, "==", 0):
            return 0
        return sum((d - 1) * s for d, s in zip(self.dims, self.strides, strict=True)) + 1

    @property
    def is_row_major(self) -> bool:
        """Whether the elements lie as NumPy's C order would have them, without gaps."""
        return all(
            is_one(d) or same(s, want) for d, s, want in zip(self.dims, self.strides, row_major(self.dims), strict=True)
        )

    @property
    def raw(self) -> View:
        """The same elements if nothing is computed with them: those of narrow types as integers."""
        kind = {1: DType.U8, 2: DType.U16}[self.dtype.size] if self.dtype.is_narrow else self.dtype
        return View(self.buffer, kind, self.dims, self.strides, self.offset)

    def permute(self, order: tuple[int, ...]) -> View:
        """The dimensions in another order."""
        dims, strides = tuple(self.dims[i] for i in order), tuple(self.strides[i] for i in order)
        return View(self.buffer, self.dtype, dims, strides, self.offset)

    def broadcast(self, dims: tuple[int, ...]) -> View:
        """Stretched to `dims` by ONNX's multidirectional rule; ValueError when they cannot be reached."""
        lead = len(dims) - len(self.dims)
        own = (1,) * lead + self.dims
        if lead < 0 or any(not stretches(have, want) for have, want in zip(own, dims, strict=True)):
            raise ValueError(f"{list(self.dims)} does not broadcast to {list(dims)}")
        steps = (0,) * lead + self.strides
        strides = tuple(0 if is_one(d) else s for d, s in zip(own, steps, strict=True))
        return View(self.buffer, self.dtype, dims, strides, self.offset)

    def __str__(self) -> str:
        kind, index = self.buffer.kind.value, self.buffer.index
        return f"%{index}:{kind}[{self.offset}] {self.dtype.value}{list(self.dims)}/{list(self.strides)}"


@dataclass(frozen=True)
class Counted:
    """A result that has as many entries along `axis` as a run counts.

    `view` has room for the most there can be, and `count` is one int64 that says how many there are.
    """

    view: View
    count: View
    axis: int


@dataclass(frozen=True)
class Check:
    """What can turn out to be wrong with a run's values: then a step writes a number other than 0 to `status`.

    That is one int64, which is 0 when a run begins. A run that ends with something else there raises ExecutionError,
    with these fields and the number; of several any one. The step itself goes on with what is safe.
    """

    status: View
    where: str
    what: str
    expected: str


def row_major(dims: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a dense tensor whose last dimension moves fastest."""
    strides, step = [], 1
    for size in reversed(dims):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def channels_last(dims: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a dense [N, C, spatial...] tensor whose channels move fastest."""
    _, channels, *spatial = dims
    strides, step = [], channels
    for size in reversed(spatial):
        strides.append(step)
        step *= size
    return (step, 1, *reversed(strides))


class Kernel(ABC):
    """Everything that shapes a piece of native code: a frozen dataclass that can emit itself."""

    @abstractmethod
    def parameters(self) -> tuple[Parameter, ...]:
        """The slots of the argument block, in order."""

    @abstractmethod
    def emit(self, k: Builder) -> None:
        """Emit the body for the domain part `[k.begin, k.end)`."""

    @property
    def name(self) -> str:
        """Short readable name, for tables."""
        return type(self).__name__.lower()

    @cached_property
    def symbol(self) -> str:
        """Name of the native function: the same for equal kernels, in every process."""
        shaped = repr(self).encode() + _origin(type(self).__module__)
        return f"{self.name}_{hashlib.blake2b(shaped, digest_size=8).hexdigest()}"


@cache
def _origin(module: str) -> bytes:
    """What tells kernels of other packages from this one's and from their own other versions: their module's source.

    Where there is none to read it is a random number, and what was compiled serves this process alone.
    """
    if module.startswith(f"{__package__}."):
        return b""  # the cache looks at this package's sources itself
    path = getattr(sys.modules[module], "__file__", None)
    try:
        return module.encode() + Path(path).read_bytes() if path else os.urandom(16)
    except OSError:
        return os.urandom(16)


@dataclass(frozen=True)
class Step:
    """One parallel run of a kernel: `arguments` in the order of its parameters, a domain and how it is cut.

    `chunk` is how many items of the domain a thread takes at once; `scratch` how many bytes each thread needs.
    `label` names the ONNX nodes it computes. `consumes` are the arguments of which each element is read before the
    result's element at the same place is written, so that the result may take their memory.
    """

    kernel: Kernel
    arguments: tuple[View | int, ...]
    writes: tuple[int, ...]
    domain: int
    chunk: int
    scratch: int
    label: str
    consumes: tuple[int, ...] = ()

    @property
    def views(self) -> tuple[View, ...]:
        """The tensors it reads and writes."""
        return tuple(a for a in self.arguments if isinstance(a, View))


@dataclass(frozen=True)
class Program:
    """A lowered graph: buffers, and steps run one after another. Its numbers may be open dims (`dims.Dim`)."""

    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    inputs: tuple[View, ...]
    outputs: tuple[View | Counted | np.ndarray[Any, Any], ...]
    checks: tuple[Check, ...] = ()

    @cached_property
    def kernels(self) -> tuple[Kernel, ...]:
        """The distinct kernels, in order of first use."""
        return tuple(dict.fromkeys(step.kernel for step in self.steps))

    def text(self) -> str:
        """The program as a table, for people and golden tests."""
        lines = [f"input  {view}" for view in self.inputs]
        for step in self.steps:
            arguments = ", ".join(
                f"{p.name}={a}" for p, a in zip(step.kernel.parameters(), step.arguments, strict=True)
            )
            lines.append(f"step   {step.kernel.name} x{step.domain}/{step.chunk} [{step.label}] {arguments}")
        for output in self.outputs:
            view = output.view if isinstance(output, Counted) else output
            lines.append(f"output {view if isinstance(view, View) else 'constant'}")
        return "\n".join(lines)

    def bound(self, number: Callable[[int], int]) -> Program:
        """The program with numbers in place of all open dims."""
        if not self.is_open:
            return self
        buffers = [replace(buffer, bytes=number(buffer.bytes)) for buffer in self.buffers]

        def view(of: View) -> View:
            dims, strides = tuple(map(number, of.dims)), tuple(map(number, of.strides))
            return View(buffers[of.buffer.index], of.dtype, dims, strides, number(of.offset))

        def output(of: View | Counted | np.ndarray[Any, Any]) -> View | Counted | np.ndarray[Any, Any]:
            if isinstance(of, np.ndarray):
                return np.array([number(d) for d in of.flat], np.int64).reshape(of.shape) if of.dtype == object else of
            return view(of) if isinstance(of, View) else Counted(view(of.view), view(of.count), of.axis)

        steps = [
            replace(
                step,
                arguments=tuple(view(a) if isinstance(a, View) else number(a) for a in step.arguments),
                domain=number(step.domain),
                chunk=number(step.chunk),
                scratch=number(step.scratch),
            )
            for step in self.steps
        ]
        inputs, outputs = tuple(map(view, self.inputs)), tuple(map(output, self.outputs))
        checks = tuple(replace(check, status=view(check.status)) for check in self.checks)
        return Program(tuple(buffers), tuple(steps), inputs, outputs, checks)

    @property
    def is_open(self) -> bool:
        """Whether some of its numbers are open: dims, or what is computed from inputs' values."""
        outputs = [output.view if isinstance(output, Counted) else output for output in self.outputs]
        if any(output.dtype == object for output in outputs if isinstance(output, np.ndarray)):
            return True
        views = [view for view in (*self.inputs, *outputs) if isinstance(view, View)]
        views += [view for step in self.steps for view in step.views]
        numbers = [a for step in self.steps for a in (step.domain, *step.arguments) if not isinstance(a, View)]
        sizes = (buffer.bytes for buffer in self.buffers)
        return is_open((*numbers, *sizes, *(n for v in views for n in (*v.dims, *v.strides, v.offset))))

    def verify(self) -> None:
        """Raise CompileError if a step breaks a rule: argument kinds, views within buffers, reads before writes."""
        program = self.bound(hint)
        given = (BufferKind.INPUT, BufferKind.CONSTANT, BufferKind.STATUS)
        written = {b.index for b in program.buffers if b.kind in given}
        for step in program.steps:
            parameters = step.kernel.parameters()
            if len(parameters) != len(step.arguments):
                raise CompileError("wrong number of arguments", where=step.label)
            if not (1 <= step.domain <= MAX_DOMAIN and step.chunk >= 1):
                raise CompileError(f"empty or too large domain {step.domain}/{step.chunk}", where=step.label)
            for slot, (parameter, argument) in enumerate(zip(parameters, step.arguments, strict=True)):
                _verify_argument(step, slot, parameter, argument, written)
            targets = (step.arguments[slot] for slot in step.writes)
            written |= {target.buffer.index for target in targets if isinstance(target, View)}
        for output in program.outputs:
            view = output.view if isinstance(output, Counted) else output
            if isinstance(view, View) and view.size and view.buffer.index not in written:
                raise CompileError("an output is never written", where=str(view))


def _verify_argument(step: Step, slot: int, parameter: Parameter, argument: View | int, written: set[int]) -> None:
    where = f"{step.label}, argument {parameter.name}"
    if isinstance(argument, int):
        if parameter.dtype is not None:
            raise CompileError("an integer where an address belongs", where=where)
        return
    if parameter.dtype is not argument.dtype:
        raise CompileError("wrong type", where=where, expected=str(parameter.dtype), got=str(argument.dtype))
    reach = [(d - 1) * s for d, s in zip(argument.dims, argument.strides, strict=True) if d > 0]
    low, high = (argument.offset + sum(r for r in reach if (r > 0) is up) for up in (False, True))
    if argument.size and (low < 0 or (high + 1) * argument.dtype.size > argument.buffer.bytes):
        raise CompileError(f"view {argument} leaves its buffer of {argument.buffer.bytes} bytes", where=where)
    if slot in step.writes:
        if argument.buffer.kind in (BufferKind.INPUT, BufferKind.CONSTANT):
            raise CompileError("writes to read-only memory", where=where)
    elif argument.buffer.index not in written:
        raise CompileError("reads what nothing wrote", where=where)


class ProgramBuilder:
    """Collects buffers and steps."""

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.steps: list[Step] = []
        self._constants: dict[int, Buffer] = {}
        self._zeros: Buffer | None = None

    def buffer(self, kind: BufferKind, size: int, name: str = "", source: Source | None = None) -> Buffer:
        """New memory of `size` bytes."""
        made = Buffer(len(self.buffers), kind, size, name, source)
        self.buffers.append(made)
        return made

    def constant(self, array: np.ndarray[Any, Any], name: str = "") -> View:
        """A dense constant; the same array object is the same buffer."""
        dtype = DType.I64 if array.dtype == object else DType.of(array.dtype)
        if dtype is None:
            raise CompileError(f"no compiler type for {array.dtype}", where=name)
        known = self._constants.get(id(array))
        if known is None:
            dense = array if array.flags.c_contiguous else np.ascontiguousarray(array)
            known = self.buffer(BufferKind.CONSTANT, dense.nbytes, name, dense)
            self._constants[id(array)] = known
            self._keep = [*getattr(self, "_keep", ()), array]  # an id is only unique while its object lives
        return View(known, dtype, tuple(array.shape), row_major(tuple(array.shape)))

    def computed(self, made: Computed, name: str = "") -> tuple[View, ...]:
        """Constants that are made when dims are bound."""
        views = []
        for index, (dtype, dims) in enumerate(made.results):
            size = prod(dims) * dtype.size
            buffer = self.buffer(BufferKind.CONSTANT, size, name, Table(made, index))
            views.append(View(buffer, dtype, dims, row_major(dims)))
        return tuple(views)

    def step(
        self,
        kernel: Kernel,
        arguments: Mapping[str, View | int],
        *,
        writes: tuple[str, ...],
        domain: int,
        chunk: int = 1,
        scratch: int = 0,
        label: str = "",
        consumes: Iterable[str] = (),
    ) -> None:
        """Append a step; `arguments` by parameter name."""
        names = [p.name for p in kernel.parameters()]
        if set(names) != set(arguments):
            differ = sorted(set(names) ^ set(arguments))
            raise CompileError(f"arguments of {kernel.name} do not match: {differ}", where=label)
        if any(isinstance(part, Dim) for part in vars(kernel).values()):  # code is shaped by plain numbers
            parts = {name: int(part) if isinstance(part, Dim) else part for name, part in vars(kernel).items()}
            kernel = type(kernel)(**parts)
        slots, read = (tuple(names.index(name) for name in chosen) for chosen in (writes, consumes))
        self.steps.append(Step(kernel, tuple(arguments[n] for n in names), slots, domain, chunk, scratch, label, read))
