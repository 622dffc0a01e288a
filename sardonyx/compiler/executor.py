"""The native executor: threads walk a table of steps, take chunks of each step's domain and meet at barriers.

Emitted once for a target. All memory is 64-bit words whose places the constants below name.

A *step* is STEP_WORDS words: the kernel's address, its argument block, the size of its domain, the chunk. A *job*
is what one run needs: the step table, scratch memory, a barrier and one counter a step, each counter on a cache
line of its own. The *pool* is where workers wait for jobs: they spin for a while, then sleep on a futex.

    run(job, thread, threads):
        for step in job.steps:
            while (begin = step.counter.fetch_add(chunk)) < domain:  kernel(args, begin, min(begin + chunk, domain))
            barrier; the last to arrive clears the counter
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from llvmlite import ir

from sardonyx.compiler.builder import I32, I64, KERNEL_TYPE, POINTER
from sardonyx.compiler.jit import load_module
from sardonyx.compiler.target import Target

LINE = 8
"""Words in a cache line."""
STEP_WORDS = 4
JOB_STEPS, JOB_TABLE, JOB_SCRATCH, JOB_SCRATCH_STRIDE, JOB_CLOCK, JOB_COUNTERS = range(6)
JOB_ARRIVED, JOB_PHASE, JOB_WORDS = LINE, 2 * LINE, 3 * LINE
POOL_EPOCH, POOL_JOB, POOL_THREADS, POOL_SLEEPERS, POOL_DONE, POOL_SPIN, POOL_WORDS = (
    0,
    LINE,
    LINE + 1,
    2 * LINE,
    3 * LINE,
    LINE + 2,
    4 * LINE,
)
EXIT_JOB = 0
"""A job address of 0 tells the workers to return."""

_SYSCALL_FUTEX = {"x86_64": 202, "aarch64": 98}
_SPINS_BEFORE_YIELD = 4000
_CLOCK_MONOTONIC = 1
_FUTEX_WAIT_PRIVATE, _FUTEX_WAKE_PRIVATE = 128, 129


@dataclass(frozen=True)
class Executor:
    """Addresses of the native entry points.

    `submit(pool, job)` runs a job with the caller as thread 0; `worker(pool, thread)` serves until the exit job;
    `run(job, thread, threads)` is one thread's share, for a job of one thread.
    """

    submit: int
    worker: int
    run: int


class _Emitter:
    """Emits the executor's functions."""

    def __init__(self, target: Target, symbols: tuple[str, str, str], name: str) -> None:
        self.module = ir.Module(name=name)
        self.module.triple = target.triple
        self.architecture = target.triple.split("-", 1)[0]
        void, self.void = ir.VoidType(), ir.VoidType()
        self.run = ir.Function(self.module, ir.FunctionType(void, [POINTER, I64, I64]), symbols[0])
        self.worker = ir.Function(self.module, ir.FunctionType(void, [POINTER, I64]), symbols[1])
        self.submit = ir.Function(self.module, ir.FunctionType(void, [POINTER, POINTER]), symbols[2])
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

    def spin(self, b: ir.IRBuilder, base: ir.Value, index: int, leave: str, value: ir.Value) -> None:
        """Wait until the word compares to `value` as `leave` says; now and then let other threads have the core."""
        before = b.block
        loop, check, yielding, done = (b.append_basic_block(name) for name in ("spin", "check", "yield", "spun"))
        b.branch(loop)
        b.position_at_end(loop)
        turns = b.phi(I64)
        turns.add_incoming(ir.Constant(I64, 0), before)
        following = b.add(turns, ir.Constant(I64, 1))
        b.cbranch(b.icmp_signed(leave, self.acquire(b, base, index), value), done, check)
        b.position_at_end(check)
        self.pause(b)
        turns.add_incoming(following, b.block)
        b.cbranch(b.icmp_signed("<", following, ir.Constant(I64, _SPINS_BEFORE_YIELD)), loop, yielding)
        b.position_at_end(yielding)
        b.call(self.sched_yield, [])
        turns.add_incoming(ir.Constant(I64, 0), b.block)
        b.branch(loop)
        b.position_at_end(done)

    def futex(self, b: ir.IRBuilder, operation: int, pool: ir.Value, value: ir.Value) -> None:
        number = ir.Constant(I64, _SYSCALL_FUTEX[self.architecture])
        address = self.word(b, pool, POOL_EPOCH)
        b.call(self.syscall, [number, address, ir.Constant(I64, operation), value, ir.Constant(POINTER, None)])

    # ---- functions ---------------------------------------------------------------------------------------------

    def emit_run(self) -> None:
        job, thread, threads = self.run.args
        b = self.start(self.run)
        count, table = self.load(b, job, JOB_STEPS), self.load(b, job, JOB_TABLE, POINTER)
        counters = self.load(b, job, JOB_COUNTERS, POINTER)
        offset = b.mul(thread, self.load(b, job, JOB_SCRATCH_STRIDE))
        scratch = b.gep(self.load(b, job, JOB_SCRATCH, POINTER), [offset], source_etype=ir.IntType(8))
        clock = self.load(b, job, JOB_CLOCK, POINTER)
        self._stamp(b, clock, thread, ir.Constant(I64, 0))
        entry, head, done = b.block, b.append_basic_block("step"), b.append_basic_block("finished")
        b.cbranch(b.icmp_signed(">", count, ir.Constant(I64, 0)), head, done)
        b.position_at_end(head)
        index = b.phi(I64)
        index.add_incoming(ir.Constant(I64, 0), entry)
        row = self.word(b, table, b.mul(index, ir.Constant(I64, STEP_WORDS)))
        counter = b.mul(index, ir.Constant(I64, LINE))
        self._chunks(b, row, counters, counter, scratch)
        self._barrier(b, job, threads, counters, counter)
        following = b.add(index, ir.Constant(I64, 1))
        self._stamp(b, clock, thread, following)
        index.add_incoming(following, b.block)
        b.cbranch(b.icmp_signed("<", following, count), head, done)
        b.position_at_end(done)
        b.ret_void()

    def _chunks(
        self, b: ir.IRBuilder, row: ir.Value, counters: ir.Value, counter: ir.Value, scratch: ir.Value
    ) -> None:
        kernel, arguments = self.load(b, row, 0), self.load(b, row, 1, POINTER)
        domain, chunk = self.load(b, row, 2), self.load(b, row, 3)
        take, work, done = (b.append_basic_block(name) for name in ("take", "work", "taken"))
        b.branch(take)
        b.position_at_end(take)
        begin = self.add(b, counters, counter, chunk)
        b.cbranch(b.icmp_signed("<", begin, domain), work, done)
        b.position_at_end(work)
        stop = b.add(begin, chunk)
        end = b.select(b.icmp_signed("<", stop, domain), stop, domain)
        b.call(b.inttoptr(kernel, KERNEL_TYPE.as_pointer()), [arguments, begin, end, scratch])
        b.branch(take)
        b.position_at_end(done)

    def _barrier(
        self, b: ir.IRBuilder, job: ir.Value, threads: ir.Value, counters: ir.Value, counter: ir.Value
    ) -> None:
        last, wait, done = (b.append_basic_block(name) for name in ("last", "wait", "met"))
        phase = self.acquire(b, job, JOB_PHASE)
        arrived = self.add(b, job, JOB_ARRIVED, 1)
        b.cbranch(b.icmp_signed("==", arrived, b.sub(threads, ir.Constant(I64, 1))), last, wait)
        b.position_at_end(last)
        zero = ir.Constant(I64, 0)
        b.store(zero, self.word(b, counters, counter), align=8)
        self.release(b, zero, job, JOB_ARRIVED)
        self.release(b, b.add(phase, ir.Constant(I64, 1)), job, JOB_PHASE)
        b.branch(done)
        b.position_at_end(wait)
        self.spin(b, job, JOB_PHASE, "!=", phase)
        b.branch(done)
        b.position_at_end(done)

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
        self.pause(b)
        epoch = self.acquire(b, pool, POOL_EPOCH)
        following = b.add(turns, one)
        turns.add_incoming(following, spin)
        again = b.append_basic_block("again")
        b.cbranch(b.icmp_signed("!=", epoch, seen), found, again)
        b.position_at_end(again)
        b.cbranch(b.icmp_signed("<", following, budget), spin, sleep)
        turns.incomings[-1] = (following, again)
        b.position_at_end(sleep)
        self.add(b, pool, POOL_SLEEPERS, one)
        self.futex(b, _FUTEX_WAIT_PRIVATE, pool, seen)
        self.add(b, pool, POOL_SLEEPERS, -1)
        seen.add_incoming(seen, b.block)
        b.branch(wait)
        b.position_at_end(found)
        job = self.load(b, pool, POOL_JOB)
        b.cbranch(b.icmp_signed("==", job, ir.Constant(I64, EXIT_JOB)), leave, work)
        b.position_at_end(work)
        b.call(self.run, [b.inttoptr(job, POINTER), thread, self.load(b, pool, POOL_THREADS)])
        self.add(b, pool, POOL_DONE, one)
        seen.add_incoming(epoch, b.block)
        b.branch(wait)
        b.position_at_end(leave)
        b.ret_void()

    def emit_submit(self) -> None:
        pool, job = self.submit.args
        b = self.start(self.submit)
        zero, one = ir.Constant(I64, 0), ir.Constant(I64, 1)
        self.release(b, zero, pool, POOL_DONE)
        b.store(b.ptrtoint(job, I64), self.word(b, pool, POOL_JOB), align=8)
        self.add(b, pool, POOL_EPOCH, one)
        sleepers = self.acquire(b, pool, POOL_SLEEPERS)
        with b.if_then(b.icmp_signed("!=", sleepers, zero)):
            self.futex(b, _FUTEX_WAKE_PRIVATE, pool, ir.Constant(I64, 0x7FFFFFFF))
        with b.if_then(b.icmp_unsigned("!=", job, ir.Constant(POINTER, None))):
            threads = self.load(b, pool, POOL_THREADS)
            b.call(self.run, [job, zero, threads])
            self.spin(b, pool, POOL_DONE, "==", b.sub(threads, one))
        b.ret_void()


@lru_cache(maxsize=4)
def load_executor(target: Target) -> Executor:
    """The executor for this machine, compiled on first use."""
    symbols = ("sardonyx_run", "sardonyx_worker", "sardonyx_submit")
    emitter = _Emitter(target, symbols, "executor")
    emitter.emit_run()
    emitter.emit_worker()
    emitter.emit_submit()
    addresses = load_module(symbols, emitter.module, target)
    return Executor(addresses[symbols[2]], addresses[symbols[1]], addresses[symbols[0]])
