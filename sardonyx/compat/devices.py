"""Where memory lies. There is one such place, the processor's own memory; the other names are known but not served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sardonyx.compat.choices import (
    OrtAllocatorType,
    OrtDeviceMemoryType,
    OrtDeviceVendorId,
    OrtHardwareDeviceType,
    OrtMemoryInfoDeviceType,
    OrtMemType,
)

_TYPES = {"cpu": 0, "cuda": 1, "gpu": 1, "dml": 1, "webgpu": 1, "fpga": 2, "npu": 3, "cann": 3}
_VENDORS = {
    "cuda": OrtDeviceVendorId.NVIDIA,
    "dml": OrtDeviceVendorId.MICROSOFT,
    "cann": OrtDeviceVendorId.HUAWEI,
}


class OrtDevice:
    """A kind of device, kind of memory, vendor and number. `make` takes a name."""

    def __init__(self, device_type: int, memory_type: int, *vendor_and_id: int) -> None:
        self._type, self._memory = device_type, memory_type
        self._vendor, self._id = vendor_and_id if len(vendor_and_id) == 2 else (0, *vendor_and_id)

    @staticmethod
    def make(ort_device_name: str, device_id: int, vendor_id: int | OrtDeviceVendorId = -1) -> OrtDevice:
        """The device called `cpu`, `cuda` and so on. Raises Exception for a name that onnxruntime does not know."""
        if ort_device_name not in _TYPES or ort_device_name == "fpga":
            raise Exception("Unsupported device type: " + ort_device_name)
        vendor = int(_VENDORS.get(ort_device_name, 0) if vendor_id < 0 else vendor_id)
        return OrtDevice(_TYPES[ort_device_name], OrtDevice.default_memory(), vendor, device_id)

    @staticmethod
    def cpu() -> int:
        """The number of this kind of device."""
        return _TYPES["cpu"]

    @staticmethod
    def cuda() -> int:
        """The number of this kind of device."""
        return _TYPES["cuda"]

    @staticmethod
    def gpu() -> int:
        """The number of this kind of device."""
        return _TYPES["gpu"]

    @staticmethod
    def dml() -> int:
        """The number of this kind of device."""
        return _TYPES["dml"]

    @staticmethod
    def webgpu() -> int:
        """The number of this kind of device."""
        return _TYPES["webgpu"]

    @staticmethod
    def fpga() -> int:
        """The number of this kind of device."""
        return _TYPES["fpga"]

    @staticmethod
    def npu() -> int:
        """The number of this kind of device."""
        return _TYPES["npu"]

    @staticmethod
    def cann() -> int:
        """The number of this kind of device."""
        return _TYPES["cann"]

    @staticmethod
    def default_memory() -> int:
        """The number of the device's own kind of memory."""
        return int(OrtDeviceMemoryType.DEFAULT)

    def device_id(self) -> int:
        """Which of several devices."""
        return self._id

    def device_type(self) -> int:
        """What kind of device."""
        return self._type

    def device_vendor_id(self) -> int:
        """Whose device."""
        return self._vendor

    def device_mem_type(self) -> int:
        """What kind of memory."""
        return self._memory

    vendor_id = device_vendor_id
    mem_type = device_mem_type

    def _get_c_device(self) -> OrtDevice:
        return self

    def __repr__(self) -> str:
        return f"<OrtDevice {self._type}:{self._id}>"


def require_memory(device: str | OrtDevice, device_id: int = 0, vendor_id: int = -1) -> None:
    """RuntimeError unless the device is the processor."""
    if isinstance(device, str):
        device = OrtDevice.make(device.lower(), device_id, vendor_id)
    if device.device_type() != OrtDevice.cpu():
        raise RuntimeError(
            "Can't allocate memory on the device using this package of OnnxRuntime. Please use the appropriate "
            "package of OnnxRuntime for your hardware to use this feature."
        )


