"""onnxruntime.capi.onnxruntime_inference_collection."""

from sardonyx.compat.binding import IOBinding
from sardonyx.compat.choices import OrtDeviceVendorId
from sardonyx.compat.devices import OrtDevice
from sardonyx.compat.environment import normalized_providers as check_and_normalize_provider_args
from sardonyx.compat.session import InferenceSession, Session
from sardonyx.compat.sparse import SparseTensor
from sardonyx.compat.values import OrtValue, copy_tensors

__all__ = [
    "IOBinding",
    "InferenceSession",
    "OrtDevice",
    "OrtDeviceVendorId",
    "OrtValue",
    "Session",
    "SparseTensor",
    "check_and_normalize_provider_args",
    "copy_tensors",
]
