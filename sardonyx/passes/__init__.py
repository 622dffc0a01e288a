"""Graph to graph rewrites; what comes out is standard ONNX."""