class OrtMemoryInfo:
    """Describes memory of an allocator."""

    name: str
    allocator_type: OrtAllocatorType
    device_id: int
    mem_type: OrtMemType
    device_mem_type: OrtDeviceMemoryType
    device_vendor_id: int

    def __init__(
        self,
        name: str,
        allocator_type: OrtAllocatorType,
        device_id: int,
        mem_type: OrtMemType,
    ) -> None:
        self.name, self.allocator_type, self.device_id, self.mem_type = name, allocator_type, device_id, mem_type
        self.device_mem_type, self.device_vendor_id = OrtDeviceMemoryType.DEFAULT, 0

    @staticmethod
    def create_v2(
        name: str,
        device_type: OrtMemoryInfoDeviceType,
        vendor_id: int,
        device_id: int,
        device_mem_type: OrtDeviceMemoryType,
        alignment: int,
        allocator_type: OrtAllocatorType,
    ) -> OrtMemoryInfo:
        """The same, told more precisely."""
        made = OrtMemoryInfo(name, allocator_type, device_id, OrtMemType.DEFAULT)
        made.device_vendor_id, made.device_mem_type = vendor_id, device_mem_type
        return made


PROCESSOR_MEMORY = OrtMemoryInfo("Cpu", OrtAllocatorType.ORT_DEVICE_ALLOCATOR, 0, OrtMemType.DEFAULT)


class OrtArenaCfg:
    """How an arena would grow: (max_mem, strategy, initial bytes, dead bytes a chunk), or a dict of such."""

    max_mem: int
    arena_extend_strategy: int
    initial_chunk_size_bytes: int
    max_dead_bytes_per_chunk: int
    initial_growth_chunk_size_bytes: int
    max_power_of_two_extend_bytes: int

    def __init__(
        self,
        max_mem: int | Mapping[str, int],
        arena_extend_strategy: int = -1,
        initial_chunk_size_bytes: int = -1,
        max_dead_bytes_per_chunk: int = -1,
    ) -> None:
        given = dict(max_mem) if isinstance(max_mem, Mapping) else {"max_mem": max_mem}
        self.max_mem = given.pop("max_mem", 0)
        self.arena_extend_strategy = given.pop("arena_extend_strategy", arena_extend_strategy)
        self.initial_chunk_size_bytes = given.pop("initial_chunk_size_bytes", initial_chunk_size_bytes)
        self.max_dead_bytes_per_chunk = given.pop("max_dead_bytes_per_chunk", max_dead_bytes_per_chunk)
        self.initial_growth_chunk_size_bytes = given.pop("initial_growth_chunk_size_bytes", -1)
        self.max_power_of_two_extend_bytes = given.pop("max_power_of_two_extend_bytes", -1)
        if given:
            raise ValueError(f"Invalid OrtArenaCfg option: {next(iter(given))}")


@dataclass(frozen=True)
class OrtHardwareDevice:
    """A device of this machine."""

    type: OrtHardwareDeviceType
    vendor: str = ""
    vendor_id: int = 0
    device_id: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class OrtEpDevice:
    """A provider with the device it runs on."""

    ep_name: str
    ep_vendor: str
    device: OrtHardwareDevice
    ep_metadata: Mapping[str, str] = field(default_factory=dict)
    ep_options: Mapping[str, str] = field(default_factory=dict)

    def memory_info(self, memory_type: OrtDeviceMemoryType) -> OrtMemoryInfo | None:
        """The provider's memory; None where it has none of this kind."""
        return PROCESSOR_MEMORY if memory_type == OrtDeviceMemoryType.DEFAULT else None


@dataclass(frozen=True)
class OrtEpAssignedNode:
    """A node of the optimised model."""

    name: str
    domain: str
    op_type: str


@dataclass(frozen=True)
class OrtEpAssignedSubgraph:
    """The nodes that a provider runs."""

    ep_name: str
    nodes: tuple[OrtEpAssignedNode, ...]

    def get_nodes(self) -> list[OrtEpAssignedNode]:
        """They, in the order of the graph."""
        return list(self.nodes)
