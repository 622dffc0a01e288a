"""Work in rounds that the threads of one step share: none begins a round before all of the last is done.

A step of its own for each round would cost a program as long as the rounds are many, whose number may be open. Here one
step's items are the threads that take part.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from sardonyx.compiler.builder import I64, Builder, Int, Ptr, Val
from sardonyx.compiler.dtypes import DType

WORDS = 32
"""Of 64 bits, for each part: two pairs of cache lines, which are fetched together, with a number in each pair."""
_DONE = WORDS // 2


def in_rounds(
    k: Builder, words: Ptr, own: Int, parts: Int, count: Int, patience: Int, work: Callable[[Int, Int], None]
) -> None:
    """Run work(part, round) for all parts of all rounds, together with the other threads that are here.

    `words` (int64, `WORDS` a part) are zeros at first. A thread takes its `own` part of a round if nobody has it, else
    another one, so any number of threads is enough; and one that finds nothing to take for `patience` looks goes home:
    whoever has what it waits for needs no one else.

        while some part's rounds are not done:
            round = the first that is not done of all parts
            take a part of it that is not taken, run it, say that it is done
    """
    b, zero, one = k.ir, ir.Constant(I64, 0), ir.Constant(I64, 1)
    head, look, take, run, following, idle, over = (
        b.append_basic_block(name) for name in ("head", "look", "take", "run", "following", "idle", "over")
    )

    def number(part: Int, word: int) -> Val:
        loaded = b.load_atomic((words + (part * WORDS + word)).ir, "seq_cst", 8, typ=I64)
        return Val(k, loaded, DType.I64, 1)

    before = b.block
    b.branch(head)
    b.position_at_end(head)
    waited = b.phi(I64)
    waited.add_incoming(zero, before)
    first = [number(k.index(0), _DONE)]
    with k.loop(parts, start=1, carry=first) as part:
        done = number(part, _DONE)
        first[0] = k.select(done < first[0], done, first[0])
    turn = own.at(first[0].ir)
    searching = b.block
    b.cbranch((turn < count).ir, look, over)
    b.position_at_end(look)
    offset = b.phi(I64)
    offset.add_incoming(zero, searching)
    part = (own + own.at(offset)) % parts
    b.cbranch(own.at(number(part, 0).ir).equals(turn).ir, take, following)
    b.position_at_end(take)
    swapped = b.cmpxchg((words + part * WORDS).ir, turn.ir, (turn + 1).ir, "seq_cst", "seq_cst")
    b.cbranch(b.extract_value(swapped, 1), run, following)
    b.position_at_end(following)
    later = b.add(offset, one)
    offset.add_incoming(later, following)
    b.cbranch((own.at(later) < parts).ir, look, idle)
    b.position_at_end(run)
    work(part, turn)
    b.atomic_rmw("xchg", (words + (part * WORDS + _DONE)).ir, (turn + 1).ir, "seq_cst")
    waited.add_incoming(zero, b.block)
    b.branch(head)
    b.position_at_end(idle)
    again = b.add(waited, one)
    waited.add_incoming(again, idle)
    b.cbranch((own.at(again) < patience).ir, head, over)
    b.position_at_end(over)
