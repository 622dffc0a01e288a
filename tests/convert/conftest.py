"""Spares tests of sound Keras files the process that reads every file first; those about damage ask for `probed`."""

from __future__ import annotations

import pytest

from sardonyx.convert.keras import archive, probe, reader


@pytest.fixture(autouse=True, scope="session")
def _unprobed():
    with pytest.MonkeyPatch.context() as patch:
        for module in (archive, reader):
            patch.setattr(module, "probe", lambda path, where="": None)
        yield


@pytest.fixture
def probed(monkeypatch):
    """Files are probed as for users, with less patience."""
    monkeypatch.setattr(probe, "PATIENCE", 4.0)
    for module in (archive, reader):
        monkeypatch.setattr(module, "probe", probe.probe)


# Tests of drafts: readers that no table names yet.
collect_ignore = [
    "caffe_cases.py",
    "darknet_cases.py",
    "network_checks.py",
    "tensorflow_cases.py",
    "test_caffe.py",
    "test_darknet.py",
    "test_tensorflow.py",
    "test_tensorflow_damaged.py",
    "test_xgboost.py",
    "tree_cases.py",
    "exporters",
]
