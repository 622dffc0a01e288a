"""The native executor: threads walk a table of steps and take chunks of each step's domain.

Emitted once for a target. All memory is 64-bit words whose places the constants below name.

A *step* is STEP_WORDS words: the kernel's address, its argument block, the size of its domain, the chunk, into how many
parts the domain is cut, and whether it waits for the steps before it. A *job* is what runs of one frame need: the step
table, scratch memory, and for each step a line with the number of the run it waits for and the items done, and a ticket
for each part, on a line of its own: the run's number and the next item to take. The *pool* is where workers wait for
jobs: they spin for a while, then sleep on a futex.

    walk(job, run, thread):
        for step in job.steps:
            if step.waits:  wait until earlier.run != run for all earlier steps
            for part in step.parts, the thread's own first:
                while part.ticket is of run with begin < part.end, or older (then begin = part.begin):
                    if compare_and_swap(part.ticket, (run, begin + chunk)):  kernel(arguments, begin, end)
                step.done += items this thread did of the part
                if step.done == domain:  step.done = 0;  step.run = run + 1
        wait for all steps

Threads keep to their own part of each domain, so what one has written is mostly what it reads next, and help out
with the others' when they are through. A step is over when its items are done, not when its threads have met: a
worker that the system has put aside holds nobody up unless it has taken a chunk, and one that comes late finds
tickets of the next run and walks through. Nothing is shared between a late worker and the data of a run that is over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from llvmlite import ir

from sardonyx.compiler.builder import I32, I64, KERNEL_TYPE, POINTER
from sardonyx.compiler.jit import load_module
from sardonyx.compiler.target import Target

LINE = 8
"""Words in a cache line."""
STEP_WORDS = 8
STEP_KERNEL, STEP_ARGUMENTS, STEP_DOMAIN, STEP_CHUNK, STEP_PARTS, STEP_WAITS = range(6)
JOB_STEPS, JOB_TABLE, JOB_SCRATCH, JOB_SCRATCH_STRIDE, JOB_CLOCK, JOB_TICKETS, JOB_TICKET_STRIDE, JOB_RUN = range(8)
JOB_GIVEN, JOB_GIVEN_AT, JOB_PATCHES, JOB_PATCH_COUNT = range(LINE, LINE + 4)
JOB_WORDS = 2 * LINE
PATCH_WORDS = 3
"""Of a word to set before a run: which of the given tensors, the word's address, and bytes from the tensor's start."""
EXPECTED_RUN, DONE = 0, 1
"""Words of a step's first line; the tickets of its parts follow, a line each."""
RUN_SHIFT = 32
"""A ticket is the run's number shifted by this, plus the next item."""
POOL_EPOCH, POOL_JOB, POOL_SPIN, POOL_SLEEPERS, POOL_ACTIVE, POOL_WORDS = (
    0,
    LINE,
    LINE + 1,
    2 * LINE,
    3 * LINE,
    4 * LINE,
)
EXIT_JOB = 0
"""A job address of 0 tells the workers to return."""

_SYSCALL_FUTEX = {"x86_64": 202, "aarch64": 98}
_SPINS_BEFORE_PAUSE = 64
_SPINS_BEFORE_YIELD = 1 << 14
_CLOCK_MONOTONIC = 1
_FUTEX_WAIT_PRIVATE, _FUTEX_WAKE_PRIVATE = 128, 129


@dataclass(frozen=True)
class Executor:
    """Addresses of the native entry points.

    `submit(pool, job)` runs a job with the caller as thread 0; `worker(pool, thread)` serves until the exit job;
    `solo(job)` runs a job on the calling thread alone.
    """

    submit: int
    worker: int
    solo: int


