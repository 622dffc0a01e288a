"""onnxruntime.capi."""
