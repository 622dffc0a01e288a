"""Stands here so that pytest puts this folder on the path: `suites` serves tests of several folders."""
