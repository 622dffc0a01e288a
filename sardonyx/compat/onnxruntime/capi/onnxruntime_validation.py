"""onnxruntime.capi.onnxruntime_validation."""

from sardonyx.compat.environment import check_distro_info, get_package_name_and_version_info

__all__ = ["check_distro_info", "get_package_name_and_version_info"]
