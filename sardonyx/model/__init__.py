"""A model in memory: files, checks and facts about it, on onnx_ir."""

from sardonyx.model.put_off import put_off

# onnx_ir computes with symbolic dims through sympy: most of the time its import takes, and nothing here does so.
with put_off("sympy", "onnx_ir._symbolic_shapes"):
    import onnx_ir  # noqa: F401
