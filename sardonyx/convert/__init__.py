"""Readers of other frameworks' model files, one file a framework."""
