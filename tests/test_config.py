"""Knobs: environment variables, their types, and what is said about wrong ones."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from sardonyx import config
from sardonyx.errors import ConfigError, SardonyxError


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for variable in [name for name in os.environ if name.startswith(config.PREFIX)]:
        monkeypatch.delenv(variable)


@pytest.mark.parametrize(
    ("knob", "text", "value"),
    [
        (config.THREADS, "4", 4),
        (config.THREADS, " 0 ", 0),
        (config.THREADS, "", 0),
        (config.DEBUG, "1", True),
        (config.DEBUG, "off", False),
        (config.DEBUG, "TRUE", True),
        (config.PROVIDERS, "a, b", ("a", "b")),
        (config.CACHE, "/some/where", Path("/some/where")),
        (config.CACHE, "~/x", Path.home() / "x"),
    ],
)
def test_values(monkeypatch, knob, text, value):
    monkeypatch.setenv(knob.variable, text)
    assert knob.get() == value


@pytest.mark.parametrize(
    ("knob", "text"),
    [(config.THREADS, "two"), (config.THREADS, "-1"), (config.DEBUG, "maybe"), (config.PROVIDERS, "a,,b")],
)
def test_wrong_values_name_the_variable(monkeypatch, knob, text):
    monkeypatch.setenv(knob.variable, text)
    with pytest.raises(ConfigError) as caught:
        knob.get()
    assert isinstance(caught.value, SardonyxError)
    for word in (knob.variable, repr(text), knob.expected):
        assert word in str(caught.value)


def test_defaults(monkeypatch):
    assert config.THREADS.get() == 0
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert config.CACHE.get() == Path("/cache/sardonyx")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert config.CACHE.get() == Path.home() / ".cache" / "sardonyx"


def test_every_knob_is_listed_once_and_explained():
    declared = [value for value in vars(config).values() if isinstance(value, config.Knob)]
    assert sorted(knob.name for knob in declared) == sorted(config.KNOBS)
    assert all(knob.doc and knob.expected for knob in declared)
    assert all(knob.get() == knob.default() for knob in declared)


def test_unknown_variables_warn(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config.warn_unknown()
    monkeypatch.setenv("SARDONYX_THREDS", "4")
    with pytest.warns(UserWarning, match=r"SARDONYX_THREDS.*SARDONYX_THREADS"):
        config.warn_unknown()


def test_codegen_key_holds_what_shapes_code(monkeypatch):
    knob = config.Knob("lanes", lambda: 0, int, "a number", "lanes", codegen=True)
    monkeypatch.setitem(config.KNOBS, "lanes", knob)
    before = config.codegen_key()
    monkeypatch.setenv("SARDONYX_LANES", "8")
    assert ("lanes", "8") in config.codegen_key() != before
    monkeypatch.setenv("SARDONYX_THREADS", "3")
    assert "threads" not in dict(config.codegen_key())


def test_every_knob_is_documented():
    page = (Path(__file__).parent.parent / "docs" / "pipeline.md").read_text()
    assert [knob.variable for knob in config.KNOBS.values() if f"`{knob.variable}`" not in page] == []
