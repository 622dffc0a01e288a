"""Code written for onnxruntime, run here unchanged: `docs/compat.md` tells what acts and what is only accepted."""

from sardonyx.compat.install import install_as_onnxruntime

__all__ = ["install_as_onnxruntime"]
