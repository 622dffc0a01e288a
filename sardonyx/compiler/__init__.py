"""Graph to native code: programs, kernels, LLVM."""
