"""Stands here so that pytest puts this folder on the path: tables in `suites` serve tests of several folders."""
