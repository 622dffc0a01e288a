"""What the compiler knows of a processor: vector length, registers, caches."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sardonyx.compiler.dtypes import DType

_VECTOR_FEATURES = (("avx512f", 64, 32), ("avx2", 32, 16), ("sse2", 16, 16), ("neon", 16, 32))
"""(LLVM feature, bytes of a vector register, number of them), widest first."""

X86_LEVELS = {
    "x86-64-v2": ("sse2", "sse3", "ssse3", "sse4.1", "sse4.2", "popcnt"),
    "x86-64-v3": ("sse2", "sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "avx", "avx2", "bmi", "bmi2", "f16c", "fma"),
    "x86-64-v4": ("avx2", "bmi2", "fma", "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
}
"""Features, by LLVM's names, of the levels of the x86-64 psABI that decide which code is generated."""


@dataclass(frozen=True)
class Target:
    """A processor to generate code for. Everything here is part of the object cache's key but the caches."""

    triple: str
    cpu: str
    features: str
    vector_bytes: int
    vector_registers: int
    general_registers: int
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int

    def lanes(self, dtype: DType) -> int:
        """Elements of `dtype` in one vector register."""
        return max(1, self.vector_bytes // dtype.register.size)

    @property
    def has_half(self) -> bool:
        """Whether instructions convert between float16 and float32."""
        return not {"+f16c", "+avx512f", "+neon"}.isdisjoint(self.features.split(","))

    @property
    def has_fma(self) -> bool:
        """Whether multiplying and adding is one instruction, without a register for the product."""
        return not {"+fma", "+avx512f", "+neon"}.isdisjoint(self.features.split(","))

    @property
    def key(self) -> str:
        """Identifies the code this target gets."""
        return f"{self.triple}|{self.cpu}|{self.features}|{self.vector_bytes}x{self.vector_registers}"

    @classmethod
    def from_features(cls, triple: str, cpu: str, features: dict[str, bool]) -> Target:
        """The target of a processor with these LLVM features."""
        architecture = triple.split("-", 1)[0]
        if architecture in ("aarch64", "arm64"):
            features = {"neon": True} | features
        width, registers = next(
            ((width, count) for name, width, count in _VECTOR_FEATURES if features.get(name)), (16, 16)
        )
        flat = ",".join(f"{'+' if on else '-'}{name}" for name, on in sorted(features.items()))
        l1, l2, l3 = cache_sizes()
        general = 31 if architecture in ("aarch64", "arm64") else 16
        return cls(triple, cpu, flat, width, registers, general, l1, l2, l3)


@lru_cache(maxsize=1)
def cache_sizes() -> tuple[int, int, int]:
    """Bytes of the first core's L1 data, L2 and L3 cache, as the kernel says; common sizes where it does not."""
    found = {1: 32 << 10, 2: 512 << 10, 3: 8 << 20}
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            if (index / "type").read_text().strip() == "Instruction":
                continue
            level = int((index / "level").read_text())
            size = (index / "size").read_text().strip()
            found[level] = int(size.rstrip("KMG")) << {"K": 10, "M": 20, "G": 30}.get(size[-1], 0)
        except (OSError, ValueError):
            continue
    return found[1], found[2], found[3]


def available_threads() -> int:
    """Processors this process may use: its affinity, bounded by the cgroup's quota; at least 1."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(count, quota) if quota else count)


def _cgroup_quota() -> int | None:
    """Whole processors the cgroup's quota allows, rounded up; None when there is no quota."""
    if platform.system() != "Linux":
        return None
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if limit == "max" else -(-int(limit) // int(period))
    except (OSError, ValueError):
        pass
    try:
        limit_us = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text())
        period_us = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text())
        return -(-limit_us // period_us) if limit_us > 0 and period_us > 0 else None
    except (OSError, ValueError):
        return None
