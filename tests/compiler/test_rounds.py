"""Rounds that threads share: every round sees all of the last one, however many threads come, and whether they stay."""

from dataclasses import dataclass

import numpy as np
import pytest

from sardonyx.compiler.builder import Builder, Int, Parameter
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.jit import host_target
from sardonyx.compiler.kernels.select import number
from sardonyx.compiler.program import BufferKind, Kernel, Program, ProgramBuilder, View, row_major
from sardonyx.compiler.rounds import WORDS, in_rounds
from sardonyx.runtime.executable import NativeExecutable

I64 = DType.I64
PRIME = 1_000_003


@dataclass(frozen=True)
class Sums(Kernel):
    """y[round, part] = (part + sum of y[round - 1]) modulo a prime; every item is a thread that takes part."""

    def parameters(self) -> tuple[Parameter, ...]:
        tensors = (Parameter("y", I64), Parameter("words", I64))
        return (*tensors, *(Parameter(name) for name in ("parts", "rounds", "patience")))

    def emit(self, k: Builder) -> None:
        parts = k.size("parts")

        def work(part: Int, turn: Int) -> None:
            total = [k.const(0, I64)]
            before = k.pointer("y") + k.max(turn - 1, 0) * parts
            with k.loop(k.pick(turn > 0, parts, 0), carry=total) as other:
                total[0] = total[0] + k.load(before + other)
            value = (part.at(total[0].ir) + part) % PRIME
            k.store(number(k, value), k.pointer("y") + (turn * parts + part))

        with k.loop(k.end, start=k.begin) as item:
            in_rounds(k, k.pointer("words"), item % parts, parts, k.size("rounds"), k.size("patience"), work)


def program_of(parts: int, rounds: int, patience: int) -> Program:
    built = ProgramBuilder()
    y = View(built.buffer(BufferKind.OUTPUT, rounds * parts * 8), I64, (rounds, parts), row_major((rounds, parts)))
    words = View(built.buffer(BufferKind.OUTPUT, parts * WORDS * 8), I64, (parts * WORDS,), (1,))
    zeros = built.constant(np.zeros(parts * WORDS, np.int64))
    sizes = {"parts": parts, "rounds": rounds, "patience": patience}
    built.step(Zero(), {"zeros": zeros, "words": words, "count": parts * WORDS}, writes=("words",), domain=1)
    built.step(Sums(), {"y": y, "words": words, **sizes}, writes=("y", "words"), domain=parts)
    program = Program(tuple(built.buffers), tuple(built.steps), (), (y, words))
    program.verify()
    return program


@dataclass(frozen=True)
class Zero(Kernel):
    """words = zeros."""

    def parameters(self) -> tuple[Parameter, ...]:
        return (Parameter("zeros", I64), Parameter("words", I64), Parameter("count"))

    def emit(self, k: Builder) -> None:
        with k.loop(k.size("count")) as at:
            k.store(k.load(k.pointer("zeros") + at), k.pointer("words") + at)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("parts", [1, 2, 5])
@pytest.mark.parametrize("patience", [1, 1 << 20])
def test_each_round_sees_the_last(threads: int, parts: int, patience: int) -> None:
    """With little patience threads leave at once, with more of them than processors they come late."""
    rounds = 300
    program = program_of(parts, rounds, patience)
    executable = NativeExecutable(
        lambda *_: program, host_target(), threads=threads, spin_microseconds=100, profile=False
    )
    expected = np.zeros((rounds, parts), np.int64)
    for turn in range(rounds):
        expected[turn] = (np.arange(parts) + (expected[turn - 1].sum() if turn else 0)) % PRIME
    for _ in range(5):
        y, words = executable.run([])
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(words.reshape(parts, 2, WORDS // 2)[:, :, 0], rounds)