class _Emitter:
    """Emits the executor's functions."""

    def __init__(self, target: Target, symbols: tuple[str, str, str, str], name: str) -> None:
        self.module = ir.Module(name=name)
        self.module.triple = target.triple
        self.architecture = target.triple.split("-", 1)[0]
        void, self.void = ir.VoidType(), ir.VoidType()
        self.walk = ir.Function(self.module, ir.FunctionType(void, [POINTER, I64, I64]), symbols[0])
        self.worker = ir.Function(self.module, ir.FunctionType(void, [POINTER, I64]), symbols[1])
        self.submit = ir.Function(self.module, ir.FunctionType(void, [POINTER, POINTER]), symbols[2])
        self.solo = ir.Function(self.module, ir.FunctionType(void, [POINTER]), symbols[3])
        self.syscall = ir.Function(self.module, ir.FunctionType(I64, [I64], var_arg=True), "syscall")
        self.sched_yield = ir.Function(self.module, ir.FunctionType(I32, []), "sched_yield")
        clock = ir.FunctionType(I32, [I32, POINTER])
        self.clock_gettime = ir.Function(self.module, clock, "clock_gettime")

    # ---- small pieces ------------------------------------------------------------------------------------------

    def start(self, function: ir.Function) -> ir.IRBuilder:
        return ir.IRBuilder(function.append_basic_block("entry"))

    def word(self, b: ir.IRBuilder, base: ir.Value, index: int | ir.Value) -> ir.Value:
        at = ir.Constant(I64, index) if isinstance(index, int) else index
        return b.gep(base, [at], source_etype=I64)

    def load(self, b: ir.IRBuilder, base: ir.Value, index: int | ir.Value, kind: ir.Type = I64) -> ir.Value:
        return b.load(self.word(b, base, index), align=8, typ=kind)

    def acquire(self, b: ir.IRBuilder, base: ir.Value, index: int) -> ir.Value:
        return b.load_atomic(self.word(b, base, index), "seq_cst", 8, typ=I64)

    def release(self, b: ir.IRBuilder, value: ir.Value, base: ir.Value, index: int) -> None:
        # An exchange: llvmlite's atomic store does not take untyped pointers.
        b.atomic_rmw("xchg", self.word(b, base, index), value, "seq_cst")

    def add(self, b: ir.IRBuilder, base: ir.Value, index: int | ir.Value, amount: ir.Value | int) -> ir.Value:
        by = ir.Constant(I64, amount) if isinstance(amount, int) else amount
        return b.atomic_rmw("add", self.word(b, base, index), by, "seq_cst")

    def pause(self, b: ir.IRBuilder) -> None:
        """Tell the processor that this is a spin loop."""
        if self.architecture == "x86_64":
            b.call(self._intrinsic("llvm.x86.sse2.pause", []), [])
        elif self.architecture == "aarch64":
            b.call(self._intrinsic("llvm.aarch64.hint", [I32]), [ir.Constant(I32, 1)])

    def _intrinsic(self, name: str, operands: list[ir.Type]) -> ir.Function:
        known = self.module.globals.get(name)
        return known or ir.Function(self.module, ir.FunctionType(self.void, operands), name)

    def relax(self, b: ir.IRBuilder, turns: ir.Value) -> None:
        """A turn of a waiting loop: now and then a pause, more seldom the core for other threads.

        Pauses in quick succession make a hypervisor stop the virtual processor, for longer than most steps take.
        """
        self._every(b, turns, _SPINS_BEFORE_PAUSE, lambda: self.pause(b))
        self._every(b, turns, _SPINS_BEFORE_YIELD, lambda: b.call(self.sched_yield, []))

    def _every(self, b: ir.IRBuilder, turns: ir.Value, period: int, act: Callable[[], object]) -> None:
        mask = ir.Constant(I64, period - 1)
        with b.if_then(b.icmp_signed("==", b.and_(turns, mask), mask), likely=False):
            act()

    def futex(self, b: ir.IRBuilder, operation: int, pool: ir.Value, value: ir.Value) -> None:
        number = ir.Constant(I64, _SYSCALL_FUTEX[self.architecture])
        address = self.word(b, pool, POOL_EPOCH)
        b.call(self.syscall, [number, address, ir.Constant(I64, operation), value, ir.Constant(POINTER, None)])

    # ---- functions ---------------------------------------------------------------------------------------------

    def emit_walk(self) -> None:
        job, run, thread = self.walk.args
        b = self.start(self.walk)
        count, table = self.load(b, job, JOB_STEPS), self.load(b, job, JOB_TABLE, POINTER)
        tickets, stride = self.load(b, job, JOB_TICKETS, POINTER), self.load(b, job, JOB_TICKET_STRIDE)
        offset = b.mul(thread, self.load(b, job, JOB_SCRATCH_STRIDE))
        scratch = b.gep(self.load(b, job, JOB_SCRATCH, POINTER), [offset], source_etype=ir.IntType(8))
        clock = self.load(b, job, JOB_CLOCK, POINTER)
        zero, one = ir.Constant(I64, 0), ir.Constant(I64, 1)
        entry, head, take, done = b.block, *(b.append_basic_block(n) for n in ("step", "take", "finished"))
        b.cbranch(b.icmp_signed(">", count, zero), head, done)
        b.position_at_end(head)
        index, pending = b.phi(I64), b.phi(I64)  # this step, and the first one that was not waited for
        for phi in (index, pending):
            phi.add_incoming(zero, entry)
        row = self.word(b, table, b.mul(index, ir.Constant(I64, STEP_WORDS)))
        waits = b.icmp_signed("!=", self.load(b, row, STEP_WAITS), zero)
        until = b.select(waits, index, pending)
        self._await(b, tickets, stride, run, (pending, until))
        self._stamp(b, clock, thread, index)
        b.branch(take)
        b.position_at_end(take)
        self._step(b, row, self.word(b, tickets, b.mul(index, stride)), run, thread, scratch)
        following = b.add(index, one)
        index.add_incoming(following, b.block)
        pending.add_incoming(until, b.block)
        last = b.append_basic_block("last")
        b.cbranch(b.icmp_signed("<", following, count), head, last)
        b.position_at_end(last)
        self._await(b, tickets, stride, run, (until, count))
        self._stamp(b, clock, thread, count)
        b.branch(done)
        b.position_at_end(done)
        b.ret_void()

    def _await(
        self,
        b: ir.IRBuilder,
        tickets: ir.Value,
        stride: ir.Value,
        run: ir.Value,
        between: tuple[ir.Value, ir.Value],
    ) -> None:
        """Wait until the steps [first, until) are over."""
        first, until = between
        entry, look, wait, again, over, through = (
            b.block,
            *(b.append_basic_block(n) for n in ("look", "wait", "again", "over", "through")),
        )
        zero, one = ir.Constant(I64, 0), ir.Constant(I64, 1)
        b.branch(look)
        b.position_at_end(look)
        step = b.phi(I64)
        step.add_incoming(first, entry)
        line = self.word(b, tickets, b.mul(step, stride))
        b.cbranch(b.icmp_signed("<", step, until), wait, through)
        b.position_at_end(wait)
        turns = b.phi(I64)
        turns.add_incoming(zero, look)
        b.cbranch(b.icmp_signed("==", self.acquire(b, line, EXPECTED_RUN), run), again, over)
        b.position_at_end(again)
        self.relax(b, turns)
        turns.add_incoming(b.add(turns, one), b.block)
        b.branch(wait)
        b.position_at_end(over)
        step.add_incoming(b.add(step, one), over)
        b.branch(look)
        b.position_at_end(through)

    def _step(
        self, b: ir.IRBuilder, row: ir.Value, line: ir.Value, run: ir.Value, thread: ir.Value, scratch: ir.Value
    ) -> None:
        """Take chunks of all parts, the thread's own first."""
        domain, parts = self.load(b, row, STEP_DOMAIN), self.load(b, row, STEP_PARTS)
        zero, one = ir.Constant(I64, 0), ir.Constant(I64, 1)
        own = b.urem(thread, parts)
        entry, part_head, part_done, over = b.block, *(b.append_basic_block(n) for n in ("part", "exhausted", "over"))
        b.branch(part_head)
        b.position_at_end(part_head)
        count = b.phi(I64)
        count.add_incoming(zero, entry)
        part = b.urem(b.add(own, count), parts)
        low = b.udiv(b.mul(domain, part), parts)
        high = b.udiv(b.mul(domain, b.add(part, one)), parts)
        ticket = self.word(b, line, b.mul(b.add(part, one), ir.Constant(I64, LINE)))
        self._chunks(b, row, line, ticket, run, (low, high), scratch, part_done, over)
        b.position_at_end(part_done)
        following = b.add(count, one)
        count.add_incoming(following, part_done)
        b.cbranch(b.icmp_signed("<", following, parts), part_head, over)
        b.position_at_end(over)

    def _chunks(
        self,
        b: ir.IRBuilder,
        row: ir.Value,
        line: ir.Value,
        ticket: ir.Value,
        run: ir.Value,
        bounds: tuple[ir.Value, ir.Value],
        scratch: ir.Value,
        exhausted: ir.Block,
        over: ir.Block,
    ) -> None:
        """Take chunks of one part until it is exhausted, or over when the last item of the step is done."""
        low, high = bounds
        kernel, arguments = self.load(b, row, STEP_KERNEL), self.load(b, row, STEP_ARGUMENTS, POINTER)
        domain, chunk = self.load(b, row, STEP_DOMAIN), self.load(b, row, STEP_CHUNK)
        shift, zero, one = ir.Constant(I64, RUN_SHIFT), ir.Constant(I64, 0), ir.Constant(I64, 1)
        tag = b.shl(run, shift)
        look, current, take, work, through, count, last = (
            b.append_basic_block(n) for n in ("look", "current", "take", "work", "through", "count", "last")
        )
        before = b.block
        b.branch(look)
        b.position_at_end(look)
        mine = b.phi(I64)  # items this thread has done here; told once, since telling costs as much as a small chunk
        mine.add_incoming(zero, before)
        seen = self.acquire(b, ticket, 0)
        its_run = b.lshr(seen, shift)
        b.cbranch(b.icmp_signed(">", its_run, run), over, current)
        b.position_at_end(current)
        begin = b.select(b.icmp_signed("==", its_run, run), b.sub(seen, tag), low)
        b.cbranch(b.icmp_signed("<", begin, high), take, through)
        b.position_at_end(take)
        stop = b.add(begin, chunk)
        end = b.select(b.icmp_signed("<", stop, high), stop, high)
        swapped = b.cmpxchg(ticket, seen, b.add(tag, end), "seq_cst", "seq_cst")
        mine.add_incoming(mine, b.block)
        b.cbranch(b.extract_value(swapped, 1), work, look)
        b.position_at_end(work)
        b.call(b.inttoptr(kernel, KERNEL_TYPE.as_pointer()), [arguments, begin, end, scratch])
        mine.add_incoming(b.add(mine, b.sub(end, begin)), b.block)
        b.branch(look)
        b.position_at_end(through)
        b.cbranch(b.icmp_signed("==", mine, zero), exhausted, count)
        b.position_at_end(count)
        total = b.add(self.add(b, line, DONE, mine), mine)
        b.cbranch(b.icmp_signed("==", total, domain), last, exhausted)
        b.position_at_end(last)
        b.store(zero, self.word(b, line, DONE), align=8)
        self.release(b, b.add(run, one), line, EXPECTED_RUN)
        b.branch(over)

    def _stamp(self, b: ir.IRBuilder, clock: ir.Value, thread: ir.Value, index: ir.Value) -> None:
        """Thread 0 notes the time, if the job has a clock: seconds and nanoseconds, two words an entry."""
        wanted = b.and_(
            b.icmp_unsigned("!=", clock, ir.Constant(POINTER, None)),
            b.icmp_signed("==", thread, ir.Constant(I64, 0)),
        )
        with b.if_then(wanted):
            slot = self.word(b, clock, b.mul(index, ir.Constant(I64, 2)))
            b.call(self.clock_gettime, [ir.Constant(I32, _CLOCK_MONOTONIC), slot])

    def emit_worker(self) -> None:
        pool, thread = self.worker.args
        b = self.start(self.worker)
        entry = b.block
        wait, spin, sleep, found, work, leave = (
            b.append_basic_block(name) for name in ("wait", "spin", "sleep", "found", "work", "leave")
        )
        zero, one = ir.Constant(I64, 0), ir.Constant(I64, 1)
        b.branch(wait)
        b.position_at_end(wait)
        seen = b.phi(I64)
        seen.add_incoming(zero, entry)
        budget = self.load(b, pool, POOL_SPIN)
        b.branch(spin)
        b.position_at_end(spin)
        turns = b.phi(I64)
        turns.add_incoming(zero, wait)
        self._every(b, turns, _SPINS_BEFORE_PAUSE, lambda: self.pause(b))
        epoch = self.acquire(b, pool, POOL_EPOCH)
        following = b.add(turns, one)
        again = b.append_basic_block("again")
        b.cbranch(b.icmp_signed("!=", epoch, seen), found, again)
        b.position_at_end(again)
        b.cbranch(b.icmp_signed("<", following, budget), spin, sleep)
        turns.add_incoming(following, again)
        b.position_at_end(sleep)
        self.add(b, pool, POOL_SLEEPERS, one)
        self.futex(b, _FUTEX_WAIT_PRIVATE, pool, seen)
        self.add(b, pool, POOL_SLEEPERS, -1)
        seen.add_incoming(seen, b.block)
        b.branch(wait)
        b.position_at_end(found)
        # Count as active first: from then on the job that is current cannot be freed. Then look again what it is.
        self.add(b, pool, POOL_ACTIVE, one)
        current = self.acquire(b, pool, POOL_EPOCH)
        job = self.acquire(b, pool, POOL_JOB)
        b.cbranch(b.icmp_signed("==", job, ir.Constant(I64, EXIT_JOB)), leave, work)
        b.position_at_end(work)
        same = b.icmp_signed("==", self.acquire(b, pool, POOL_EPOCH), current)
        with b.if_then(same):
            address = b.inttoptr(job, POINTER)
            b.call(self.walk, [address, self.acquire(b, address, JOB_RUN), thread])
        self.add(b, pool, POOL_ACTIVE, -1)
        following_epoch = b.select(same, current, seen)
        seen.add_incoming(following_epoch, b.block)
        b.branch(wait)
        b.position_at_end(leave)
        self.add(b, pool, POOL_ACTIVE, -1)
        b.ret_void()

    def _next_run(self, b: ir.IRBuilder, job: ir.Value) -> ir.Value:
        """The number of the run that starts now."""
        run = b.add(self.load(b, job, JOB_RUN), ir.Constant(I64, 1))
        self.release(b, run, job, JOB_RUN)
        return run

    def _set_given(self, b: ir.IRBuilder, job: ir.Value) -> None:
        """Put the addresses of what this run was given into the argument blocks: done here, since it takes Python
        longer than a small model takes to run.

        Word i of JOB_GIVEN is the address of an object that has tensor i's address JOB_GIVEN_AT bytes in.
        """
        count, given = self.load(b, job, JOB_PATCH_COUNT), self.load(b, job, JOB_GIVEN, POINTER)
        patches, at = self.load(b, job, JOB_PATCHES, POINTER), self.load(b, job, JOB_GIVEN_AT)
        zero, one = ir.Constant(I64, 0), ir.Constant(I64, 1)
        before, head, body, after = b.block, *(b.append_basic_block(n) for n in ("given", "set", "all_set"))
        b.branch(head)
        b.position_at_end(head)
        index = b.phi(I64)
        index.add_incoming(zero, before)
        b.cbranch(b.icmp_signed("<", index, count), body, after)
        b.position_at_end(body)
        patch = self.word(b, patches, b.mul(index, ir.Constant(I64, PATCH_WORDS)))
        holder = self.load(b, given, self.load(b, patch, 0), POINTER)
        address = b.load(b.gep(holder, [at], source_etype=ir.IntType(8)), align=8, typ=I64)
        b.store(b.add(address, self.load(b, patch, 2)), self.load(b, patch, 1, POINTER), align=8)
        index.add_incoming(b.add(index, one), b.block)
        b.branch(head)
        b.position_at_end(after)

    def emit_submit(self) -> None:
        pool, job = self.submit.args
        b = self.start(self.submit)
        zero = ir.Constant(I64, 0)
        is_job = b.icmp_unsigned("!=", job, ir.Constant(POINTER, None))
        number, publish = b.append_basic_block("number"), b.append_basic_block("publish")
        entry = b.block
        b.cbranch(is_job, number, publish)
        b.position_at_end(number)
        self._set_given(b, job)
        following = self._next_run(b, job)
        numbered = b.block
        b.branch(publish)
        b.position_at_end(publish)
        run = b.phi(I64)
        run.add_incoming(zero, entry)
        run.add_incoming(following, numbered)
        self.release(b, b.ptrtoint(job, I64), pool, POOL_JOB)
        self.add(b, pool, POOL_EPOCH, 1)
        sleepers = self.acquire(b, pool, POOL_SLEEPERS)
        with b.if_then(b.icmp_signed("!=", sleepers, zero)):
            self.futex(b, _FUTEX_WAKE_PRIVATE, pool, ir.Constant(I64, 0x7FFFFFFF))
        with b.if_then(is_job):
            b.call(self.walk, [job, run, zero])
        b.ret_void()

    def emit_solo(self) -> None:
        (job,) = self.solo.args
        b = self.start(self.solo)
        self._set_given(b, job)
        b.call(self.walk, [job, self._next_run(b, job), ir.Constant(I64, 0)])
        b.ret_void()


_SYMBOLS = ("sardonyx_walk", "sardonyx_worker", "sardonyx_submit", "sardonyx_solo")


def executor_module(target: Target) -> ir.Module:
    """The executor's code for any target, this machine's or not."""
    emitter = _Emitter(target, _SYMBOLS, "executor")
    emitter.emit_walk()
    emitter.emit_worker()
    emitter.emit_submit()
    emitter.emit_solo()
    return emitter.module


@lru_cache(maxsize=4)
def load_executor(target: Target) -> Executor:
    """The executor for this machine, compiled on first use."""
    addresses = load_module(_SYMBOLS, executor_module(target), target)
    return Executor(submit=addresses[_SYMBOLS[2]], worker=addresses[_SYMBOLS[1]], solo=addresses[_SYMBOLS[3]])
