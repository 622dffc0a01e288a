"""Frameworks' own exporters, wrapped: each in a process of its own where its source is a file or it may abort.

Live objects are exported in this process where they cannot be sent to another one without running their pickles:
PyTorch modules, JAX functions and scikit-learn estimators. Nothing is ever installed on the way.
"""
