"""Timing and comparing runs of a model on several runtimes."""
