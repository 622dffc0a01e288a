"""What machine this is, for people who read measurements later, and how much of its memory is held."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """The processor's name as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def resident_mib() -> float | None:
    """The memory this process holds now, in MiB; None where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    sizes = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmRSS:")]
    return int(sizes[0]) / 1024 if sizes else None
