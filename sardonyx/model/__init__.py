"""A model in memory: files, checks and facts about it, on onnx_ir."""
