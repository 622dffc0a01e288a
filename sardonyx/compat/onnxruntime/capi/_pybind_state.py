"""onnxruntime.capi._pybind_state."""

from sardonyx.compat.onnxruntime.capi.onnxruntime_pybind11_state import *  # noqa: F403
