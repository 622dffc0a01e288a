"""Spares tests of sound files the process that reads every file first; those about damage ask for `probed`."""

from __future__ import annotations

import pytest

from sardonyx.convert import keras, keras_probe


@pytest.fixture(autouse=True, scope="session")
def _unprobed():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras, "probe", lambda path: None)
        yield


@pytest.fixture
def probed(monkeypatch):
    """Files are probed as for users, with less patience."""
    monkeypatch.setattr(keras_probe, "PATIENCE", 4.0)
    monkeypatch.setattr(keras, "probe", keras_probe.probe)
