"""onnxruntime.capi.build_and_package_info."""

from sardonyx.compat.install import NAME, VERSION

package_name = NAME
__version__ = VERSION
