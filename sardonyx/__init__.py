"""Sardonyx: any model to ONNX, and run fast."""
