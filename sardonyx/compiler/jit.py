"""LLVM: modules to objects, objects to addresses. The only file that imports llvmlite.binding."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from functools import lru_cache

import llvmlite
from llvmlite import binding as llvm
from llvmlite import ir

from sardonyx import config
from sardonyx.compiler.builder import Builder
from sardonyx.compiler.cache import ObjectCache, cache_folder, source_digest
from sardonyx.compiler.program import Kernel
from sardonyx.compiler.target import X86_LEVELS, Target
from sardonyx.errors import CompileError, ConfigError


@lru_cache(maxsize=1)
def host_target() -> Target:
    """The processor this process runs on, or less of it, as the knob `target` says.

    ConfigError when the processor has less than that.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = dict(llvm.get_host_cpu_features())
    triple, level = llvm.get_process_triple(), config.TARGET.get()
    if level == "host":
        return Target.from_features(triple, llvm.get_host_cpu_name(), features)
    missing = [name for name in X86_LEVELS[level] if not features.get(name)]
    if missing or not triple.startswith("x86_64"):
        raise ConfigError(
            "this processor cannot run code of that level",
            where=config.TARGET.variable,
            expected=f"a processor with {', '.join(X86_LEVELS[level])}",
            got=f"{triple} without {', '.join(missing)}",
        )
    return Target.from_features(triple, level, dict.fromkeys(X86_LEVELS[level], True))


@lru_cache(maxsize=1)
def codegen_version() -> str:
    """Changes whenever generated code might: LLVM's and llvmlite's version and this package's compiler sources."""
    return f"{llvmlite.__version__}|{llvm.llvm_version_info}|{source_digest('compiler')}"


@lru_cache(maxsize=8)
def _target_machine(target: Target) -> llvm.TargetMachine:
    host_target()
    try:
        return llvm.Target.from_triple(target.triple).create_target_machine(
            cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="small"
        )
    except RuntimeError:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        return llvm.Target.from_triple(target.triple).create_target_machine(
            cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="small"
        )


def build_module(kernel: Kernel, target: Target) -> ir.Module:
    """The kernel's LLVM module, unoptimised."""
    builder = Builder(target, kernel.symbol, kernel.parameters())
    kernel.emit(builder)
    return builder.finish()


def compile_module(module: ir.Module, target: Target) -> bytes:
    """Object code of a module.

    Kernels come vectorised, unrolled and without memory for variables, so a few passes do what all of LLVM's would in
    a fifth of their time (measured: code of the same size and speed). The code generator hoists loop invariants.
    """
    machine = _target_machine(target)
    try:
        parsed = llvm.parse_assembly(str(module))
        parsed.triple, parsed.data_layout = target.triple, str(machine.target_data)
        parsed.verify()
    except RuntimeError as error:
        raise CompileError(f"LLVM rejects the code: {error}", where=module.name) from error
    passes = llvm.create_new_function_pass_manager()
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    passes.add_new_gvn_pass()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    for function in parsed.functions:
        if not function.is_declaration:
            passes.run(function, builder)
    return bytes(machine.emit_object(parsed))


class Linker:
    """Loads objects into this process and knows their addresses; shared by all sessions."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jit: llvm.LLJIT | None = None
        self._addresses: dict[str, int] = {}
        self._libraries: list[llvm.ResourceTracker] = []
        self._names = itertools.count()

    def load(self, objects: Iterable[tuple[bytes, tuple[str, ...]]]) -> None:
        """Link objects with the symbols each defines, as one library; those already known are left out."""
        with self._lock:
            new = [(code, symbols) for code, symbols in objects if symbols[0] not in self._addresses]
            if not new:
                return
            if self._jit is None:
                host_target()
                self._jit = llvm.create_lljit_compiler()
            library = llvm.JITLibraryBuilder().add_current_process()
            for code, symbols in new:
                library.add_object_img(code)
                for symbol in symbols:
                    library.export_symbol(symbol)
            tracker = library.link(self._jit, f"kernels{next(self._names)}")
            self._libraries.append(tracker)
            self._addresses.update({symbol: tracker[symbol] for _, symbols in new for symbol in symbols})

    def address(self, symbol: str) -> int | None:
        """The address of a loaded function."""
        return self._addresses.get(symbol)


_LINKER = Linker()


def object_cache() -> ObjectCache:
    """The cache of compiled kernels."""
    return ObjectCache(cache_folder("objects"))


def kernel_object(kernel: Kernel, target: Target) -> bytes:
    """The kernel's object code, from the cache when it is there."""
    cache = object_cache()
    key = f"{codegen_version()}|{config.codegen_key()}|{target.key}|{kernel!r}"
    code = cache.get(key)
    if code is None:
        code = compile_module(build_module(kernel, target), target)
        cache.put(key, code)
    return code


def load_kernels(kernels: Iterable[Kernel], target: Target) -> dict[Kernel, int]:
    """Addresses of the kernels' native functions on this machine, compiling what no cache has."""
    wanted = list(kernels)
    missing = dict.fromkeys(k for k in wanted if _LINKER.address(k.symbol) is None)
    _LINKER.load((kernel_object(k, target), (k.symbol,)) for k in missing)
    return {k: address for k in wanted if (address := _LINKER.address(k.symbol)) is not None}


def load_module(symbols: tuple[str, ...], module: ir.Module, target: Target) -> dict[str, int]:
    """Addresses of functions of a module that is not a kernel (the executor), compiled once a process and cached."""
    if any(_LINKER.address(symbol) is None for symbol in symbols):
        cache, key = object_cache(), f"{codegen_version()}|{target.key}|{module.name}"
        code = cache.get(key)
        if code is None:
            code = compile_module(module, target)
            cache.put(key, code)
        _LINKER.load([(code, symbols)])
    return {symbol: address for symbol in symbols if (address := _LINKER.address(symbol)) is not None}
