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
